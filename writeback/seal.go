package writeback

import (
	"cmp"
	"context"
	"time"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/crash"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// OpenForWrite unseals content n: no transfer of it begins until Seal has been
// called as often. One that is under way goes on until BeforeWrite.
func (q *Queue) OpenForWrite(n uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open[n]++
	delete(q.quiet, n)
}

// Seal takes one OpenForWrite back. When it was the last, the content is
// sealed, and dropped if nothing names it. key is whose row may name it, for that is
// found at once.
func (q *Queue) Seal(n uint64, key string) {
	if !q.lastWriter(n) {
		return
	}
	var row string
	named := true
	err := q.j.View(func(tx *journal.Tx) error {
		r, err := tx.RowOf(n, key)
		if r != nil {
			row = r.Key
		} else {
			row, _, named = tx.Named(n) // a clean copy may
		}
		return err
	})
	if err != nil {
		return // the journal is closed, or its disk failed: the next start finds the content
	}
	q.sealAhead(n, row)
	if !named {
		q.Unneeded(n)
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.unblockLocked(row)
	q.poke()
}

func (q *Queue) lastWriter(n uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open[n]--; q.open[n] > 0 {
		return false
	}
	delete(q.open, n)
	return true
}

// Unneeded gives content n up: it is dropped once nothing names it, now and at
// the durable horizon.
func (q *Queue) Unneeded(n uint64) {
	last := q.j.Last() // before q.mu, which is the innermost lock
	q.mu.Lock()
	defer q.mu.Unlock()
	q.unneedLocked(n, last)
}

// BeforeWrite must be called before the first change of content n after it was
// committed (by a flush, an fsync or a settle), and returns before it may
// change:
//
//   - no transfer reads it any more, none that read it is taken for its bytes;
//   - nothing vouches for its bytes: a row that names it says that it is open
//     and knows no sum of them, a clean copy has lost its record, and if a power cut could bring the
//     state before back, the horizon has moved on (docs/durability.md).
//
// clone reports that the content must not be changed but cloned, because its
// file has waited for too long already: the row keeps the content.
func (q *Queue) BeforeWrite(ctx context.Context, n uint64, mayClone bool) (clone bool, err error) {
	q.mu.Lock()
	damaged := q.damaged
	q.mu.Unlock()
	if damaged != nil {
		return false, damaged
	}
	if q.IsUrgent(n) {
		return false, ErrPublishing
	}
	if mayClone && q.overdue(n) {
		return true, nil
	}
	q.stopReaders(n)
	vouched := uint64(0)
	seq, err := q.j.Update(func(tx *journal.Tx) error {
		vouched = 0
		row, clean, named := tx.Named(n)
		if !named {
			vouched = 1 // its name is gone: the state at the horizon may still have it
		}
		if row != "" {
			r, err := tx.Row(row)
			if err != nil {
				return err
			}
			if r != nil && r.Content == n && (!r.Open || r.HasCRC) {
				if !r.Open {
					vouched = cmp.Or(r.Vouched, r.Seq)
				}
				r.Open = true
				r.ForgetSum()
				if err := tx.PutRow(r); err != nil {
					return err
				}
			}
		}
		if clean != "" {
			vouched = 1 // since when is not known: any state may say so
			return tx.DropClean(clean)
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	crash.At("opened since, not durable")
	if vouched != 0 && q.j.Covered(vouched) {
		if err := q.j.WaitHorizon(ctx, seq); err != nil {
			return false, err
		}
	}
	w, _, err := q.c.Witness(n)
	if err != nil {
		return false, err
	}
	w.State, w.CacheID, w.Boot = cache.StateOpen, q.j.CacheID(), q.j.BootID()
	defer crash.At("opened since, nothing written")
	return false, q.c.SetWitness(n, w)
}

// overdue reports that content n is being carried and waits for longer than
// MaxDirtyAge, and is small enough to be cloned.
func (q *Queue) overdue(n uint64) bool {
	q.mu.Lock()
	carried := len(q.readers[n]) > 0
	q.mu.Unlock()
	if !carried {
		return false
	}
	old := false
	_ = q.j.View(func(tx *journal.Tx) error {
		row, _, _ := tx.Named(n)
		r, err := tx.Row(row)
		if err == nil && r != nil && r.Size <= q.o.limits.clone && !r.HasHoles() { // R4
			old = time.Since(time.Unix(0, r.Closed)) > q.o.MaxDirtyAge
		}
		return err
	})
	return old
}

func (q *Queue) stopReaders(n uint64) {
	q.mu.Lock()
	var all []*transfer
	for t := range q.readers[n] {
		all = append(all, t)
	}
	q.mu.Unlock()
	for _, t := range all {
		t.stopReading()
	}
}

// Hold is an open handle that reads a version through holes (R2).
type Hold struct {
	q     *Queue
	ref   object.Ref
	of    uint64    // content whose holes it reads, 0: none
	since time.Time // when a change first waited for it; zero: none does
	fill  func()
}

// Hold keeps ref in place: changes of its key wait until Release, but no
// longer than Options.HandleGrace. fill, if not nil, is started when a change
// begins to wait; it should read what is missing and release the hold. of is the
// content whose holes are read, or 0: that its own bytes are published need not
// wait (Follow).
func (q *Queue) Hold(ref object.Ref, of uint64, fill func()) *Hold {
	h := &Hold{q: q, ref: ref, of: of, fill: fill}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.holds[ref.Key] == nil {
		q.holds[ref.Key] = map[*Hold]struct{}{}
	}
	q.holds[ref.Key][h] = struct{}{}
	return h
}

// Release lets changes of the key go on, or wait for the holds that are left. It may
// be called more than once.
func (h *Hold) Release() {
	q := h.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.holds[h.ref.Key][h]; !ok {
		return
	}
	delete(q.holds[h.ref.Key], h)
	if len(q.holds[h.ref.Key]) == 0 {
		delete(q.holds, h.ref.Key)
	}
	q.unblockLocked(h.ref.Key)
	q.poke()
}

// heldLocked returns until when row must wait for open handles; zero: not at
// all. A change that only gives the version new attributes need not wait: the
// readers are led to the new version (Successor). Nor need one of a content wait
// for those who read the holes of that content.
func (q *Queue) heldLocked(row *Row, now time.Time) time.Time {
	var until time.Time
	for h := range q.holds[row.Key] {
		if row.Base.Same(h.ref) && (row.IsHole() || row.Content == h.of) {
			continue
		}
		if h.since.IsZero() {
			h.since = now
			if h.fill != nil {
				go q.guarded(h.fill)
			}
		}
		until = later(until, h.since.Add(q.o.HandleGrace))
	}
	if !until.After(now) {
		return time.Time{}
	}
	return until
}

// Successor returns the version that has taken the place of ref by our own doing;
// ok is false when there is none. It holds the same bytes, or, where ref is read
// for the holes of content of, those of that content.
func (q *Queue) Successor(ctx context.Context, ref object.Ref, of uint64) (next object.Ref, ok bool) {
	q.mu.Lock()
	next, ok = q.successors[ref]
	q.mu.Unlock()
	if ok {
		return next, true
	}
	row, err := q.replacing(ref, of)
	if err != nil {
		return object.Ref{}, false
	}
	if row != nil {
		base, err := q.rebase(ctx, row)
		return base, err == nil && !base.Same(ref)
	}
	if !ref.HasCRC {
		return object.Ref{}, false
	}
	info, err := q.remote.Head(ctx, ref.Key)
	if err != nil || !sameBytes(info.Ref, ref) || info.Ref.Same(ref) {
		return object.Ref{}, false
	}
	return info.Ref, true // a request of ours has landed twice
}

// replacing returns the row, whatever its name is by now, that may have replaced
// ref by its own bytes: those of content of, or of ref itself; nil if there is none.
func (q *Queue) replacing(ref object.Ref, of uint64) (row *Row, err error) {
	err = q.j.View(func(tx *journal.Tx) error {
		for key := range tx.BasedOn(ref.Key) {
			r, err := tx.Row(key)
			if err != nil {
				return err
			}
			switch {
			case r == nil || r.Content != 0 && r.Content != of:
			case !r.Base.Same(ref) && r.Content != 0: // it has, and its row knows
				row = r
			case r.Base.Same(ref) && len(r.Tags) > 0:
				row = r
			}
		}
		return nil
	})
	return row, err
}

func (q *Queue) succeedLocked(old, next object.Ref) {
	if len(q.successors) > 10_000 {
		clear(q.successors) // a reader that is not led on gets ESTALE
	}
	delete(q.successors, next) // it may be back
	q.successors[old] = next
}
