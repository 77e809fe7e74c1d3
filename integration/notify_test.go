package integration

import (
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ossmount/ossmount/integration/harness"
)

// manager stands in for a service manager: it has what it was told at its socket.
type manager struct {
	path string
	mu   sync.Mutex // owns told
	told []string
}

func (e *env) manager() *manager {
	e.Helper()
	m := &manager{path: e.path("notify")}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	e.ok(err)
	e.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			m.hear(string(buf[:n]))
		}
	}()
	return m
}

func (m *manager) hear(s string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = append(m.told, s)
}

// all that was told.
func (m *manager) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.told)
}

func (m *manager) count(what string) (n int) {
	for _, s := range m.all() {
		if strings.Contains(s, what) {
			n++
		}
	}
	return n
}

// As a service of Type=notify: ready when the mount serves and not before, alive
// while it does, and an end that asks for the time that --drain may take.
func TestServiceManagerFollowsTheMount(t *testing.T) {
	t.Parallel()
	e := setup(t)
	sm := e.manager()
	m := &mount{e: e, Mount: &harness.Mount{Bin: binary, Source: "oss://" + harness.Bucket, Point: e.path("mnt"), Cache: e.path("cache"),
		Flags: append(e.usual(), "--drain=40s"),
		Env:   append(harness.Credentials(), "NOTIFY_SOCKET="+sm.path, "WATCHDOG_USEC=200000")}}
	e.sh(`mkdir "$1"`, m.Point)
	m.start()
	e.poll("it is told that the mount is ready", patience, func() bool { return sm.count("READY=1") == 1 })
	if first, want := sm.all()[0], "READY=1\nSTATUS=serving oss://bkt/ on "+m.Point; first != want {
		t.Errorf("the first that is told is %q, want %q", first, want)
	}
	e.poll("it is told that the mount is alive, again and again", patience, func() bool { return sm.count("WATCHDOG=1") >= 3 })

	e.write(m.in("f"), "bytes")
	m.P.Signal(syscall.SIGTERM)
	code, err := m.P.Wait(patience)
	if err != nil || code != 0 {
		t.Fatalf("exit %d, %v", code, err)
	}
	e.object("f", "bytes")
	e.poll("it is told of the end", patience, func() bool { return sm.count("STOPPING=1") == 1 })
	if n := sm.count("EXTEND_TIMEOUT_USEC=70000000"); n != 1 { // the drain, and 30 s
		t.Errorf("the time to stop is asked for %d times: %q", n, sm.all())
	}
}
