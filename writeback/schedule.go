package writeback

import (
	"errors"
	"slices"
	"time"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// windowSize is how many due keys the scheduler looks at in one go: pending
// work lives in the journal, not in memory (H47).
const windowSize = 2048

// blockade is why a due row is not carried now.
type blockade struct {
	until time.Time // zero: until the event that it waits for
	why   string
	seq   uint64 // of the row; 0: of whichever the key has
}

// schedule is the scheduler: it alone decides what is carried next.
func (q *Queue) schedule() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-q.work.Done():
			return
		case <-q.wake:
		case <-timer.C:
		}
		next := q.pick()
		if next.IsZero() {
			timer.Reset(time.Hour)
		} else {
			timer.Reset(max(time.Until(next), time.Millisecond))
		}
	}
}

// pick starts what may start and returns when to look again; zero: when woken.
func (q *Queue) pick() (next time.Time) {
	for q.work.Err() == nil {
		soon := q.sendDeletes(time.Now(), true) // also while there is much else
		if at, free := q.room(time.Now()); !free {
			return sooner(at, soon)
		}
		key, ok := q.pop()
		if !ok {
			if at, wait := q.nextRound(time.Now()); wait {
				return sooner(at, soon)
			}
			more, at := q.look()
			if !more {
				return sooner(at, q.sendDeletes(time.Now(), false))
			}
			continue
		}
		if err := q.guarded(func() { q.consider(key) }); err != nil {
			q.block(key, time.Now().Add(time.Minute), err.Error())
		}
	}
	return time.Time{}
}

// room reports whether another transfer may start, or when to ask again.
func (q *Queue) room(now time.Time) (at time.Time, free bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, paused := q.pauses[""]; paused {
		return time.Time{}, false // its end wakes the scheduler
	}
	if q.carriers >= 2*q.o.Concurrency { // half of them may be waiting for the horizon
		return time.Time{}, false
	}
	if at := q.pace.pause(); now.Before(at) {
		return at, false
	}
	if at, yields := q.yieldsLocked(now); yields {
		return at, false
	}
	return q.health.mayStart(now, q.carriers)
}

func (q *Queue) pop() (key string, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.window) == 0 {
		return "", false
	}
	key, q.window = q.window[0], q.window[1:]
	q.yield.last = time.Now()
	return key, true
}

// place is where a row stands among those that become due.
type place struct {
	due int64
	key string
}

// look fills the window with keys to consider: those that wait no more, and
// what has become due since the last look. Each row is come upon once; what
// cannot go then is blocked, and considered again when that ends. If there are
// none, look returns when the next will be due.
func (q *Queue) look() (more bool, next time.Time) {
	now := time.Now()
	window, from, until, next := q.freed(now)
	err := q.j.View(func(tx *journal.Tx) error {
		for key, due := range tx.Due(from.due, from.key, until) {
			from = place{due, key}
			if window = append(window, key); len(window) >= windowSize {
				return nil
			}
		}
		if due, ok := tx.NextDue(until); ok {
			next = sooner(next, time.Unix(0, due))
		}
		return nil
	})
	if err != nil {
		q.setWindow(nil, place{}, until)
		return false, now.Add(time.Second)
	}
	if len(window) < windowSize {
		from = place{due: until + 1}
	}
	return q.setWindow(window, from, until), next
}

// setWindow ends a look that has come as far as looked; one for other rows that
// was asked for meanwhile wins.
func (q *Queue) setWindow(window []string, looked place, until int64) (more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.window = window
	if q.looked == (place{due: until + 1}) {
		q.looked = looked
	}
	return len(window) > 0
}

