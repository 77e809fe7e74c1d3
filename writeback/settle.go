package writeback

import (
	"context"
	"log/slog"
	"time"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/crash"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

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
	r, err := tx.RowOf(n, t.row.Key)
	if err != nil || r == nil || r.Seq == t.row.Seq || t.row.Base.IsZero() || !r.Base.Same(t.row.Base) {
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
