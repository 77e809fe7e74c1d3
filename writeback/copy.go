package writeback

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/crash"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// copy carries a row whose bytes are one hole over a version that OSS holds:
// a copy on the server, onto the key itself for new attributes.
func (t *transfer) copy() error {
	if err := t.learn(); err != nil {
		return t.baseLost(err)
	}
	row := t.row
	if row.Size > t.q.o.limits.maxCopy {
		return t.fillRefused(t.multipart())
	}
	if row.Base.Key == row.Key && row.Note != nil && !t.q.o.rules.noR7 {
		// An earlier request of this row may have replaced its own base.
		if done, err := t.alreadyThere(); done || err != nil {
			return err
		}
	}
	if err := t.look(); err != nil {
		return err
	}
	if err := t.keep(); err != nil {
		return err
	}
	err := t.publish(t.tag(), func(ctx context.Context, tag string) (object.Ref, error) {
		if err := t.q.pace.acquire(t.q.work); err != nil {
			return object.Ref{}, errStopped
		}
		defer t.q.pace.release()
		ref, err := t.q.remote.Copy(ctx, row.Base, row.Key, t.newOptions(tag))
		ref.Size = row.Size
		return ref, err
	})
	if isTaken(err) {
		return t.taken(err)
	}
	return t.fillRefused(t.baseLost(err))
}

// fillRefused fills the hole of the row where err says that OSS copies no such
// object, as it is with appendable ones: its bytes are uploaded then. Those of
// an archived object cannot be fetched; a clean copy of them will do.
func (t *transfer) fillRefused(err error) error {
	var e *object.Error
	if !errors.As(err, &e) || e.Op != "CopyObject" && e.Op != "UploadPartCopy" {
		return err
	}
	archived := e.Code == "InvalidObjectState"
	if !archived && e.Code != "OperationNotSupported" && e.Code != "NotImplemented" {
		return err
	}
	if t.row.IsHole() && t.row.Base.Key == t.row.Key {
		// The condition was in the request that is refused, and may not have been looked at.
		if _, herr := t.q.headBase(t.q.work, t.row); herr != nil {
			return t.baseLost(herr)
		}
	}
	if archived {
		if t.q.fillHere(t.row) == nil {
			return errAgainNow
		}
		return err
	}
	t.q.log.Info("OSS does not copy this object: it is fetched and sent anew", "key", t.row.Key, "base", t.row.Base.Key, "err", err)
	if ferr := t.q.fill(t.q.work, t.row); ferr != nil && !errors.Is(ferr, errAgainNow) {
		return t.baseLost(ferr)
	}
	return errAgainNow
}

// alreadyThere settles the row if the object carries its tag (R7), and has the
// size and CRC64 of the local bytes or of the base: others may keep the tag on
// what they rewrite.
func (t *transfer) alreadyThere() (done bool, err error) {
	info, err := t.q.remote.Head(t.q.work, t.row.Key)
	if object.IsAbsent(err) {
		return false, nil
	}
	if err != nil || info.Meta[object.TagMeta] != t.row.Note.Tag || info.Size != t.row.Size {
		return false, err
	}
	if same, err := t.isMade(info); err != nil || !same {
		return false, err
	}
	return true, t.settle(info.Ref, time.Time{})
}

// isMade compares the CRC64 of info with what is known of that of the row: that
// of the local bytes, of the base, or of the parts that were to be joined.
func (t *transfer) isMade(info object.Info) (same bool, err error) {
	if same, known := isSum(t.row, info); known {
		return same, nil
	}
	switch row := t.row; {
	case row.IsHole():
		return !row.Base.HasCRC || !info.HasCRC || row.Base.CRC64 == info.CRC64, nil
	case row.HasHoles():
		crc, sure, err := t.partsCRC()
		return err == nil && (!sure || !info.HasCRC || crc == info.CRC64), err
	}
	src, err := t.source()
	if err != nil {
		return false, err
	}
	defer src.close()
	if !info.HasCRC && strings.Contains(info.ETag, "-") { // that of parts is the MD5 of no bytes
		return true, nil // size and tag must do (H27)
	}
	return src.sameBytes(span{n: info.Size}, journal.Part{ETag: info.ETag, CRC64: info.CRC64, HasCRC: info.HasCRC})
}

