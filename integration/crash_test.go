package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

var crashEvery = flag.Bool("crash.every", false, "crash at each passing of each point in each case, and at each point of the start after it, not at some of them")

// crashCase is something that a program does while the daemon dies. was are the
// objects before; done says what they are after act has returned without error,
// and before that they are one or the other, or one of half.
type crashCase struct {
	name  string
	was   map[string]string
	act   func(dir string) error
	done  map[string]string
	half  []map[string]string // what act may have come to that has not returned
	sent  int64               // bytes of bodies that may be sent in all, with what a crash repeats
	flags []string
}

// notCrashed are the points that no case passes, and why.
var notCrashed = map[string]string{
	"some of a batch committed":           "thousands of rows: TestCrashWithinABatch, TestRenameOfADirectorySurvivesSIGKILLAtAnyMoment",
	"what was sent ahead given up":        "not passed where the program is faster than the sender",
	"found marked, not moved":             "recover publish: TestCrashWhileFoundBytesArePublished",
	"found moved, its witness not":        "the same",
	"found moved, not committed":          "the same",
	"journal moved aside, none begun":     "a damaged journal",
	"rebuilt row lost, content not moved": "journals that are gone: TestCrashWhileAJournalIsRebuilt",
}

const (
	crashPart  = 256 << 10
	crashParts = 4 // under way at once
)

func crashCases() []crashCase {
	big := strings.Repeat("0123456789abcdef", 2*mebi/16)
	var offs []int64
	many := []byte(big)
	for off := int64(5); off < int64(len(big)); off += 3500 { // their ranges do not fit an attribute
		offs, many[off] = append(offs, off), 'X'
	}
	tree := func(at string) map[string]string {
		m := map[string]string{}
		for i := range 20 {
			m[fmt.Sprintf("%s/sub%d/f%d", at, i%3, i)] = fmt.Sprint("text ", i)
		}
		return m
	}
	mode := func(dir string) error { return os.Chmod(dir+"/f", 0o600) }
	return []crashCase{
		{name: "new small file", act: write("f", "small"), done: map[string]string{"f": "small"}, sent: 64},
		{name: "new big file", act: write("f", big), done: map[string]string{"f": big}, sent: 2*mebi + 2*crashParts*crashPart},
		{name: "small file replaced", was: map[string]string{"f": "old"}, act: write("f", "new one"), done: map[string]string{"f": "new one"}, sent: 64},
		{name: "big object changed", was: map[string]string{"f": big}, done: map[string]string{"f": big[:mebi] + "XXXX" + big[mebi+4:] + "YYYY"},
			act: func(dir string) error {
				if err := patched("XXXX", mebi)(dir + "/f"); err != nil {
					return err
				}
				return appended("YYYY")(dir + "/f")
			}, half: []map[string]string{{"f": big[:mebi] + "XXXX" + big[mebi+4:]}}, sent: 4 * 110 << 10},
		{name: "big object changed in many places", was: map[string]string{"f": big}, done: map[string]string{"f": string(many)},
			act: func(dir string) error { return patched("X", offs...)(dir + "/f") }, sent: 3*mebi + 2*crashParts*crashPart},
		{name: "file sent while it is written", act: write("f", big), done: map[string]string{"f": big}, sent: 2*mebi + 2*crashParts*crashPart,
			flags: []string{"--eager=on", "--eager-skip=*.tmp"}},
		{name: "file sent while it is written, and renamed", act: renamedOpen(big), done: map[string]string{"g": big}, sent: 4*mebi + 4*crashParts*crashPart,
			flags: []string{"--eager=on", "--eager-skip=*.tmp"}},
		{name: "big object shortened", was: map[string]string{"f": big}, done: map[string]string{"f": big[:mebi+9]}, sent: 2*110<<10 + crashParts*crashPart,
			act: func(dir string) error { return os.Truncate(dir+"/f", mebi+9) }},
		{name: "pending file appended to", done: map[string]string{"f": "one, two"}, half: []map[string]string{{"f": "one, "}}, sent: 64,
			act: then(write("f", "one, "), func(dir string) error { return appended("two")(dir + "/f") })},
		{name: "pending file written anew", done: map[string]string{"f": "two"}, half: []map[string]string{{"f": "one"}}, sent: 64,
			act: then(write("f", "one"), write("f", "two"))},
		{name: "deleted while it is uploaded", done: map[string]string{}, half: []map[string]string{{"f": big}},
			act: then(write("f", big), func(dir string) error { return os.Remove(dir + "/f") })},
		{name: "directory and symlink made", done: map[string]string{"d/l": "../f"}, sent: 64,
			act: func(dir string) error { return errors.Join(os.Mkdir(dir+"/d", 0o755), os.Symlink("../f", dir+"/d/l")) }},
		{name: "file renamed", was: map[string]string{"f": big, "g": "replaced"}, done: map[string]string{"g": big},
			act: func(dir string) error { return os.Rename(dir+"/f", dir+"/g") }},
		{name: "saved by way of a temporary name", was: map[string]string{"f": "old"}, done: map[string]string{"f": "new one"}, sent: 64,
			half: []map[string]string{{"f": "old", ".f.tmp": "new one"}},
			act: func(dir string) error {
				if err := write(".f.tmp", "new one")(dir); err != nil {
					return err
				}
				return os.Rename(dir+"/.f.tmp", dir+"/f")
			}},
		{name: "directory renamed", was: tree("a"), done: tree("b"), act: func(dir string) error { return os.Rename(dir+"/a", dir+"/b") }},
		{name: "names exchanged", was: map[string]string{"f": "one", "g": "two"}, done: map[string]string{"f": "two", "g": "one"}, sent: 64,
			act: func(dir string) error {
				return unix.Renameat2(unix.AT_FDCWD, dir+"/f", unix.AT_FDCWD, dir+"/g", unix.RENAME_EXCHANGE)
			}},
		{name: "names swapped by three renames", was: map[string]string{"f": "one", "g": "two"}, done: map[string]string{"f": "two", "g": "one"}, sent: 64,
			half: []map[string]string{{"t": "one", "g": "two"}, {"t": "one", "f": "two"}}, act: swapped},
		{name: "big ones swapped, with little room", was: map[string]string{"f": big, "g": big[7:]}, done: map[string]string{"f": big[7:], "g": big}, sent: 64,
			half: []map[string]string{{"t": big, "g": big[7:]}, {"t": big, "f": big[7:]}}, act: swapped,
			flags: []string{"--cache-size=1MiB", "--write-back-delay=2s"}}, // else a busy machine carries the first rename before the last
		{name: "deleted", was: map[string]string{"f": "old"}, done: map[string]string{}, act: func(dir string) error { return os.Remove(dir + "/f") }},
		{name: "attributes changed", was: map[string]string{"f": "text"}, done: map[string]string{"f": "text"}, act: mode},
	}
}

