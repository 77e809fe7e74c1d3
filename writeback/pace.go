package writeback

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/semaphore"
)

// pace is how many requests may be under way at once: half as many each time
// that OSS asks for fewer, one more with each round of answers in which it does
// not. Where even one at a time is too much, all pause for a while.
//
// A slot that is given back while there are too many is kept, and given out when
// there may be more again, so that the semaphore keeps the order of those who wait.
type pace struct {
	slots *semaphore.Weighted
	max   int

	mu    sync.Mutex
	limit float64   // 1 to max
	kept  int       // slots that are kept back
	cut   time.Time // when the limit was lowered last
	until time.Time // nothing is begun before
	wait  *backoff.ExponentialBackOff
	times int64 // that OSS has asked for fewer

	flying atomic.Int64 // requests under way
}

func newPace(max int) *pace {
	return &pace{slots: semaphore.NewWeighted(int64(max)), max: max, limit: float64(max), wait: newBackoff()}
}

// acquire waits until one more request may be begun.
func (p *pace) acquire(ctx context.Context) error {
	if err := p.slots.Acquire(ctx, 1); err != nil {
		return err
	}
	for {
		left := time.Until(p.pause())
		if left <= 0 {
			p.flying.Add(1)
			return nil
		}
		t := time.NewTimer(left)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			p.giveBack()
			return ctx.Err()
		}
	}
}

func (p *pace) release() {
	p.flying.Add(-1)
	p.giveBack()
}

func (p *pace) giveBack() {
	if !p.keep() {
		p.slots.Release(1)
	}
}

func (p *pace) keep() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.max-p.kept <= int(p.limit) {
		return false
	}
	p.kept++
	return true
}

// pause is until when nothing shall be begun.
func (p *pace) pause() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.until
}

// throttled takes an answer by which OSS asks for fewer requests, to one that was
// begun at asked. Those that were under way when the limit was lowered say nothing
// new.
func (p *pace) throttled(asked, now time.Time) (first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.times++
	if !asked.After(p.cut) {
		return false
	}
	first = p.limit >= float64(p.max)
	if p.limit < 2 {
		p.until = now.Add(p.wait.NextBackOff())
	}
	p.cut = now
	p.limit = max(1, p.limit/2)
	for p.max-p.kept > int(p.limit) && p.slots.TryAcquire(1) {
		p.kept++
	}
	return first
}

// answered takes any other answer.
func (p *pace) answered() (last bool) {
	give, last := p.raise()
	if give > 0 {
		p.slots.Release(int64(give))
	}
	return last
}

func (p *pace) raise() (give int, last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limit >= float64(p.max) {
		return 0, false
	}
	if p.limit = min(p.limit+1/p.limit, float64(p.max)); p.limit >= 2 {
		p.wait.Reset()
	}
	for p.kept > 0 && p.max-p.kept < int(p.limit) {
		p.kept--
		give++
	}
	return give, p.limit >= float64(p.max)
}

// Requests says how many may be under way at once.
type Requests struct {
	Limit     int   `json:"limit"` // below Max: OSS has asked for fewer
	InFlight  int   `json:"in_flight"`
	Max       int   `json:"max"`
	Throttled int64 `json:"throttled"` // answers by which it did, since the daemon started
}

func (p *pace) now() Requests {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Requests{Limit: int(p.limit), InFlight: int(p.flying.Load()), Max: p.max, Throttled: p.times}
}

// resume ends a pause.
func (p *pace) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = time.Time{}
}
