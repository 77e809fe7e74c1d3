package writeback

import (
	"errors"
	"fmt"
	"testing"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/object"
)

func TestClassesOfFailures(t *testing.T) {
	for want, err := range map[string]error{
		"network":   &object.Error{Kind: object.Again},
		"server":    &object.Error{Kind: object.Again, Status: 503},
		"throttled": &object.Error{Kind: object.Again, Status: 503, Throttled: true},
		"denied":    &object.Error{Kind: object.Denied, Status: 403},
		"conflict":  &object.Error{Kind: object.Conflict, Status: 412},
		"restart":   &object.Error{Kind: object.Restart, Status: 404},
		"integrity": fmt.Errorf("a part: %w", &object.Error{Kind: object.Again, Err: object.ErrIntegrity}),
		"room":      fmt.Errorf("a fill: %w", cache.ErrNoRoom),
		"at_once":   errAgainNow,
		"local":     errors.New("read: input/output error"),
	} {
		if got := classOf(err); got != want {
			t.Errorf("%v is %q, want %q", err, got, want)
		}
	}
}
