package integration

import (
	"flag"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/ossmount/ossmount/integration/harness/disk"
)

var powerEvery = flag.Bool("power.every", false, "cut a start before each of its writes and flushes, not before some")

// A power cut before any of the writes of the very first start leaves a directory with
// which the next start does not find anything amiss: nothing was promised yet, and there
// is nothing to repair and nobody to be alarmed.
func TestPowerCutsInAFirstStart(t *testing.T) {
	t.Parallel()
	m, end := oneMachine(t)
	defer end()
	kept, err := m.d.Keep()
	m.ok(err)
	n := m.eachRequest("first start", kept, func() {
		m.ok(m.countLost())
		s, err := m.m.Status()
		m.ok(err)
		if len(s.LostAndFound) > 0 || s.Queue.Pending > 0 {
			t.Fatalf("after a cut in the first start: %+v", s)
		}
		aside, err := filepath.Glob(filepath.Join(m.m.Cache, "journal.*"))
		m.ok(err)
		if len(aside) > 0 {
			t.Fatalf("a journal was taken for damaged: %q\n%s", aside, m.lastWords())
		}
		m.write(filepath.Join(m.m.Point, "f"), "the mount works")
		m.reads(filepath.Join(m.m.Point, "f"), "the mount works")
	})
	t.Logf("the power was cut before %d of the writes and flushes of a first start", n)
}

// A power cut before any of the writes of a recovery, in the middle of the undo too,
// leaves what the recovery had found: the next one finds the same.
//
// covers H1
func TestPowerCutsInARecovery(t *testing.T) {
	t.Parallel()
	var m *machine
	end := func() {}
	defer func() { end() }()
	var kept int
	var first map[string]*seen
	for tries := 1; m == nil || m.tally.undone == 0; tries++ { // a cut may come just when all is on the disk
		if tries > 20 {
			t.Fatal("no cut has left anything to be undone")
		}
		end()
		m, end = oneMachine(t)
		m.alive[0].crowd = 150
		m.ok(m.on())
		var err error
		m.ok(m.work())
		kept, err = m.d.Keep()
		m.ok(err)
		m.ok(m.on())
		first, _, err = m.fit()
		m.ok(err)
	}
	undone := m.tally.undone
	m.off()
	n := m.eachRequest("recovery", kept, func() {
		again, _, err := m.fit()
		m.ok(err)
		for name, s := range first {
			if a := again[name]; a == nil || a.data.sum != s.data.sum || a.interrupted != s.interrupted {
				t.Fatalf("%s: the second recovery has found something else than one that was not cut short", name)
			}
		}
		if len(again) != len(first) {
			t.Fatalf("%d names, and without the second cut %d", len(again), len(first))
		}
	})
	t.Logf("%d keys were to be undone; the power was cut before %d of the writes and flushes of the recovery", undone, n)
}

// oneMachine is one whose mount sends nothing to OSS.
func oneMachine(t *testing.T) (m *machine, end func()) {
	e := setup(t)
	m = &machine{env: e, tally: &tally{}, life: 1, close: "journal", r: rand.New(rand.NewPCG(*powerSeed, 99))}
	stop, err := m.newDisk("--write-back-delay=1h", "--eager=off")
	end = func() { e.check(stop()) }
	if err != nil {
		end()
		t.Fatal(err)
	}
	return m, end
}

// off switches the machine off, at no special moment.
func (m *machine) off() {
	m.Helper()
	m.ok(m.d.Freeze())
	m.ok(m.cut())
}

// eachRequest starts the daemon on a disk as it was kept, cuts the power before one
// request to the disk after the other, starts it again and has that judged, until a
// start needs no more requests. It returns how many cuts there were.
func (m *machine) eachRequest(what string, kept int, judge func()) (n int) {
	m.Helper()
	for at := 1; ; at++ {
		if !*powerEvery {
			at += m.r.IntN(10)
		}
		m.ok(m.d.Back(kept))
		started, err := m.cutStart(what, disk.When{N: at, Within: 2 * time.Second})
		if err == nil {
			err = m.on()
		}
		if err != nil {
			m.Fatalf("%s cut before request %d: %v\n%s", what, at, err, m.lastWords())
		}
		judge()
		m.off()
		if n++; started {
			break
		}
	}
	if n < 3 {
		m.Errorf("%s was cut %d times only", what, n)
	}
	return n
}
