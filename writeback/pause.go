package writeback

import (
	"fmt"
	"slices"
	"time"

	"github.com/ossmount/ossmount/journal"
)

// Somebody may pause the sending of all changes, or of single files. Nothing is lost
// by it: rows stay in the journal, parts that OSS has acknowledged stay noted, and
// the upload goes on behind them. What stops where:
//
//	not begun        not begun (schedule.go)
//	multipart        no further part, no Complete; parts under way are finished
//	sent ahead       no further part
//	one request      not sent; one that is under way is finished (R8)
//
// A pause is of a name, and ends with the queue. The clean-up of debts goes on.

// errPaused: somebody has paused the sending of the row.
var errPaused = fmt.Errorf("paused: %w", errStopped)

// pausedState is the state of a row that somebody has paused.
const pausedState = "paused"

// Paused is what somebody has paused.
type Paused struct {
	All   bool     `json:"all,omitempty"`
	Keys  []string `json:"keys,omitempty"` // single files
	Since int64    `json:"since"`          // of the oldest; Unix nanoseconds
}

// Pause has nothing sent for the file key, or for any if it is "", until Resume, and
// reports whether that is new.
func (q *Queue) Pause(key string) (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.pauses[key]; ok {
		return false
	}
	q.pauses[key] = time.Now()
	for _, e := range q.eagers {
		if q.pausedLocked(e.first.Key) {
			e.endLocked()
		}
	}
	q.log.Info("uploads are paused; all is kept", "key", key, "all", key == "")
	q.announceLocked() // who waits need not any more
	return true
}

// Resume ends the pause of the file key, or all pauses if it is "", and reports
// whether there was one.
func (q *Queue) Resume(key string) (was bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if key == "" {
		was = len(q.pauses) > 0
		clear(q.pauses)
	} else {
		_, was = q.pauses[key]
		delete(q.pauses, key)
	}
	if !was {
		return false
	}
	q.looked = place{} // what was passed over is come upon again
	q.log.Info("uploads go on", "key", key, "all", key == "")
	q.announceLocked()
	q.poke()
	return true
}

// pausedLocked reports that somebody has paused the sending of key.
func (q *Queue) pausedLocked(key string) bool {
	if len(q.pauses) == 0 {
		return false
	}
	_, all := q.pauses[""]
	_, one := q.pauses[key]
	return all || one
}

func (q *Queue) isPaused(key string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.pausedLocked(key)
}

func (t *transfer) isPaused() bool { return t.q.isPaused(t.first.Key) }

// pausedStatusLocked is what is paused, or nil.
func (q *Queue) pausedStatusLocked() *Paused {
	if len(q.pauses) == 0 {
		return nil
	}
	p := &Paused{}
	for key, since := range q.pauses {
		if key == "" {
			p.All = true
		} else {
			p.Keys = append(p.Keys, key)
		}
		if ns := since.UnixNano(); p.Since == 0 || ns < p.Since {
			p.Since = ns
		}
	}
	slices.Sort(p.Keys)
	return p
}

// restsLocked reports that the row of key, which is pending, waits for the end of a
// pause: its own, or that of a row which needs the object that it replaces (R2).
func (q *Queue) restsLocked(key string) bool {
	return q.pausedLocked(key) || len(q.pauses) > 0 && q.blocked[key].why == stillNeeded
}

func (q *Queue) rests(key string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.restsLocked(key)
}

// resting returns the keys whose rows, where they have one, wait for the end of a
// pause; all: every row does.
func (q *Queue) resting() (keys []string, all bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pauses) == 0 {
		return nil, false
	}
	if _, all := q.pauses[""]; all {
		return nil, true
	}
	for key := range q.pauses {
		keys = append(keys, key)
	}
	for key, b := range q.blocked {
		if _, too := q.pauses[key]; !too && b.why == stillNeeded {
			keys = append(keys, key)
		}
	}
	return keys, false
}

// leftOfAll is left (status.go) for all keys.
func (q *Queue) leftOfAll() (left Left, err error) {
	keys, all := q.resting()
	c := q.j.Counts()
	left = Left{Pending: c.Pending, Stuck: c.Parked + c.Interrupted}
	if all {
		left.Paused = left.Pending
		return left, nil
	}
	err = q.j.View(func(tx *journal.Tx) error {
		for _, key := range keys {
			r, err := tx.Row(key)
			if err != nil {
				return err
			}
			if r != nil && r.Waiting() {
				left.Paused++
			}
		}
		return nil
	})
	left.Paused = min(left.Paused, left.Pending) // counted a moment later
	return left, err
}
