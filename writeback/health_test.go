package writeback

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/object"
)

// A key that has expired is not good again because requests succeed that had been let
// in with it.
func TestWhatWasUnderWayDoesNotEndAPause(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	expired := &object.Error{Op: opPart, Kind: object.Wait, Status: 403, Code: "SecurityTokenExpired", Err: errors.New("expired")}
	start := time.Now()
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	h := &health{}
	h.hears(opPart, at(0), expired, at(2), log)
	h.hears(opPart, at(1), nil, at(3), log)
	if h.away == nil {
		t.Error("a part that was begun before ends the pause")
	}
	h.hears(opPart, at(4), nil, at(5), log)
	if h.away != nil {
		t.Error("a part that was begun after it does not end the pause")
	}
	// That OSS answers at all is another matter: whoever gets an answer has shown it.
	h.hears(opPart, at(6), &object.Error{Op: opPart, Kind: object.Again, Err: errors.New("no route")}, at(8), log)
	h.hears(opPart, at(7), nil, at(9), log)
	if h.away != nil {
		t.Error("OSS has answered")
	}
}
