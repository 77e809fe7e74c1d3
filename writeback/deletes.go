package writeback

import (
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ossmount/ossmount/internal/crash"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// Deletes travel together: those that may go are gathered for as long as a
// change waits anyway (Options.Delay), for a round while programs are busy
// (yield.go) or more of them are due, and up to a thousand. One request carries
// them. The rules hold for each of them as for any other row.

// maxDeletes is how many keys DeleteMultipleObjects takes.
const maxDeletes = 1000

// inCommit is how many rows of a batch go into one commit.
const inCommit = 100

// gatherLocked puts key to the Deletes that wait for their batch, and reports
// whether that is full.
func (q *Queue) gatherLocked(key string, now time.Time) (full bool) {
	if len(q.deletes) == 0 {
		q.gathering = now
	}
	q.deletes[key] = struct{}{}
	return len(q.deletes) >= maxDeletes
}

// sendDeletes starts the batch that was gathered if it is time, else says when
// it will be; more: others may be due now.
func (q *Queue) sendDeletes(now time.Time, more bool) (at time.Time) {
	if at, wait := q.gathersUntil(now, more); wait {
		return at
	}
	q.startDeletes()
	return time.Time{}
}

func (q *Queue) gathersUntil(now time.Time, more bool) (at time.Time, wait bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	at = q.gathering.Add(min(q.o.Delay, time.Second))
	if busy, _ := q.busyLocked(now); (busy || more) && now.Before(q.gathering.Add(roundEach)) {
		at = later(at, sooner(q.gathering.Add(roundEach), now.Add(busyFor/2))) // there are more, or will be
	}
	_, paused := q.pauses[""]
	probe, may := q.health.mayStart(now, q.carriers)
	switch {
	case len(q.deletes) == 0, paused:
		return time.Time{}, true
	case !may: // they are a probe like any other
		return probe, true
	case q.draining && q.carriers == 0, !at.After(now):
		return time.Time{}, false
	}
	return at, true
}

func (q *Queue) takeDeletes() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	keys := make([]string, 0, len(q.deletes))
	for key := range q.deletes {
		keys = append(keys, key)
	}
	clear(q.deletes)
	slices.Sort(keys)
	return keys
}

// startDeletes carries what was gathered, as far as the rules still allow it. What
// was a Delete when it was gathered may have become a Put since: that goes alone.
func (q *Queue) startDeletes() {
	var all, alone []*transfer
	err := q.j.View(func(tx *journal.Tx) error {
		for _, key := range q.takeDeletes() {
			t, _, err := q.admitKey(tx, key, false)
			if err != nil {
				q.block(key, time.Now().Add(time.Minute), "the journal cannot be read")
				q.log.Error("cannot read an intent", "key", key, "err", err)
			}
			switch {
			case t == nil:
			case t.row.Kind == journal.Delete && !t.row.IsAnswered():
				all = append(all, t)
			default:
				alone = append(alone, t)
			}
		}
		return nil
	})
	if err != nil {
		return // the journal is closed
	}
	if len(all) == 1 {
		all, alone = nil, append(alone, all[0])
	}
	for _, t := range alone {
		q.start(func() { q.run(t) })
	}
	if len(all) > 0 {
		q.start(func() { q.runDeletes(all) })
	}
}

// delete carries one Delete.
func (t *transfer) delete() error {
	b := &deletion{q: t.q, all: []*transfer{t}, errs: map[*transfer]error{}}
	b.carryAll()
	return b.errs[t]
}

func (q *Queue) runDeletes(all []*transfer) {
	b := &deletion{q: q, all: all, errs: map[*transfer]error{}}
	b.carryAll()
	for _, t := range b.all {
		if park := q.ended(t, b.errs[t], ""); park != "" {
			q.park(t.row.Key, t.row.Seq, park)
		}
	}
}

// carryAll is carry; what panics is the end of those of which nothing was decided.
func (b *deletion) carryAll() {
	if err := b.q.guarded(b.carry); err != nil {
		for _, t := range b.live() {
			b.errs[t] = err // of one whose row is settled there is none to park
		}
	}
}

// deletion is one batch.
type deletion struct {
	q    *Queue
	all  []*transfer
	errs map[*transfer]error // what became of those that are not settled
}

// live are those of which nothing is decided yet.
func (b *deletion) live() []*transfer {
	var out []*transfer
	for _, t := range b.all {
		if b.errs[t] == nil {
			out = append(out, t)
		}
	}
	return out
}

