package writeback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/crash"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

var (
	// errSuperseded: another row has taken the place of the one carried.
	errSuperseded = errors.New("superseded by a newer change")
	// errStopped: the content was opened for writing, or the queue closes.
	errStopped = errors.New("stopped: the file is being written")
	// errLocal: the bytes here are not what the row says.
	errLocal = errors.New("damaged")
	// errIntegrity: OSS holds other bytes than those announced.
	errIntegrity = fmt.Errorf("the object on OSS is not what was sent: %w", object.ErrIntegrity)
	// errAgainNow: the ground has been prepared, try again at once.
	errAgainNow = errors.New("trying again")
)

// transfer is the carrying of one row.
type transfer struct {
	q      *Queue
	first  *Row   // as it was chosen: what others may read
	row    *Row   // the same; its note may have grown since
	chosen uint64 // the state that it was chosen on (R6)
	circle bool   // it waits for itself: free it instead of carrying it (R5)

	eager *eager // it sends a content ahead of its row; nil: it carries one

	kept object.Headers // what the object keeps that no HEAD tells (keep.go); nil: not asked yet

	superseded atomic.Bool // a hint to look at the row again

	reading sync.RWMutex // held for reading while a body reads
	stopped bool         // under reading: no body may read any more

	upload atomic.Pointer[progress]
	flying atomic.Int64 // bytes of bodies under way
	joined string       // ID of the upload of which Complete has made the object; "": none is known to be
}

// progress of a multipart upload.
type progress struct {
	parts, done atomic.Int64
	bytes, sent atomic.Int64
}

// stopReading returns when no body of t reads the content any more. What was
// sent whole is not called back (R8).
func (t *transfer) stopReading() {
	t.reading.Lock()
	defer t.reading.Unlock()
	t.stopped = true
}

func (t *transfer) isStopped() bool {
	t.reading.RLock()
	defer t.reading.RUnlock()
	return t.stopped
}

// carry brings OSS to what the row says, and settles it.
func (t *transfer) carry() error {
	if t.row.Rebuilt != "" {
		if err := t.verify(); err != nil {
			return err
		}
	}
	row := t.row
	if row.Kind == journal.Put && !row.IsAnswered() {
		if err := t.final(); err != nil {
			return err
		}
	}
	switch {
	case row.IsAnswered():
		return t.confirm()
	case t.circle:
		return t.free()
	case row.Kind == journal.Delete:
		return t.delete()
	case row.IsHole():
		return t.copy()
	case row.Content != 0 && row.Size > t.q.o.Threshold:
		return t.multipart()
	default:
		return t.single()
	}
}

// tag is the mark of what t publishes: a request that is repeated keeps its
// own, also after a power cut, when the cache ID is another (R8).
func (t *transfer) tag() string {
	if t.row.Note != nil {
		return t.row.Note.Tag
	}
	return t.q.tag(t.row.Seq)
}

// single is one PutObject.
func (t *transfer) single() error {
	src, err := t.source()
	if err != nil {
		return err
	}
	defer src.close()
	if err := t.look(); err != nil {
		return err
	}
	if err := t.keep(); err != nil {
		return err
	}
	err = t.publish(t.tag(), func(ctx context.Context, tag string) (object.Ref, error) {
		if err := t.q.pace.acquire(t.q.work); err != nil {
			return object.Ref{}, errStopped
		}
		defer t.q.pace.release()
		if t.isPaused() {
			return object.Ref{}, errPaused
		}
		body := src.all()
		defer body.Close()
		flight := t.flies(body)
		defer flight.land()
		ref, err := t.q.remote.Put(ctx, t.row.Key, flight, t.row.Size, t.newOptions(tag))
		if err == nil {
			t.q.sent(t.row.Size)
		}
		return ref, src.why(err)
	})
	if isTaken(err) {
		return t.taken(err)
	}
	return t.baseLost(err)
}

