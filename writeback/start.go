package writeback

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/crash"
	"github.com/ossmount/ossmount/journal"
)

// takeUp brings journal and contents to what the crash table says (docs/durability.md
// section 4), before anything is served. It asks OSS nothing.
func (q *Queue) takeUp(ctx context.Context) error {
	var fix []*Row
	var doubts []string
	var unseen []uint64
	top := uint64(0)
	cut := q.j.Recovered().PowerCut
	if err := q.rebuild(); err != nil {
		return err
	}
	// Before anything is committed: whatever the journal has passed by the next
	// start would be garbage then, and may be what this one keeps.
	if err := q.takeUpContents(ctx); err != nil {
		return err
	}
	err := q.j.View(func(tx *journal.Tx) error {
		top = tx.MaxContent()
		all, err := q.judgeAll(tx, cut)
		if err != nil {
			return err
		}
		fix, unseen = all.fix, all.unseen
		for key := range tx.Doubts() {
			doubts = append(doubts, key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	q.c.Reserve(top) // H8
	if len(fix) > 0 {
		_, err := q.j.Batch(func(tx *journal.Tx) error {
			for _, r := range fix {
				if err := tx.PutRow(r); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	crash.At("rows judged")
	if err := q.takeUpDoubts(doubts); err != nil {
		return err
	}
	crash.At("doubts taken up")
	if err := q.takeUpUploads(); err != nil {
		return err
	}
	crash.At("uploads taken up")
	q.orphans = unseen
	return nil
}

// judged is what came of looking at all rows at start.
type judged struct {
	mu     sync.Mutex
	fix    []*Row   // that had to be changed
	unseen []uint64 // contents of others of which nobody says when they change
}

func (all *judged) add(fix []*Row, unseen []uint64) {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.fix, all.unseen = append(all.fix, fix...), append(all.unseen, unseen...)
}

// judgedAtOnce is how many rows are judged in one go; others are read meanwhile.
const judgedAtOnce = 256

func (q *Queue) judgeAll(tx *journal.Tx, cut bool) (all *judged, err error) {
	all = &judged{}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	judge := func(rows []*Row) error {
		var fix []*Row
		var unseen []uint64
		for _, r := range rows {
			if q.judge(tx, r, cut) {
				fix = append(fix, r)
			}
			if r.Unseen && !cut {
				unseen = append(unseen, r.Content)
			}
		}
		all.add(fix, unseen)
		return nil
	}
	var some []*Row
	for r, rerr := range tx.Rows("", "") {
		if err = rerr; err != nil {
			break
		}
		if some = append(some, r); len(some) == judgedAtOnce {
			rows := some
			g.Go(func() error { return judge(rows) })
			some = nil
		}
	}
	return all, errors.Join(err, g.Wait(), judge(some))
}

// judge looks at a row found at start and reports whether it had to be
// changed: a request of it may be under way still, its file may be written in
// the middle, its bytes may be missing.
func (q *Queue) judge(tx *journal.Tx, r *Row, cut bool) (changed bool) {
	if r.Note != nil && !r.Note.Answered && !q.o.rules.noR8 {
		// Also if one was given up before: it may have been repeated since.
		r.Note.Lost, changed = time.Now().UnixNano(), true
	}
	if r.Content == 0 || r.Parked != "" {
		return changed
	}
	sign, err := q.c.Stat(r.Content)
	if errors.Is(err, fs.ErrNotExist) {
		r.Parked = damagedPrefix + missing + " from the cache directory"
		return true
	}
	torn := err != nil || sign.Size != r.SignSize || sign.Mtime != r.SignMtime
	if !torn && !r.Unseen { // of what the kernel has written the witness does not know
		w, ok, err := q.c.Witness(r.Content)
		torn = err != nil || ok && w.State == cache.StateOpen
	}
	if cut {
		// Nothing but the journal was synced in order: it alone says whether
		// the file was being written. Its time may be of any moment.
		torn = r.Open || sign.Size != r.SignSize
		if r.Unseen && r.HasCRC && !torn { // it may have been changed after its close
			crc, err := q.sumOf(r.Content, r.Size)
			torn = err != nil || crc != r.CRC64
		}
	}
	if cut && !torn {
		// The next start shall find what this one goes on from.
		changed = changed || sign.Mtime != r.SignMtime
		r.SignMtime = sign.Mtime
		if err := q.witness(tx, r, cache.StateClosed); err != nil {
			q.log.Warn("a content could not be marked", "content", r.Content, "err", err)
		}
	}
	switch {
	case torn && (!r.Interrupted || r.Size != sign.Size || r.HasCRC):
		if !r.Interrupted {
			q.log.Warn("interrupted: the file was being written when the last mount ended; the bytes are kept", "key", r.Key)
		}
		r.Interrupted, r.Open = true, true
		r.ForgetSum()
		q.asFound(r, sign.Size)
		return true
	case !torn && r.Open:
		r.Open = false // an fsync committed it, and nothing was written since
		return true
	}
	return changed
}

// asFound gives an interrupted row the size that its file has. What was written
// to it since its last flush is not known: of one that is all here anything may
// differ from the base, of one with holes what has been added does.
func (q *Queue) asFound(r *Row, size int64) {
	switch {
	case r.Base.IsZero():
	case r.HasHoles():
		r.Dirty = r.Dirty.Clip(size).Add(min(r.Size, size), size)
	default:
		r.Rootless()
	}
	r.Size = size
}

// takeUpDoubts: whatever was flying has ended when the process did.
func (q *Queue) takeUpDoubts(keys []string) error {
	for _, key := range keys {
		_, err := q.j.Update(func(tx *journal.Tx) error {
			d, err := tx.Doubt(key)
			if err != nil || d == nil || d.Flying == 0 {
				return err
			}
			d.Flying, d.Since = 0, later(d.Since, time.Now())
			return tx.PutDoubt(key, d)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// takeUpUploads turns uploads whose key has no row for them into debts (H26).
func (q *Queue) takeUpUploads() error {
	var keys []string
	err := q.j.View(func(tx *journal.Tx) error {
		for key, u := range tx.Uploads() {
			row, err := tx.Row(key)
			if err != nil {
				return err
			}
			if row == nil || row.Kind != journal.Put || row.Content != u.Content || row.Base != u.Base || row.Interrupted && u.ID == "" {
				keys = append(keys, key)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range keys {
		_, err := q.j.Update(func(tx *journal.Tx) error {
			u, err := tx.Upload(key)
			if err != nil || u == nil {
				return err
			}
			return oweAbort(tx, key, u)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Nameless returns the contents that nothing names.
func Nameless(j *journal.Journal, c *cache.Cache) (all []uint64, err error) {
	// What is made or named meanwhile is neither: the numbers come first.
	all = c.Numbers()
	err = j.View(func(tx *journal.Tx) error {
		nameless := all[:0]
		named, stop := iter.Pull(tx.Contents())
		defer stop()
		at, more := named()
		for _, n := range all {
			for more && at < n {
				at, more = named()
			}
			if !more || at != n {
				nameless = append(nameless, n)
			}
		}
		all = nameless
		return nil
	})
	return all, err
}

// takeUpContents sorts out the contents that nothing names: garbage, or
// lost+found.
func (q *Queue) takeUpContents(ctx context.Context) error {
	rec := q.j.Recovered()
	last := rec.Last
	switch {
	case rec.New:
		last = 0 // it has passed nothing
	case rec.PowerCut:
		last = rec.Horizon
	}
	nameless, err := Nameless(q.j, q.c)
	if err != nil {
		return err
	}
	if len(nameless) == 0 {
		return nil
	}
	// The state at the horizon may still name them (H2).
	if err := q.j.WaitHorizon(ctx, q.j.Last()); err != nil {
		return err
	}
	var lost []uint64
	for _, n := range nameless {
		if !q.isGarbage(n, last) {
			q.log.Warn("found bytes that no file names: kept in lost+found", "content", n)
			lost = append(lost, n)
			continue
		}
		if err := q.c.Drop(n); err != nil {
			return err
		}
		crash.At("garbage dropped")
	}
	return q.c.Lose(lost...)
}

// isGarbage reports that a content without a name is not worth keeping: the
// journal has passed what its witness says, and it was not being written; or
// it is a copy of what OSS holds.
func (q *Queue) isGarbage(n uint64, last uint64) bool {
	sign, err := q.c.Stat(n)
	if err == nil && sign.Size == 0 {
		return true
	}
	w, ok, err := q.c.Witness(n)
	switch {
	case err != nil || !ok:
		return false
	case w.State == cache.StateDead, w.State == cache.StateClean:
		return true
	case w.State == cache.StateOpen:
		return false
	case w.CacheID != q.j.CacheID() && !q.j.Recovered().PowerCut:
		return false // of before a power cut, or of another journal: what has been passed is not known any more
	}
	return w.Seq <= last
}
