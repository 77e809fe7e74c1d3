package integration

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

var (
	damageCount = flag.Int("damage.count", 24, "how many damaged journals TestDamagedJournals mounts")
	damageSeed  = flag.Uint64("damage.seed", 1, "the first of their seeds")
)

// The journal is gone while 200 files are pending, one of them in the middle of
// its upload: all arrive. Once it goes under a daemon that runs, and once while
// none does. covers H7
func TestJournalDeletedWithWorkPending(t *testing.T) {
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprint("running=", running), func(t *testing.T) {
			t.Parallel()
			e := setup(t, "--bandwidth=40000000")
			m := e.mount("cache", "--multipart-threshold=1MiB", "--part-size=4MiB", "--upload-concurrency=250", "--eager=off")
			_, err := e.server.Fault("delay,op=PutObject|CompleteMultipartUpload") // until the daemon is killed
			e.ok(err)
			source := e.path("source")
			e.ok(os.MkdirAll(source, 0o755))
			for i := range uint64(199) {
				e.ok(harness.WriteFile(filepath.Join(source, fmt.Sprint("file", i)), i, i*311))
			}
			e.ok(harness.WriteFile(filepath.Join(source, "big"), 66, 100*mebi))
			e.sh(`cp -a "$1/." "$2/"`, source, m.Point)
			e.poll("a part of the big file is on OSS", patience, func() bool {
				u, err := e.server.Uploads()
				return err == nil && len(u) == 1 && u[0].Parts > 0
			})
			if s := m.status(); s.Queue.Pending < 200 {
				t.Fatalf("%d changes are pending", s.Queue.Pending)
			}
			journal := e.path("cache/journal")
			if running {
				e.ok(os.RemoveAll(journal))
				<-time.After(2 * time.Second) // its next steps fail: the daemon says so, and keeps what it has
			}
			e.ok(m.Kill9())
			e.ok(os.RemoveAll(journal)) // a daemon that ran may have made something there
			e.ok(e.server.ClearFaults())
			e.ok(e.server.Bandwidth(0))
			m.start()
			b := m.status().Queue.Rebuilt
			if b == nil || b.Files != 200 || b.Lost != 0 {
				t.Fatalf("what the mount tells of it: %+v", b)
			}
			e.sameTrees(source, m.Point)
			m.umount(0, "--drain=3m")
			v, err := e.server.Verify("", source)
			e.ok(err)
			t.Logf("%d objects, %d bytes: all equal", v.Objects, v.Bytes)
			e.abortUploads() // those whose journal is gone are known to nobody
		})
	}
}

// abortUploads is what ossmount uploads abort is for.
func (e *env) abortUploads() {
	e.Helper()
	b, err := e.server.Client()
	e.ok(err)
	all, err := e.server.Uploads()
	e.ok(err)
	for _, u := range all {
		e.ok(b.AbortMultipartUpload(oss.InitiateMultipartUploadResult{Key: u.Key, UploadID: u.UploadID}))
	}
}

// wreck is a cache directory whose daemon was killed in the middle of its work,
// and the objects that OSS had then.
type wreck struct {
	cache, objects string
	synced         bool              // the horizon has passed all of it
	were           map[string]string // objects that OSS holds already
	closed         map[string]string // bytes that were closed under a name, and are to arrive
	may            map[string]string // what a name may have instead: the journal alone knew better
}

