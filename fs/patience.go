package fs

import (
	"context"
	"sync"
	"time"
)

// patience is a context of a call that ends after a while. It starts its timer when
// somebody waits for its end: nearly all calls are answered from what is here, and a
// timer was a twentieth of the processor's time of ls -l.
type patience struct {
	context.Context
	until time.Time

	mu     sync.Mutex
	timed  context.Context // nil until it is needed
	cancel context.CancelFunc
	err    error // it has ended without
}

// newPatience returns a context with the values of ctx, and no end but its own.
func newPatience(ctx context.Context, d time.Duration) *patience {
	return &patience{Context: context.WithoutCancel(ctx), until: time.Now().Add(d)}
}

// Deadline implements context.Context.
func (p *patience) Deadline() (time.Time, bool) { return p.until, true }

// Done implements context.Context.
func (p *patience) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timed == nil {
		p.timed, p.cancel = context.WithDeadline(p.Context, p.until)
		if p.err != nil {
			p.cancel()
		}
	}
	return p.timed.Done()
}

// Err implements context.Context.
func (p *patience) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timed == nil && p.err == nil && !time.Now().Before(p.until) {
		p.err = context.DeadlineExceeded
	}
	if p.timed != nil && p.err == nil {
		return p.timed.Err()
	}
	return p.err
}

// Value implements context.Context. What package context finds by it is the timer's, so
// that contexts made of this one need no goroutine.
func (p *patience) Value(key any) any {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timed != nil {
		return p.timed.Value(key)
	}
	return p.Context.Value(key)
}

// end ends it at once.
func (p *patience) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timed != nil {
		p.cancel()
	} else if p.err == nil {
		p.err = context.Canceled
	}
}
