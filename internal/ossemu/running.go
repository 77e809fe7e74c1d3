package ossemu

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// running is the requests that are being answered. Close ends them: a client
// that has stalled, or a fault that holds a request, must not outlive the
// server.
type running struct {
	mu    sync.Mutex // owns all below
	calls map[*call]struct{}
	ended bool
	all   sync.WaitGroup
}

// enter registers c; false: the server is closed.
func (g *running) enter(c *call) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return false
	}
	if g.calls == nil {
		g.calls = map[*call]struct{}{}
	}
	g.calls[c] = struct{}{}
	g.all.Add(1)
	return true
}

func (g *running) leave(c *call) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.calls, c)
	g.all.Done()
}

// limit gives what is read from conn, the connection of c, a deadline.
func (g *running) limit(c *call, conn net.Conn, d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		d = 0
	}
	conn.SetReadDeadline(time.Now().Add(d))
}

// end lets no more requests in, breaks off those that wait for their client,
// and returns when all have ended.
func (g *running) end() {
	g.breakOff()
	g.all.Wait()
}

func (g *running) breakOff() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	for c := range g.calls {
		control := http.NewResponseController(c.w)
		control.SetReadDeadline(time.Now())
		control.SetWriteDeadline(time.Now())
	}
}
