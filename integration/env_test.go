package integration

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ossmount/ossmount/integration/harness"
	"github.com/ossmount/ossmount/integration/harness/disk"
)

// patience is a deadline for what should take a moment.
const patience = time.Minute

// full runs the sizes of issue 2 (1 GiB at 100 MB/s) in place of smaller ones.
var full = flag.Bool("full", os.Getenv("OSSMOUNT_FULL") != "", "full sizes: 1 GiB at 100 MB/s (or OSSMOUNT_FULL=1)")

var binary string // the ossmount that is tested

func TestMain(m *testing.M) {
	if path, ok := os.LookupEnv(lockerEnv); ok {
		lockerMain(path)
		return
	}
	if spec, ok := os.LookupEnv(containerEnv); ok {
		containerMain(spec)
		return
	}
	if _, ok := os.LookupEnv(holderEnv); ok {
		holderMain()
		return
	}
	if root, ok := os.LookupEnv(programEnv); ok {
		programMain(root)
		return
	}
	if url, ok := os.LookupEnv(keyEnv); ok {
		keyMain(url)
		return
	}
	if dir, ok := os.LookupEnv(disk.ServeEnv); ok {
		if err := disk.Serve(dir); err != nil {
			fmt.Fprintln(os.Stderr, "integration:", err)
			os.Exit(1)
		}
		return
	}
	// Most of the time is waiting; -parallel still has the last word.
	flag.Set("test.parallel", strconv.Itoa(2*runtime.NumCPU()))
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if err := harness.CanMount(); err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		return 1
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "integration: run these tests as root: they mount, and change owners")
		return 1
	}
	dir, err := os.MkdirTemp("", "ossmount-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binary, err = harness.Build(context.Background(), dir); err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		return 1
	}
	return m.Run()
}

// env is one test's server, and all that it mounts.
type env struct {
	*testing.T
	dir    string
	server *harness.Server
	mounts []*mount
	may    map[leftover]string // what it may leave, and why
}

// leftover is something that no test leaves behind, unless it says why.
type leftover string

const (
	uploads  leftover = "open multipart uploads"
	nameless leftover = "contents that nothing names"
	work     leftover = "goroutines and files of the daemon"
	panics   leftover = "internal errors in the log"
)

// leaves allows the test to leave something behind.
func (e *env) leaves(what leftover, why string) {
	if e.may == nil {
		e.may = map[leftover]string{}
	}
	e.may[what] = why
}

func (e *env) mayLeave(what leftover) bool {
	_, ok := e.may[what]
	return ok
}

// setup starts a server with its flags.
func setup(t *testing.T, serverFlags ...string) *env {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	e := &env{T: t, dir: dir, server: &harness.Server{Bin: binary, Dir: filepath.Join(dir, "objects"), Flags: serverFlags}}
	t.Cleanup(e.cleanup)
	e.ok(e.server.Start(e.soon()))
	return e
}

// cleanup ends what a test left, and fails it if that was more than allowed: a
// process, a mount, a socket; of a daemon at rest a goroutine or a descriptor; of one
// that has ended a temporary file; and, with nothing pending, a multipart upload or
// a content that nothing names.
func (e *env) cleanup() {
	pending := false
	for _, m := range e.mounts {
		if !m.P.Ended() && !e.Failed() {
			e.check(m.comesToRest())
			r, err := m.Umount(e.soon())
			if err != nil || r.Code == 1 || r.Code == 2 {
				e.Errorf("umount: %v\n%v", err, r)
			}
			pending = pending || r.Code != 0
			e.check(m.isTidy(r.Code == 0))
		}
		if !m.P.Ended() {
			pending = true
		}
	}
	for _, m := range e.mounts {
		e.check(m.Destroy())
		m.inspectOutput()
	}
	if at, err := harness.Mounted(e.dir); err != nil || len(at) > 0 {
		e.Errorf("mounts are left: %q %v", at, err)
	}
	if at, err := harness.Listening(e.dir); err != nil || len(at) > 0 {
		e.Errorf("sockets are left: %q %v", at, err)
	}
	if e.server.P == nil {
		return
	}
	if !e.server.P.Ended() {
		if !pending && !e.Failed() && !e.mayLeave(uploads) {
			e.check(e.noUploads(5 * time.Second))
		}
		e.check(e.server.Stop())
	}
	if strings.Contains(e.server.P.Err.String(), "DATA RACE") || strings.Contains(e.server.P.Err.String(), "panic:") {
		e.Errorf("the OSS server:\n%s", e.server.P.Err.Tail(100))
	}
}