// changed reports that the row is not the newest of its key any more, or that
// its content was opened for writing.
func (t *transfer) changed() bool {
	cur, err := t.q.Row(t.row.Key)
	return err != nil || cur == nil || cur.Seq != t.row.Seq || cur.Open != t.row.Open || cur.Content != t.row.Content
}

// options says what is published beside the bytes.
func (t *transfer) options(tag string) object.PutOptions {
	return object.PutOptions{Meta: t.meta(t.row.Begin(), tag), Headers: t.headers()}
}

// publish notes in the row what is about to be published (R7), waits until the
// horizon covers that (R6), sends it, and settles the row or takes note of
// what is not known (R8).
func (t *transfer) publish(tag string, send func(ctx context.Context, tag string) (object.Ref, error)) error {
	q := t.q
	if q.work.Err() != nil {
		return errStopped
	}
	if t.isPaused() {
		return errPaused
	}
	if t.changedUnseen() {
		return errSuperseded
	}
	noted, err := t.note(tag)
	if err != nil {
		return err
	}
	crash.At("noted, not durable")
	if !q.o.rules.noR6 {
		if err := q.j.WaitHorizon(q.work, max(noted, t.chosen)); err != nil {
			return t.withoutEffect(errStopped)
		}
	}
	switch cur, err := q.Row(t.row.Key); {
	case err != nil:
		return err
	case (cur == nil || cur.Seq != t.row.Seq) && !q.o.rules.noR3:
		return t.withoutEffect(errSuperseded)
	case t.isStopped() || q.work.Err() != nil:
		return t.withoutEffect(errStopped)
	case t.isPaused():
		return t.withoutEffect(errPaused)
	}
	crash.At("noted, not sent")
	started := time.Now()
	// The request outlives the queue's work: once its body is sent whole it is
	// not cancelled (R8).
	ref, err := send(q.send, tag)
	crash.At("published, not settled")
	switch {
	case err == nil:
		t.changedUnseen() // then the row that it has now is another
		return t.settle(ref, started)
	case errors.Is(err, errStopped), errors.Is(err, errLocal), object.FateOf(err) != object.Unknown:
		if t.isStopped() && object.FateOf(err) == object.NotSent {
			err = errStopped
		}
		return t.withoutEffect(err)
	}
	return t.lost(err)
}

// note writes into the row what it is about to publish, and returns the state
// that holds the note.
func (t *transfer) note(tag string) (at uint64, err error) {
	return t.q.j.Update(func(tx *journal.Tx) error { return t.noteIn(tx, tag) })
}

func (t *transfer) noteIn(tx *journal.Tx, tag string) error {
	cur, err := tx.Row(t.row.Key)
	if err != nil {
		return err
	}
	if cur == nil || cur.Seq != t.row.Seq {
		return errSuperseded
	}
	if !cur.Expected.IsZero() && !t.circle && !t.q.o.rules.noR2 && looked(tx, cur.Key) {
		return errSuperseded // an open file has made a hole over it since the look: it is admitted anew, or not
	}
	if !cur.Base.Same(t.row.Base) { // moveOn: what was opened to be sent is of the one before
		return errAgainNow
	}
	if cur.Note != nil && cur.Note.Tag == tag {
		t.row = cur
		return nil
	}
	if err := t.q.otherTag(tx, cur); err != nil {
		return err
	}
	cur.Note = &journal.Note{Tag: tag}
	if cur.Base.Key == cur.Key && !cur.Base.IsZero() {
		cur.Tags = append(cur.Tags, tag)
	}
	t.row = cur
	return tx.PutRow(cur)
}

// withoutEffect takes the note back: its request has not been carried out and
// never will be. It returns why.
func (t *transfer) withoutEffect(why error) error {
	if _, err := t.q.j.Update(t.withoutEffectIn); err != nil && stillOpen(err) {
		return err
	}
	return why
}

func (t *transfer) withoutEffectIn(tx *journal.Tx) error {
	cur, err := tx.Row(t.row.Key)
	if err != nil {
		return err
	}
	if cur == nil || cur.Seq != t.row.Seq {
		return endDoubt(tx, t.row, false)
	}
	if cur.Note == nil || cur.Note.Lost != 0 || cur.Note.Answered {
		return nil // an earlier request of it may still land
	}
	cur.Note = nil
	return tx.PutRow(cur)
}

