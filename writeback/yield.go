package writeback

import (
	"runtime"
	"time"
)

// Programs are busy when they have made changesPerCPU changes for each processor
// within busyFor. Then the engine gives way, because an upload takes as much of the
// processors as the write of a small file does: it looks at one due row in each
// startEach, until the programs pause, or for yieldDelays times the write-back delay.
// (`make bench`, cp-tree and tar-x: twice as fast as with uploads beside them.)
const (
	busyFor       = 100 * time.Millisecond
	changesPerCPU = 15
	startEach     = 20 * time.Millisecond
	yieldDelays   = 30
)

// yield has the engine give way to programs.
type yield struct {
	longest time.Duration // without a pause; 0: it never does
	recent  []time.Time   // of the last changes, a ring
	oldest  int           // of these
	since   time.Time     // when it began to give way; zero: it does not
	last    time.Time     // when a due row was looked at
}

func newYield(delay time.Duration) yield {
	return yield{longest: yieldDelays * delay, recent: make([]time.Time, changesPerCPU*runtime.GOMAXPROCS(0))}
}

// changed notes a change by a program.
func (y *yield) changed(now time.Time) {
	y.recent[y.oldest] = now
	y.oldest = (y.oldest + 1) % len(y.recent)
}

// until is when the next due row may be looked at.
func (y *yield) until(now time.Time) time.Time {
	if now.Sub(y.recent[y.oldest]) >= busyFor {
		y.since = time.Time{}
		return now
	}
	if y.since.IsZero() {
		y.since = now
	}
	if now.Sub(y.since) >= y.longest {
		return now
	}
	return y.last.Add(startEach)
}

// yieldsLocked returns until when no due row is looked at because programs are busy.
// They are not given way to when somebody waits for an upload, or for room.
func (q *Queue) yieldsLocked(now time.Time) (until time.Time, yields bool) {
	if q.draining || q.awaited > 0 || len(q.urgent) > 0 || !q.short.since.IsZero() {
		return time.Time{}, false
	}
	until = q.yield.until(now)
	return until, now.Before(until)
}

func (q *Queue) yields() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, yes := q.yieldsLocked(time.Now())
	return yes
}
