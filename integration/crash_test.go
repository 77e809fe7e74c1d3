package integration

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

var crashEvery = flag.Bool("crash.every", false, "crash at each passing of each point, not only at the first, the last and one in the middle")

// crashCase is something that a program does while the daemon dies. was are the
// objects before; done says what they are after act has returned without error,
// and before that they are one or the other, or half.
type crashCase struct {
	name string
	was  map[string]string
	act  func(dir string) error
	done map[string]string
	half map[string]string // what act may have come to that has not returned; nil: nothing
	sent int64             // bytes of bodies that may be sent in all, with what a crash repeats
}

const (
	crashPart  = 256 << 10
	crashParts = 4 // under way at once
)

func crashCases() []crashCase {
	big := strings.Repeat("0123456789abcdef", 2*mebi/16)
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
			}, half: map[string]string{"f": big[:mebi] + "XXXX" + big[mebi+4:]}, sent: 4 * 110 << 10},
		{name: "file renamed", was: map[string]string{"f": big, "g": "replaced"}, done: map[string]string{"g": big},
			act: func(dir string) error { return os.Rename(dir+"/f", dir+"/g") }},
		{name: "saved by way of a temporary name", was: map[string]string{"f": "old"}, done: map[string]string{"f": "new one"}, sent: 64,
			half: map[string]string{"f": "old", ".f.tmp": "new one"},
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
		{name: "deleted", was: map[string]string{"f": "old"}, done: map[string]string{}, act: func(dir string) error { return os.Remove(dir + "/f") }},
		{name: "attributes changed", was: map[string]string{"f": "text"}, done: map[string]string{"f": "text"}, act: mode},
	}
}

func write(name, text string) func(dir string) error {
	return func(dir string) error {
		// No other test forks meanwhile: a child closes its copy of the descriptor,
		// which is a close of half a file.
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
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
// there before; no upload, and nothing hidden, is left.
func TestCrashAtEveryPoint(t *testing.T) {
	t.Parallel()
	e := setup(t)
	bin, err := harness.Build(context.Background(), e.dir, "crash")
	e.ok(err)
	w := &crashWalk{env: e, bin: bin}
	var plays []func() error
	for _, c := range crashCases() {
		points, err := w.learn(c)
		e.ok(err)
		for _, point := range points.names() {
			for _, n := range points.passings(point) {
				plays = append(plays, func() error { return w.play(c, point, n) })
			}
		}
	}
	var g errgroup.Group
	g.SetLimit(2 * runtime.NumCPU())
	for _, play := range plays {
		g.Go(func() error {
			if err := play(); err != nil {
				t.Error(err)
			}
			return nil
		})
	}
	e.ok(g.Wait())
	t.Logf("%d cases, %d crashes at %d points", len(crashCases()), len(plays), len(w.seen))
}

type crashWalk struct {
	*env
	bin string

	mu   sync.Mutex
	n    int
	seen map[string]bool
}

// points counts how often each was passed.
type points map[string]int

func (p points) names() []string {
	var out []string
	for name := range p {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

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
	for _, text := range c.was {
		r.given += int64(len(text))
	}
	return r, os.Mkdir(r.m.Point, 0o755)
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
	if err := c.act(r.m.Point); err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	if err := r.drain(); err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	if err := r.compare(c.done); err != nil {
		return nil, fmt.Errorf("%s, without a crash: %w", c.name, err)
	}
	b, err := os.ReadFile(log)
	p := points{}
	for line := range strings.Lines(string(b)) {
		p[strings.TrimSpace(line)]++
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen == nil {
		w.seen = map[string]bool{}
	}
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

// play is one crash.
func (w *crashWalk) play(c crashCase, point string, n int) error {
	r, err := w.begin(c)
	if err != nil {
		return err
	}
	defer r.end()
	failed := func(err error) error {
		return fmt.Errorf("%s, killed at %q for the %d. time: %w\nthe daemon said last:\n%s", c.name, point, n, err, r.m.P.Err.Tail(20))
	}
	r.m.Env = append(harness.Credentials(), fmt.Sprintf("OSSMOUNT_CRASH=%s:%d", point, n))
	acted := fmt.Errorf("not tried")
	if err := r.m.Start(w.soon()); err == nil {
		acted = c.act(r.m.Point)
		// It dies now, later, or, where the order of things was another, never.
		if res, err := r.m.Umount(w.soon(), "--drain=5s"); err == nil && (res.Code == 0 || res.Code == 3 || res.Code == 4) {
			r.m.P.Wait(20 * time.Second)
		}
	}
	if !r.m.P.Ended() {
		if err := r.m.Kill9(); err != nil {
			return failed(err)
		}
	}
	r.m.Env = harness.Credentials()
	if err := r.m.Start(w.soon()); err != nil {
		return failed(fmt.Errorf("the next mount: %w", err))
	}
	if err := r.drain(); err != nil {
		return failed(err)
	}
	err = r.compare(c.done)
	if err != nil && acted != nil && (r.compare(c.was) == nil || c.half != nil && r.compare(c.half) == nil) {
		err = nil // it had not been acknowledged
	}
	if err == nil {
		err = r.nothingLeft()
	}
	if err == nil && c.sent > 0 {
		err = r.sentAtMost(c.sent)
	}
	if err != nil {
		return failed(fmt.Errorf("%w (the call said: %v)", err, acted))
	}
	return nil
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
	for _, u := range all {
		if strings.HasPrefix(u.Key, r.prefix+"/") {
			return fmt.Errorf("an upload of %q is left", u.Key)
		}
	}
	if err != nil {
		return err
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
