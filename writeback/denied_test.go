package writeback

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ossmount/ossmount/internal/object"
)

// Without one permission only what needs it waits, with what and why in the status;
// when it comes back, all goes on by itself. covers H41
func TestOneMissingPermissionStopsOnlyWhatNeedsIt(t *testing.T) {
	for name, tc := range map[string]struct {
		fault  fault
		what   string
		waits  func(key string) bool
		blocks bool // rows, and not just debts
	}{
		"deleting": {denied("DeleteObject DeleteMultipleObjects", ""), "delete",
			func(key string) bool {
				return key == "old/6" || key == "old/7" || key == "old/8" || key == "old/3" || key == "old/4" || key == "old/5"
			}, true},
		"writing under one prefix": {denied(allPuts, "d3/"), "write", func(key string) bool { return strings.HasPrefix(key, "d3/") }, true},
		"writing one key":          {denied(allPuts, "d3/f3"), "write", func(key string) bool { return key == "d3/f3" }, true},
		"copying": {denied("CopyObject", ""), "copy",
			func(key string) bool {
				return strings.HasPrefix(key, "moved/") || key == "old/3" || key == "old/4" || key == "old/5"
			}, true},
	} {
		t.Run(name, func(t *testing.T) {
			inOutage(t, func(o *outage) {
				o.work()
				o.store.set(tc.fault.fails)
				o.burden(30)
				time.Sleep(2 * time.Minute)
				waits := 0
				for key, text := range o.want {
					row, err := o.q.Row(key)
					o.ok(err)
					if (row != nil) != tc.waits(key) {
						t.Errorf("%s: row %v (%s)", key, row != nil, o.q.why(key))
					}
					if row != nil {
						waits++
						continue
					}
					if got, ok := o.store.get(key); ok != (text != "") || string(got.data) != text {
						t.Errorf("%s holds %q, want %q", key, got.data, text)
					}
				}
				s := o.status()
				if len(s.Denied) != 1 || s.Denied[0].What != tc.what || s.Denied[0].Rows == 0 || s.Denied[0].Rows > waits || s.Parked != 0 || s.Away != "" {
					t.Errorf("status: %+v, %d wait; away %q", s.Denied, waits, s.Away)
				}
				if n := len(o.log.with("does not permit")); n != 1 {
					t.Errorf("%d lines in the log: %q", n, o.log.with("level="))
				}
				o.store.set(nil)
				time.Sleep(time.Minute)
				o.arrived()
				if n := o.j.Counts(); n.Pending != 0 || n.Parked != 0 {
					t.Errorf("a minute later %+v is left: %+v", n, o.status().Denied)
				}
				if n := len(o.log.with("permits it again")); n != 1 {
					t.Errorf("%d lines say that it is permitted again", n)
				}
			})
		})
	}
}

func (q *Queue) why(key string) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.blocked[key].why
}

// What is denied is tried by one request at a time, whatever waits: the number of
// rows does not count.
func TestManyDeniedRowsCostOneRequestAtATime(t *testing.T) {
	inOutage(t, func(o *outage) {
		o.store.set(denied(allPuts, "").fails)
		for i := range 2000 {
			o.write(fmt.Sprintf("d/f%d", i), "x")
		}
		time.Sleep(time.Minute)
		if n := o.store.count(); n > 4*o.q.o.Concurrency {
			t.Errorf("%d requests for one directory", n)
		}
		if s := o.status(); len(s.Denied) != 1 || s.Denied[0].Rows != 2000 || s.Denied[0].Under != "d/" {
			t.Errorf("status: %+v", s.Denied)
		}
		o.store.set(denied(allPuts, "").fails)
		time.Sleep(time.Hour)
		if n := o.store.count(); n > 60*6 || o.store.most > 1 {
			t.Errorf("%d requests in an hour, %d at once", n, o.store.most)
		}
		o.q.Wake()
		was := o.store.count()
		time.Sleep(50 * time.Millisecond)
		if n := o.store.count(); n == was {
			t.Error("retry has not asked at once")
		}
		o.store.set(nil)
		o.drains(time.Minute)
	})
}