// freed returns the keys whose wait has ended, from where and until when to
// look for others, and when the next wait ends.
func (q *Queue) freed(now time.Time) (keys []string, from place, until int64, next time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if next = q.soonest; !next.IsZero() && !next.After(now) {
		next = time.Time{}
		for key, at := range q.timed {
			if at.After(now) {
				next = sooner(next, at)
			} else {
				q.unblockLocked(key)
			}
		}
		q.soonest = next
	}
	next = sooner(next, q.tryDeniedLocked(now))
	for key := range q.again {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	clear(q.again)
	until = now.UnixNano()
	if q.draining {
		until = 1<<63 - 2 // what is not due yet goes at once
	}
	// What is committed from now on and due by then is considered again anyway.
	from, q.looked = q.looked, place{due: until + 1}
	return keys, from, until, next
}

func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// waits reports whether the row must not be considered now: it is not due, or
// known to wait for something, or being carried.
func (q *Queue) waits(row *Row) bool {
	key, due := row.Key, row.Due
	q.mu.Lock()
	defer q.mu.Unlock()
	_, gathered := q.deletes[key]
	b, blocked := q.blocked[key]
	if blocked && b.seq != 0 && b.seq != row.Seq {
		blocked = false // an older row was blocked when this one was there already
	}
	if gathered || blocked {
		return true
	}
	q.freeLocked(key)
	if q.draining || q.urgent[row.Content] > 0 || due <= time.Now().UnixNano() {
		return false
	}
	q.blockLocked(key, row.Seq, time.Unix(0, due), notDue)
	return true
}

// notDue is why a row waits that a drain does not wait for.
const notDue = "changed a moment ago"

// openForWriting is why a row waits for its file to be closed.
const openForWriting = "open for writing"

// stillNeeded is why a row waits for one that has a hole over its object (R2).
const stillNeeded = "another name still needs the object that it replaces"

func (q *Queue) block(key string, until time.Time, why string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.blockLocked(key, 0, until, why)
}

// blockLocked has the row of key with the sequence seq wait until a time; zero:
// until unblockLocked.
func (q *Queue) blockLocked(key string, seq uint64, until time.Time, why string) {
	q.blocked[key] = blockade{until, why, seq}
	if until.IsZero() {
		delete(q.timed, key)
	} else {
		q.timed[key] = until
		q.soonest = sooner(q.soonest, until)
	}
}

// unblockLocked has the row of key considered again, if it was waiting.
func (q *Queue) unblockLocked(key string) {
	if _, ok := q.blocked[key]; ok {
		q.freeLocked(key)
		q.again[key] = struct{}{}
	}
}

func (q *Queue) freeLocked(key string) {
	delete(q.blocked, key)
	delete(q.timed, key)
}

// runsLocked reports whether a new transfer of key must wait for one (R1).
func (q *Queue) runsLocked(key string) bool {
	t := q.running[key]
	return t != nil && !(q.o.rules.noR1 && t.superseded.Load())
}

// consider starts the transfer of key's row if the rules allow it, else notes
// what it waits for.
func (q *Queue) consider(key string) {
	var t *transfer
	full := false
	err := q.j.View(func(tx *journal.Tx) (err error) {
		t, full, err = q.admitKey(tx, key, true)
		return err
	})
	if err != nil {
		q.log.Error("cannot read an intent", "key", key, "err", err)
		q.block(key, time.Now().Add(time.Minute), "the journal cannot be read")
		return
	}
	if full {
		q.startDeletes()
	}
	if t != nil {
		q.start(func() { q.run(t) })
	}
}

// start runs f, which carries what was admitted, in a goroutine of its own, or in one
// that has just carried another row and has the stack that it takes: to let one grow
// costs as much as a commit.
func (q *Queue) start(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.carriers++
	select {
	case q.jobs <- f:
	default:
		q.group.Go(func() error { return q.carryOn(f) })
	}
}

// idleCarrier is how long a goroutine waits for another row to carry.
const idleCarrier = time.Second

// carryOn runs f, and then what it is handed, until there is nothing for a while.
func (q *Queue) carryOn(f func()) error {
	idle := time.NewTimer(idleCarrier)
	defer idle.Stop()
	for {
		if err := q.carryOne(f); err != nil {
			return err
		}
		idle.Reset(idleCarrier)
		select {
		case f = <-q.jobs:
		case <-idle.C:
			return nil
		case <-q.work.Done():
			return nil
		}
	}
}

func (q *Queue) carryOne(f func()) error {
	defer q.poke()
	defer q.stopped()
	return q.guarded(f)
}

func (q *Queue) stopped() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.carriers--
}

