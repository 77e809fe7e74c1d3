package integration

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

// writeBack is the kernel's flusher in a hurry: it has dirty pages written out while the
// programs run, in no order and without a flush of the disk, so that what nobody has
// synced is in the cache of the disk and not only in memory. At other times it never
// comes, so that nothing is there but what was synced.
func (m *machine) writeBack(ctx context.Context, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	tick := time.NewTicker([]time.Duration{3 * time.Millisecond, 50 * time.Millisecond, time.Hour}[r.IntN(3)])
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		dir := filepath.Join(m.m.Cache, "journal", "db")
		if r.IntN(2) == 0 {
			dir = filepath.Join(m.m.Cache, "contents", fmt.Sprintf("%02x", r.IntN(256)))
		}
		names, _ := os.ReadDir(dir)
		for _, d := range names {
			fd, err := unix.Open(filepath.Join(dir, d.Name()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				continue // it is gone
			}
			unix.SyncFileRange(fd, 0, 0, unix.SYNC_FILE_RANGE_WRITE)
			unix.Close(fd)
		}
	}
}

// waitForOSS waits until all is on OSS, and returns how much the programs had said
// before; -1 if the power was off first.
func (m *machine) waitForOSS(ctx context.Context, t *told, after time.Duration) int {
	select {
	case <-ctx.Done():
		return -1
	case <-time.After(after):
	}
	before := t.now()
	if r, err := m.m.Run(ctx, "wait", m.m.Point, "--timeout=10s"); err != nil || r.Code != 0 {
		return -1
	}
	return before
}

// bucketNow is the sums of all objects of this disk's mount, by name.
func (m *machine) bucketNow() (map[string]string, error) {
	b, err := m.server.Client()
	if err != nil {
		return nil, err
	}
	now := map[string]string{}
	for token := ""; ; {
		page, err := b.ListObjectsV2(oss.Prefix(m.prefix()), oss.MaxKeys(1000), oss.ContinuationToken(token))
		if err != nil {
			return nil, err
		}
		for _, o := range page.Objects {
			sum, err := m.sumOf(b, o.Key, o.ETag)
			if err != nil {
				return nil, fmt.Errorf("object %s: %w", o.Key, err)
			}
			if name := strings.TrimPrefix(o.Key, m.prefix()); name != "" {
				now[name] = sum
			}
		}
		if token = page.NextContinuationToken; !page.IsTruncated {
			return now, nil
		}
	}
}

func (m *machine) sumOf(b *oss.Bucket, key, etag string) (string, error) {
	if sum, ok := m.sums[key+etag]; ok {
		return sum, nil
	}
	body, err := b.GetObject(key)
	if err != nil {
		return "", err
	}
	defer body.Close()
	sum, err := harness.Sum(body)
	m.sums[key+etag] = sum
	return sum, err
}

// moment is one program at one moment: how many of its states have been.
type moment struct {
	plan    *plan
	life    *life
	begun   []int // of each step, when it began among all that was said
	done    []int // when it had returned; -1: never
	least   int   // state that was promised
	fits    []int // states that the mount shows, the newest last
	waited  int   // state that OSS must have
	promise string
}

// last is the newest state that may have been reached.
func (mo *moment) last() int { return min(2*len(mo.begun), len(mo.plan.states)-1) }

// judge compares what is there after a cut with all that may be.
func (m *machine) judge() error {
	all, moments, err := m.fit()
	if err != nil {
		return err
	}
	for _, mo := range moments {
		m.goOn(mo, all)
	}
	if m.past != nil {
		if err := m.compareBucket(m.past.bucket); err != nil {
			return err
		}
	}
	m.past = nil
	if err := m.countLost(); err != nil {
		return err
	}
	if m.r.IntN(3) == 0 {
		return m.drain()
	}
	return nil
}