func then(all ...func(dir string) error) func(dir string) error {
	return func(dir string) error {
		for _, f := range all {
			if err := f(dir); err != nil {
				return err
			}
		}
		return nil
	}
}

// renamedOpen writes a file that gets another name before it is closed.
func renamedOpen(text string) func(dir string) error {
	return func(dir string) error {
		f, err := os.Create(dir + "/f")
		if err != nil {
			return err
		}
		for at := 0; at < len(text) && err == nil; at += crashPart {
			_, err = f.WriteString(text[at:min(at+crashPart, len(text))])
		}
		if err == nil {
			err = os.Rename(dir+"/f", dir+"/g")
		}
		return errors.Join(err, f.Close())
	}
}

func swapped(dir string) error {
	for _, r := range [][2]string{{"f", "t"}, {"g", "f"}, {"t", "g"}} {
		if err := os.Rename(dir+"/"+r[0], dir+"/"+r[1]); err != nil {
			return err
		}
	}
	return nil
}

func write(name, text string) func(dir string) error {
	return func(dir string) error {
		f, err := os.OpenFile(dir+"/"+name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
		if err != nil {
			return err
		}
		if _, err := f.WriteString(text); err != nil {
			f.Close()
			return err
		}
		return f.Close()
	}
}

// TestCrashAtEveryPoint plays each case once to learn which points it passes, and
// then again for each of them, with a daemon that dies there. The next mount
// carries on: what had been acknowledged is on OSS, and nothing else but what was
// there before; no upload, and nothing hidden, is left. In a second round the next
// mount dies, too, at a point that it passes, and the one after it carries on; some
// of them believe in a power cut between, and undo what the horizon does not cover.
func TestCrashAtEveryPoint(t *testing.T) {
	t.Parallel()
	e := setup(t)
	bin, err := harness.Build(context.Background(), e.dir, "crash")
	e.ok(err)
	w := &crashWalk{env: e, bin: bin, seen: map[string]bool{}, again: map[string]crashPlay{}}
	var first []crashPlay
	met := map[string]int{}
	for i, c := range crashCases() {
		points, err := w.learn(c)
		e.ok(err)
		for k, point := range points.names() {
			if met[point]++; met[point]%3 != 1 && !*crashEvery {
				continue // in the short form not in every case
			}
			some := points.passings(point)
			if turn := (i + k) % len(some); !*crashEvery {
				some = some[turn : turn+1]
			}
			for _, n := range some {
				first = append(first, crashPlay{c: c, point: point, n: n, cut: (i+k+n)%4 == 0})
			}
		}
	}
	w.all(first)
	second := slices.Collect(maps.Values(w.again))
	w.all(second)
	for point := range crashPoints(t) {
		if !w.seen[point] && notCrashed[point] == "" {
			t.Errorf("no case passes the point %q", point)
		}
	}
	t.Logf("%d cases, %d crashes at %d points, %d times again at one of %d points of the start after it",
		len(crashCases()), len(first)+len(second), len(w.seen), len(second), len(w.recovery))
}

// crashPoints are the points that stand in the code.
func crashPoints(t *testing.T) map[string]bool {
	found := map[string]bool{}
	at := regexp.MustCompile(`crash\.At\("([^"]*)"\)`)
	for _, room := range []string{"cache", "journal", "writeback", "fs", "cmd/ossmount"} {
		files, err := filepath.Glob("../" + room + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatal(room, err)
		}
		for _, path := range files {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range at.FindAllStringSubmatch(string(b), -1) {
				found[m[1]] = true
			}
		}
	}
	return found
}

// crashPlay is one history: the daemon dies at the n-th passing of a point; with
// cut the machine has been off before the next mount; that dies, too, if a point
// is named for it.
type crashPlay struct {
	c      crashCase
	point  string
	n      int
	cut    bool
	second string
}

func (p crashPlay) String() string {
	s := fmt.Sprintf("%s, killed at %q for the %d. time", p.c.name, p.point, p.n)
	if p.cut {
		s += ", the machine off meanwhile"
	}
	if p.second != "" {
		s += fmt.Sprintf(", killed again at %q", p.second)
	}
	return s
}

type crashWalk struct {
	*env
	bin string

	mu       sync.Mutex
	n        int
	seen     map[string]bool      // points that were passed
	recovery map[string]bool      // those that a second start has passed before it served
	again    map[string]crashPlay // plays of the second round
}

// all plays some histories, several at once.
func (w *crashWalk) all(plays []crashPlay) {
	var g errgroup.Group
	g.SetLimit(2 * runtime.NumCPU())
	for _, p := range plays {
		g.Go(func() error {
			if err := w.play(p); err != nil {
				w.Error(err)
			}
			return nil
		})
	}
	w.ok(g.Wait())
}

// passed takes note of what the mount after the crash of p has passed, until it
// served and in all: it is to be killed there, too. In the short form that is done
// once at each of the points before it served; else at each point in each case, and
// at those before it served also with the machine off in between.
func (w *crashWalk) passed(p crashPlay, serving, all points) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.recovery == nil {
		w.recovery = map[string]bool{}
	}
	add := func(id, point string) {
		if _, ok := w.again[id]; !ok {
			next := p
			next.second = point
			w.again[id] = next
		}
	}
	for point := range serving {
		w.recovery[point], w.seen[point] = true, true
		add(point, point)
		if *crashEvery {
			add(fmt.Sprint(point, p.cut, p.c.name), point)
		}
	}
	for point := range all {
		w.seen[point] = true
		if *crashEvery {
			add(fmt.Sprint(point, p.c.name), point)
		}
	}
}

