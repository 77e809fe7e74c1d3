package ossemu

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// faultSet is the faults that are in force. Requests read the list without a
// lock; who changes it puts another in its place.
type faultSet struct {
	list atomic.Pointer[[]*fault]
	mu   sync.Mutex // owns next, and the replacing of list
	next int
}

// fault is a fault in force.
type fault struct {
	Fault
	matcher
	id      int
	removed chan struct{} // closed when it is not in force any more

	mu      sync.Mutex // owns all below
	matched int64
	fired   int64
	held    int64
	random  *rand.Rand
	limit   *rate.Limiter // of above
	bell    bell          // rung when it fires
}

// FaultState is a fault in force and what it has done.
type FaultState struct {
	ID int `json:"id"`
	Fault
	Matched int64 `json:"matched"` // requests that came to the place and match
	Fired   int64 `json:"fired"`   // of those, how often it happened
	Held    int64 `json:"held"`    // requests that wait because of it
}

// errNoFault says that a fault has been removed, or never was.
var errNoFault = errors.New("there is no fault with that number: GET /faults lists them")

// AddFault brings a fault into force; those that were there before it come
// first at each place.
func (s *Server) AddFault(f Fault) (FaultState, error) {
	if err := f.check(); err != nil {
		return FaultState{}, err
	}
	m, err := f.matcher()
	if err != nil {
		return FaultState{}, err
	}
	if f.Probability > 0 && f.Seed == 0 {
		f.Seed = rand.Uint64N(1<<53-1) + 1 // JSON readers take numbers for float64
	}
	added := &fault{Fault: f, matcher: m, removed: make(chan struct{}), random: rand.New(rand.NewPCG(f.Seed, 0))}
	if f.Above > 0 {
		added.limit = rate.NewLimiter(rate.Limit(f.Above), max(1, int(f.Above)))
	}
	set := &s.faults
	set.mu.Lock()
	defer set.mu.Unlock()
	set.next++
	added.id = set.next
	list := append(slices.Clone(set.all()), added)
	set.list.Store(&list)
	return added.state(), nil
}

// RemoveFault takes a fault out of force; the requests that it holds go on. It
// gives what the fault had done.
func (s *Server) RemoveFault(id int) (FaultState, error) {
	gone := s.faults.remove(func(f *fault) bool { return f.id == id })
	if len(gone) == 0 {
		return FaultState{}, errNoFault
	}
	return gone[0], nil
}

// ClearFaults takes all faults out of force.
func (s *Server) ClearFaults() []FaultState {
	return s.faults.remove(func(*fault) bool { return true })
}

// Faults lists the faults in force.
func (s *Server) Faults() []FaultState {
	list := []FaultState{}
	for _, f := range s.faults.all() {
		list = append(list, f.state())
	}
	return list
}

func (set *faultSet) all() []*fault {
	if list := set.list.Load(); list != nil {
		return *list
	}
	return nil
}

func (set *faultSet) find(id int) *fault {
	for _, f := range set.all() {
		if f.id == id {
			return f
		}
	}
	return nil
}

func (set *faultSet) remove(which func(*fault) bool) []FaultState {
	set.mu.Lock()
	defer set.mu.Unlock()
	gone := []FaultState{}
	var list []*fault
	for _, f := range set.all() {
		if !which(f) {
			list = append(list, f)
			continue
		}
		f.end()
		gone = append(gone, f.state())
	}
	set.list.Store(&list)
	return gone
}

func (f *fault) state() FaultState {
	state, _ := f.watch()
	return state
}

// watch gives the state and a channel that is closed when it changes.
func (f *fault) watch() (FaultState, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return FaultState{ID: f.id, Fault: f.Fault, Matched: f.matched, Fired: f.fired, Held: f.held}, f.bell.wait()
}

// due decides whether f happens to a request that has come to its place.
func (f *fault) due() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.matched++
	switch {
	case f.matched <= f.Skip,
		f.Count > 0 && f.fired >= f.Count,
		f.Probability > 0 && f.random.Float64() >= f.Probability,
		f.limit != nil && f.limit.Allow():
		return false
	}
	f.fired++
	f.bell.ring()
	return true
}

// end lets go of all that f holds.
func (f *fault) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.removed)
	f.bell.ring()
}

func (f *fault) holding(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held += n
	f.bell.ring()
}

// bell wakes those who wait for a change of something; the lock of that thing
// owns it.
type bell struct{ next chan struct{} }

// ring wakes all who wait.
func (b *bell) ring() {
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}

// wait gives a channel that the next ring closes.
func (b *bell) wait() <-chan struct{} {
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}