// goneBase is in the reason of a row that was parked because the version that
// its bytes are is gone: nothing waits for it.
const goneBase = "conflict"

// baseLost deals with err where it says that the base is not there any more:
// it was replaced by ourselves, or its bytes are here, or the row is a conflict.
func (t *transfer) baseLost(err error) error {
	if err == nil || t.row.Base.IsZero() || object.KindOf(err) != object.Conflict && !object.IsAbsent(err) {
		return err
	}
	if t.superseded.Load() {
		return errSuperseded
	}
	base, rerr := t.q.rebase(t.q.work, t.row)
	if rerr != nil {
		return rerr
	}
	if !base.Same(t.row.Base) {
		return errAgainNow
	}
	if t.row.IsHole() && t.row.Base.Key == t.row.Key {
		return t.attrsTaken() // who has only set attributes takes nobody's bytes away, though the old ones be here
	}
	if ferr := t.q.fillHere(t.row); ferr == nil {
		return errAgainNow
	}
	return &object.Error{Op: "CopyObject", Key: t.row.Key, Kind: object.Parked, Fate: object.Answered,
		Code: goneBase, Err: fmt.Errorf("the version of %q that it was made from is gone from OSS; what was changed is kept: take it out with `ossmount recover export`, or write the file anew", t.row.Base.Key)}
}

