package writeback

import (
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// One missing permission stops only what needs it (H41). When OSS denies what a
// row needs, the rows of its directory that need the same wait with it; one of
// them at a time is tried again, with backoff, and if that is let through they all
// go. What was not tried yet goes first, so that a key which is allowed beside
// others that are not is found; and where some are let through and others are not,
// each of the latter waits for itself.

// need is what a row asks of OSS, as far as a policy tells.
type need uint8

const (
	needNew     need = iota // to write a new object
	needReplace             // to look at one and write it anew
	needChange              // to read or copy what it has of one, too
	needCopy                // to copy one
	needDelete
	needs
)

func needOf(r *Row) need {
	switch {
	case r.Kind == journal.Delete:
		return needDelete
	case r.IsHole():
		return needCopy
	case r.HasHoles():
		return needChange
	case !r.Expected.IsZero():
		return needReplace
	}
	return needNew
}

// scope is what a denial holds for: a directory, by its key with the "/" at the
// end, or a single key.
type scope struct {
	need need
	key  string
}

func scopesOf(r *Row) (dir, alone scope) {
	return scope{needOf(r), dirOf(r.Key)}, scope{needOf(r), r.Key}
}

// denial is what OSS has denied.
type denial struct {
	op    string
	err   error
	since time.Time
	rows  map[string]bool // that wait, by key; true: denied itself
	more  bool            // others do, which are not in memory
}

// denials is under Queue.mu.
type denials struct {
	at    map[scope]*denial
	mixed map[scope]time.Time  // directories where some are let through, and since when
	rows  int                  // in memory
	said  map[string]time.Time // when it was last said that a thing is denied, by what that is called
	next  [needs]time.Time     // of the next try
	tried [needs]string        // the key that the last was made with
	let   [needs]bool          // that key through: it was not considered yet
	wait  [needs]*backoff.ExponentialBackOff
}

const (
	// manyDenied is how many rows that wait for a permission are kept in memory.
	manyDenied = 4 * windowSize
	// mixedFor is how long it is believed of a directory that some of it are let
	// through and others are not.
	mixedFor = 10 * time.Minute
)

func newDenials() denials {
	return denials{at: map[scope]*denial{}, mixed: map[scope]time.Time{}, said: map[string]time.Time{}}
}

// deniedLocked reports whether the row must wait for a permission.
func (q *Queue) deniedLocked(r *Row) bool {
	d := &q.denials
	dir, alone := scopesOf(r)
	for _, s := range []scope{alone, dir} {
		x := d.at[s]
		if x == nil {
			continue
		}
		if d.let[s.need] && d.tried[s.need] == r.Key {
			d.let[s.need] = false
			return false
		}
		if r.Content != 0 && q.urgent[r.Content] > 0 {
			return false // somebody waits for the answer
		}
		q.awaitLocked(x, r, false)
		return true
	}
	return false
}

// isDeniedAtLocked reports that what the row needs is denied in its directory.
func (q *Queue) isDeniedAtLocked(r *Row) bool {
	dir, _ := scopesOf(r)
	return q.denials.at[dir] != nil
}

// awaitLocked has the row wait for what is denied.
func (q *Queue) awaitLocked(x *denial, r *Row, tried bool) {
	if _, known := x.rows[r.Key]; !known {
		if q.denials.rows >= manyDenied {
			x.more = true // it is come upon again when this ends
			return
		}
		q.denials.rows++
	}
	x.rows[r.Key] = tried || x.rows[r.Key]
	q.blockLocked(r.Key, r.Seq, time.Time{}, "OSS does not permit it: "+x.err.Error())
}

// denyLocked takes note that OSS has denied what the row needs.
func (q *Queue) denyLocked(r *Row, err error, now time.Time) {
	d := &q.denials
	dir, alone := scopesOf(r)
	s := dir
	if d.at[alone] != nil || now.Sub(d.mixed[dir]) < mixedFor && d.rows < manyDenied {
		s = alone
	}
	x := d.at[s]
	if x == nil {
		x = &denial{since: now, rows: map[string]bool{}}
		if verb := verbOf(err); !q.isDeniedLocked(verb) && now.Sub(d.said[verb]) > sayAgain {
			d.said[verb] = now
			q.log.Warn("OSS does not permit this: what needs it waits, all else goes on", "key", r.Key, "err", err)
		}
		if !q.waitsLocked(s.need) {
			d.wait[s.need] = newBackoff()
			d.next[s.need] = now.Add(d.wait[s.need].NextBackOff())
		}
		d.at[s] = x
	}
	x.op, x.err = opOf(err), err
	q.awaitLocked(x, r, true)
}

// waitsLocked reports whether a row of the kind n waits for a permission.
func (q *Queue) waitsLocked(n need) bool {
	for s := range q.denials.at {
		if s.need == n {
			return true
		}
	}
	return false
}

// isDeniedLocked reports whether something is denied that is called verb.
func (q *Queue) isDeniedLocked(verb string) bool {
	for _, x := range q.denials.at {
		if verbOf(x.err) == verb {
			return true
		}
	}
	return false
}

// permittedLocked takes note that OSS has let through what the row needs; again says
// that it has denied that row before.
func (q *Queue) permittedLocked(r *Row, again bool, now time.Time) {
	d := &q.denials
	if len(d.at) == 0 {
		return
	}
	dir, alone := scopesOf(r)
	if d.at[dir] != nil {
		if len(d.mixed) > 1000 {
			clear(d.mixed)
		}
		d.mixed[dir] = now
	}
	for _, s := range []scope{alone, dir} {
		q.permitLocked(s, again, now)
	}
}

// permitLocked has all go that waits for what was denied at s.
func (q *Queue) permitLocked(s scope, again bool, now time.Time) {
	d := &q.denials
	x := d.at[s]
	if x == nil {
		return
	}
	delete(d.at, s)
	d.rows -= len(x.rows)
	for key := range x.rows {
		q.unblockLocked(key)
	}
	if x.more {
		q.looked = place{}
	}
	d.wait[s.need].Reset()
	d.next[s.need] = now // the others of the kind, one after another
	if verb := verbOf(x.err); again && !d.said[verb].IsZero() && !q.isDeniedLocked(verb) {
		delete(d.said, verb)
		q.log.Info("OSS permits it again", "what", verb, "after", now.Sub(x.since).Round(time.Millisecond))
	}
}

// tryDeniedLocked has one row of each kind that waits for a permission tried again
// when it is time, and returns when the next will be.
func (q *Queue) tryDeniedLocked(now time.Time) (next time.Time) {
	d := &q.denials
	var due, waits [needs]bool
	for s := range d.at {
		waits[s.need] = true
		due[s.need] = !now.Before(d.next[s.need])
	}
	for n := range needs {
		switch {
		case !waits[n]:
			continue
		case due[n]:
			if q.running[d.tried[n]] == nil {
				q.tryOneLocked(n)
			}
			d.next[n] = now.Add(d.wait[n].NextBackOff())
		}
		next = sooner(next, d.next[n])
	}
	return next
}

func (q *Queue) tryOneLocked(n need) {
	d := &q.denials
	var from *denial
	choice := ""
	for s, x := range d.at { // in no order, so that each has its turn
		if s.need != n {
			continue
		}
		for key, tried := range x.rows {
			if choice, from = key, x; !tried {
				break
			}
		}
		if len(x.rows) == 0 { // those that waited are gone, or not in memory
			delete(d.at, s)
			if x.more {
				q.looked = place{}
			}
			continue
		}
		if !from.rows[choice] {
			break
		}
	}
	if from == nil {
		return
	}
	d.tried[n], d.let[n] = choice, true
	q.freeLocked(choice)
	q.again[choice] = struct{}{}
	delete(from.rows, choice) // it comes back if it is denied again
	d.rows--
}

// Denied is what OSS does not permit, and how much waits for it.
type Denied struct {
	What  string `json:"what"` // read, write, copy, delete, list, abort
	Under string `json:"under"`
	Rows  int    `json:"rows"`
	More  bool   `json:"more,omitempty"` // than that
	Since int64  `json:"since"`          // Unix nanoseconds
	Next  int64  `json:"next_try"`
	Why   string `json:"why"`
}

// deniedStatusLocked sums up what is denied, by what it is called.
func (q *Queue) deniedStatusLocked() []Denied {
	sums := map[string]*Denied{}
	for s, x := range q.denials.at {
		dir := s.key
		if !strings.HasSuffix(dir, "/") {
			dir = dirOf(dir)
		}
		rows := len(x.rows)
		if q.running[q.denials.tried[s.need]] != nil {
			rows++
		}
		q.addDenied(sums, verbOf(x.err), dir, rows, x.more, x.since, q.denials.next[s.need], x.err)
	}
	for dir, x := range q.debtsDenied {
		q.addDenied(sums, verbOf(x.err), dir, x.debts, false, x.since, x.next, x.err)
	}
	var out []Denied
	for _, s := range sums {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b Denied) int { return strings.Compare(a.What, b.What) })
	return out
}