// admitKey looks whether the row of key may be carried now. With gather, a
// Delete is put to those that wait for their batch; full says that it is
// complete.
func (q *Queue) admitKey(tx *journal.Tx, key string, gather bool) (t *transfer, full bool, err error) {
	row, err := tx.Row(key)
	if err != nil || row == nil || !row.Waiting() || q.isPaused(key) || gather && q.waits(row) {
		return nil, false, err
	}
	answered := row.IsAnswered()
	if answered && row.Due > time.Now().UnixNano() {
		q.block(key, time.Unix(0, row.Due), "an older request of it may still land")
		return nil, false, nil // a HEAD before its time would prove nothing
	}
	looked := !q.o.rules.noR2 && looked(tx, key)
	circle := false
	if looked && !row.Base.IsZero() && !q.o.rules.noR5 {
		circle = inCircle(tx, key)
	}
	t, full = q.admit(row, tx.At(), looked, circle, gather && row.Kind == journal.Delete && !answered)
	if t == nil && looked {
		q.lookAgain(key)
		if err := q.freeStuck(tx, key); err != nil {
			return nil, full, err
		}
	}
	return t, full, nil
}

// freeStuck frees the rows that look at the object at key and are not going to
// be carried by themselves, as one that is in a circle is (R5): nothing shall
// wait for somebody to act on them.
func (q *Queue) freeStuck(tx *journal.Tx, key string) error {
	for k := range tx.BasedOn(key) {
		r, err := tx.Row(k)
		if err != nil {
			return err
		}
		if r == nil || r.Waiting() || k == key || isHopeless(tx, k) {
			continue
		}
		q.block(key, time.Now().Add(stuckPause), "another name, which waits for somebody to act, needs the object that it replaces")
		if t := q.admitStuck(r, tx.At()); t != nil {
			q.start(func() { q.run(t) })
		}
	}
	return nil
}

// stuckPause is how long it takes until a stuck row that could not be freed is
// tried again.
const stuckPause = 5 * time.Second

func (q *Queue) admitStuck(row *Row, at uint64) *transfer {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running[row.Key] != nil || row.Content != 0 && q.open[row.Content] > 0 {
		return nil
	}
	t := &transfer{q: q, first: row, row: row, chosen: at, circle: true}
	q.enterLocked(t)
	return t
}

// enterLocked puts t into the tables of what is running.
func (q *Queue) enterLocked(t *transfer) {
	q.running[t.row.Key] = t
	if n := t.row.Content; n != 0 {
		if q.readers[n] == nil {
			q.readers[n] = map[*transfer]struct{}{}
		}
		q.readers[n][t] = struct{}{}
	}
}

// looked reports whether another row has a hole over the object at key (R2).
func looked(tx *journal.Tx, key string) bool {
	for k := range tx.BasedOn(key) {
		if k != key && !isHopeless(tx, k) {
			return true
		}
	}
	return false
}

// lookAgain unblocks key if what it waits for has ended between the look and
// the block.
func (q *Queue) lookAgain(key string) {
	free := false
	if err := q.j.View(func(tx *journal.Tx) error { free = !looked(tx, key); return nil }); err == nil && free {
		q.unblock(key)
	}
}

// isHopeless reports that the row of key was parked because its bytes are gone
// from OSS.
func isHopeless(tx *journal.Tx, key string) bool {
	r, err := tx.Row(key)
	return err == nil && r != nil && isGone(r)
}