// each runs f for each of some in as few commits as they fit in; an error of f
// is that of its row alone, if decides says so.
func (b *deletion) each(some []*transfer, f func(tx *journal.Tx, t *transfer) error) (at uint64, err error) {
	for part := range slices.Chunk(some, inCommit) {
		var decided map[*transfer]error
		at, err = b.q.j.Update(func(tx *journal.Tx) error {
			decided = map[*transfer]error{}
			for _, t := range part {
				if err := f(tx, t); errors.Is(err, errSuperseded) {
					decided[t] = err
				} else if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return at, err
		}
		for t, err := range decided {
			b.errs[t] = err
		}
	}
	return at, nil
}

// fail gives all that are undecided the outcome why; how writes it down.
func (b *deletion) fail(why error, how func(t *transfer, tx *journal.Tx) error) {
	some := b.live()
	if how != nil {
		if _, err := b.each(some, func(tx *journal.Tx, t *transfer) error { return how(t, tx) }); err != nil && stillOpen(err) {
			why = err
		}
	}
	for _, t := range some {
		b.errs[t] = why
	}
}

// carry is publish (carry.go) for many rows.
func (b *deletion) carry() {
	q := b.q
	if q.work.Err() != nil {
		b.fail(errStopped, nil)
		return
	}
	at, err := b.each(b.all, func(tx *journal.Tx, t *transfer) error { return t.noteIn(tx, t.tag()) })
	if err != nil {
		b.fail(err, (*transfer).withoutEffectIn)
		return
	}
	for _, t := range b.all {
		at = max(at, t.chosen)
	}
	if !q.o.rules.noR6 {
		if err := q.j.JoinHorizon(q.work, at); err != nil {
			b.fail(errStopped, (*transfer).withoutEffectIn)
			return
		}
	}
	if err := b.spare(); err != nil {
		b.fail(err, (*transfer).withoutEffectIn)
		return
	}
	if err := b.leaveChanged(); err != nil {
		b.fail(err, (*transfer).withoutEffectIn)
		return
	}
	b.send()
}

// leaveChanged leaves those out whose row was replaced meanwhile.
func (b *deletion) leaveChanged() error {
	if b.q.o.rules.noR3 {
		return nil
	}
	_, err := b.each(b.live(), func(tx *journal.Tx, t *transfer) error {
		cur, err := tx.Row(t.row.Key)
		if err != nil || cur != nil && cur.Seq == t.row.Seq {
			return err
		}
		if err := t.withoutEffectIn(tx); err != nil {
			return err
		}
		return errSuperseded
	})
	return err
}

func (b *deletion) send() {
	q, some := b.q, b.live()
	if len(some) == 0 {
		return
	}
	if err := q.pace.acquire(q.work); err != nil {
		b.fail(errStopped, (*transfer).withoutEffectIn)
		return
	}
	defer q.pace.release()
	crash.At("deletes noted, not sent")
	started := time.Now()
	gone, err := b.request(some)
	crash.At("deletes sent, not settled")
	if err != nil && len(gone) == 0 {
		if object.FateOf(err) == object.Unknown {
			b.fail(err, (*transfer).lostIn)
		} else {
			b.fail(err, (*transfer).withoutEffectIn)
		}
		return
	}
	done := map[string]bool{}
	for _, key := range gone {
		done[key] = true
	}
	denied := map[string]error{} // by directory
	for _, t := range some {
		if done[t.row.Key] {
			continue
		}
		dir, _ := scopesOf(t.row)
		if err := denied[dir.key]; err != nil {
			b.errs[t] = t.withoutEffect(err)
			continue
		}
		// OSS keeps it and does not say why: asked alone, it does.
		if err := b.alone(t); err != nil {
			b.errs[t] = err
			if isDenied(err) {
				denied[dir.key] = err
			}
		}
	}
	b.settle(started)
}

// request is one DeleteObject or DeleteMultipleObjects. It outlives the
// queue's work (R8).
func (b *deletion) request(some []*transfer) (gone []string, err error) {
	if len(some) == 1 {
		key := some[0].row.Key
		if err := b.q.remote.Delete(b.q.send, key); err != nil && !object.IsAbsent(err) {
			return nil, err
		}
		return []string{key}, nil
	}
	keys := make([]string, len(some))
	for i, t := range some {
		keys[i] = t.row.Key
	}
	return b.q.remote.DeleteMany(b.q.send, keys)
}

func (b *deletion) alone(t *transfer) error {
	err := b.q.remote.Delete(b.q.send, t.row.Key)
	switch {
	case err == nil || object.IsAbsent(err):
		return nil
	case object.FateOf(err) == object.Unknown:
		return t.lost(err)
	}
	return t.withoutEffect(err)
}

func (b *deletion) settle(started time.Time) {
	for part := range slices.Chunk(b.live(), inCommit) {
		outcome := make([]settled, len(part))
		seq, err := b.q.j.Update(func(tx *journal.Tx) error {
			for i, t := range part {
				s, err := t.settleIn(tx, object.Ref{}, started)
				if err != nil {
					return err
				}
				outcome[i] = s
			}
			return nil
		})
		for i, t := range part {
			if err != nil {
				b.errs[t] = err
			} else {
				b.q.hasSettled(t, object.Ref{}, seq, outcome[i])
			}
		}
	}
}

// spare leaves out what somebody else has changed since we knew it (H24): OSS
// is asked what it holds now, a page at a time.
func (b *deletion) spare() error {
	if b.q.o.Alone {
		return nil
	}
	var ask []*transfer
	for _, t := range b.live() {
		if t.row.Expected.IsZero() || !b.q.isConfirmed(t.row.Expected) {
			ask = append(ask, t)
		}
	}
	slices.SortFunc(ask, func(x, y *transfer) int { return strings.Compare(x.row.Key, y.row.Key) })
	size := min(maxDeletes, max(2*len(ask), 2))
	for len(ask) > 0 {
		page, err := b.q.remote.List(b.q.work, object.ListQuery{Prefix: b.q.o.Prefix, After: before(ask[0].row.Key), Max: size})
		if isDenied(err) { // one by one, then
			for _, t := range ask {
				b.spareOne(t)
			}
			return nil
		}
		if err != nil {
			return err
		}
		n := b.spareOn(page, ask)
		if n*8 < len(page.Entries) {
			size = max(size/4, 2) // what is deleted lies scattered among much that stays
		} else {
			size = min(maxDeletes, 4*size)
		}
		ask = ask[n:]
	}
	return nil
}

// isConfirmed reports that a copy of ours has just been made from ref, and
// forgets it.
func (q *Queue) isConfirmed(ref object.Ref) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	at, ok := q.confirmed[ref.Key]
	delete(q.confirmed, ref.Key)
	return ok && at.Same(ref)
}

// spareOn compares the first of ask with a page of a listing, and returns of
// how many it tells.
func (b *deletion) spareOn(page object.Page, ask []*transfer) (n int) {
	held := map[string]object.Entry{}
	last := ""
	for _, e := range page.Entries {
		held[e.Key], last = e, e.Key
	}
	for ; n < len(ask) && (page.Next == "" || ask[n].row.Key <= last); n++ {
		t := ask[n]
		if e, ok := held[t.row.Key]; ok && !object.SameETag(e.ETag, t.row.Expected.ETag) {
			b.spareOne(t)
		}
	}
	if n == 0 { // a key whose place in a listing cannot be named
		b.spareOne(ask[0])
		return 1
	}
	return n
}

// spareOne asks for one object, and leaves its row out if it is not the version
// that was deleted and not ours either. An error is that of this row alone.
func (b *deletion) spareOne(t *transfer) {
	if err := t.spare(); err != nil {
		if !errors.Is(err, errSuperseded) {
			err = t.withoutEffect(err)
		}
		b.errs[t] = err
	}
}

// spare settles the row of a Delete without one if OSS holds what is somebody
// else's, and returns errSuperseded then.
func (t *transfer) spare() error {
	q := t.q
	info, err := q.remote.Head(q.work, t.row.Key)
	if object.IsAbsent(err) || err == nil && info.Ref.Same(t.row.Expected) {
		return nil
	}
	if err != nil {
		return err
	}
	ours, err := t.isOurs(info)
	if err != nil || ours {
		return err
	}
	q.log.Warn("somebody else has changed the object since: it is not deleted", "key", t.row.Key)
	if err := t.giveWay(info); err != nil {
		return err
	}
	return errSuperseded
}

// before returns a key just below key.
func before(key string) string {
	r, n := utf8.DecodeLastRuneInString(key)
	switch {
	case r == utf8.RuneError && n <= 1, r <= 1:
		return key[:len(key)-n]
	case r == 0xE000:
		r = 0xD800 // below it are the surrogates, which are no characters
	}
	return key[:len(key)-n] + string(r-1) + "\U0010FFFF"
}