// makeWreck lets programs work while nothing can be published, and kills the
// daemon. With churn the journal has tables, not only logs.
func makeWreck(e *env, n int, churn int) *wreck {
	e.Helper()
	r := rand.New(rand.NewPCG(uint64(n), 7))
	text := func(size int) string {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return string(b)
	}
	w := &wreck{closed: map[string]string{}, may: map[string]string{},
		were: map[string]string{"kept": text(100), "changed": text(5000), "patched": text(mebi), "grown": text(mebi), "moved": text(3000),
			"deleted": text(200), "replaced": text(300)}}
	bucket, err := e.server.Client()
	e.ok(err)
	for key, text := range w.were {
		e.ok(bucket.PutObject(key, strings.NewReader(text)))
	}
	m := e.mountSource("oss://"+harness.Bucket, fmt.Sprint("mnt", n), fmt.Sprint("wreck", n), append(e.usual(), "--part-size=256KiB", "--multipart-threshold=512KiB", "--eager=off", "--write-back-delay=10ms", "--upload-concurrency=100")...)
	_, err = e.server.Fault("delay,op=PutObject|CompleteMultipartUpload|CopyObject|DeleteMultipleObjects|DeleteObject")
	e.ok(err)
	write := func(name, text string) {
		e.write(m.in(name), text)
		w.closed[name] = text
	}
	for i := range 12 {
		write(fmt.Sprint("new", i), text(r.IntN(60_000)))
	}
	write("big", text(3*mebi))
	write("twice", text(1000))
	write("twice", text(1000))
	write(".saved.tmp", text(2000))
	e.ok(os.Rename(m.in(".saved.tmp"), m.in("saved")))
	w.closed["saved"] = w.closed[".saved.tmp"]
	delete(w.closed, ".saved.tmp")
	write("changed", text(6000))
	write("replaced", text(400))
	w.closed["patched"] = w.were["patched"][:500_000] + "PATCH" + w.were["patched"][500_005:]
	e.ok(patched("PATCH", 500_000)(m.in("patched")))
	w.closed["grown"] = w.were["grown"] + "MORE"
	e.ok(appended("MORE")(m.in("grown")))
	e.ok(os.Rename(m.in("moved"), m.in("moved there")))
	w.may["moved there"], w.may["moved"] = w.were["moved"], w.were["moved"]
	e.ok(os.Remove(m.in("deleted")))
	w.may["deleted"] = w.were["deleted"]
	e.ok(os.Mkdir(m.in("dir"), 0o700))
	write("dir/file", text(10))
	e.ok(os.Symlink("kept", m.in("link")))
	w.may["link"] = "kept"
	e.ok(os.Chmod(m.in("kept"), 0o600))
	w.may["kept"] = w.were["kept"]
	for i := range churn {
		e.ok(unix.Setxattr(m.in("new0"), "user.churn", []byte(strings.Repeat(fmt.Sprint(i%10), 5000)), 0))
	}
	if w.synced = n%2 == 1; w.synced {
		e.poll("all of it is on the disk", patience, func() bool { s := m.status(); return s.Queue.Horizon >= s.Queue.Last })
	}
	unforked(func() { // a child would close it
		open, err := os.Create(m.in("never closed"))
		e.ok(err)
		e.Cleanup(func() { open.Close() })
		_, err = open.WriteString("some of it")
		e.ok(err)
		e.poll("parts are on OSS", patience, func() bool {
			u, err := e.server.Uploads()
			return err == nil && slices.ContainsFunc(u, func(u harness.Upload) bool { return u.Key == "big" && u.Parts > 2 })
		})
		e.ok(m.Kill9())
	})
	e.ok(e.server.ClearFaults())
	e.ok(e.server.Stop())
	w.cache, w.objects = m.Cache, e.path(fmt.Sprint("objects", n))
	e.sh(`mv "$1" "$2"`, e.server.Dir, w.objects)
	e.ok(e.server.Start(e.soon()))
	return w
}

// lane mounts copies of wrecks, one after another.
type lane struct {
	e      *env
	name   string
	server *harness.Server
}

func newLane(e *env, name string) *lane {
	e.Helper()
	shared := e.path(name + "-shared") // so that a mount of another boot is seen here
	e.ok(os.MkdirAll(shared, 0o755))
	e.ok(harness.Share(shared))
	e.Cleanup(func() { e.check(harness.Detach(shared)) })
	e.ok(os.Mkdir(filepath.Join(shared, "mnt"), 0o755))
	return &lane{e: e, name: name, server: &harness.Server{Bin: binary, Dir: e.path(name + "-objects")}}
}