// admit decides under the lock, with what the journal says of the row.
func (q *Queue) admit(row *Row, at uint64, looked, circle, gather bool) (t *transfer, full bool) {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	open := row.Content != 0 && q.open[row.Content] > 0 && q.urgent[row.Content] == 0
	if q.runsLocked(row.Key) {
		switch e := q.running[row.Key].eager; {
		case e == nil:
		case open: // an fsync, or the close of one of several descriptors: it may go on growing
			q.blockLocked(row.Key, row.Seq, time.Time{}, openForWriting)
		default:
			e.endLocked() // the row goes on with what it has sent
		}
		return nil, false
	}
	switch held := q.heldLocked(row, now); {
	case open:
		q.blockLocked(row.Key, row.Seq, time.Time{}, openForWriting)
		return nil, false
	case looked && !circle:
		q.blockLocked(row.Key, row.Seq, time.Time{}, stillNeeded)
		if len(q.pauses) > 0 {
			q.announceLocked() // it may be the last that was waited for
		}
		return nil, false
	case !held.IsZero() && !q.o.rules.noR2:
		q.blockLocked(row.Key, row.Seq, held, "an open file still reads the object that it replaces")
		return nil, false
	case (gather || row.Kind != journal.Delete) && q.deniedLocked(row): // Deletes are asked about when they are gathered
		return nil, false
	}
	if gather {
		return nil, q.gatherLocked(row.Key, now)
	}
	t = &transfer{q: q, first: row, row: row, chosen: at, circle: circle}
	q.enterLocked(t)
	return t, false
}

// inCircle reports whether key waits for itself: for a row with a hole over
// its object, which waits for one with a hole over its own, and so on (R5).
func inCircle(tx *journal.Tx, key string) bool {
	seen := map[string]bool{key: true}
	todo := []string{key}
	for len(todo) > 0 && len(seen) < 10_000 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for k := range tx.BasedOn(at) {
			if k == key && at != key {
				return true
			}
			if !seen[k] {
				seen[k] = true
				todo = append(todo, k)
			}
		}
	}
	return false
}

// run carries one row and takes note of how it ended.
func (q *Queue) run(t *transfer) {
	err := q.guard(t.carry)
	var base string
	if !t.row.Base.IsZero() {
		base = t.row.Base.Key
	}
	park := q.ended(t, err, base)
	if park != "" {
		q.park(t.row.Key, t.row.Seq, park)
		q.unblock(base)
	}
}

func (q *Queue) unblock(key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.unblockLocked(key)
	q.poke()
}

// ended takes t out of the table and decides when its row is tried again; park
// is the reason if never.
func (q *Queue) ended(t *transfer, err error, base string) (park string) {
	key, now := t.row.Key, time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running[key] == t {
		delete(q.running, key)
	}
	q.unreadLocked(t)
	q.again[key] = struct{}{} // it may have another row
	// Whose last try has failed pauses: two that fail by turns would not.
	if q.blocked[base].why == stillNeeded {
		q.unblockLocked(base)
	}
	q.health.ends(err, now, q.log)
	switch {
	case err == nil:
		r := q.retries[key]
		delete(q.retries, key)
		q.permittedLocked(t.first, r != nil && isDenied(r.last), now)
		q.announceLocked()
		return ""
	case t.superseded.Load(), errors.Is(err, errSuperseded):
		return "" // the row that took its place is looked at by itself
	case errors.Is(err, errStopped):
		return ""
	case q.work.Err() != nil:
		return ""
	}
	if errors.Is(err, errLocal) || errors.Is(err, errInternal) || object.KindOf(err) == object.Parked {
		q.announceLocked()
		return err.Error()
	}
	return q.againLocked(t, err, now)
}

func (q *Queue) unreadLocked(t *transfer) {
	n := t.row.Content
	delete(q.readers[n], t)
	if len(q.readers[n]) == 0 {
		delete(q.readers, n)
	}
}

// park keeps a row that cannot succeed as it is, with its bytes.
func (q *Queue) park(key string, seq uint64, why string) {
	_, err := q.j.Update(func(tx *journal.Tx) error {
		r, err := tx.Row(key)
		if err != nil || r == nil || r.Seq != seq {
			return err
		}
		r.Parked = why
		giveUpRow(r)
		return tx.PutRow(r)
	})
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil { // the row is as it was, and comes to this again
		q.blockLocked(key, seq, time.Now().Add(time.Second), err.Error())
		return
	}
	q.log.Warn("parked: it cannot succeed as it is; the bytes are kept", "key", key, "reason", why)
	q.announceLocked()
}
