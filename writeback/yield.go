package writeback

import (
	"runtime"
	"time"
)

// Programs are busy when they have made changesPerCPU changes for each processor
// within busyFor, or looked up looksPerCPU names. Then the engine gives way, because an upload takes as much of the
// processors as the write of a small file does: it looks at one due row in each
// startEach, until the programs pause, or for yieldDelays times the write-back delay.
// (`make bench`, cp-tree and tar-x: twice as fast as with uploads beside them;
// git-status: five times.) From then on, or from the beginning if there is no delay, it
// works in rounds: what has become due is looked at once in each roundEach, for many
// that go together share barriers, commits and wakings. (tree-on-oss: the tree was
// there after two thirds of the time.)
const (
	busyFor       = 100 * time.Millisecond
	changesPerCPU = 15
	looksPerCPU   = 150
	startEach     = 20 * time.Millisecond
	yieldDelays   = 30
	roundEach     = 500 * time.Millisecond
)

// yield has the engine give way to programs.
type yield struct {
	longest time.Duration // without a pause; 0: rounds from the beginning
	recent  []time.Time   // of the last changes, a ring
	oldest  int           // of these
	looks   int64         // names that had been looked up at the time sampled
	sampled time.Time
	looking bool      // many were in the busyFor before
	since   time.Time // when it began to give way; zero: it does not
	last    time.Time // when a due row was looked at
	round   time.Time // when the last round began
}

func newYield(delay time.Duration) yield {
	return yield{longest: yieldDelays * delay, recent: make([]time.Time, changesPerCPU*runtime.GOMAXPROCS(0))}
}

// changed notes a change by a program.
func (y *yield) changed(now time.Time) {
	y.recent[y.oldest] = now
	y.oldest = (y.oldest + 1) % len(y.recent)
}

// sample takes note of how many names have been looked up until now. That they are many
// is seen in a tenth of busyFor, that they are few only after all of it.
func (y *yield) sample(now time.Time, looks int64) {
	d := now.Sub(y.sampled)
	many := float64(looksPerCPU*runtime.GOMAXPROCS(0)) * float64(d) / float64(busyFor)
	if d >= busyFor/10 && float64(looks-y.looks) >= many {
		y.looking = true
	} else if d >= busyFor {
		y.looking = false
	}
	if d >= busyFor {
		y.looks, y.sampled = looks, now
	}
}

// busy reports whether programs are given way to, where so many names have been looked
// up, and whether that has lasted for so long that it is done in rounds.
func (y *yield) busy(now time.Time, looks int64) (yes, rounds bool) {
	y.sample(now, looks)
	if now.Sub(y.recent[y.oldest]) >= busyFor && !y.looking {
		y.since = time.Time{}
		return false, false
	}
	if y.since.IsZero() {
		y.since = now
	}
	return true, now.Sub(y.since) >= y.longest
}

// yieldsLocked returns until when no due row is looked at because programs are busy.
func (q *Queue) yieldsLocked(now time.Time) (until time.Time, yields bool) {
	busy, rounds := q.busyLocked(now)
	if !busy || rounds {
		return time.Time{}, false
	}
	until = q.yield.last.Add(startEach)
	return until, now.Before(until)
}

// busyLocked is yield.busy. Nobody is given way to when somebody waits for an upload, or
// for room.
func (q *Queue) busyLocked(now time.Time) (yes, rounds bool) {
	if q.draining || q.awaited > 0 || len(q.urgent) > 0 || !q.short.since.IsZero() {
		return false, false
	}
	return q.yield.busy(now, q.lookups.Load())
}

// nextRound begins a round, or returns when to ask again: a pause of the programs ends
// the wait for the next.
func (q *Queue) nextRound(now time.Time) (at time.Time, wait bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if busy, _ := q.busyLocked(now); busy && now.Before(q.yield.round.Add(roundEach)) {
		return sooner(q.yield.round.Add(roundEach), now.Add(busyFor/2)), true
	}
	q.yield.round = now
	return time.Time{}, false
}

// Looked takes note that a program has looked up a name.
func (q *Queue) Looked() { q.lookups.Add(1) }

func (q *Queue) yields() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, yes := q.yieldsLocked(time.Now())
	return yes
}