// TestDamagedJournals mounts a cache directory again and again after its journal
// was damaged at random. The daemon starts, and says what happened; nothing but
// versions that once were closed comes to OSS; and what was closed arrives, or is
// in lost+found. covers H7
func TestDamagedJournals(t *testing.T) {
	t.Parallel()
	e := setup(t)
	wrecks := []*wreck{makeWreck(e, 0, 0), makeWreck(e, 1, 2500)}
	lanes := make(chan *lane, runtime.NumCPU())
	for i := range cap(lanes) {
		lanes <- newLane(e, fmt.Sprint("lane", i))
	}
	var mu sync.Mutex
	tally := map[string]int{}
	var g errgroup.Group
	g.SetLimit(cap(lanes))
	for i := range *damageCount {
		seed := *damageSeed + uint64(i)
		g.Go(func() error {
			l := <-lanes
			defer func() { lanes <- l }()
			outcome, err := l.play(wrecks[i%len(wrecks)], seed)
			if err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
			mu.Lock()
			defer mu.Unlock()
			tally[outcome]++
			return nil
		})
	}
	e.ok(g.Wait())
	t.Logf("%d damaged journals, seeds from %d: %v", *damageCount, *damageSeed, tally)
}

// mount is a mount that is still to be started, with a copy of w.
func (l *lane) mount(ctx context.Context, w *wreck) (*harness.Mount, error) {
	e := l.e
	m := &harness.Mount{Bin: binary, Source: "oss://" + harness.Bucket, Point: e.path(l.name + "-shared/mnt"), Cache: e.path(l.name + "-cache"),
		Flags: []string{"--region=" + harness.Region, "--write-back-delay=10ms", "--doubt=300ms", "--part-size=256KiB", "--multipart-threshold=512KiB"}}
	for from, to := range map[string]string{w.cache: m.Cache, w.objects: l.server.Dir} {
		if r, err := harness.Run(ctx, nil, "/bin/sh", "-euc", `rm -rf "$2"; cp -a "$1" "$2"`, "sh", from, to); err != nil || r.Code != 0 {
			return nil, fmt.Errorf("copy: %v %w", r, err)
		}
	}
	if err := l.server.Start(ctx); err != nil {
		return nil, err
	}
	m.Flags = append(m.Flags, "--endpoint="+l.server.URL)
	return m, l.adopt(m.Cache)
}

// play mounts a damaged copy of w and drains it.
func (l *lane) play(w *wreck, seed uint64) (outcome string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	m, err := l.mount(ctx, w)
	if err != nil {
		return "", err
	}
	defer l.server.Stop()
	defer m.Destroy()
	how, err := harness.Spoil(filepath.Join(m.Cache, "journal"), rand.New(rand.NewPCG(seed, 8)))
	if err != nil {
		return "", err
	}
	if w.synced && seed%4 < 2 {
		m.Boot, how = "another", how+", and a power cut"
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", how, err)
			if m.P != nil {
				err = fmt.Errorf("%w\nthe daemon said last:\n%s", err, lastWords(m.P.Err.String()))
			}
		}
	}()
	if err := m.Start(ctx); err != nil {
		return "", err
	}
	s, err := m.Status()
	if err != nil {
		return "", err
	}
	outcome = "whole"
	if b := s.Queue.Rebuilt; b != nil && b.Aside != "" {
		outcome = "damaged"
	} else if b != nil {
		outcome = "behind"
	}
	if r, err := m.Umount(ctx, "--drain=1m"); err != nil || r.Code != 0 && r.Code != 4 {
		return outcome, fmt.Errorf("umount: %v %w", r, err)
	}
	return outcome, l.compare(w, m)
}

