package integration

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

// Programs get signals while they wait for a file system, those written in Go
// all the time, and the kernel tells the daemon of each. That must never show.

// underSignals runs f on a thread that gets a signal every 300 µs.
func underSignals(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tid, stop, done := unix.Gettid(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(300 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				unix.Tgkill(os.Getpid(), tid, unix.SIGURG)
			case <-stop:
				return
			}
		}
	}()
	f()
	close(stop)
	<-done
}

func TestInterruptedListingsAreWhole(t *testing.T) {
	t.Parallel()
	e := setup(t)
	for d := range 40 {
		for f := range 5 {
			e.put(fmt.Sprintf("d%02d/sub/f%d", d, f), strings.NewReader(fmt.Sprint(f)))
		}
	}
	e.ok(e.server.Latency(20 * time.Millisecond))
	m := e.mount("cache", "--meta-ttl=0s")
	underSignals(func() {
		for d := range 40 {
			for _, path := range []string{m.Point, m.in(fmt.Sprintf("d%02d", d)), m.in(fmt.Sprintf("d%02d/sub", d))} {
				list, err := os.ReadDir(path)
				want := map[string]int{m.Point: 40, m.in(fmt.Sprintf("d%02d", d)): 1, m.in(fmt.Sprintf("d%02d/sub", d)): 5}[path]
				if err != nil || len(list) != want {
					t.Fatalf("%s: %d names, want %d; %v", path, len(list), want, err)
				}
			}
		}
	})
	if n := strings.Count(m.P.Err.String(), "OSS does not answer"); n > 0 {
		t.Errorf("OSS was up, and %d times the daemon says that it does not answer", n)
	}
}

// A signal ends what the kernel takes of an answer, and the rest is asked for
// again, in the other of the two forms that listings have if one of the names
// was looked up meanwhile: no name may fall between.
func TestWalksUnderSignalsAreWhole(t *testing.T) {
	t.Parallel()
	e := setup(t)
	const n = 1000
	e.put("d/", strings.NewReader(""))
	b := e.bucket()
	for i := range n {
		e.ok(b.PutObject(fmt.Sprintf("d/f%06d", i), strings.NewReader("small")))
	}
	missed := 0
	for i := range 10 {
		m := e.mount(fmt.Sprint("cache", i))
		underSignals(func() {
			list, err := os.ReadDir(m.in("d")) // looks up what has no kind yet
			e.ok(err)
			missed += n - len(list)
		})
		m.umount(0)
	}
	if missed > 0 {
		t.Errorf("%d of %d names were not shown", missed, 10*n)
	}
}

// TestInterruptedCallsSucceed is the same for calls that write: a signal must
// not make close, rename and the like fail.
func TestInterruptedCallsSucceed(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.put("remote", harness.Random(1, 1<<20))
	e.ok(e.server.Latency(10 * time.Millisecond))
	m := e.mount("cache", "--meta-ttl=0s", "--write-back-delay=0s")
	again := func(what string, err error) { // EINTR is an answer that says: again
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	underSignals(func() {
		for i := range 30 {
			a, b := m.in(fmt.Sprintf("a%d", i)), m.in(fmt.Sprintf("b%d", i))
			f, err := os.OpenFile(a, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.WriteString("written under signals")
			again("write", err)
			again("fsync", syscall.Fsync(int(f.Fd())))
			again("close", f.Close())
			again("rename", syscall.Rename(a, b))
			again("chmod", syscall.Chmod(b, 0o600))
			again("truncate", syscall.Truncate(b, 7))
			again("mkdir", syscall.Mkdir(a, 0o755))
			again("rmdir", syscall.Rmdir(a))
			if i%2 == 0 {
				again("unlink", syscall.Unlink(b))
			}
			g, err := os.Open(m.in("remote"))
			if err != nil {
				t.Fatal(err)
			}
			if sum, err := harness.Sum(g); err != nil {
				t.Errorf("read: %v", err)
			} else if want, _ := harness.Sum(harness.Random(1, 1<<20)); sum != want {
				t.Error("the remote file reads wrong")
			}
			io.Copy(io.Discard, g)
			again("close", g.Close())
		}
	})
	m.wait(m.Point)
	for i := range 30 {
		if i%2 == 1 {
			e.object(fmt.Sprintf("b%d", i), "written")
		}
	}
	keys, err := e.server.Keys("")
	e.ok(err)
	if len(keys) != 16 {
		t.Errorf("%d objects, want 16: %q", len(keys), keys)
	}
}