// rebase looks whether the base of row was replaced by our own doing, and if
// so gives the row the new version as its base (R7). It returns the base that
// the row has now.
func (q *Queue) rebase(ctx context.Context, row *Row) (object.Ref, error) {
	if q.o.rules.noR7 {
		return row.Base, nil
	}
	cur, err := q.Row(row.Key)
	if err != nil {
		return object.Ref{}, err
	}
	if cur != nil && cur.Seq == row.Seq && !cur.Base.IsZero() && !cur.Base.Same(row.Base) {
		return cur.Base, nil // moveOn was here before
	}
	q.mu.Lock()
	next, known := q.successors[row.Base]
	q.mu.Unlock()
	if !known {
		info, err := q.remote.Head(ctx, row.Base.Key)
		if object.IsAbsent(err) {
			return row.Base, nil
		}
		if err != nil {
			return object.Ref{}, err
		}
		// The version that the intent began with is back if a request in doubt
		// that made it has landed once more: its bytes are the same.
		back := row.Base.Key == row.Key && row.IsHole() && info.Ref.Same(row.Expected) || sameBytes(info.Ref, row.Base)
		if !back && !contains(row.Tags, info.Meta[object.TagMeta]) {
			return row.Base, nil
		}
		next = info.Ref
	}
	_, err = q.j.Update(func(tx *journal.Tx) error {
		cur, err := tx.Row(row.Key)
		if err != nil || cur == nil || !cur.Base.Same(row.Base) {
			return err
		}
		cur.Base = next
		return tx.PutRow(cur)
	})
	if err != nil {
		return object.Ref{}, err
	}
	if !row.IsHole() { // the same bytes only where it has none of its own
		q.published(row.Content, next, 0)
		return next, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.succeedLocked(row.Base, next)
	return next, nil
}

// sameBytes reports that two versions of a key have equal size and CRC64, such
// as those that one request made which landed twice.
func sameBytes(a, b object.Ref) bool {
	return a.HasCRC && b.HasCRC && a.Size == b.Size && a.CRC64 == b.CRC64
}

// fillHere fills the holes of the row without OSS: it has none, or the bytes of its
// base are here.
func (q *Queue) fillHere(row *Row) error {
	if row.Content != 0 && !row.HasHoles() {
		return q.uproot(row)
	}
	y, err := q.lent(row.Base)
	if err != nil {
		return err
	}
	defer y.Close()
	return q.filled(row, y)
}

// lent returns a copy of the bytes of ref that are here: those of the clean copy,
// or of a reader that has fetched all of them. Its witness says dead, until its row
// is committed.
func (q *Queue) lent(ref object.Ref) (*cache.Content, error) {
	var clean *journal.Clean
	err := q.j.View(func(tx *journal.Tx) (err error) {
		clean, err = tx.Clean(ref.Key)
		return err
	})
	if err != nil {
		return nil, err
	}
	if clean != nil && clean.Ref.Same(ref) {
		x, err := q.c.Open(clean.Content)
		if err != nil {
			return nil, err
		}
		defer x.Close()
		return x.Clone(cache.Witness{State: cache.StateDead})
	}
	if lend := q.lender(); lend != nil {
		if y, err := lend(ref); y != nil || err != nil {
			return y, err
		}
	}
	return nil, fmt.Errorf("no copy of %q is here", ref.Key)
}

// Lend has f called for bytes that OSS has no more, or that would have to be fetched
// from there: it returns a copy of all of those of ref, whose witness says dead, or
// nil if it has not got them.
func (q *Queue) Lend(f func(ref object.Ref) (*cache.Content, error)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lend = f
}

func (q *Queue) lender() func(object.Ref) (*cache.Content, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lend
}

// uproot takes its base from a row whose bytes are all here.
func (q *Queue) uproot(row *Row) error {
	_, err := q.j.Update(func(tx *journal.Tx) error {
		cur, err := tx.Row(row.Key)
		if err != nil || cur == nil || cur.Seq != row.Seq {
			return err
		}
		cur.Rootless()
		return tx.PutRow(cur)
	})
	q.unblock(row.Base.Key)
	return err
}

// Fill gives the row of key local bytes in place of its hole, and returns its
// content; 0 if it has no hole (any more). Only a filled content is opened for
// writing or cloned (R4).
func (q *Queue) Fill(ctx context.Context, key string) (content uint64, err error) {
	for range 3 {
		row, err := q.Row(key)
		if err != nil {
			return 0, err
		}
		if row == nil || !row.HasHoles() {
			if row != nil {
				content = row.Content
			}
			return content, nil
		}
		if err := q.fill(ctx, row); err != nil && !errors.Is(err, errAgainNow) {
			return 0, err
		}
	}
	return 0, fmt.Errorf("fill %q: its base keeps changing", key)
}

// fill gives row a new content with all its bytes: those of its base are fetched.
func (q *Queue) fill(ctx context.Context, row *Row) error {
	if len(row.Tags) > 0 && !q.o.rules.noR4 {
		// Until the outcome is known no hole of it is read: ask.
		if base, err := q.rebase(ctx, row); err != nil || !base.Same(row.Base) {
			return errors.Join(err, errAgainNow)
		}
	}
	if row.Unlearnt { // what it carries is known by its base only
		next, err := q.learnRow(ctx, row)
		if err != nil {
			return err
		}
		row = next
	}
	if q.fillHere(row) == nil {
		return nil
	}
	base := row.Base
	if q.o.rules.noR4 {
		if info, err := q.remote.Head(ctx, base.Key); err == nil {
			base = info.Ref // whatever is there now
		}
	}
	if err := q.engineRoom(base.Size); err != nil {
		return err
	}
	y, err := q.c.Create()
	if err != nil {
		return err
	}
	defer y.Close()
	if err = y.SetWitness(cache.Witness{State: cache.StateDead}); err == nil { // until its row is committed
		err = q.download(ctx, base, y)
	}
	if err == nil {
		return q.filled(row, y)
	}
	derr := q.c.Drop(y.Number())
	if k := object.KindOf(err); k == object.Conflict || k == object.Absent {
		next, rerr := q.rebase(ctx, row)
		if rerr != nil {
			return errors.Join(rerr, derr)
		}
		if !next.Same(base) {
			return errors.Join(errAgainNow, derr)
		}
	}
	return errors.Join(err, derr)
}

func (q *Queue) download(ctx context.Context, ref object.Ref, y *cache.Content) error {
	if ref.Size == 0 {
		return nil
	}
	r, err := q.remote.Get(ctx, ref, 0, ref.Size)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.NewOffsetWriter(y, 0), r)
	return err
}