// lost takes note that a request got no answer.
func (t *transfer) lost(why error) error {
	if _, err := t.q.j.Update(t.lostIn); err != nil && stillOpen(err) {
		return err
	}
	return why
}

func (t *transfer) lostIn(tx *journal.Tx) error {
	cur, err := tx.Row(t.row.Key)
	if err != nil {
		return err
	}
	if cur == nil || cur.Seq != t.row.Seq {
		return endDoubt(tx, t.row, true)
	}
	if cur.Note == nil || t.q.o.rules.noR8 {
		return nil
	}
	cur.Note.Lost = time.Now().UnixNano()
	return tx.PutRow(cur)
}

// stillOpen reports that err is not just the journal's being closed.
func stillOpen(err error) bool { return !errors.Is(err, journal.ErrClosed) }

func (q *Queue) sent(n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats.BytesSent += n
}

func (q *Queue) sentPart(n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats.BytesSent += n
	q.stats.Parts++
}

// settle ends the row after OSS has confirmed it: in one transaction, and only
// for the same sequence (R3), the row goes and the content becomes the clean
// copy of the new version.
func (t *transfer) settle(ref object.Ref, started time.Time) error {
	var s settled
	seq, err := t.q.j.Update(func(tx *journal.Tx) (err error) {
		s, err = t.settleIn(tx, ref, started)
		return err
	})
	if err != nil {
		return err
	}
	crash.At("settled")
	t.q.hasSettled(t, ref, seq, s)
	return nil
}

func (t *transfer) settleIn(tx *journal.Tx, ref object.Ref, started time.Time) (s settled, err error) {
	q, key := t.q, t.row.Key
	cur, err := tx.Row(key)
	if err != nil {
		return s, err
	}
	if cur == nil || cur.Seq != t.row.Seq && !q.o.rules.noR3 {
		return s, t.settleOld(tx, cur, ref)
	}
	d, err := tx.Doubt(key)
	if err != nil {
		return s, err
	}
	if d != nil && started.Before(d.Since.Add(q.o.Doubt)) && !q.o.rules.noR8 {
		return s, t.settleLater(tx, cur, d, ref)
	}
	if err := tx.DropDoubt(key); err != nil {
		return s, err
	}
	err = t.settleNow(tx, cur, ref, &s)
	return s, err
}

// hasSettled takes note of a settle that was committed as the state seq.
func (q *Queue) hasSettled(t *transfer, ref object.Ref, seq uint64, s settled) {
	if !s.published {
		return
	}
	q.tell(t)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats.Objects++
	delete(q.quiet, t.row.Content)
	if t.row.Kind == journal.Put && !ref.HasCRC {
		q.stats.WithoutCRC++
	}
	for _, n := range s.dropped {
		q.unneedLocked(n, seq)
	}
	switch base := t.row.Base; {
	case base.IsZero() || t.row.Content != 0:
	case base.Key == t.row.Key:
		q.succeedLocked(base, ref)
	default: // its copy has just shown that OSS holds it
		if len(q.confirmed) > 100_000 {
			clear(q.confirmed) // OSS is asked, then
		}
		q.confirmed[base.Key] = base
	}
}

// tell logs that a change is on OSS: what went in parts, and took its time, is of
// interest, each of thousands of small files is not.
func (q *Queue) tell(t *transfer) {
	level, what := slog.LevelDebug, "uploaded"
	switch {
	case t.row.Kind == journal.Delete:
		what = "deleted"
	case t.joined != "":
		level = slog.LevelInfo
	}
	q.log.Log(context.Background(), level, what, "key", t.row.Key, "size", t.row.Size)
}

// settled is what a settle has to tell when it is committed.
type settled struct {
	published bool // its bytes are on OSS now, and nothing is in doubt
	dropped   []uint64
}

