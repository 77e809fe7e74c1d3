package ossemu

import (
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Shape is how slow the server pretends to be. Bandwidths are bytes of bodies
// per second, 0 for no limit; all that are given hold at once. HTTP/1.1 has one
// request at a time on a connection, so the limits of a connection are kept by
// each request for itself.
type Shape struct {
	Bandwidth     int64 `json:"bandwidth"`      // both directions, all connections
	In            int64 `json:"in"`             // bodies of requests, all connections
	Out           int64 `json:"out"`            // bodies of answers, all connections
	Connection    int64 `json:"connection"`     // both directions, each connection
	ConnectionIn  int64 `json:"connection_in"`  // bodies of requests, each connection
	ConnectionOut int64 `json:"connection_out"` // bodies of answers, each connection

	Latency   Duration `json:"latency"`    // before the first byte of each answer
	LatencyIn Duration `json:"latency_in"` // before a request is looked at
	Connect   Duration `json:"connect"`    // before the first request of a connection (Listener)
}

func (v Shape) valid() bool {
	return min(v.Bandwidth, v.In, v.Out, v.Connection, v.ConnectionIn, v.ConnectionOut) >= 0 && min(v.Latency, v.LatencyIn, v.Connect) >= 0
}

func (v Shape) limits() bool {
	return v.Bandwidth|v.In|v.Out|v.Connection|v.ConnectionIn|v.ConnectionOut != 0
}

// shape is the Shape in force. Requests read it without a lock; who changes it
// puts another in its place, which requests under way see at their next step.
type shape struct {
	now atomic.Pointer[limits]
	mu  sync.Mutex // of those who change it
}

// limits is a Shape and the lanes that all connections share.
type limits struct {
	Shape
	both, in, out *rate.Limiter // nil: unlimited
}

// change sets what set changes.
func (s *shape) change(set func(*Shape)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.load()
	l := &limits{Shape: old.Shape, both: old.both, in: old.in, out: old.out}
	set(&l.Shape)
	for _, lane := range []struct {
		was, is int64
		l       **rate.Limiter
	}{{old.Bandwidth, l.Bandwidth, &l.both}, {old.In, l.In, &l.in}, {old.Out, l.Out, &l.out}} {
		if lane.was != lane.is {
			*lane.l = newLane(lane.is)
		}
	}
	s.now.Store(l)
}

var noLimits limits

func (s *shape) load() *limits {
	if l := s.now.Load(); l != nil {
		return l
	}
	return &noLimits
}

// maxChunk is the most that passes at once while the bandwidth is limited.
const maxChunk = 64 << 10

// newLane lets perSecond bytes pass; 0 or less: no lane, all pass. It begins
// empty, so that many short bodies, each with a lane of its own, get no more
// than one long one. Who waits in a lane that was replaced waits for at most one
// chunk, about a twentieth of a second.
func newLane(perSecond int64) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	burst := int(min(max(perSecond/20, 1), maxChunk))
	lane := rate.NewLimiter(rate.Limit(perSecond), burst)
	lane.AllowN(time.Now(), burst)
	return lane
}

// lanes are what bytes of a request or of its answer pass through.
type lanes struct {
	of                  *limits // for which the others were made
	both, wayIn, wayOut *rate.Limiter
}

// lanes gives those of one direction, and how many of n bytes may pass in one
// step.
func (c *call) lanesOf(in bool, n int) ([]*rate.Limiter, int) {
	l := c.s.shape.load()
	if c.hidden || !l.limits() && c.slowIn == nil && c.slowOut == nil && c.asked == nil {
		return nil, n
	}
	if c.own.of != l {
		c.own = lanes{l, newLane(l.Connection), newLane(l.ConnectionIn), newLane(l.ConnectionOut)}
	}
	all := []*rate.Limiter{l.both, l.out, c.own.both, c.own.wayOut, c.slowOut, c.asked}
	if in {
		all = []*rate.Limiter{l.both, l.in, c.own.both, c.own.wayIn, c.slowIn, c.asked}
	}
	all = slices.DeleteFunc(all, func(lane *rate.Limiter) bool { return lane == nil })
	for _, lane := range all {
		n = min(n, lane.Burst())
	}
	return all, n
}

// pass waits until n bytes may pass.
func (c *call) pass(in bool, n int) error {
	for n > 0 {
		all, step := c.lanesOf(in, n)
		if len(all) == 0 {
			return nil
		}
		var longest time.Duration
		for _, lane := range all {
			longest = max(longest, lane.ReserveN(time.Now(), step).Delay())
		}
		c.delayed += longest
		if err := c.wait(longest); err != nil {
			return err
		}
		n -= step
	}
	return nil
}

// wait lets d pass, unless the client or the server goes away first.
func (c *call) wait(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.r.Context().Done():
		return c.r.Context().Err()
	case <-c.s.closing:
		return errClosed
	}
}

// meteredBody is the body of a request: counted, shaped, and hit by faults.
type meteredBody struct {
	c     *call
	r     io.Reader
	in    int64
	begun bool
	stops []stop
}

func (b *meteredBody) Read(p []byte) (int, error) {
	c := b.c
	if !b.begun {
		b.begin()
	}
	if err := b.halt(); err != nil {
		return 0, err
	}
	if c.gone {
		return 0, errGone
	}
	_, n := c.lanesOf(true, len(p))
	for _, s := range b.stops {
		n = int(min(int64(n), s.at-b.in))
	}
	n, err := b.r.Read(p[:n])
	b.in += int64(n)
	if passErr := c.pass(true, n); passErr != nil {
		return n, passErr
	}
	if haltErr := b.halt(); haltErr != nil {
		return n, haltErr
	}
	if err == io.EOF || err == nil && b.in == c.r.ContentLength {
		if landErr := c.land(); landErr != nil {
			return n, landErr
		}
	}
	return n, err
}

// begin decides what will happen to the body. A request that the server makes
// itself is hit by nothing.
func (b *meteredBody) begin() {
	if b.begun = true; !b.c.hidden {
		b.c.armBody()
	}
}

// meteredWriter is the body of an answer: counted, shaped, and hit by faults.
type meteredWriter struct {
	c       *call
	w       http.ResponseWriter
	entry   *entry
	spoiled spoiled
	sent    int64
}

func (w *meteredWriter) Write(p []byte) (written int, err error) {
	if i := w.spoiled.flip - w.sent; w.spoiled.flip >= 0 && i >= 0 && i < int64(len(p)) {
		p = slices.Clone(p)
		p[i] ^= 1
	}
	for written < len(p) {
		if w.cutOff() {
			return written, errGone
		}
		_, n := w.c.lanesOf(false, len(p)-written)
		if w.spoiled.how != "" {
			n = int(min(int64(n), w.spoiled.stop-w.sent))
		}
		if err := w.c.pass(false, n); err != nil {
			return written, err
		}
		w.entry.out(n)
		n, err = w.w.Write(p[written : written+n])
		written += n
		w.sent += int64(n)
		if err != nil {
			return written, err
		}
	}
	w.cutOff()
	return written, nil
}

// cutOff cuts the connection if that is due.
func (w *meteredWriter) cutOff() bool {
	if w.spoiled.how == "" || w.sent < w.spoiled.stop {
		return false
	}
	w.c.sever(w.spoiled.how)
	return true
}