// comesToRest waits until the daemon has let go of all that it took for its work.
func (m *mount) comesToRest() error {
	if m.e.mayLeave(work) {
		return nil
	}
	if s, err := m.Status(); err != nil || s.Queue.Pending+s.Queue.Debts > 0 || len(s.OpenFiles) > 0 {
		return err // it is not at rest
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var above error
	err := harness.Poll(ctx, "the daemon is at rest", func() (bool, error) {
		r, err := m.Resources(m.e.soon())
		above = r.Above(m.floor)
		return above == nil, err
	})
	if err != nil && above != nil {
		err = fmt.Errorf("%w: %w", err, above)
	}
	return err
}

// isTidy looks for what an ended daemon must not leave in its cache directory; done:
// it had nothing left to do.
func (m *mount) isTidy(done bool) error {
	found, err := m.Rubbish()
	if err == nil && len(found) > 0 {
		err = fmt.Errorf("files are left: %q", found)
	}
	if err != nil || !done || m.e.mayLeave(nameless) {
		return err
	}
	s, err := m.CacheStatus()
	if err == nil && s.Cache.Nameless > 0 {
		err = fmt.Errorf("%d contents are left that nothing names", s.Cache.Nameless)
	}
	return err
}

// noUploads polls until no multipart upload is open on the server.
func (e *env) noUploads(within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	var last []harness.Upload
	err := harness.Poll(ctx, "no open multipart upload", func() (bool, error) {
		u, err := e.server.Uploads()
		last = u
		return len(u) == 0, err
	})
	if err != nil {
		return fmt.Errorf("%w: %+v", err, last)
	}
	return nil
}

// mount is a mount of a test.
type mount struct {
	*harness.Mount
	e     *env
	floor harness.Resources // what the daemon had when it began
}

// flags that every mount of the tests has: short waits, V4, much log.
func (e *env) usual() []string {
	return []string{"--endpoint=" + e.server.URL, "--region=" + harness.Region, "--log-level=debug", "--write-back-delay=200ms"}
}

// mount mounts the bucket with the cache directory named; flags may repeat the
// usual ones.
func (e *env) mount(cache string, flags ...string) *mount {
	e.Helper()
	return e.mountSource("oss://"+harness.Bucket, "mnt", cache, append(e.usual(), flags...)...)
}

func (e *env) mountSource(source, point, cache string, flags ...string) *mount {
	e.Helper()
	m := &mount{e: e, Mount: &harness.Mount{Bin: binary, Source: source, Point: e.path(point), Cache: e.path(cache), Flags: flags}}
	e.ok(os.MkdirAll(m.Point, 0o755))
	m.start()
	return m
}

// start starts the daemon of m, again if there was one.
func (m *mount) start() {
	m.e.Helper()
	ctx := m.e.soon()
	err := m.Start(ctx)
	if err == nil {
		m.floor, err = m.Resources(ctx)
	}
	if m.P != nil {
		m.e.mounts = append(m.e.mounts, &mount{e: m.e, Mount: new(*m.Mount), floor: m.floor})
	}
	m.e.ok(err)
}

// inspectOutput fails the test for what no output may have.
func (m *mount) inspectOutput() {
	out := m.P.Err.String() + m.P.Out.String()
	switch {
	case strings.Contains(out, harness.Secret):
		m.e.Errorf("the secret is in the output of the daemon")
	case strings.Contains(out, "please report it") && !m.e.mayLeave(panics):
		m.e.Errorf("the daemon says:\n%s", m.P.Err.Tail(200))
	case m.e.mayLeave(panics):
	case strings.Contains(out, "DATA RACE"), strings.Contains(out, "panic:"), strings.Contains(out, "goroutine "):
		m.e.Errorf("the daemon says:\n%s", m.P.Err.Tail(200))
	case m.e.Failed():
		m.e.Logf("the daemon (process %d) said last:\n%s", m.P.PID(), lastWords(m.P.Err.String()))
	}
}

// lastWords is the end of a log: its warnings, and the last lines of all.
func lastWords(log string) string {
	var lines []string
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "room=badger") {
			lines = append(lines, line)
		}
	}
	var kept []string
	for i, line := range lines {
		if i >= len(lines)-20 || !strings.Contains(line, "level=DEBUG") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept[max(0, len(kept)-60):], "")
}