// fit finds the moments that the mount shows, and fails if it shows none.
func (m *machine) fit() (map[string]*seen, []*moment, error) {
	all, err := look(m.m.Point)
	if err != nil {
		m.tally.add(func() { m.tally.missing++ })
		var at *os.PathError
		if errors.As(err, &at) {
			if name, err := filepath.Rel(m.m.Point, at.Path); err == nil {
				dir, _, _ := strings.Cut(name, "/")
				return nil, nil, fmt.Errorf("%w\n%s", at, m.autopsy(dir, []string{name + ":"}))
			}
		}
		return nil, nil, err
	}
	moments := m.moments()
	for _, mo := range moments {
		for i := mo.least; i <= mo.last(); i++ {
			if len(mo.plan.states[i].differs(mo.life.dir, all)) == 0 {
				mo.fits = append(mo.fits, i)
			}
		}
		if len(mo.fits) == 0 {
			return nil, nil, m.nothingFits(mo, all)
		}
	}
	for name := range all {
		dir, _, _ := strings.Cut(name, "/")
		if !slices.ContainsFunc(m.alive, func(l *life) bool { return l.dir == dir }) {
			return nil, nil, fmt.Errorf("%s: nobody has made that", name)
		}
	}
	return all, moments, oneMoment(moments)
}

// moments takes what was said apart: when each step began and returned, and what was
// promised by the last call whose promise a cut must keep.
func (m *machine) moments() (all []*moment) {
	if m.past == nil {
		for _, l := range m.alive {
			all = append(all, &moment{life: l, plan: &plan{dir: l.dir, states: []state{l.now}}, waited: -1})
		}
		return all
	}
	for i, l := range m.alive {
		all = append(all, &moment{life: l, plan: m.past.plans[i], waited: -1})
	}
	returned := make([]int, len(all)) // steps of each program
	for at, e := range m.past.events {
		mo := all[e.program]
		if e.begins {
			mo.begun, mo.done = append(mo.begun, at), append(mo.done, -1)
			continue
		}
		mo.done[e.step] = at
		returned[e.program] = e.step + 1
		m.tally.add(func() { m.tally.steps++ })
		if mo.plan.steps[e.step].durable(m.close) {
			m.tally.add(func() { m.tally.durable++ })
			promise := fmt.Sprintf("%s of %s", mo.plan.steps[e.step].Op, mo.life.dir)
			for _, other := range all {
				other.atLeast(mo.begun[e.step], promise)
			}
			mo.least = max(mo.least, 2*returned[e.program])
		}
	}
	if m.past.waited >= 0 {
		for _, mo := range all {
			mo.atLeast(m.past.waited, "wait")
			mo.waited = mo.returnedBefore(m.past.waited)
		}
	}
	return all
}

func (mo *moment) returnedBefore(at int) (i int) {
	for k, done := range mo.done {
		if done >= 0 && done < at {
			i = 2*k + 2
		}
	}
	return i
}

// atLeast notes that all that had returned before the moment at is promised.
func (mo *moment) atLeast(at int, promise string) {
	if i := mo.returnedBefore(at); i > mo.least {
		mo.least, mo.promise = i, promise
	}
}

// oneMoment leaves in fits, as the last, states that all were at one time: none has a
// step that began after another had returned which another program does not have.
func oneMoment(all []*moment) error {
	for again := true; again; {
		again = false
		for _, a := range all {
			for _, b := range all {
				for a != b && a.isAheadOf(b) {
					if a.fits = a.fits[:len(a.fits)-1]; len(a.fits) == 0 {
						return fmt.Errorf("%s has a change that was begun after one of %s had returned, which is gone\n%s\n%s", a.life.dir, b.life.dir, a.tell(), b.tell())
					}
					again = true
				}
			}
		}
	}
	return nil
}

func (mo *moment) state() int { return mo.fits[len(mo.fits)-1] }

