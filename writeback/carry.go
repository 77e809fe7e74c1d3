package writeback

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

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
		if err := q.j.JoinHorizon(q.work, max(noted, t.chosen)); err != nil {
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