// in is a path beneath the mount point.
func (m *mount) in(name string) string { return filepath.Join(m.Point, name) }

// kill9 crashes the daemon.
func (m *mount) kill9() {
	m.e.Helper()
	m.e.ok(m.Kill9())
}

// umount unmounts and demands the exit code.
func (m *mount) umount(code int, flags ...string) harness.Result {
	m.e.Helper()
	r, err := m.Umount(m.e.soon(), flags...)
	m.e.ok(err)
	if r.Code != code {
		m.e.Fatalf("umount: want exit %d, got %v", code, r)
	}
	return r
}

// wait waits until path is on OSS.
func (m *mount) wait(path string) {
	m.e.Helper()
	r, err := m.Wait(path, 3*time.Minute)
	m.e.ok(err)
	if r.Code != 0 {
		s, _ := m.Status()
		m.e.Fatalf("wait %s: %v\nstatus: %+v", path, r, s)
	}
}

// status of the mount.
func (m *mount) status() harness.Status {
	m.e.Helper()
	s, err := m.Status()
	m.e.ok(err)
	return s
}

// poll waits until yes.
func (e *env) poll(what string, within time.Duration, yes func() bool) {
	e.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	e.ok(harness.Poll(ctx, what, func() (bool, error) { return yes(), nil }))
}

// sh runs a shell script in the directory of this package (never in a
// mount) and returns what it prints; it fails the test unless it exits 0.
func (e *env) sh(script string, args ...string) string {
	e.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	r, err := harness.Run(ctx, []string{"LC_ALL=C"}, "/bin/sh", append([]string{"-euc", script, "sh"}, args...)...)
	e.ok(err)
	if r.Code != 0 {
		e.Fatalf("%s %q: %v", script, args, r)
	}
	return r.Out
}

// sameTrees fails the test for each difference.
func (e *env) sameTrees(want, got string) {
	e.Helper()
	lines, err := harness.DiffTrees(want, got)
	e.ok(err)
	e.noLines(lines)
}

func (e *env) noLines(lines []string) {
	e.Helper()
	if n := len(lines); n > 0 {
		e.Fatalf("%d differences:\n%s", n, strings.Join(lines[:min(n, 30)], "\n"))
	}
}

// verify compares all objects with a source tree.
func (e *env) verify(prefix, source string) {
	e.Helper()
	v, err := e.server.Verify(prefix, source)
	if err != nil {
		e.Fatalf("the bucket differs from %s:\n%.4000v", source, err)
	}
	e.Logf("verified %d objects, %d bytes", v.Objects, v.Bytes)
}

// counts of the server.
func (e *env) counts() harness.Counts {
	e.Helper()
	c, err := e.server.Counts()
	e.ok(err)
	return c
}

func (e *env) path(name string) string { return filepath.Join(e.dir, name) }

// soon is a generous deadline for one step.
func (e *env) soon() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	e.Cleanup(cancel)
	return ctx
}

func (e *env) ok(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

func (e *env) check(err error) {
	e.Helper()
	if err != nil {
		e.Error(err)
	}
}

// write writes s to a new or emptied file.
func (e *env) write(path, s string) {
	e.Helper()
	e.ok(os.WriteFile(path, []byte(s), 0o644))
}

// reads fails unless path holds want.
func (e *env) reads(path, want string) {
	e.Helper()
	b, err := os.ReadFile(path)
	e.ok(err)
	if string(b) != want {
		e.Fatalf("%s: %d bytes %.60q, want %d bytes %.60q", path, len(b), b, len(want), want)
	}
}

// object fails unless the object holds want.
func (e *env) object(key, want string) {
	e.Helper()
	sum, size, err := e.server.ObjectSum(key)
	e.ok(err)
	if s, _ := harness.Sum(strings.NewReader(want)); s != sum {
		e.Fatalf("object %s: %d bytes %.12s, want %d bytes %.12s", key, size, sum, len(want), s)
	}
}
