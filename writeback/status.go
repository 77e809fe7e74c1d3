package writeback

import (
	"context"
	"fmt"
	"math"
	"sort"
	"strings"
	"time"

	"github.com/ossmount/ossmount/journal"
)

// Status is what the engine tells of itself; it is also the JSON of
// `ossmount status --json`.
type Status struct {
	Pending     int    `json:"pending"`
	Bytes       int64  `json:"pending_bytes"`
	Parked      int    `json:"parked"`
	Interrupted int    `json:"interrupted"`
	Debts       int    `json:"debts"`
	Doubts      int    `json:"doubts"`
	Oldest      int64  `json:"oldest_unpublished_close,omitempty"` // Unix nanoseconds
	Away        string `json:"oss_away,omitempty"`                 // why OSS cannot be used
	AwaySince   int64  `json:"oss_away_since,omitempty"`
	AwayNext    int64  `json:"oss_away_next_try,omitempty"`
	Damaged     string `json:"damaged,omitempty"`

	Paused *Paused `json:"paused,omitempty"` // by somebody

	Rebuilt  *Rebuilt `json:"rebuilt,omitempty"` // what this start took up without a journal
	Denied   []Denied `json:"denied,omitempty"`  // what a policy does not permit, and what waits for it
	Requests Requests `json:"requests"`

	Uploading []Uploading `json:"uploading"`
	Waiting   []Waiting   `json:"waiting"` // the first of the pending rows, with what they wait for
	Kept      []Waiting   `json:"kept"`    // the first of the parked and interrupted ones
	Stats     Stats       `json:"stats"`
	Horizon   uint64      `json:"horizon"`
	Last      uint64      `json:"last"`
}

// Uploading is one row under way.
type Uploading struct {
	Key   string `json:"key"`
	Kind  string `json:"kind"`
	Size  int64  `json:"size"`
	Sent  int64  `json:"sent"`
	Under int64  `json:"under_way"` // bytes of requests that have no answer yet, beside those
	Parts int64  `json:"parts,omitempty"`
	Done  int64  `json:"parts_done,omitempty"`
	Open  bool   `json:"open,omitempty"` // it is sent while it still grows
}

// Waiting is one row at rest.
type Waiting struct {
	Key    string `json:"key"`
	Kind   string `json:"kind"`
	Size   int64  `json:"size"`
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
	Remedy string `json:"remedy,omitempty"` // of one that waits for somebody to act: the commands for it
	Tries  int    `json:"tries,omitempty"`
}

// listed is how many rows of a kind a status names.
const listed = 100

// Status looks at the engine and the journal.
func (q *Queue) Status() (Status, error) {
	s, err := Inspect(q.j)
	if err != nil {
		return s, err
	}
	q.addRunning(&s)
	return s, nil
}

// Inspect looks at the journal alone: what is there when no engine runs.
func Inspect(j *journal.Journal) (Status, error) {
	c := j.Counts()
	s := Status{Pending: c.Pending, Bytes: c.Bytes, Parked: c.Parked, Interrupted: c.Interrupted,
		Uploading: []Uploading{}, Waiting: []Waiting{}, Kept: []Waiting{}, Horizon: j.Horizon(), Last: j.Last()}
	err := j.View(func(tx *journal.Tx) error {
		for key := range tx.Stuck() {
			if err := s.list(tx, key, &s.Kept); err != nil {
				return err
			}
			if len(s.Kept) == listed {
				break
			}
		}
		for key := range tx.Due(0, "", math.MaxInt64) {
			if err := s.list(tx, key, &s.Waiting); err != nil {
				return err
			}
			if len(s.Waiting) == listed {
				break
			}
		}
		for range tx.Doubts() {
			s.Doubts++
		}
		for _, err := range tx.Debts() {
			if err != nil {
				return err
			}
			s.Debts++
		}
		return nil
	})
	return s, err
}

// list adds the row of key to one of the lists.
func (s *Status) list(tx *journal.Tx, key string, to *[]Waiting) error {
	r, err := tx.Row(key)
	if err != nil || r == nil {
		return err
	}
	w := waitingOf(r)
	if r.Waiting() && (s.Oldest == 0 || r.Closed < s.Oldest) {
		s.Oldest = r.Closed
	}
	*to = append(*to, w)
	return nil
}

func waitingOf(r *Row) Waiting {
	w := Waiting{Key: r.Key, Kind: r.Kind.String(), Size: r.Size, State: "pending"}
	switch {
	case r.Parked != "":
		w.State = "parked"
	case r.Interrupted:
		w.State = "interrupted"
	}
	if !r.Waiting() {
		w.Reason, w.Remedy = stuckWhy(r)
	}
	return w
}

