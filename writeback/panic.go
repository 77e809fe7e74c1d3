package writeback

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/ossmount/ossmount/journal"
)

// A mistake of this program must not end the mount, and must lose nothing: the row
// that was being carried is parked, with its bytes and with what went wrong, and
// the others go on. Locks are given back by defer; a change of the journal that was
// not committed is none.

// errInternal: the code that carried the row has panicked.
var errInternal = errors.New("internal error")

// panicPause is how long a goroutine of the queue rests that has panicked.
const panicPause = time.Second

// guard runs f and returns as an error how it panicked.
func (q *Queue) guard(f func() error) (err error) {
	defer func() {
		if what := recover(); what != nil {
			q.log.Error("an internal error has ended something; please report it", "what", fmt.Sprint(what), "stack", string(debug.Stack()))
			q.countPanic()
			err = fmt.Errorf("%w: %v; please report it, with what the log says", errInternal, what)
		}
	}()
	return f()
}

func (q *Queue) countPanic() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats.InternalErrors++
}

// guarded is guard for what nobody waits for.
func (q *Queue) guarded(f func()) error {
	return q.guard(func() error { f(); return nil })
}

// keepUp runs one of the queue's own loops, and again if it panics.
func (q *Queue) keepUp(loop func()) error {
	for q.guarded(loop) != nil {
		select {
		case <-q.work.Done():
			return nil
		case <-time.After(panicPause):
		}
	}
	return nil
}

// giveUpRow notes in a row which is parked after a panic that what it was about to
// publish may have been: nothing says how far it came (R8).
func giveUpRow(r *journal.Row) {
	if r.Note != nil && !r.Note.Answered && r.Note.Lost == 0 {
		r.Note.Lost = time.Now().UnixNano()
	}
}