// Debts that may not be paid keep no others, and wait, shown, until they may.
// covers H41
func TestDebtsThatMayNotBePaidWait(t *testing.T) {
	inOutage(t, func(o *outage) {
		o.store.set(func(op, key string) error {
			if op == opComplete || op == opPart && strings.HasPrefix(key, "kept/") { // so that there is an upload to abort
				return fault{"", "", object.Error{Kind: object.Again, Fate: object.Answered, Status: 500}}.fails(op, key)
			}
			return denied(opAbort, "kept/").fails(op, key)
		})
		for i := range 3 {
			o.write(fmt.Sprintf("kept/%d", i), strings.Repeat("x", 20))
			o.write(fmt.Sprintf("other/%d", i), strings.Repeat("y", 20))
		}
		time.Sleep(5 * time.Minute)
		for key := range o.want { // they are not wanted any more
			_, err := o.q.Change(func(c *Change) error { return c.Delete(key, object.Ref{}, true) })
			o.ok(err)
			delete(o.want, key)
		}
		o.store.set(denied(opAbort, "kept/").fails)
		time.Sleep(5 * time.Minute)
		s := o.status()
		if s.Debts == 0 || len(s.Denied) != 1 || s.Denied[0].What != "abort" || s.Denied[0].Under != "kept/" || s.Denied[0].Rows != s.Debts || s.Pending != 0 {
			t.Errorf("%d debts, %d pending: %+v", s.Debts, s.Pending, s.Denied)
		}
		for _, u := range o.store.open() {
			if !strings.HasPrefix(u, "kept/") {
				t.Errorf("the upload of %s is left", u)
			}
		}
		o.store.set(nil)
		time.Sleep(time.Minute)
		if s := o.status(); s.Debts != 0 || len(s.Denied) != 0 || len(o.store.open()) != 0 {
			t.Errorf("left: %d debts, %+v, %v", s.Debts, s.Denied, o.store.open())
		}
	})
}

// open are the keys of the uploads that are open.
func (m *memStore) open() (keys []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, u := range m.uploads {
		keys = append(keys, u.key)
	}
	return keys
}

// Who may not look at objects goes on without seeing conflicts; with keep-both, and
// for deletes where nothing may be listed either, that waits. covers H41
func TestWhoMayNotLook(t *testing.T) {
	for _, both := range []bool{false, true} {
		t.Run(fmt.Sprint("keep-both ", both), func(t *testing.T) {
			inOutage(t, func(o *outage) {
				o.work()
				o.store.set(denied("HeadObject GetObject ListObjectsV2", "").fails)
				for i := range 3 {
					o.write(fmt.Sprintf("old/%d", i), "replaced")
					o.write(fmt.Sprintf("new/%d", i), "new")
				}
				o.remove("old/6")
				time.Sleep(time.Minute)
				want := 1 // the delete
				if both {
					want += 3
				}
				if n := o.j.Counts().Pending; n != want {
					t.Errorf("%d wait, want %d: %+v", n, want, o.status().Denied)
				}
				if n := len(o.log.with("the last writer wins")); n > 1 || n == 1 == both {
					t.Errorf("%d lines say that conflicts are not seen", n)
				}
				o.store.set(nil)
				o.drains(time.Minute)
			}, func(op *Options) { op.KeepBoth = both })
		})
	}
}

// Each error that somebody must mend pauses the engine: one line when it begins,
// with what mends it, and one when it is over; one probe at a time; status says why,
// since when, and when the next is; retry does not wait for that.
func TestPauseUntilItIsMended(t *testing.T) {
	for n, code := range []string{"InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "SecurityTokenExpired", "NoSuchBucket", "UserDisable"} {
		t.Run(code, func(t *testing.T) {
			inOutage(t, func(o *outage) {
				o.work()
				f := pauses(code)
				f.err.Remedy = "this is what mends it"
				o.store.set(f.fails)
				o.burden(50)
				time.Sleep(10 * time.Minute)
				s := o.status()
				if !strings.Contains(s.Away, code) || !strings.Contains(s.Away, "what mends it") || s.AwaySince == 0 || s.AwayNext <= time.Now().UnixNano()-int64(time.Second) {
					t.Errorf("status: %q since %d, next %d", s.Away, s.AwaySince, s.AwayNext)
				}
				if all := o.log.with("level="); len(all) != 1 || !strings.Contains(all[0], code) || !strings.Contains(all[0], "what mends it") {
					t.Errorf("the log has %q", all)
				}
				o.store.set(f.fails)
				time.Sleep(10 * time.Minute)
				if n := o.store.count(); o.store.most > 1 || n > 60 || n < 10 {
					t.Errorf("%d probes in ten minutes, %d at once", n, o.store.most)
				}
				o.store.set(nil)
				o.q.Wake()
				synctest.Wait()
				time.Sleep(100 * time.Millisecond)
				if s := o.status(); s.Away != "" {
					t.Errorf("after retry: %s", s.Away)
				}
				o.drains(time.Minute)
				if n := len(o.log.with("answers again")); n != 1 {
					t.Errorf("%d lines say that it is over", n)
				}
			}, func(op *Options) { op.Delay = []time.Duration{-1, time.Second}[n%2] })
		})
	}
}

