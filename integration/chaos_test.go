package integration

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var chaosTime = flag.Duration("chaos.time", 30*time.Second, "how long TestChaos goes on")

// TestChaos lets several programs write, change, rename and remove files of their
// own while the daemon and the server are killed and requests fail, and compares
// what each knows with what the mount shows meanwhile, and with the bucket in the
// end.
func TestChaos(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=50ms", "--doubt=1s", "--part-size=256KiB", "--multipart-threshold=512KiB", "--stall=5s", "--meta-ttl=inf")
	r := drawn(t)
	c := &chaos{env: e, m: m, end: time.Now().Add(*chaosTime)}
	var g sync.WaitGroup
	var all []*worker
	for i := range 4 {
		w := &worker{c: c, dir: fmt.Sprint("w", i), r: rand.New(rand.NewPCG(r.Uint64(), 11)), files: map[string][]byte{}}
		all = append(all, w)
		w.settle(func() error { return os.MkdirAll(w.path(""), 0o755) })
		g.Go(w.work)
	}
	kills := c.disturb(r)
	g.Wait()
	e.ok(e.server.ClearFaults())
	if t.Failed() {
		return
	}
	m.umount(0, "--drain=3m")
	e.ok(e.noUploads(10 * time.Second))
	n := 0
	for _, w := range all {
		keys, err := e.server.Keys(w.dir + "/")
		e.ok(err)
		for _, k := range keys {
			if strings.HasSuffix(k, "/") {
				continue
			}
			want, ok := w.files[strings.TrimPrefix(k, w.dir+"/")]
			if !ok {
				t.Errorf("%q is on OSS, and was removed", k)
				continue
			}
			e.object(k, string(want))
			delete(w.files, strings.TrimPrefix(k, w.dir+"/"))
			n++
		}
		for name := range w.files {
			t.Errorf("%s/%s is not on OSS", w.dir, name)
		}
	}
	t.Logf("%d operations, %d of them cut off; %d kills; %d objects compared", c.ops, c.cut, kills, n)
}

type chaos struct {
	*env
	m   *mount
	end time.Time

	alive sync.RWMutex // held for writing while there is no daemon

	mu       sync.Mutex
	ops, cut int
}

// faults that come and go.
var chaosFaults = []string{
	"error,code=InternalError,status=500,probability=0.3",
	"error,code=ServiceUnavailable,status=503,probability=0.5",
	"reset,at=after,probability=0.2",
	"reset,at=before,probability=0.3",
	"reset,at=after,op=CompleteMultipartUpload|PutObject|CopyObject",
	"late,op=PutObject|DeleteObject|CompleteMultipartUpload,for=300ms,probability=0.5",
	"forget,op=UploadPart,probability=0.1",
	"delay,for=100ms",
	"corrupt,what=crc,op=UploadPart|PutObject,probability=0.2",
}

// disturb kills and lets fail until the time is over.
func (c *chaos) disturb(r *rand.Rand) (kills int) {
	for time.Now().Before(c.end) && !c.Failed() {
		fault := chaosFaults[r.IntN(len(chaosFaults))]
		if _, err := c.server.Fault(fault); err != nil {
			c.Errorf("fault %s: %v", fault, err)
			return kills
		}
		<-time.After(time.Duration(r.Int64N(int64(2 * time.Second))))
		c.check(c.server.ClearFaults())
		<-time.After(time.Duration(r.Int64N(int64(time.Second))))
		switch r.IntN(4) {
		case 0:
			c.check(c.server.Kill())
			<-time.After(time.Duration(r.Int64N(int64(time.Second))))
			c.check(c.server.Start(c.soon()))
		default:
			c.check(c.m.Kill9())
			kills++
			c.restart()
		}
	}
	return kills
}

// restart mounts again; no call is made meanwhile that could see the bare
// directory.
func (c *chaos) restart() {
	c.alive.Lock()
	defer c.alive.Unlock()
	if err := c.m.Start(c.soon()); err != nil {
		c.Errorf("mount again: %v", err)
	}
}

// worker is a program with files of its own, each of whose bytes it knows.
type worker struct {
	c     *chaos
	dir   string
	r     *rand.Rand
	files map[string][]byte
	last  []string
}

