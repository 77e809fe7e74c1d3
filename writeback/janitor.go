package writeback

import (
	"sort"
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
// passed the state that gave them up (H2), and evicts clean copies when room
// is short.
func (q *Queue) janitor() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-q.work.Done():
			return
		case <-tick.C:
		}
		q.sweep()
		q.evict()
	}
}

func (q *Queue) sweep() {
	for _, n := range q.droppable(q.j.Horizon()) {
		named := true
		err := q.j.View(func(tx *journal.Tx) error { _, _, named = tx.Named(n); return nil })
		if err != nil || named || q.isOpen(n) {
			continue // it has found a name again, or will be given up again by Seal
		}
		q.drop(n)
	}
}

func (q *Queue) drop(n uint64) {
	w, ok, err := q.c.Witness(n)
	if err == nil && ok {
		w.State = cache.StateDead
		err = q.c.SetWitness(n, w)
	}
	crash.At("content dead, not dropped")
	if derr := q.c.Drop(n); derr != nil {
		q.log.Warn("a content could not be dropped", "content", n, "err", derr, "witness", err)
	}
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

func (q *Queue) isOpen(n uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.open[n] > 0
}

// evictBatch is how many clean copies lose their record in one commit.
const evictBatch = 256

// evict gives up the clean copies that were used longest ago until there is
// room again.
func (q *Queue) evict() {
	u, err := q.c.Usage()
	if err != nil || u.Free > 0 {
		return
	}
	var cleans []*journal.Clean
	err = q.j.View(func(tx *journal.Tx) error {
		for c, err := range tx.Cleans() {
			if err != nil {
				return err
			}
			cleans = append(cleans, c)
		}
		return nil
	})
	if err != nil || len(cleans) == 0 {
		return
	}
	sort.Slice(cleans, func(i, k int) bool { return cleans[i].Used < cleans[k].Used })
	cleans = cleans[:min(len(cleans), evictBatch)]
	seq, err := q.j.Update(func(tx *journal.Tx) error {
		for _, c := range cleans {
			if err := tx.DropClean(c.Key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return
	}
	q.log.Info("room is short: clean copies are given up", "copies", len(cleans))
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range cleans {
		q.unneedLocked(c.Content, seq)
	}
}