func (mo *moment) isAheadOf(other *moment) bool {
	have, lack := mo.state()/2, other.state()/2 // steps that are there wholly; the first that is not
	return have > 0 && lack < len(other.done) && other.done[lack] >= 0 && other.done[lack] < mo.begun[have-1]
}

// nothingFits tells how far what is there is from the nearest of what may be.
func (m *machine) nothingFits(mo *moment, all map[string]*seen) error {
	best, at := []string(nil), -1
	for i := mo.least; i <= mo.last(); i++ {
		if lines := mo.plan.states[i].differs(mo.life.dir, all); at < 0 || len(lines) < len(best) {
			best, at = lines, i
		}
	}
	m.tally.add(func() { m.tally.missing += len(best) })
	// An earlier state that fits says how much has been lost.
	earlier := "and it is at no earlier state"
	for i := mo.least - 1; i >= 0; i-- {
		if len(mo.plan.states[i].differs(mo.life.dir, all)) == 0 {
			earlier = fmt.Sprintf("and it is as it was after step %d", (i-1)/2)
			break
		}
	}
	return fmt.Errorf("what %s holds is at no moment from %d (promised) to %d; nearest is %d, %s:\n%s\n%s\n%s", mo.life.dir, mo.least, mo.last(), at, earlier,
		strings.Join(best, "\n"), m.autopsy(mo.life.dir, best), mo.tell())
}

// autopsy tells what can be found out about names that are not as they should be.
func (m *machine) autopsy(dir string, lines []string) string {
	var out []string
	if *powerKeep != "" {
		err := os.CopyFS(filepath.Join(*powerKeep, m.prefix()), os.DirFS(filepath.Join(m.m.Cache, "journal")))
		out = append(out, fmt.Sprintf("the journal is kept: %v", err))
	}
	for _, line := range lines[:min(len(lines), 3)] {
		name, _, _ := strings.Cut(line, ":")
		path := filepath.Join(m.m.Point, name)
		value := make([]byte, 1000)
		n, err := unix.Lgetxattr(path, "user.ossmount.state", value)
		info, serr := os.Lstat(path)
		b, rerr := os.ReadFile(path)
		out = append(out, fmt.Sprintf("%s is %s (%v) now: %+v (%v); it reads as %d bytes (%v)", name, value[:max(n, 0)], err, info, serr, len(b), rerr))
		if b, err := m.server.Client(); err == nil {
			h, err := b.GetObjectDetailedMeta(m.prefix() + name)
			out = append(out, fmt.Sprintf("on OSS: %v, %v", h, err))
		}
	}
	contents, err := harness.Run(context.Background(), nil, "find", m.m.Cache, "-type", "f", "-not", "-path", "*/journal/*", "-printf", "%P %s, ")
	out = append(out, fmt.Sprintf("in the cache directory, with sizes: %s %v", contents.Out, err))
	for l := range strings.Lines(m.before + m.m.P.Err.String()) {
		if strings.Contains(l, m.prefix()+dir+"/") || strings.Contains(l, "the machine was off") {
			out = append(out, strings.TrimSpace(l))
		}
	}
	out = out[max(0, len(out)-300):]
	return strings.Join(out, "\n")
}

// tell tells the last steps.
func (mo *moment) tell() string {
	var steps []string
	for i := range mo.begun {
		note := ""
		switch {
		case mo.done[i] < 0:
			note = ", had not returned"
		case 2*i+2 == mo.least:
			note = ", promised by " + mo.promise
		}
		steps = append(steps, fmt.Sprintf("%4d (%d to %d%s) %v", i, mo.begun[i], mo.done[i], note, mo.plan.steps[i]))
	}
	return fmt.Sprintf("%s is at %v; its last steps:\n%s", mo.life.dir, mo.fits, strings.Join(steps[max(0, len(steps)-60):], "\n"))
}