// points counts how often each was passed.
type points map[string]int

func pointsIn(path string) (points, error) {
	b, err := os.ReadFile(path)
	p := points{}
	for line := range strings.Lines(string(b)) {
		p[strings.TrimSpace(line)]++
	}
	return p, err
}

func (p points) names() []string { return slices.Sorted(maps.Keys(p)) }

// passings are those that a walk crashes at: all, or in the short form the first,
// the last, and one in the middle.
func (p points) passings(name string) []int {
	n := p[name]
	if *crashEvery {
		all := make([]int, n)
		for i := range all {
			all[i] = i + 1
		}
		return all
	}
	return slices.Compact([]int{1, (n + 1) / 2, n})
}

// crashRun is one mount of a prefix of its own.
type crashRun struct {
	w      *crashWalk
	prefix string
	given  int64 // bytes of the objects before
	m      *harness.Mount
}

func (w *crashWalk) begin(c crashCase) (*crashRun, error) {
	w.mu.Lock()
	w.n++
	prefix := fmt.Sprint("run", w.n)
	w.mu.Unlock()
	for key, text := range c.was {
		if err := w.bucket().PutObject(prefix+"/"+key, strings.NewReader(text)); err != nil {
			return nil, err
		}
	}
	r := &crashRun{w: w, prefix: prefix, m: &harness.Mount{Bin: w.bin, Source: "oss://" + harness.Bucket + "/" + prefix,
		Point: w.path(prefix + "-mnt"), Cache: w.path(prefix + "-cache"),
		Flags: []string{"--endpoint=" + w.server.URL, "--region=" + harness.Region, "--write-back-delay=10ms", "--doubt=500ms",
			"--part-size=256KiB", "--eager-skip=.*", "--multipart-threshold=512KiB", fmt.Sprint("--upload-concurrency=", crashParts)}}}
	r.m.Flags = append(r.m.Flags, c.flags...)
	for _, text := range c.was {
		r.given += int64(len(text))
	}
	return r, os.Mkdir(r.m.Point, 0o755)
}

