package ossemu

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// shape is how slow the server pretends to be; both can change at run time.
type shape struct {
	limiter atomic.Pointer[rate.Limiter] // nil: unlimited
	delay   atomic.Int64
}

// maxChunk is the most that passes at once while the bandwidth is limited.
const maxChunk = 64 << 10

// setBandwidth replaces the limiter. Who waits in the old one waits for at
// most one chunk, about a twentieth of a second.
func (s *shape) setBandwidth(perSecond int64) {
	if perSecond <= 0 {
		s.limiter.Store(nil)
		return
	}
	burst := int(min(max(perSecond/20, 1), maxChunk))
	s.limiter.Store(rate.NewLimiter(rate.Limit(perSecond), burst))
}

func (s *shape) setLatency(d time.Duration) { s.delay.Store(int64(d)) }

func (s *shape) latency() time.Duration { return time.Duration(s.delay.Load()) }

// chunk is how many of n bytes may pass in one step.
func (s *shape) chunk(n int) int {
	if l := s.limiter.Load(); l != nil {
		return min(n, l.Burst())
	}
	return n
}

// pass waits until n bytes may pass.
func (s *shape) pass(c *call, n int) error {
	for n > 0 {
		l := s.limiter.Load()
		if l == nil {
			return nil
		}
		step := min(n, l.Burst())
		r := l.ReserveN(time.Now(), step)
		c.wait(r.Delay())
		if c.r.Context().Err() != nil {
			return context.Canceled
		}
		n -= step
	}
	return nil
}

// meteredBody is the body of a request: counted and shaped.
type meteredBody struct {
	c  *call
	r  io.Reader
	in int64
}

func (b *meteredBody) Read(p []byte) (int, error) {
	shape := &b.c.s.shape
	n, err := b.r.Read(p[:shape.chunk(len(p))])
	b.in += int64(n)
	if passErr := shape.pass(b.c, n); passErr != nil {
		return n, passErr
	}
	return n, err
}

// meteredWriter is the body of an answer: counted and shaped.
type meteredWriter struct {
	c     *call
	w     http.ResponseWriter
	entry *entry
}

func (w *meteredWriter) Write(p []byte) (written int, err error) {
	shape := &w.c.s.shape
	for written < len(p) {
		n := shape.chunk(len(p) - written)
		if err := shape.pass(w.c, n); err != nil {
			return written, err
		}
		w.entry.out(n)
		if n, err = w.w.Write(p[written : written+n]); err != nil {
			return written + n, err
		}
		written += n
	}
	return written, nil
}
