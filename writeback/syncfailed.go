package writeback

import "github.com/ossmount/ossmount/journal"

// SyncFailed parks the row of a content whose fsync failed: that failure is
// final, and no file is opened for writing until somebody acts (H11).
func (q *Queue) SyncFailed(n uint64, cause error) {
	var key string
	var seq uint64
	_ = q.j.View(func(tx *journal.Tx) error {
		row, _, _ := tx.Named(n)
		r, err := tx.Row(row)
		if err == nil && r != nil {
			key, seq = r.Key, r.Seq
		}
		return err
	})
	if key != "" {
		q.park(key, seq, damagedPrefix+"the cache disk failed to sync its bytes: "+cause.Error())
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.damaged == nil {
		q.damaged = cause
	}
}

// Damaged returns why no file may be opened for writing, or nil.
func (q *Queue) Damaged() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.damaged
}
