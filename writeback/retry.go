package writeback

import (
	"time"
)

// Wake has tried at once what waits for a time: OSS is asked again though it could
// not be used, or has not permitted something, and so is each row that has failed.
func (q *Queue) Wake() {
	now := time.Now()
	q.pace.resume()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.health.away != nil {
		q.health.wait.Reset()
		q.health.next = now
	}
	for n := range needs {
		if q.waitsLocked(n) {
			q.denials.wait[n].Reset()
			q.denials.next[n], q.denials.tried[n] = now, ""
		}
	}
	for _, x := range q.debtsDenied {
		x.next = now
	}
	for key := range q.retries {
		delete(q.retries, key)
		if !q.blocked[key].until.IsZero() {
			q.unblockLocked(key)
		}
	}
	q.soonest = now
	q.poke()
	nudge(q.pay)
}