// act does what c is about. No other test forks meanwhile: a child closes its copy of
// the descriptor, which is a close of half a file.
func (r *crashRun) act(c crashCase) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return c.act(r.m.Point)
}

func (r *crashRun) end() { r.m.Destroy() }

// learn plays a case without a crash.
func (w *crashWalk) learn(c crashCase) (points, error) {
	r, err := w.begin(c)
	if err != nil {
		return nil, err
	}
	defer r.end()
	log := w.path(r.prefix + "-points")
	r.m.Env = append(harness.Credentials(), "OSSMOUNT_CRASH_LOG="+log)
	if err := r.m.Start(w.soon()); err != nil {
		return nil, err
	}
	if err := r.act(c); err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	if err := r.drain(); err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	if err := r.compare(c.done); err != nil {
		return nil, fmt.Errorf("%s, without a crash: %w", c.name, err)
	}
	p, err := pointsIn(log)
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range p {
		w.seen[name] = true
	}
	return p, err
}

// drain unmounts when all is on OSS.
func (r *crashRun) drain() error {
	// The kernel tells late that a file was closed: the mount may be busy still.
	return harness.Poll(r.w.soon(), "all is on OSS", func() (bool, error) {
		res, err := r.m.Umount(r.w.soon(), "--drain=30s")
		if err == nil && res.Code != 0 && res.Code != 1 && res.Code != 4 {
			err = fmt.Errorf("umount: %v", res)
		}
		return res.Code != 1, err
	})
}

// play plays one history.
func (w *crashWalk) play(p crashPlay) error {
	c := p.c
	r, err := w.begin(c)
	if err != nil {
		return err
	}
	defer r.end()
	failed := func(err error) error {
		return fmt.Errorf("%s: %w\nthe daemon said last:\n%s", p, err, r.m.P.Err.Tail(20))
	}
	r.m.Env = append(harness.Credentials(), fmt.Sprintf("OSSMOUNT_CRASH=%s:%d", p.point, p.n))
	acted := fmt.Errorf("not tried")
	if err := r.m.Start(w.soon()); err == nil {
		acted = r.act(c)
		// It dies now, later, or, where the order of things was another, never.
		if err := r.ends(); err != nil {
			return failed(err)
		}
	}
	env := harness.Credentials()
	if p.cut {
		env = append(env, "OSSMOUNT_BOOT=another")
	}
	if p.second != "" {
		r.m.Env = append(env, fmt.Sprintf("OSSMOUNT_CRASH=%s:1", p.second))
		err := r.m.Start(w.soon())
		if err == nil {
			err = r.ends()
		} else if _, gone := r.m.P.Wait(time.Second); gone == nil {
			err = nil // it died before it served
		}
		if err != nil {
			return failed(fmt.Errorf("the mount after the crash: %w", err))
		}
	}
	log := w.path(r.prefix + "-points")
	r.m.Env = append(env, "OSSMOUNT_CRASH_LOG="+log)
	if err := r.m.Start(w.soon()); err != nil {
		return failed(fmt.Errorf("the next mount: %w", err))
	}
	serving, err := pointsIn(log)
	if err != nil {
		return failed(err)
	}
	if err := r.drain(); err != nil {
		return failed(err)
	}
	err = r.compare(c.done)
	// What a call has not returned from, or the horizon did not cover before the
	// machine was off, may be or not be, but wholly.
	if may := acted != nil || p.cut; err != nil && may {
		for _, was := range append(c.half, c.was) {
			if r.compare(was) == nil {
				err = nil
				break
			}
		}
	}
	if err == nil {
		err = r.nothingLeft()
	}
	if err == nil && c.sent > 0 {
		most := c.sent
		if p.cut { // the journal has forgotten the last second
			most += c.sent
		}
		if p.second != "" { // what was in flight is sent once more
			most += min(c.sent, crashParts*crashPart)
		}
		err = r.sentAtMost(most)
	}
	if err != nil {
		return failed(fmt.Errorf("%w (the call said: %v)", err, acted))
	}
	if p.second == "" {
		all, err := pointsIn(log)
		if err != nil {
			return failed(err)
		}
		w.passed(p, serving, all)
	}
	return nil
}