// Deletes that were gathered are a probe like any other.
func TestGatheredDeletesAreOneProbe(t *testing.T) {
	for _, delay := range []time.Duration{-1, time.Second} {
		inOutage(t, func(o *outage) {
			o.work()
			fails := pauses("InvalidAccessKeyId").fails
			refuses := func(op, key string) error {
				time.Sleep(3 * time.Second)
				return fails(op, key)
			}
			o.store.set(refuses)
			for i := range 9 {
				o.write(fmt.Sprintf("new/%d", i), "new")
				o.remove(fmt.Sprintf("old/%d", i))
			}
			time.Sleep(10 * time.Minute)
			o.store.set(refuses) // counts anew
			time.Sleep(time.Hour)
			if n := o.store.count(); o.store.most > 1 || n < 10 {
				t.Errorf("delay %v: %d probes in an hour, %d at once", delay, n, o.store.most)
			}
			o.store.set(nil)
			o.q.Wake()
			o.drains(time.Minute)
		}, func(op *Options) { op.Delay = delay })
	}
}

// A probe is one request at a time, also where a file has many parts to send.
func TestProbeOfABigFileIsOneRequest(t *testing.T) {
	inOutage(t, func(o *outage) {
		o.store.set(func(op, key string) error {
			if op != opPart {
				return nil
			}
			return fault{"", "", object.Error{Kind: object.Again, Fate: object.Answered, Status: 500}}.fails(op, key)
		})
		o.write("big", strings.Repeat("0123456789", 40))
		time.Sleep(time.Minute)
		o.store.set(o.store.fails)
		time.Sleep(10 * time.Minute)
		if n := o.store.count(opPart); o.store.most > 1 || n > 60 {
			t.Errorf("%d parts tried in ten minutes, %d at once", n, o.store.most)
		}
		o.store.set(nil)
		o.drains(time.Minute)
	})
}

// What arrives changed eight times is parked with the reason, not sent for ever; it
// is sent again when somebody says so.
func TestBytesThatArriveChangedAreParked(t *testing.T) {
	inOutage(t, func(o *outage) {
		o.store.set(func(op, key string) error {
			if op != opPut && op != opPart {
				return nil
			}
			return &object.Error{Op: op, Key: key, Kind: object.Again, Status: 200, Err: fmt.Errorf("%w: sent 1, OSS stored 2", object.ErrIntegrity)}
		})
		o.write("small", "small")
		o.write("big", strings.Repeat("x", 25))
		time.Sleep(time.Hour)
		s := o.status()
		if s.Parked != 2 || len(s.Kept) != 2 || !strings.Contains(s.Kept[0].Reason, "other bytes") {
			t.Errorf("status: %+v", s)
		}
		if n := o.store.count(); n > 2*manySpoiled*8 {
			t.Errorf("%d requests", n)
		}
		o.store.set(nil)
		for _, key := range []string{"small", "big"} {
			_, err := o.q.Retry(key)
			o.ok(err)
		}
		o.drains(time.Minute)
	})
}

// Where OSS takes only so many requests a second, the engine finds what it takes,
// and takes all again when it may.
func TestThrottlingIsFollowed(t *testing.T) {
	inOutage(t, func(o *outage) {
		const perSecond = 20
		tokens, last := float64(perSecond), time.Now()
		o.store.set(func(op, key string) error {
			o.store.mu.Lock()
			defer o.store.mu.Unlock()
			now := time.Now()
			tokens, last = math.Min(perSecond, tokens+perSecond*now.Sub(last).Seconds()), now
			if tokens >= 1 {
				tokens--
				return nil
			}
			return &object.Error{Op: op, Key: key, Kind: object.Again, Fate: object.Answered, Status: 503, Code: "TotalQpsLimitExceeded", Throttled: true}
		})
		for i := range 600 {
			o.write(fmt.Sprintf("d/f%d", i), "x")
		}
		lowest := o.q.o.Concurrency
		for range 300 {
			time.Sleep(100 * time.Millisecond)
			lowest = min(lowest, o.status().Requests.Limit)
		}
		s := o.status()
		t.Logf("after 30 s: %d of 600 are left, the limit was %d at least, %d of %d answers were refusals", s.Pending, lowest, s.Requests.Throttled, o.store.count())
		if lowest > 4 || s.Requests.Throttled == 0 {
			t.Errorf("the limit was %d at least, %d times throttled", lowest, s.Requests.Throttled)
		}
		if s.Pending > 350 { // 30 s of 20 a second are 600; half of that must be used
			t.Errorf("%d of 600 are left after 30 s", s.Pending)
		}
		o.drains(3 * time.Minute)
		if n := len(o.log.with("level=")); n > 10 {
			t.Errorf("%d lines in the log", n)
		}
		o.q.setDraining(false)
		o.store.set(nil)
		for i := range 600 {
			o.write(fmt.Sprintf("e/f%d", i), "x")
		}
		o.drains(time.Minute)
		if r := o.status().Requests; r.Limit != r.Max {
			t.Errorf("the limit is %d of %d when nothing is refused any more", r.Limit, r.Max)
		}
	})
}
