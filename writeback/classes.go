package writeback

import (
	"errors"
	"maps"

	"github.com/ossmount/ossmount/internal/object"
)

// classOf says of a failure what an operator would look at: "network" (no answer),
// "throttled", "server" (5xx), "integrity" (other bytes arrived), "room" (the cache
// disk is full), "local" (the journal or the disk), "at_once" (none: the ground was
// prepared first), else the kind of what OSS said.
func classOf(err error) string {
	e, ok := asError(err)
	switch {
	case errors.Is(err, errAgainNow):
		return "at_once"
	case errors.Is(err, object.ErrIntegrity):
		return "integrity"
	case IsFull(err):
		return "room"
	case !ok:
		return "local"
	case e.Throttled:
		return "throttled"
	case e.Kind != object.Again:
		return e.Kind.String()
	case e.Status == 0:
		return "network"
	case e.Status >= 500:
		return "server"
	}
	return e.Kind.String()
}

// RetriesByClass returns how often the carrying of a row has failed and is tried
// again, since Open, by what the failure was.
func (q *Queue) RetriesByClass() map[string]int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return maps.Clone(q.failures)
}