// settleOld takes note of an outcome whose row has been replaced.
func (t *transfer) settleOld(tx *journal.Tx, cur *Row, ref object.Ref) error {
	key := t.row.Key
	if err := endDoubt(tx, t.row, false); err != nil {
		return err
	}
	memo := Memo{Ref: ref}
	if t.row.Kind == journal.Put {
		memo.Attrs = t.attrs(tx, ref)
		if err := tx.PutAttrs(memo.Attrs); err != nil {
			return err
		}
	} else if err := tx.DropAttrs(key); err != nil {
		return err
	}
	tx.BeforeCommit(func() error { t.q.memos.settled(key, memo); return nil }) // R9
	if cur != nil {
		cur.Expected, cur.Known = ref, true
		if err := tx.PutRow(cur); err != nil {
			return err
		}
	}
	if err := t.moveOn(tx, ref); err != nil {
		return err
	}
	u, err := tx.Upload(key)
	if err != nil || u == nil || t.row.Note == nil || u.Tag != t.row.Note.Tag {
		return err
	}
	return t.endUpload(tx, u)
}

// endUpload ends the upload u of the row's key, whose object is there. That the
// object carries the tag of u does not say that it was made of u: the upload may
// have been begun anew, under the same tag, after one whose Complete was not
// answered. Then it is open (H26).
func (t *transfer) endUpload(tx *journal.Tx, u *journal.Upload) error {
	if t.hasJoined(u) {
		return tx.DropUpload(t.row.Key)
	}
	return oweAbort(tx, t.row.Key, u)
}

func (t *transfer) hasJoined(u *journal.Upload) bool { return u.ID != "" && u.ID == t.joined }

// begun returns what the object of the row cur carries, if that is not what the
// row says. u is the upload of its key, or nil.
func (t *transfer) begun(cur *Row, u *journal.Upload) *journal.Begun {
	switch {
	case cur.Note == nil:
		return nil
	case u != nil && u.Tag == cur.Note.Tag && u.Differs(cur):
		return &u.Begun
	case u != nil && t.hasJoined(u):
		return nil
	}
	return cur.Note.Begun
}

// moveOn tells whoever goes on with the content of the row that the bytes which
// the row had are those of the version ref now: an open file, and a newer row.
func (t *transfer) moveOn(tx *journal.Tx, ref object.Ref) error {
	n := t.row.Content
	if n == 0 || ref.IsZero() {
		return nil
	}
	tx.BeforeCommit(func() error { t.q.published(n, ref, t.row.Seq); return nil })
	key, _, _ := tx.Named(n)
	r, err := tx.Row(key)
	if err != nil || r == nil || r.Seq == t.row.Seq || r.Content != n || t.row.Base.IsZero() || !r.Base.Same(t.row.Base) {
		return err
	}
	r.Base = ref // what differs from it differed from the one before
	return tx.PutRow(r)
}

// attrs is what is known of the version ref that the row has become.
func (t *transfer) attrs(tx *journal.Tx, ref object.Ref) *journal.Attrs {
	return &journal.Attrs{Key: t.row.Key, Ref: ref, Meta: t.meta(t.row.Begin(), t.tag()), Headers: t.row.Headers,
		Ctime: t.row.Attr.Ctime, Atime: t.row.Attr.Atime, Settled: tx.Seq()}
}

// settleLater keeps an answered row until what is in doubt must have landed.
func (t *transfer) settleLater(tx *journal.Tx, cur *Row, d *journal.Doubt, ref object.Ref) error {
	if cur.Note == nil {
		cur.Note = &journal.Note{Tag: t.q.tag(cur.Seq)}
	}
	cur.Note.Answered, cur.Note.Published = true, ref
	cur.Due = d.Since.Add(t.q.o.Doubt).UnixNano()
	u, err := tx.Upload(t.row.Key)
	if err != nil {
		return err
	}
	cur.Note.Begun = t.begun(cur, u)
	if u != nil && u.Tag == cur.Note.Tag {
		if err := t.endUpload(tx, u); err != nil {
			return err
		}
	}
	return tx.PutRow(cur)
}