// goOn makes what was found the program's past.
func (m *machine) goOn(mo *moment, all map[string]*seen) {
	l, k := mo.life, mo.state()
	then, now := mo.plan.states[min(mo.least, k)], mo.plan.states[k]
	m.tally.add(func() {
		for name, it := range now {
			if it.kind != 0 || it.maybe && all[name] == nil {
				continue
			}
			m.tally.files++
			if old := then[name]; old != nil && old.data == it.data {
				m.tally.promised++
			}
			if all[name].interrupted && !it.left {
				m.tally.interrupted++
			}
		}
	})
	for i := 0; i <= k; i++ {
		l.note(mo.plan.states[i])
		if i == mo.waited {
			for _, v := range l.keys {
				v.kept = len(v.all) - 1
			}
		}
	}
	if m.past != nil {
		m.say("%s goes on from state %d of %d to %d; %v", l.dir, k, mo.least, mo.last(), mo.fits)
	}
	l.now = now.found(all)
	l.note(l.now) // what may have been there is not
}

// object is under which key a name is on OSS, and the sum of its bytes.
func (it *item) object(name string) (key, sum string) {
	if it.kind == fs.ModeDir {
		return name + "/", sumOfNothing
	}
	return name, it.data.sum
}

var sumOfNothing = newBlob(nil).sum

// note adds a state to what the keys have held.
func (l *life) note(s state) {
	there := map[string]bool{}
	for name, it := range s {
		key, sum := it.object(name)
		there[key] = true
		v := l.keys[key]
		if v == nil {
			v = &versions{all: []string{""}}
			l.keys[key] = v
		}
		if !it.left && v.all[len(v.all)-1] != sum {
			v.all = append(v.all, sum)
		}
	}
	for key, v := range l.keys {
		if !there[key] && v.all[len(v.all)-1] != "" {
			v.all = append(v.all, "")
		}
	}
}

// compareBucket compares what was on OSS at the cut: each object a version that was
// finished, of a state that the mount has gone on from, and none older than before.
func (m *machine) compareBucket(bucket map[string]string) error {
	var wrong []error
	known := map[string]bool{}
	for _, l := range m.alive {
		for key, v := range l.keys {
			known[key] = true
			if err := m.compareKey(key, v, bucket[key]); err != nil {
				wrong = append(wrong, err)
			}
		}
	}
	for key := range bucket {
		if !known[key] && !strings.HasPrefix(key, ".ossmount/") {
			m.tally.add(func() { m.tally.ahead++ })
			wrong = append(wrong, fmt.Errorf("%s is on OSS, and the mount does not go on from a state that had it", key))
		}
	}
	return errors.Join(wrong...)
}

func (m *machine) compareKey(key string, v *versions, sum string) error {
	m.tally.add(func() { m.tally.objects++ })
	v.at = max(v.at, v.kept)
	for i := v.at; i < len(v.all); i++ {
		if v.all[i] == sum {
			v.at = i
			return nil
		}
	}
	if i := slices.Index(v.all, sum); i >= 0 {
		m.tally.add(func() { m.tally.ahead++ })
		return fmt.Errorf("%s is version %d on OSS, and was version %d before (of %d)", key, i, v.at, len(v.all)-1)
	}
	for _, p := range m.past.plansOrNone() {
		for _, s := range p.states {
			for name, it := range s {
				if k, later := it.object(name); k == key && later == sum {
					m.tally.add(func() { m.tally.ahead++ })
					return fmt.Errorf("%s is on OSS as %s made it, and the mount goes on from a state before that", key, it.made)
				}
			}
		}
	}
	m.tally.add(func() { m.tally.torn++ })
	return fmt.Errorf("%s is on OSS with bytes that no program has finished: %q", key, sum)
}

func (p *past) plansOrNone() []*plan {
	if p == nil {
		return nil
	}
	return p.plans
}

