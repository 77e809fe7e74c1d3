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
	away  error  // nil: OSS answers
	op    string // that has failed
	since time.Time
	next  time.Time // of the next probe
	// By operation: that others fail as well says nothing of when one is mended.
	waits map[string]*backoff.ExponentialBackOff

	misses int       // transfers in a row that have failed
	said   time.Time // when it was last said that OSS is away
	told   bool      // since it is
}

// manyMisses is how many transfers may fail in a row, each for a reason of its
// own, until that counts as one of OSS.
const manyMisses = 16

// sayAgain is how soon it is said again that OSS is away: one that comes and goes
// shall not fill the log. What somebody must mend is always said.
const sayAgain = time.Minute

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

// hears takes what became of one request that was begun at asked. One that was under
// way when nothing more could succeed was let in before that, and says nothing of it.
func (h *health) hears(op string, asked time.Time, err error, now time.Time, log *slog.Logger) {
	switch {
	case saysNothing(err):
	case h.away != nil && object.KindOf(h.away) == object.Wait && err == nil && asked.Before(h.since):
	case isOfOSS(err):
		h.lost(op, err, now, log)
	case h.away != nil && (statusOf(h.away) == 0 || op == h.op && h.isOver(err)):
		h.back(now, log)
	}
}

// isOver reports that err, of the operation that has failed, shows that it does not
// fail any more.
func (h *health) isOver(err error) bool {
	return err == nil || object.IsAbsent(err) || isDenied(err) || object.KindOf(h.away) == object.Wait
}

// ends takes what became of a transfer.
func (h *health) ends(err error, now time.Time, log *slog.Logger) {
	switch {
	case err == nil:
		h.back(now, log)
		h.misses = 0
	case saysNothing(err), errors.Is(err, errAgainNow), isThrottled(err), isDenied(err), object.KindOf(err) == object.Parked:
	default:
		if h.misses++; h.misses >= manyMisses {
			h.lost(opOf(err), err, now, log)
		}
	}
}

func (h *health) back(now time.Time, log *slog.Logger) {
	if h.told {
		log.Info("OSS answers again; pending work goes on", "after", now.Sub(h.since).Round(time.Millisecond))
	}
	*h = health{misses: h.misses, said: h.said}
}

func (h *health) lost(op string, err error, now time.Time, log *slog.Logger) {
	mend := object.KindOf(err) == object.Wait
	fresh := h.away == nil || mend && codeOf(h.away) != codeOf(err)
	if h.away == nil {
		h.since, h.waits = now, map[string]*backoff.ExponentialBackOff{}
	}
	if h.waits[op] == nil {
		h.waits[op] = newBackoff()
	}
	if h.away == nil || !now.Before(h.next) { // of what was under way, the first counts
		h.next = now.Add(h.waits[op].NextBackOff())
	}
	h.away, h.op = err, op
	switch {
	case !fresh:
	case mend:
		log.Warn("uploads pause: nothing succeeds before this is mended; all is kept, and goes on by itself", "err", err)
	case now.Sub(h.said) >= sayAgain:
		log.Warn("OSS cannot be used; pending work is kept and tried again", "err", err)
	default:
		return
	}
	if fresh {
		h.said, h.told = now, true
	}
}

// saysNothing reports an error that is none of OSS: the request was not made, or
// was called off, or what it was to send could not be had.
func saysNothing(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, errStopped) || errors.Is(err, errSuperseded) || errors.Is(err, errLocal) || errors.Is(err, errInternal) {
		return true
	}
	var e, cause *object.Error
	return errors.As(err, &e) && e.Status == 0 && e.Fate == object.NotSent && errors.As(e.Err, &cause)
}

// isOfOSS reports a failure that the next request would meet as well.
func isOfOSS(err error) bool {
	var e *object.Error
	if !errors.As(err, &e) || e.Throttled {
		return false
	}
	return e.Kind == object.Wait || e.Kind == object.Again && (e.Status == 0 || e.Status >= 500)
}

func asError(err error) (e *object.Error, ok bool) {
	ok = errors.As(err, &e)
	return e, ok
}

func opOf(err error) string {
	if e, ok := asError(err); ok {
		return e.Op
	}
	return ""
}

func codeOf(err error) string {
	if e, ok := asError(err); ok {
		return e.Code
	}
	return ""
}

func statusOf(err error) int {
	if e, ok := asError(err); ok {
		return e.Status
	}
	return 0
}
