package remote

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/ossmount/ossmount/internal/object"
)

// Outcome is an operation by the name that OSS gives it, such as PutObject, and what
// became of it: "success", or the kind of its failure (object.Kind).
type Outcome struct{ Operation, Result string }

// Tally counts since Open.
type Tally struct {
	Requests map[Outcome]int64 // that have ended; a GetObject ends when its reader is closed
	Sent     int64             // bytes of bodies handed to the network, those of requests that failed, too
	Received int64             // bytes of objects
}

// tally is what a client counts. The bytes count while they flow.
type tally struct {
	sent, received atomic.Int64

	mu       sync.Mutex
	requests map[Outcome]int64
}

func (t *tally) ended(op string, err error) {
	result := "success"
	if err != nil {
		result = object.KindOf(err).String()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.requests == nil {
		t.requests = map[Outcome]int64{}
	}
	t.requests[Outcome{op, result}]++
}

// Tally returns what has been counted.
func (c *Client) Tally() Tally {
	t := &c.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	return Tally{Requests: maps.Clone(t.requests), Sent: t.sent.Load(), Received: t.received.Load()}
}