// countLost compares what status tells of lost+found with what is there.
func (m *machine) countLost() error {
	s, err := m.m.Status()
	if err != nil {
		return err
	}
	if s.Queue.Damaged != "" || s.Queue.Parked > 0 {
		return fmt.Errorf("after a cut something is parked or damaged: %+v", s.Queue)
	}
	names, err := os.ReadDir(filepath.Join(m.m.Cache, "lost+found"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	names = slices.DeleteFunc(names, func(d os.DirEntry) bool { return strings.Contains(d.Name(), ".") })
	if len(names) != len(s.LostAndFound) {
		return fmt.Errorf("%d contents are in lost+found, and status tells of %d", len(names), len(s.LostAndFound))
	}
	left := 0
	for _, l := range m.alive {
		for _, it := range l.now {
			if it.left {
				left++
			}
		}
	}
	if left != s.Queue.Interrupted {
		return fmt.Errorf("%d files are interrupted, and status tells of %d", left, s.Queue.Interrupted)
	}
	tables, err := filepath.Glob(filepath.Join(m.m.Cache, "journal", "db", "*.sst"))
	if err != nil {
		return err
	}
	m.tally.add(func() {
		m.tally.lost += len(names) - m.lost
		m.tally.tables = max(m.tally.tables, len(tables))
	})
	m.lost = len(names)
	return nil
}

// tellUploads tells what OSS was asked about uploads.
func (m *machine) tellUploads(all []harness.Upload) {
	log, _ := m.server.Log()
	for _, r := range log {
		if slices.ContainsFunc(all, func(u harness.Upload) bool { return r.UploadID == u.UploadID || r.Key == u.Key && r.UploadID == "" }) {
			m.say("OSS at %s: %s part %d of %s %s: %d %s", r.Time.Format("05.000"), r.Op, r.Part, r.Key, r.UploadID, r.Status, r.Code)
		}
	}
}

// drain waits until all is on OSS and compares it with what the mount shows.
func (m *machine) drain() error {
	r, err := m.m.Wait(m.m.Point, 2*time.Minute)
	if err != nil {
		return err
	}
	left := map[string]bool{} // whose uploads go on when somebody has closed them
	for _, l := range m.alive {
		for name, it := range l.now {
			if it.left {
				left[m.prefix()+name] = true
			}
		}
	}
	if r.Code != 0 && (r.Code != 4 || len(left) == 0) {
		s, _ := m.m.Status()
		return fmt.Errorf("wait: %v\n%+v", r, s.Queue)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var bucket map[string]string
	var uploads []harness.Upload
	if err := harness.Poll(ctx, "hidden copies and uploads are gone", func() (bool, error) {
		if bucket, err = m.bucketNow(); err != nil {
			return false, err
		}
		uploads, err = m.server.Uploads()
		uploads = slices.DeleteFunc(uploads, func(u harness.Upload) bool { return !strings.HasPrefix(u.Key, m.prefix()) || left[u.Key] })
		return len(uploads) == 0 && !slices.ContainsFunc(slices.Collect(maps.Keys(bucket)), func(key string) bool { return strings.HasPrefix(key, ".ossmount/") }), err
	}); err != nil {
		s, _ := m.m.Status()
		m.tellUploads(uploads)
		return fmt.Errorf("%w: %+v; debts %d, doubts %d, left %v", err, uploads, s.Queue.Debts, s.Queue.Doubts, left)
	}
	if err := m.compareBucket(bucket); err != nil {
		return fmt.Errorf("after a drain: %w", err)
	}
	if len(left) > 0 {
		return nil
	}
	var wrong []error
	for _, l := range m.alive {
		for key, v := range l.keys {
			if want := v.all[len(v.all)-1]; bucket[key] != want {
				m.tally.add(func() { m.tally.missing++ })
				wrong = append(wrong, fmt.Errorf("after a drain %s has %.12q on OSS and %.12q in the mount", key, bucket[key], want))
			}
			v.at = len(v.all) - 1
		}
	}
	m.say("drained: %d objects", len(bucket))
	return errors.Join(wrong...)
}