// ends has the daemon end, if it is not dead yet.
func (r *crashRun) ends() error {
	if !r.m.P.Ended() {
		if res, err := r.m.Umount(r.w.soon(), "--drain=5s"); err == nil && (res.Code == 0 || res.Code == 3 || res.Code == 4) {
			r.m.P.Wait(20 * time.Second)
		}
	}
	if r.m.P.Ended() {
		return nil
	}
	return r.m.Kill9()
}

// compare says how the bucket differs from what it should hold.
func (r *crashRun) compare(want map[string]string) error {
	keys, err := r.w.server.Keys(r.prefix + "/")
	if err != nil {
		return err
	}
	left := map[string]bool{}
	for name := range want {
		left[name] = true
	}
	for _, key := range keys {
		name := strings.TrimPrefix(key, r.prefix+"/")
		if name == "" || strings.HasSuffix(name, "/") {
			continue
		}
		text, ok := want[name]
		if !ok {
			return fmt.Errorf("%q is there", name)
		}
		sum, size, err := r.w.server.ObjectSum(key)
		if err != nil {
			return err
		}
		if s, _ := harness.Sum(strings.NewReader(text)); s != sum {
			return fmt.Errorf("%q has %d bytes, and not the %d that it should", name, size, len(text))
		}
		delete(left, name)
	}
	for name := range left {
		return fmt.Errorf("%q is not there", name)
	}
	return nil
}

func (r *crashRun) nothingLeft() error {
	all, err := r.w.server.Uploads()
	if err != nil {
		return err
	}
	for _, u := range all {
		if !strings.HasPrefix(u.Key, r.prefix+"/") {
			continue
		}
		// A file that was being written when the machine went off waits for somebody, and
		// its upload with it: it goes on when the file is published.
		st, err := r.m.CacheStatus()
		waits := func(k harness.Waiting) bool { return k.Key == u.Key && k.State == "interrupted" }
		if err != nil || !slices.ContainsFunc(st.Queue.Kept, waits) {
			return errors.Join(fmt.Errorf("an upload of %q is left", u.Key), err)
		}
		if err := r.w.bucket().AbortMultipartUpload(oss.InitiateMultipartUploadResult{Key: u.Key, UploadID: u.UploadID}); err != nil {
			return err // nothing may be left when the test is over
		}
	}
	keys, err := r.w.server.Keys(r.prefix + "/.ossmount/")
	if len(keys) > 0 {
		return fmt.Errorf("hidden copies are left: %q", keys)
	}
	if st, err := os.ReadDir(filepath.Join(r.m.Cache, "contents")); err == nil && len(st) == 0 {
		return fmt.Errorf("the cache directory has lost its contents")
	}
	return err
}

// sentAtMost compares what was sent for the run with what may be.
func (r *crashRun) sentAtMost(most int64) error {
	log, err := r.w.server.Log()
	if err != nil {
		return err
	}
	sent := int64(0)
	for _, q := range log {
		if strings.HasPrefix(q.Key, r.prefix+"/") && (q.Op == "PutObject" || q.Op == "UploadPart") {
			sent += q.BytesIn
		}
	}
	if sent -= r.given; sent > most {
		return fmt.Errorf("%d bytes were sent, at most %d may be", sent, most)
	}
	return nil
}
