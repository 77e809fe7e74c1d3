package md5lanes

import (
	"crypto/md5"
	"hash"
	"runtime"
	"slices"
	"sync"
)

// Group is the streams that are hashed together. The zero Group is ready.
type Group struct {
	mu      sync.Mutex // owns all below
	streams int        // Hashes that are not closed
	running int        // goroutines that hash
	waiting []*write   // not empty only while running is at its limit
}

// write is one Write that is to be hashed.
type write struct {
	h    *Hash
	p    []byte
	turn chan []*write // what its goroutine is to hash; nil: it is done
}

// Hash is the MD5 of one stream. Its methods are for one goroutine.
type Hash struct {
	g   *Group
	md5 hash.Hash
}

// New begins a stream, which counts in the group until Close.
func (g *Group) New() *Hash {
	g.count(1)
	return &Hash{g: g, md5: md5.New()}
}

func (g *Group) count(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.streams += n
}

// Close takes the stream out of the group.
func (h *Hash) Close() { h.g.count(-1) }

// Sum appends the sum of all that was written.
func (h *Hash) Sum(b []byte) []byte { return h.md5.Sum(b) }

// leastTogether is from where a Write is worth the meeting.
const leastTogether = 16 << 10

// Write adds p, and is done with it when it returns. It never fails.
func (h *Hash) Write(p []byte) (int, error) {
	if !fast || len(p) < leastTogether {
		return h.md5.Write(p)
	}
	w := &write{h: h, p: p}
	var together []*write
	if h.g.enter(w) {
		// Whoever has something to hash as well, and is only waiting for a
		// processor, comes first.
		runtime.Gosched()
		together = h.g.gather(w)
	} else if together = <-w.turn; together == nil {
		return len(p), nil
	}
	hashAll(together)
	for _, other := range together[1:] {
		other.turn <- nil
	}
	h.g.leave()
	return len(p), nil
}

// limitLocked is how many may hash at once. As long as there are few streams
// they are best off with a core for each. When there are more, half of the
// cores hash more in lanes than all would one by one, and others can come by.
func (g *Group) limitLocked() int {
	n := runtime.GOMAXPROCS(0)
	if g.streams >= 4 {
		n = max(1, n/2)
	}
	return n
}

// enter says that w may be hashed at once; if not, it waits for its turn.
func (g *Group) enter(w *write) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running < g.limitLocked() {
		g.running++
		return true
	}
	w.turn = make(chan []*write, 1)
	g.waiting = append(g.waiting, w)
	return false
}

// gather gives w and those that wait.
func (g *Group) gather(w *write) []*write {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.takeLocked([]*write{w})
}

// takeLocked fills together with those that wait.
func (g *Group) takeLocked(together []*write) []*write {
	n := min(len(g.waiting), Lanes-len(together))
	together = append(together, g.waiting[:n]...)
	g.waiting = slices.Delete(g.waiting, 0, n)
	return together
}

// leave hands the place of one that hashes to those that wait.
func (g *Group) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		g.running--
		return
	}
	together := g.takeLocked(nil)
	together[0].turn <- together
}
