package remote

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// throttle holds all bodies together back to a rate, which can be changed while they
// are sent: who waits under the old one wakes and asks again.
type throttle struct {
	mu        sync.Mutex
	perSecond int64         // bytes; 0: as fast as it goes
	limiter   *rate.Limiter // nil: there is no limit
	changed   chan struct{} // closed and replaced when the limit is another
}

func newThrottle(perSecond int64) *throttle {
	t := &throttle{changed: make(chan struct{})}
	t.set(perSecond)
	return t
}

// set allows perSecond bytes and short bursts of an eighth of that, so that one body
// does not make the others wait long.
func (t *throttle) set(perSecond int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.perSecond, t.limiter = max(perSecond, 0), nil
	if perSecond > 0 {
		burst := min(max(perSecond/8, 4<<10), 256<<10)
		t.limiter = rate.NewLimiter(rate.Limit(perSecond), int(burst))
	}
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *throttle) now() (limiter *rate.Limiter, changed chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.limiter, t.changed
}

// UploadLimit returns bytes per second over all bodies sent. 0: unlimited.
func (c *Client) UploadLimit() int64 {
	c.limit.mu.Lock()
	defer c.limit.mu.Unlock()
	return c.limit.perSecond
}

// SetUploadLimit sets that, also for the bodies that are being sent.
func (c *Client) SetUploadLimit(perSecond int64) { c.limit.set(perSecond) }

// wait returns how many of n bytes may be sent now.
func (t *throttle) wait(ctx context.Context, n int64) (int64, error) {
	for {
		limiter, changed := t.now()
		if limiter == nil {
			return n, nil
		}
		some := min(n, int64(limiter.Burst()))
		r := limiter.ReserveN(time.Now(), int(some))
		again, err := awaitReserved(ctx, r, changed)
		if !again {
			return some, err
		}
	}
}

// awaitReserved waits for the moment of r; again: the limit has changed before.
func awaitReserved(ctx context.Context, r *rate.Reservation, changed chan struct{}) (again bool, err error) {
	left := r.Delay()
	if left <= 0 {
		return false, ctx.Err()
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false, nil
	case <-changed:
		return true, nil
	case <-ctx.Done():
		r.Cancel()
		return false, ctx.Err()
	}
}