// filled makes y, which holds the base of row, the content of row. The row keeps
// its sequence: its bytes are what they were.
func (q *Queue) filled(row *Row, y *cache.Content) error {
	err := q.patch(row, y)
	sign, serr := y.Sign()
	if err = errors.Join(err, serr); err != nil {
		return errors.Join(err, q.c.Drop(y.Number()))
	}
	crash.At("filled, not taken")
	took, size := false, row.Size
	if row.IsHole() {
		size = sign.Size
	}
	seq, err := q.j.Update(func(tx *journal.Tx) error {
		cur, err := tx.Row(row.Key)
		if err != nil || cur == nil || cur.Seq != row.Seq || !cur.Base.Same(row.Base) || cur.Content != row.Content ||
			cur.Content != 0 && (cur.Open && !cur.Interrupted || q.isOpen(cur.Content)) {
			return err // it is being written: what was copied of it may be anything
		}
		took = true
		if err := q.remembered(tx, cur); err != nil {
			return err
		}
		baseSum(cur, size)
		cur.Rootless()
		cur.Content, cur.Size = y.Number(), size
		cur.SignSize, cur.SignMtime = sign.Size, sign.Mtime
		if err := tx.PutRow(cur); err != nil {
			return err
		}
		tx.BeforeCommit(func() error { return q.witness(tx, cur, cache.StateClosed) })
		tx.BeforeCommit(func() error { q.followTo(row.Content, y.Number()); return nil }) // before a writer of the old one goes on
		return nil
	})
	crash.At("filled and taken")
	if err != nil || !took {
		q.followTo(y.Number(), row.Content)
		return errors.Join(err, q.c.Drop(y.Number()))
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if row.Content != 0 {
		q.unneedLocked(row.Content, seq)
	}
	q.unblockLocked(row.Base.Key)
	q.poke()
	return nil
}

// patch writes what the content of row has over y, which holds its base.
func (q *Queue) patch(row *Row, y *cache.Content) error {
	if row.Content == 0 {
		return nil
	}
	x, err := q.c.Open(row.Content)
	if err != nil {
		return err
	}
	defer x.Close()
	if err := y.Truncate(row.Size); err != nil {
		return err
	}
	for _, r := range row.Dirty {
		n, err := io.Copy(io.NewOffsetWriter(y, r.Off), io.NewSectionReader(x, r.Off, r.Len()))
		if err == nil && n < r.Len() {
			err = fmt.Errorf("%w: content %d ends at %d", errLocal, row.Content, r.Off+n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// remembered takes over what is known of the base of r before r loses it.
func (q *Queue) remembered(tx *journal.Tx, r *Row) error {
	if !r.Unlearnt {
		return nil
	}
	a, err := tx.Attrs(r.Base.Key)
	if err == nil && a != nil && a.Ref.Same(r.Base) {
		learnt(r, object.Info{Ref: a.Ref, LastModified: a.LastModified, Meta: a.Meta, Headers: a.Headers})
	}
	r.Unlearnt = false
	return err
}

// free frees a row that waits for itself: its hole is filled if it is small,
// else its base is copied to a hidden key, and it looks there (R5).
func (t *transfer) free() error {
	if err := t.learn(); err != nil {
		return t.baseLost(err)
	}
	q, row := t.q, t.row
	limit := q.o.limits.clone
	limit = min(limit, q.c.Room(cache.Engine)/4)
	if row.Base.Size <= limit || row.Base.Size > q.o.limits.maxCopy || row.Content != 0 && !row.HasHoles() {
		err := q.fill(q.work, row)
		if errors.Is(err, errAgainNow) {
			return nil
		}
		return t.baseLost(err)
	}
	hidden := fmt.Sprintf("%s.ossmount/%s/%d", q.o.Prefix, q.j.CacheID(), row.Seq)
	at, err := q.j.Update(func(tx *journal.Tx) error {
		return tx.AddDebt(journal.Debt{Key: hidden, Object: true, For: row.Key})
	})
	if err != nil {
		return err
	}
	if err := q.j.JoinHorizon(q.work, at); err != nil {
		return errStopped
	}
	crash.At("hidden copy noted, not made")
	ref, err := q.remote.Copy(q.work, row.Base, hidden, t.options(q.tag(row.Seq)))
	if err != nil {
		return t.fillRefused(t.baseLost(err))
	}
	crash.At("hidden copy made, not taken")
	ref.Key, ref.Size = hidden, row.Base.Size
	_, err = q.j.Update(func(tx *journal.Tx) error {
		cur, err := tx.Row(row.Key)
		if err != nil || cur == nil || cur.Seq != row.Seq || !cur.Base.Same(row.Base) {
			return err
		}
		cur.Base, cur.Tags = ref, nil
		return tx.PutRow(cur)
	})
	crash.At("hidden copy taken")
	return err
}
