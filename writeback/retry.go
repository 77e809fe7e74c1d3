package writeback

import (
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/ossmount/ossmount/internal/object"
)

// retry is how often the carrying of a row has failed.
type retry struct {
	wait    *backoff.ExponentialBackOff
	n       int
	spoiled int // of these, how often other bytes arrived than were sent
	last    error
}

const (
	// manySpoiled is how often that may be before the row is parked: it is sent
	// whole each time.
	manySpoiled = 8
	// quickTries is how often an upload begins anew, or a row whose ground has been
	// prepared, without much delay.
	quickTries = 5
)

// jitter keeps many mounts from coming back at once; 0 in tests that replay a
// history.
var jitter = 0.5

func newBackoff() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{
		InitialInterval: 200 * time.Millisecond, Multiplier: 2,
		RandomizationFactor: jitter, MaxInterval: 20 * time.Second,
	}
}

// againLocked decides when the row of t is tried again after err; park is the reason
// if never.
func (q *Queue) againLocked(t *transfer, err error, now time.Time) (park string) {
	key, kind := t.row.Key, object.KindOf(err)
	r := q.retries[key]
	if r == nil {
		r = &retry{wait: newBackoff()}
		q.retries[key] = r
	}
	r.n++
	r.last = err
	if len(q.urgent) > 0 {
		q.announceLocked()
	}
	q.stats.Retries++
	q.failures[classOf(err)]++
	if kind == object.Denied {
		q.denyLocked(t.first, err, now)
		return ""
	}
	if errors.Is(err, object.ErrIntegrity) {
		if r.spoiled++; r.spoiled >= manySpoiled {
			delete(q.retries, key)
			q.announceLocked()
			return fmt.Sprintf("OSS has got, or has shown, other bytes %d times in a row, so that something on the way changes them, or a disk: %v", manySpoiled, err)
		}
	}
	wait := r.wait.NextBackOff()
	if r.n <= quickTries && (kind == object.Restart && !errors.Is(err, object.ErrIntegrity) || errors.Is(err, errAgainNow)) {
		wait = min(wait, 100*time.Millisecond)
	}
	q.blockLocked(key, t.row.Seq, now.Add(wait), err.Error())
	q.log.Debug("will try again", "key", key, "in", wait, "err", err)
	return ""
}

// tries is how often the row of key has failed.
func (q *Queue) tries(key string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if r := q.retries[key]; r != nil {
		return r.n
	}
	return 0
}

// Wake has tried at once what waits for a time: OSS is asked again though it could
// not be used, or has not permitted something, and so is each row that has failed.
func (q *Queue) Wake() {
	now := time.Now()
	q.pace.resume()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.health.away != nil {
		clear(q.health.waits)
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
