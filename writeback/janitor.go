package writeback

import (
	"slices"
	"time"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/crash"
	"github.com/ossmount/ossmount/journal"
)

// unneedLocked notes that content n was given up in the state at, though perhaps
// for another name. The state at the horizon may still name it, and so may any
// until it was given up for the last time (H2).
func (q *Queue) unneedLocked(n, at uint64) { q.unneeded[n] = max(q.unneeded[n], at) }

// janitor drops contents that are not needed any more once the horizon has
// passed the state that gave them up (H2), forgets doubts that are over, and evicts
// clean copies when room is short (room.go).
func (q *Queue) janitor() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	doubts := time.NewTicker(max(q.o.Doubt, time.Second))
	defer doubts.Stop()
	for {
		select {
		case <-q.work.Done():
			return
		case <-doubts.C:
			q.forgetDoubts()
			continue
		case <-tick.C:
		case <-q.tidy: // somebody waits for room
		}
		if q.yields() {
			continue
		}
		q.sweep()
		q.evict()
		q.endShortage()
	}
}

// forgetDoubts drops the doubts about keys that have no row, once everything that
// was sent has landed: a row that comes now finds what has come of it. A key that is
// never used again would keep its doubt for ever.
func (q *Queue) forgetDoubts() {
	over := func(tx *journal.Tx, key string) (bool, error) {
		d, err := tx.Doubt(key)
		if err != nil || d == nil || d.Flying != 0 || time.Since(d.Since) < q.o.Doubt {
			return false, err
		}
		row, err := tx.Row(key)
		return row == nil, err
	}
	var keys []string
	err := q.j.View(func(tx *journal.Tx) error {
		for key := range tx.Doubts() {
			if yes, err := over(tx, key); err != nil {
				return err
			} else if yes {
				keys = append(keys, key)
			}
		}
		return nil
	})
	if err != nil {
		return
	}
	for some := range slices.Chunk(keys, inCommit) {
		_, err := q.j.Update(func(tx *journal.Tx) error {
			for _, key := range some {
				if yes, err := over(tx, key); err != nil {
					return err
				} else if yes {
					if err := tx.DropDoubt(key); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return // they are over the next time, too
		}
	}
}

// sweep drops what was given up. That a state was passed by the horizon is known of the
// last time that was noted here, and a commit that gives a content up once more is there
// before that is: so the journal is asked, which knows all states that a cut may leave.
func (q *Queue) sweep() {
	for _, n := range q.droppable(q.j.Horizon()) {
		now, later, err := q.j.Needed(n)
		switch {
		case err != nil || later || !now && !q.isFree(n):
			q.Unneeded(n) // it is looked at again
		case now: // it has found a name again, and will be given up with that
		default:
			q.drop(n)
		}
	}
}

func (q *Queue) drop(n uint64) {
	w, ok, err := q.c.Witness(n)
	if err == nil && ok {
		w.State = cache.StateDead
		err = q.c.SetWitness(n, w)
	}
	crash.At("content dead, not dropped")
	defer crash.At("content dropped")
	if derr := q.c.Drop(n); derr != nil {
		q.log.Warn("a content could not be dropped", "content", n, "err", derr, "witness", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.short.dropped++
}

func (q *Queue) droppable(horizon uint64) (out []uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n, at := range q.unneeded {
		// Who has it open for reading may be joined by a writer, who goes on with it.
		if at <= horizon && len(q.readers[n]) == 0 && len(q.follows[n]) == 0 {
			out = append(out, n)
			delete(q.unneeded, n)
		}
	}
	return out
}

// isFree reports that nobody has content n open. Who opens it by a name finds out that
// this is gone.
func (q *Queue) isFree(n uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.open[n] == 0 && len(q.readers[n]) == 0 && len(q.follows[n]) == 0
}

func (q *Queue) isOpen(n uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.open[n] > 0
}