func (w *worker) path(name string) string { return w.c.m.in(w.dir + "/" + name) }

func (w *worker) name() string { return fmt.Sprint("f", w.r.IntN(6)) }

func (w *worker) text() []byte {
	n := []int{1, 100, 5000, 300_000, 900_000, 1_500_000}[w.r.IntN(6)]
	return bytes.Repeat([]byte(fmt.Sprintf("%s %d ", w.dir, w.r.Uint64())), n/20+1)[:n]
}

// isCut reports that a call failed because the daemon was killed.
func isCut(err error) bool {
	return errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ESTALE)
}

// try makes one call, and reports whether it was cut off.
func (w *worker) try(what string, f func() error) (cut bool) {
	w.c.alive.RLock()
	defer w.c.alive.RUnlock()
	err := f()
	w.last = append(w.last, fmt.Sprintf("%s: %v", what, err))
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	w.c.ops++
	switch {
	case err == nil:
		return false
	case isCut(err):
		w.c.cut++
		return true
	}
	w.wrong("%s: %v", what, err)
	return true
}

// settle repeats a call until it is not cut off.
func (w *worker) settle(f func() error) {
	for !w.c.Failed() && w.try("again", f) {
	}
}

func (w *worker) wrong(format string, args ...any) {
	w.c.Errorf("%s: %s\nlast:\n%s", w.dir, fmt.Sprintf(format, args...), strings.Join(w.last[max(0, len(w.last)-12):], "\n"))
}

func (w *worker) work() {
	for time.Now().Before(w.c.end) && !w.c.Failed() {
		w.step()
	}
}

func (w *worker) step() {
	a, b := w.name(), w.name()
	old, there := w.files[a]
	switch w.r.IntN(9) {
	case 0, 1:
		w.put(a, w.text())
	case 2, 3:
		if there {
			off := w.r.IntN(len(old))
			fresh := bytes.Clone(old)
			copy(fresh[off:], "changed in place")
			w.change("change "+a, a, fresh, patched(string(fresh[off:min(off+16, len(fresh))]), int64(off)))
		}
	case 4:
		if there {
			more := w.text()
			w.change("append to "+a, a, append(bytes.Clone(old), more...), appended(string(more)))
		}
	case 5:
		if there {
			n := w.r.IntN(len(old)) + 1
			w.change("truncate "+a, a, old[:n], func(path string) error { return os.Truncate(path, int64(n)) })
		}
	case 6:
		if there && a != b {
			w.rename(a, b)
		}
	case 7:
		if there {
			if w.try("remove "+a, func() error { return os.Remove(w.path(a)) }) && w.exists(a) {
				return
			}
			delete(w.files, a)
		}
	case 8:
		w.read(a)
	}
}

// put writes a file anew, until it is there.
func (w *worker) put(name string, text []byte) {
	w.settle(func() error { return os.WriteFile(w.path(name), text, 0o644) })
	w.files[name] = text
}

// change does what makes fresh of a file. If it is cut off, what the file holds is
// anything between; it is written anew.
func (w *worker) change(what, name string, fresh []byte, do func(path string) error) {
	if w.try(what, func() error { return do(w.path(name)) }) {
		w.put(name, fresh)
		return
	}
	w.files[name] = fresh
}

func (w *worker) rename(a, b string) {
	if w.try("rename "+a+" "+b, func() error { return os.Rename(w.path(a), w.path(b)) }) && w.exists(a) {
		w.read(b) // and it is what it was
		return
	}
	w.files[b] = w.files[a]
	delete(w.files, a)
	w.read(b)
}

func (w *worker) exists(name string) (yes bool) {
	w.settle(func() error {
		_, err := os.Lstat(w.path(name))
		yes = err == nil
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
	return yes
}

// read compares a file with what it should hold.
func (w *worker) read(name string) {
	var got []byte
	there := false
	w.settle(func() (err error) {
		got, err = os.ReadFile(w.path(name))
		there = err == nil
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
	want, ok := w.files[name]
	if !w.c.Failed() && (there != ok || !bytes.Equal(got, want)) {
		w.wrong("%s: there %t, %d bytes; should be there %t, %d bytes", name, there, len(got), ok, len(want))
	}
}