// A crash in the middle of taking up what a lost journal knew costs nothing: the
// next start begins again.
func TestCrashWhileAJournalIsRebuilt(t *testing.T) {
	t.Parallel()
	e := setup(t)
	bin, err := harness.Build(e.soon(), e.dir, "crash")
	e.ok(err)
	w := makeWreck(e, 0, 0)
	w.may["changed"] = "somebody else's"
	l := newLane(e, "lane")
	for _, point := range []string{"journal moved aside, none begun", "journal begun, not durable", "journal begun, no horizon",
		"lost ones moved, rows not rebuilt", "rows rebuilt", "rebuilt row lost, content not moved"} {
		t.Run(point, func(t *testing.T) {
			ctx := e.soon()
			m, err := l.mount(ctx, w)
			e.ok(err)
			defer l.server.Stop()
			defer m.Destroy()
			e.ok(os.Truncate(filepath.Join(m.Cache, "journal", "db", "MANIFEST"), 3))
			bucket, err := l.server.Client()
			e.ok(err)
			e.ok(bucket.PutObject("changed", strings.NewReader("somebody else's")))
			m.Bin, m.Env = bin, append(harness.Credentials(), "OSSMOUNT_CRASH="+point+":1")
			_ = m.Start(ctx) // it may serve for a moment
			if _, err := m.P.Wait(patience); err != nil {
				t.Fatalf("it does not come to this point: %v\n%s", err, m.P.Err.Tail(20))
			}
			m.Bin, m.Env = binary, nil
			e.ok(m.Start(ctx))
			if r, err := m.Umount(ctx, "--drain=1m"); err != nil || r.Code != 0 && r.Code != 4 {
				t.Fatalf("umount: %v %v", r, err)
			}
			e.ok(l.compare(w, m))
		})
	}
}

// adopt lets the copy of a cache directory belong to the server of the lane.
func (l *lane) adopt(cache string) error {
	path := filepath.Join(cache, "identity.json")
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(strings.ReplaceAll(string(b), l.e.server.URL, l.server.URL)), 0o600)
}

// compare checks OSS and lost+found against what was closed.
func (l *lane) compare(w *wreck, m *harness.Mount) error {
	found, err := readAll(filepath.Join(m.Cache, "lost+found"))
	if err != nil {
		return err
	}
	keys, err := l.server.Keys("")
	if err != nil {
		return err
	}
	var errs []error
	arrived := map[string]bool{}
	for _, key := range keys {
		sum, size, err := l.server.ObjectSum(key)
		if err != nil {
			return err
		}
		is := func(text string, ok bool) bool {
			s, _ := harness.Sum(strings.NewReader(text))
			return ok && s == sum
		}
		closed, isClosed := w.closed[key]
		was, wasThere := w.were[key]
		may, mayBe := w.may[key]
		switch {
		case is(closed, isClosed):
			arrived[key] = true
		case is(was, wasThere), is(may, mayBe), strings.HasSuffix(key, "/") && size == 0:
		case key == ".saved.tmp" && is(w.closed["saved"], true):
			arrived["saved"] = true // the name that the content had before
		default:
			errs = append(errs, fmt.Errorf("%q on OSS has %d bytes that nobody closed under that name", key, size))
		}
	}
	for name, text := range w.closed {
		if !arrived[name] && !slices.ContainsFunc(found, func(b []byte) bool { return keeps(b, name, text) }) {
			errs = append(errs, fmt.Errorf("%q is neither on OSS nor in lost+found", name))
		}
	}
	return errors.Join(errs...)
}

// keeps reports that the content b has what was written to the file name; of
// those that were changed in place, where they were changed.
func keeps(b []byte, name, text string) bool {
	switch {
	case string(b) == text:
		return true
	case len(b) != len(text):
		return false
	case name == "patched":
		return string(b[500_000:500_005]) == "PATCH"
	case name == "grown":
		return bytes.HasSuffix(b, []byte("MORE"))
	}
	return false
}

func readAll(dir string) (out [][]byte, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		out = append(out, b)
		return err
	})
	return out, err
}