func (q *Queue) addRunning(s *Status) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s.Stats, s.Rebuilt = q.stats, q.rebuilt
	if q.health.away != nil {
		s.Away, s.AwaySince, s.AwayNext = q.health.away.Error(), q.health.since.UnixNano(), q.health.next.UnixNano()
	}
	s.Paused = q.pausedStatusLocked()
	s.Denied, s.Requests = q.deniedStatusLocked(), q.pace.now()
	if q.damaged != nil {
		s.Damaged = q.damaged.Error()
	}
	rest := s.Waiting[:0]
	for _, w := range s.Waiting {
		if _, runs := q.running[w.Key]; runs {
			continue
		}
		w.Reason = q.blocked[w.Key].why
		if q.pausedLocked(w.Key) {
			w.State, w.Reason = pausedState, ""
		}
		if r := q.retries[w.Key]; r != nil {
			w.Tries = r.n
		}
		rest = append(rest, w)
	}
	s.Waiting = rest
	for _, t := range q.running {
		u := Uploading{Key: t.first.Key, Kind: t.first.Kind.String(), Size: t.first.Size, Under: t.flying.Load()}
		if t.eager != nil {
			u.Open, u.Size = q.open[t.eager.content] > 0, t.eager.frontier
		}
		if p := t.upload.Load(); p != nil {
			u.Parts, u.Done, u.Sent = p.parts.Load(), p.done.Load(), p.sent.Load()
		}
		s.Uploading = append(s.Uploading, u)
	}
	sort.Slice(s.Uploading, func(i, k int) bool { return s.Uploading[i].Key < s.Uploading[k].Key })
}

// State tells the state of one key as user.ossmount.state has it: clean,
// pending, paused, "uploading 3/12", "parked: reason", interrupted.
func (q *Queue) State(key string) (string, error) {
	row, err := q.Row(key)
	switch {
	case err != nil:
		return "", err
	case row == nil:
		return "clean", nil
	case row.Parked != "":
		return "parked: " + row.Parked, nil
	case row.Interrupted:
		return "interrupted", nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	t := q.running[key]
	switch {
	case t == nil && q.pausedLocked(key):
		return pausedState, nil
	case t == nil:
		return "pending", nil
	}
	if p := t.upload.Load(); p != nil {
		return fmt.Sprintf("uploading %d/%d", p.done.Load(), p.parts.Load()), nil
	}
	return "uploading", nil
}

// Left is what keeps a drain or wait from being over.
type Left struct {
	Pending int // rows that the engine will still carry
	Paused  int // of these: rows that wait for the end of a pause
	Stuck   int // parked and interrupted rows
	Why     string
}

// Wait returns when no row of the file key, or beneath it if it ends in "/",
// or of all if it is "", can be carried any further, unless a pause ends, or when
// ctx ends; Left is zero when all is on OSS (H45).
func (q *Queue) Wait(ctx context.Context, key string) (Left, error) {
	q.await(1)
	defer q.await(-1)
	for {
		q.mu.Lock()
		changed := q.changed
		q.mu.Unlock()
		left, err := q.left(key)
		if err != nil || left.Pending == left.Paused {
			return left, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return left, nil
		case <-q.work.Done():
			return left, nil
		}
	}
}

func (q *Queue) await(by int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.awaited += by
	q.poke()
}

func (q *Queue) left(key string) (left Left, err error) {
	if key == "" {
		return q.leftOfAll()
	}
	err = q.j.View(func(tx *journal.Tx) error {
		for r, err := range tx.Rows(key, "") {
			if err != nil {
				return err
			}
			if r.Key != key && !strings.HasSuffix(key, "/") {
				continue
			}
			if r.Waiting() {
				left.Pending++
				if q.rests(r.Key) {
					left.Paused++
					continue
				}
				return nil // one is enough to wait for
			}
			left.Stuck++
			left.Why = r.Parked
		}
		return nil
	})
	return left, err
}

// debtGrace is how long a drain gives to debts.
const debtGrace = 5 * time.Second

// Drain carries everything at once, without the write-back delay, and returns
// when nothing is left that can be carried, or when ctx ends. Debts get a few
// seconds more, but keep nobody (H45).
func (q *Queue) Drain(ctx context.Context) (Left, error) {
	q.setDraining(true)
	defer q.setDraining(false)
	left, err := q.Wait(ctx, "")
	if err != nil || left.Pending > 0 {
		return left, err
	}
	ctx, cancel := context.WithTimeout(ctx, debtGrace)
	defer cancel()
	nudge(q.pay)
	for ctx.Err() == nil && q.owes() {
		q.mu.Lock()
		changed := q.changed
		q.mu.Unlock()
		if !q.owes() {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-q.work.Done():
			return left, nil
		}
	}
	return left, nil
}

func (q *Queue) setDraining(on bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.draining = on
	q.looked = place{} // what is due is another question now
	for key, b := range q.blocked {
		if b.why == notDue {
			q.unblockLocked(key)
		}
	}
	q.poke()
}

// owes reports debts of which something can be paid now.
func (q *Queue) owes() (yes bool) {
	now := time.Now()
	_ = q.j.View(func(tx *journal.Tx) error {
		for d, err := range tx.Debts() {
			if yes = err != nil || !q.isEarly(d, now); yes {
				break
			}
		}
		return nil
	})
	return yes
}
