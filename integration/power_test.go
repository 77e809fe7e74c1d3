package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ossmount/ossmount/integration/harness"
	"github.com/ossmount/ossmount/integration/harness/disk"
)

var (
	powerCuts  = flag.Int("power.cuts", 12, "power cuts of TestPowerCuts")
	powerSeed  = flag.Uint64("power.seed", 1, "seed of TestPowerCuts")
	powerTell  = flag.Bool("power.tell", false, "tell each cut")
	powerKeep  = flag.String("power.keep", "", "a new directory for the journal of a disk that shows no moment")
	powerClose = flag.String("power.close", "", "--close of every disk; it is drawn by default")
)

// TestPowerCuts cuts the power of a machine on which programs write, again and again,
// at moments that nobody has chosen, also while the daemon recovers from the cut before
// and while it makes its first journal. The cache directory lies on an ext4 on a disk
// that loses any part of what it was not told to keep (harness/disk); the daemon, the
// programs and the disk are killed together; the OSS server is another machine.
//
// After each cut the daemon starts as on another boot. Then what each program's names
// hold must be what they held at one moment: at or after the last call of which the
// promise was that a power cut keeps it, and for all programs the same moment, as far as
// one of them had returned from a call before another began one. Bytes that are neither
// an old version nor a new one may be only in a file that is reported as interrupted.
// What is on OSS must be a version that a program had finished, not newer than what the
// mount goes on from, and never older than what was there before.
//
// covers H1
// covers H2
// covers H3
// covers H4
// covers H8
// covers H49
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	e := setup(t, "--latency=2ms")
	all := &tally{}
	lanes := 2
	var wg sync.WaitGroup
	for i := range lanes {
		cuts := *powerCuts / lanes
		if i < *powerCuts%lanes {
			cuts++
		}
		wg.Go(func() {
			m := &machine{env: e, tally: all, lane: i, r: rand.New(rand.NewPCG(*powerSeed, uint64(i)))}
			if err := m.live(cuts); err != nil {
				e.Errorf("machine %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	t.Logf("seed %d: %v", *powerSeed, all)
	if all.cuts < *powerCuts && !t.Failed() {
		t.Errorf("there were %d cuts only", all.cuts)
	}
}

// tally is what the cuts came to.
type tally struct {
	mu sync.Mutex

	cuts, atStart, inRecovery int
	steps, durable            int // calls that returned; that promised
	files, promised           int // compared after a cut; of those, such as a promise covered
	missing                   int // and were not as promised
	objects, torn, ahead      int // compared on OSS; of no version; newer than the mount, or older than before
	undone, interrupted, lost int
	whole                     int // undoes that a cut had not interrupted
	sectors, kept             int
	tables                    int // most that the journal's database had
	ways                      map[string]int
}

func (t *tally) String() string {
	return fmt.Sprintf(`%d power cuts (%d in the first start, %d in a recovery); the disk had %d sectors in its cache and kept %d: %v
  %d calls returned, %d of them with the promise to outlive a cut
  %d files compared after a cut, %d of them as a promise had them; missing or wrong: %d
  %d objects compared on OSS; torn: %d, ahead of the mount or older than before: %d
  recovered: %d keys undone in %d recoveries, %d files interrupted, %d contents in lost+found; up to %d tables in a journal`,
		t.cuts, t.atStart, t.inRecovery, t.sectors, t.kept, t.ways, t.steps, t.durable, t.files, t.promised, t.missing,
		t.objects, t.torn, t.ahead, t.undone, t.whole, t.interrupted, t.lost, t.tables)
}

func (t *tally) add(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
}

// machine is a machine with a disk, which is switched off again and again.
type machine struct {
	*env
	tally *tally
	lane  int
	r     *rand.Rand

	life  int // disks until now
	boot  int
	d     *disk.Disk
	m     *harness.Mount
	close string // --close
	alive []*life
	past  *past
	lost  int               // contents in lost+found
	sums  map[string]string // of objects, by key and ETag
	told  []string          // what happened

	before string // what the daemons of this disk before this one said
}

// past is what had happened when the power went off.
type past struct {
	plans  []*plan
	events []event
	waited int               // how much had been said when a successful wait began; -1: there was none
	bucket map[string]string // sums by key, before the next start
}

// life is a program over several boots.
type life struct {
	dir   string
	now   state
	keys  map[string]*versions // by key of OSS
	crowd int
}

// versions are what a key has held, in order; "" is nothing.
type versions struct {
	all  []string
	at   int // which of them OSS was last seen to hold
	kept int // OSS holds this one or a later one: somebody has waited for it
}

const (
	writers   = 3
	livesLong = 15 // cuts of one disk
)

// prefix is where in the bucket this disk's mount is.
func (m *machine) prefix() string { return fmt.Sprintf("machine-%d-disk-%d/", m.lane, m.life) }

func (m *machine) say(format string, args ...any) {
	s := time.Now().Format("05.000 ") + fmt.Sprintf(format, args...)
	m.told = append(m.told, s)
	if *powerTell {
		m.Logf("machine %d: %s", m.lane, s)
	}
}

func (m *machine) live(cuts int) error {
	for left := cuts; left > 0; {
		n := min(left, livesLong)
		left -= n
		m.life++
		if err := m.oneDisk(n); err != nil {
			return fmt.Errorf("%w\nwhat had happened:\n%s\nthe daemon said last:\n%s", err,
				strings.Join(m.told[max(0, len(m.told)-100):], "\n"), m.lastWords())
		}
	}
	return nil
}

func (m *machine) lastWords() string {
	if m.m == nil || m.m.P == nil {
		return ""
	}
	return lastWords(m.m.P.Err.String())
}

// newDisk puts a new disk into the machine, and has the daemon know its flags; nothing
// is on. end takes it all away again.
func (m *machine) newDisk(flags ...string) (end func() error, err error) {
	dir := m.path(strings.TrimSuffix(m.prefix(), "/"))
	var ends []func() error
	end = func() (err error) {
		for _, f := range slices.Backward(ends) {
			err = errors.Join(err, f())
		}
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "mnt"), 0o755); err != nil {
		return end, err
	}
	if err := harness.Share(dir); err != nil {
		return end, err
	}
	ends = append(ends, func() error { return harness.Detach(dir) })
	if m.d, err = disk.New(dir); err != nil {
		return end, err
	}
	ends = append(ends, m.d.Destroy)
	m.m = &harness.Mount{Bin: binary, Source: "oss://" + harness.Bucket + "/" + m.prefix(), Point: filepath.Join(dir, "mnt"), Cache: filepath.Join(m.d.Point, "cache"),
		Flags: append(append(m.usual(), "--part-size=256KiB", "--multipart-threshold=512KiB", "--doubt=300ms"), flags...)}
	ends = append(ends, m.m.Destroy)
	m.lost, m.past, m.sums, m.alive, m.before = 0, nil, map[string]string{}, nil, ""
	for i := range writers {
		m.alive = append(m.alive, &life{dir: fmt.Sprint("w", i), now: state{}, keys: map[string]*versions{}})
	}
	m.say("a new disk %v", m.m.Flags)
	// The kernel serves files itself where there is ample room.
	size := []int64{256 << 20, 3 << 30}[m.r.IntN(2)]
	m.say("of %d MiB", size>>20)
	return end, m.d.Format(m.soon(), size)
}

// oneDisk is a new disk, and n cuts of it.
func (m *machine) oneDisk(n int) (err error) {
	m.close = []string{"journal", "journal", "journal", "disk", "disk", "remote"}[m.r.IntN(6)]
	if *powerClose != "" {
		m.close = *powerClose
	}
	delay := []string{"0s", "50ms", "300ms", "2s"}[m.r.IntN(4)]
	end, err := m.newDisk("--close="+m.close, "--write-back-delay="+delay)
	defer func() { err = errors.Join(err, end()) }()
	if err != nil {
		return err
	}
	// Enough names fill a log of the journal, and the state of a rename several commits.
	m.alive[0].crowd = []int{60, 60, 60, 60, 60, 400, 400, 1200}[m.r.IntN(8)]
	if *powerCuts < 50 {
		m.alive[0].crowd = 60
	}
	if n > 1 && (m.life == 1 || m.r.IntN(2) == 0) {
		if err := m.cutTheFirstStart(); err != nil {
			return err
		}
		n--
	}
	if err := m.on(); err != nil {
		return err
	}
	for n > 0 {
		if err := m.work(); err != nil {
			return err
		}
		n--
		for again := n > 0 && (n == 2 || m.r.IntN(4) == 0); again; again = n > 0 && m.r.IntN(4) == 0 {
			if err := m.cutTheRecovery(); err != nil {
				return err
			}
			n--
		}
		if err := m.on(); err != nil {
			return err
		}
		if err := m.judge(); err != nil {
			return err
		}
	}
	if err := m.drain(); err != nil {
		return err
	}
	// Those of files that a cut has left interrupted wait for somebody to act.
	uploads, err := m.server.Uploads()
	for _, u := range uploads {
		if err == nil && strings.HasPrefix(u.Key, m.prefix()) {
			err = errors.Join(m.m.Kill9(), m.abort(u))
		}
	}
	return err
}

// on boots the machine and mounts.
func (m *machine) on() error {
	if err := m.d.On(); err != nil {
		return err
	}
	m.newBoot()
	if err := m.m.Start(m.soon()); err != nil {
		return err
	}
	for line := range strings.Lines(m.m.P.Err.String()) {
		if found := undoneWord.FindStringSubmatch(line); found != nil {
			n, _ := strconv.Atoi(found[1])
			m.tally.add(func() { m.tally.undone += n; m.tally.whole++ })
			m.say("went back to the horizon: %d keys undone", n)
		}
	}
	return nil
}

var undoneWord = regexp.MustCompile(`last state that was on the disk" undone=(\d+)`)

func (m *machine) newBoot() {
	m.boot++
	m.m.Boot = fmt.Sprintf("boot-%d-of-machine-%d-with-disk-%d", m.boot, m.lane, m.life)
}

// wentWrong tells what programs were told that they should not have been: which calls
// those were, what came before, and what the daemon asked OSS about these names.
func (m *machine) wentWrong(wrong []string, plans []*plan) error {
	var out []string
	for _, line := range wrong {
		out = append(out, line)
		var what string
		var program, at int
		if n, _ := fmt.Sscan(line, &what, &program, &at); n < 3 {
			continue
		}
		names := map[string]bool{}
		for i, s := range plans[program].steps[max(0, at-15) : at+1] {
			out = append(out, fmt.Sprintf("%4d %v", max(0, at-15)+i, s))
		}
		for _, name := range []string{plans[program].steps[at].A, plans[program].steps[at].B} {
			names[m.prefix()+name] = name != ""
		}
		for l := range strings.Lines(m.m.P.Err.String()) {
			for name, yes := range names {
				if yes && strings.Contains(l, name) {
					out = append(out, strings.TrimSpace(l))
				}
			}
		}
	}
	return fmt.Errorf("programs went wrong:\n%s", strings.Join(out, "\n"))
}

// cut kills what runs on a disk that is frozen, and takes the power.
func (m *machine) cut() error {
	m.m.P.Signal(syscall.SIGKILL)
	m.before += m.m.P.Err.String()
	info, err := m.d.Cut(m.soon(), m.r.Uint64())
	if err != nil {
		return err
	}
	if _, err := m.m.P.Wait(patience); err != nil {
		return err
	}
	m.say("cut %+v", info)
	m.tally.add(func() {
		m.tally.cuts++
		m.tally.sectors += info.Sectors
		m.tally.kept += info.Kept
		if m.tally.ways == nil {
			m.tally.ways = map[string]int{}
		}
		m.tally.ways[info.How]++
	})
	return m.sound()
}

func (m *machine) sound() error {
	out := m.m.P.Err.String()
	for _, bad := range []string{"DATA RACE", "panic:", "fatal error:", harness.Secret} {
		if strings.Contains(out, bad) {
			return fmt.Errorf("the daemon says %s:\n%s", bad, m.m.P.Err.Tail(100))
		}
	}
	return nil
}

// cutStart cuts the power while the daemon starts, before a write or a flush.
func (m *machine) cutStart(what string, when disk.When) (started bool, err error) {
	if err := m.d.On(); err != nil {
		return false, err
	}
	m.newBoot()
	ctx, cancel := context.WithCancel(m.soon())
	defer cancel()
	ended := make(chan error, 1)
	m.say("%s: cut at %+v", what, when)
	go func() { ended <- m.m.Start(ctx) }()
	err = m.d.FreezeAt(when)
	cancel()
	serr := <-ended
	if started = serr == nil; !started && !errors.Is(serr, context.Canceled) {
		return false, errors.Join(serr, err)
	}
	return started, errors.Join(err, m.cut())
}

// earlyOn is a moment in the first of so many writes or flushes of a start.
func (m *machine) earlyOn(writes, flushes int) disk.When {
	when := disk.When{N: 1 + m.r.IntN(writes), Within: 3 * time.Second}
	if m.r.IntN(2) == 0 {
		when.N, when.Flushes = 1+m.r.IntN(flushes), true
	}
	return when
}

func (m *machine) cutTheFirstStart() error {
	m.tally.add(func() { m.tally.atStart++ })
	_, err := m.cutStart("first start", m.earlyOn(40, 14))
	return err
}

func (m *machine) cutTheRecovery() error {
	m.tally.add(func() { m.tally.inRecovery++ })
	_, err := m.cutStart("recovery", m.earlyOn(60, 14))
	return err
}

// when draws the moment of a cut: at any time, or, since a disk is idle most of the time,
// at something that it is asked for.
func (m *machine) when() disk.When {
	switch m.r.IntN(3) {
	case 0:
		return disk.When{N: 1 + m.r.IntN(600), Within: 5 * time.Second}
	case 1:
		return disk.When{N: 1 + m.r.IntN(200), Flushes: true, Within: 5 * time.Second}
	}
	return disk.When{Within: time.Duration(1+m.r.IntN(2000)) * time.Millisecond}
}

// work lets the programs write until the power is cut, and notes what they may find
// after it.
func (m *machine) work() error {
	var plans []*plan
	var scripts [][]step
	calm := m.r.IntN(2) == 0
	for _, l := range m.alive {
		p := &plan{r: m.r, dir: l.dir, states: []state{l.now}, calm: calm}
		p.fill(400, l.crowd)
		plans, scripts = append(plans, p), append(scripts, p.steps)
	}
	frozen := make(chan error, 1)
	when := m.when()
	told, err := runPrograms(m.m.Point, scripts)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { frozen <- m.d.FreezeAt(when); cancel() }()
	var beside sync.WaitGroup
	waited := -1
	beside.Go(func() { m.writeBack(ctx, m.r.Uint64()) })
	if m.r.IntN(3) == 0 {
		after := time.Duration(m.r.IntN(500)) * time.Millisecond
		beside.Go(func() { waited = m.waitForOSS(ctx, told, after) })
	}
	err = <-frozen
	early := m.m.P.Ended()
	m.m.P.Signal(syscall.SIGKILL)
	m.say("the power goes off: %+v, calm %t", when, calm)
	err = errors.Join(err, m.cut())
	beside.Wait()
	events, wrong, terr := told.end()
	switch {
	case err != nil || terr != nil:
		return errors.Join(err, terr)
	case early:
		return errors.New("the daemon ended by itself")
	case len(wrong) > 0:
		return m.wentWrong(wrong, plans)
	}
	bucket, err := m.bucketNow()
	if err != nil {
		return err
	}
	m.past = &past{plans: plans, events: events, waited: waited, bucket: bucket}
	return nil
}