func (t *transfer) settleNow(tx *journal.Tx, cur *Row, ref object.Ref, s *settled) error {
	key := cur.Key
	s.published = true
	u, err := tx.Upload(key)
	if err != nil {
		return err
	}
	begun := t.begun(cur, u)
	if u != nil {
		if err := t.endUpload(tx, u); err != nil {
			return err
		}
	}
	if err := t.keepClean(tx, cur, ref, s); err != nil {
		return err
	}
	if err := t.moveOn(tx, ref); err != nil {
		return err
	}
	if cur.Note != nil && cur.Note.Lost != 0 && !t.q.o.rules.noR8 {
		since := time.Unix(0, cur.Note.Lost)
		if time.Since(since) < t.q.o.Doubt {
			d := &journal.Doubt{Since: since}
			addDoubt(d, cur)
			if err := tx.PutDoubt(key, d); err != nil {
				return err
			}
		}
	}
	memo := Memo{Ref: ref}
	if cur.Kind == journal.Delete {
		if err := tx.DropAttrs(key); err != nil {
			return err
		}
	} else {
		memo.Attrs = t.attrs(tx, ref)
		memo.Attrs.Headers, memo.Attrs.Ctime, memo.Attrs.Atime = cur.Headers, cur.Attr.Ctime, cur.Attr.Atime
		if begun != nil {
			memo.Attrs.Meta = t.meta(*begun, memo.Attrs.Meta[object.TagMeta])
			memo.Attrs.Headers = begun.Headers
		}
		if err := tx.PutAttrs(memo.Attrs); err != nil {
			return err
		}
	}
	tx.BeforeCommit(func() error { t.q.memos.settled(key, memo); return nil })
	if begun != nil {
		// Attributes are fixed at Initiate (H21): the rest of the row is a
		// copy of the new version onto itself.
		cur.Rootless()
		cur.ForgetSum()
		cur.Base, cur.Content, cur.Text, cur.Note, cur.Open = ref, 0, "", nil, false
		cur.Expected, cur.Known = ref, true
		return tx.PutRow(cur)
	}
	return tx.DropRow(key)
}

// keepClean makes the local bytes, if they are those of the new version, its
// clean copy, and gives up what the key had before.
func (t *transfer) keepClean(tx *journal.Tx, cur *Row, ref object.Ref, s *settled) error {
	before, err := tx.Clean(cur.Key)
	if err != nil {
		return err
	}
	keep := uint64(0)
	switch {
	case cur.Content != 0 && !cur.Open && !cur.HasHoles():
		keep = cur.Content
	case cur.IsHole():
		c, err := tx.Clean(cur.Base.Key)
		if err != nil {
			return err
		}
		if c != nil && c.Ref.Same(cur.Base) {
			keep = c.Content
			if err := tx.DropClean(c.Key); err != nil {
				return err
			}
		}
	}
	if cur.Content != 0 && keep != cur.Content {
		s.dropped = append(s.dropped, cur.Content) // in use still if it is open
	}
	if before != nil && before.Content != keep {
		s.dropped = append(s.dropped, before.Content)
		if err := tx.DropClean(cur.Key); err != nil {
			return err
		}
	}
	if keep == 0 || ref.IsZero() {
		return nil
	}
	tx.BeforeCommit(func() error {
		err := t.q.c.SetWitness(keep, cache.Witness{
			CacheID: t.q.j.CacheID(), Boot: t.q.j.BootID(), Key: cur.Key, Seq: cur.Seq, Size: cur.Size, Attr: cur.Attr, Ref: ref, State: cache.StateClean,
		})
		if err != nil {
			t.q.log.Debug("a clean copy could not be marked", "content", keep, "err", err)
		}
		return nil
	})
	return tx.PutClean(&journal.Clean{Key: cur.Key, Content: keep, Ref: ref, Used: time.Now().Unix()})
}