func (q *Queue) addDenied(sums map[string]*Denied, verb, dir string, rows int, more bool, since, next time.Time, err error) {
	s := sums[verb]
	if s == nil {
		s = &Denied{What: verb, Under: dir, Since: since.UnixNano(), Next: next.UnixNano(), Why: err.Error()}
		sums[verb] = s
	}
	s.Under = commonDir(s.Under, dir)
	s.Rows += rows
	s.More = s.More || more
	s.Since = min(s.Since, since.UnixNano())
	s.Next = min(s.Next, next.UnixNano())
}

func commonDir(a, b string) string {
	for !strings.HasPrefix(b, a) {
		a = dirOf(a)
	}
	return a
}

// verbOf is what an operation that was denied is called in a status.
func verbOf(err error) string {
	switch opOf(err) {
	case opHead, opGet:
		return "read"
	case opDelete, opDeleteMany:
		return "delete"
	case opCopy, opPartCopy:
		return "copy"
	case opList, opParts, opUploads:
		return "list"
	case opAbort:
		return "abort"
	case opTags, opACL:
		return "read the tags or the ACL of"
	}
	return "write"
}

func isDenied(err error) bool { return err != nil && object.KindOf(err) == object.Denied }

func isThrottled(err error) bool {
	e, ok := asError(err)
	return ok && e.Throttled
}
