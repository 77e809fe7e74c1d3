package writeback

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/ossmount/ossmount/internal/object"
)

// health is what the last answers say of OSS. After a failure that is not of
// one object, one probe at a time goes out, with backoff, before the flood.
type health struct {
	away  error // nil: OSS answers
	since time.Time
	next  time.Time // of the next probe
	wait  *backoff.ExponentialBackOff
}

// mayStart reports whether a transfer may start now, or when to ask again.
func (h *health) mayStart(now time.Time, running int) (at time.Time, ok bool) {
	switch {
	case h.away == nil:
		return time.Time{}, true
	case running > 0:
		return time.Time{}, false // its end wakes the scheduler
	case now.Before(h.next):
		return h.next, false
	}
	return time.Time{}, true
}

// learn takes the outcome of a transfer.
func (h *health) learn(err error, now time.Time, log *slog.Logger) {
	var e *object.Error
	if errors.Is(err, context.Canceled) || errors.Is(err, errStopped) || errors.Is(err, errSuperseded) || errors.Is(err, errLocal) || errors.Is(err, errInternal) {
		return // says nothing of OSS
	}
	if err == nil || !errors.As(err, &e) || e.Kind != object.Again && e.Kind != object.Wait {
		if h.away != nil {
			log.Info("OSS answers again", "after", now.Sub(h.since).Round(time.Millisecond))
		}
		*h = health{}
		return
	}
	if e.Kind == object.Again && e.Status != 0 && e.Status < 500 {
		return // of this request alone
	}
	if h.away == nil {
		h.since = now
		h.wait = newBackoff()
		log.Warn("OSS cannot be used; pending work is kept and tried again", "err", err)
	}
	h.away = err
	h.next = now.Add(h.wait.NextBackOff())
}
