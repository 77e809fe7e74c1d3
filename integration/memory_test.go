package integration

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ossmount/ossmount/integration/harness"
)

const mostMemory = 150 << 20

// memory fails the test if the daemon's memory ever was over the bound.
func (m *mount) memory(what string) {
	m.e.Helper()
	rss, peak, err := m.Memory()
	m.e.ok(err)
	m.e.Logf("%s: %.1f MiB resident, %.1f at most", what, mib(rss), mib(peak))
	if peak > mostMemory && !harness.Race { // the race detector multiplies it
		m.e.Errorf("%s: %.1f MiB of memory, at most 150 allowed", what, mib(peak))
	}
}

func TestMemoryWhileABigFileGoesUp(t *testing.T) {
	t.Parallel()
	e := setup(t)
	size := uint64(512 << 20)
	if *full {
		size = 1 << 30
	}
	m := e.mount("cache", "--log-level=info")
	e.ok(harness.WriteFile(m.in("big"), 1, size))
	m.wait(m.in("big"))
	m.memory("after the upload")
	sum, err := harness.SumFile(m.in("big"))
	e.ok(err)
	if want, _ := harness.Sum(harness.Random(1, size)); sum != want {
		t.Error("the file reads wrong")
	}
	m.memory("and having read it back")
	m.umount(0)
	m.start()
	e.ok(os.Truncate(m.in("big"), int64(size)-1)) // of a remote object: it is fetched
	m.wait(m.in("big"))
	m.memory("after a change of it")
	m.umount(0)
}

func TestMemoryWithTenThousandFilesPending(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--log-level=info")
	e.ok(e.server.Kill())
	for i := range 100 {
		dir := m.in(strconv.Itoa(i))
		e.ok(os.Mkdir(dir, 0o755))
		for k := range 100 {
			e.ok(os.WriteFile(dir+"/"+strconv.Itoa(k), make([]byte, 4096), 0o644))
		}
	}
	if n := m.status().Queue.Pending; n != 10_100 {
		t.Errorf("%d changes are pending, want 10,100", n)
	}
	m.memory("with 10,100 changes pending")
	if n := e.sh(`cd / && ls -lR "$1" | grep -c '^-'`, m.Point); n != "10000\n" {
		t.Errorf("%s files are listed", n)
	}
	m.memory("having listed them")
	m.kill9()
	m.start()
	m.memory("after SIGKILL and mount")
	e.ok(e.server.Start(e.soon()))
	began := time.Now()
	m.wait(m.Point)
	t.Logf("10,100 objects within %v of the server's return", time.Since(began).Round(time.Millisecond))
	m.memory("after they went up")
	keys, err := e.server.Keys("")
	e.ok(err)
	if len(keys) != 10_100 {
		t.Errorf("%d objects, want 10,100", len(keys))
	}
	m.umount(0)
}

// All threads of the daemon may be woken late, and Go's monitor is one of those that
// begin before main does.
func TestDaemonHasTimerSlack(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache")
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", m.P.PID()))
	e.ok(err)
	if !strings.Contains(string(env), "_OSSMOUNT_SLACK=1\x00") {
		t.Error("the daemon has not begun anew")
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", m.P.PID()))
	e.ok(err)
	for _, task := range tasks {
		slack, err := os.ReadFile("/proc/" + task.Name() + "/timerslack_ns")
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) { // it has ended; CAP_SYS_NICE is missing
			continue
		}
		e.ok(err)
		if string(slack) != "200000\n" {
			t.Errorf("thread %s has a slack of %s", task.Name(), slack)
		}
	}
	if len(tasks) < 2 {
		t.Errorf("%d threads", len(tasks))
	}
}
