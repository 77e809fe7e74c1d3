package writeback

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ossmount/ossmount/internal/object"
)

// count is how many objects OSS has.
func (s *memStore) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.objects)
}

// twoCPUs has what is much for this machine be the same everywhere.
func twoCPUs(t *testing.T) {
	was := runtime.GOMAXPROCS(2)
	t.Cleanup(func() { runtime.GOMAXPROCS(was) })
}

// While programs are busy few uploads begin, but for no longer than the delay allows;
// a pause, or somebody who waits, ends it.
func TestUploadsGiveWay(t *testing.T) {
	twoCPUs(t)
	// busy changes an entry 1,000 times in a second for as long as it is said.
	busy := func(t *testing.T, r *rooms, d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if _, err := r.q.Change(func(*Change) error { return nil }); err != nil {
				t.Error(err)
			}
		}
	}
	// looking looks up more than 1,500 names in a second for each processor.
	looking := func(_ *testing.T, r *rooms, d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
			for range 2 * runtime.GOMAXPROCS(0) {
				r.q.Looked()
			}
		}
	}
	const files = 500
	for _, c := range []struct {
		name        string
		delay       time.Duration
		do          func(t *testing.T, r *rooms) // after a second of being busy
		least, most int                          // objects that are there then
	}{
		{"busy", time.Second, func(t *testing.T, r *rooms) { busy(t, r, 4*time.Second) }, 150, 300},
		{"busy for long", time.Second, func(t *testing.T, r *rooms) { busy(t, r, 40*time.Second) }, files, files},
		{"names are looked up", time.Second, func(t *testing.T, r *rooms) { looking(t, r, 4*time.Second) }, 150, 300},
		{"names are looked up for long", time.Second, func(t *testing.T, r *rooms) { looking(t, r, 40*time.Second) }, files, files},
		{"a pause", time.Second, func(*testing.T, *rooms) { time.Sleep(2 * time.Second) }, files, files},
		{"somebody waits", time.Second, func(t *testing.T, r *rooms) {
			go r.q.Wait(t.Context(), "")
			busy(t, r, 4*time.Second)
		}, files, files},
		{"no delay", -1, func(*testing.T, *rooms) {}, files, files},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newMemStore()
				s.free = true
				r := openRooms(t, 0, s, func(o *Options) { o.Delay = c.delay })
				for n := range files {
					r.put(t, fmt.Sprint(n), "written")
				}
				busy(t, r, time.Second)
				c.do(t, r)
				if n := s.count(); n < c.least || n > c.most {
					t.Errorf("%d objects, want %d to %d", n, c.least, c.most)
				}
			})
		})
	}
}

// Without a delay, what busy programs write goes up in rounds, and all of it.
func TestUploadsGoInRounds(t *testing.T) {
	twoCPUs(t)
	synctest.Test(t, func(t *testing.T) {
		s := newMemStore()
		s.free = true
		r := openRooms(t, 0, s, func(o *Options) { o.Delay = -1 })
		const files = 1700
		bursts, last, there := 0, time.Time{}, 0
		for n := range files {
			r.put(t, fmt.Sprint(n), "written")
			time.Sleep(time.Millisecond)
			if now := s.count(); now > there {
				if time.Since(last) > roundEach/2 {
					bursts++
				}
				last, there = time.Now(), now
			}
		}
		if most := files / int(roundEach/time.Millisecond); bursts < most-1 || bursts > most+1 || there < files/2 {
			t.Errorf("%d bursts and %d of %d objects in %v, want about %d bursts", bursts, there, files, files*time.Millisecond, most)
		}
		time.Sleep(busyFor + busyFor/2 + 10*time.Millisecond)
		if n := s.count(); n != files {
			t.Errorf("%d objects when the program has come to rest, want %d", n, files)
		}
	})
}

// Without a delay, what busy programs remove goes in rounds too: many in one request.
func TestDeletesGoInRounds(t *testing.T) {
	twoCPUs(t)
	synctest.Test(t, func(t *testing.T) {
		s := newMemStore()
		s.free = true
		r := openRooms(t, 0, s, func(o *Options) { o.Delay = -1 })
		const files = 900
		for n := range files {
			r.put(t, fmt.Sprint(n), "written")
		}
		time.Sleep(time.Minute)
		if n := s.count(); n != files {
			t.Fatalf("%d objects of %d", n, files)
		}
		for n := range files {
			if _, err := r.q.Change(func(c *Change) error { return c.Delete(fmt.Sprint(n), object.Ref{}, false) }); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(busyFor + busyFor/2 + 10*time.Millisecond)
		if n := s.count(); n != 0 {
			t.Errorf("%d objects when the program has come to rest, want none", n)
		}
		if n := s.counts["Delete"] + s.counts["DeleteMany"]; n > 2*changesPerCPU+3 { // the first are sent at once
			t.Errorf("%d requests for %d files that were removed in %v", n, files, files*time.Millisecond)
		}
	})
}
