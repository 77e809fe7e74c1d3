package integration

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/ossmount/ossmount/integration/harness"
)

func TestEverythingArrivesWhenTheServerIsBack(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache")
	src := e.path("src")
	e.ok(os.Mkdir(src, 0o755))
	e.ok(harness.WriteFile(src+"/before", 1, 50_000))
	e.sh(`cp -a "$1/before" "$2"`, src, m.Point)
	m.wait(m.in("before"))
	e.ok(e.server.Kill())

	e.ok(harness.Generate(src+"/tree", 2, 60))
	e.ok(harness.WriteFile(src+"/big", 3, 30<<20))
	e.sh(`cp -a "$1/tree" "$1/big" "$2"`, src, m.Point)
	e.sameTrees(src+"/tree", m.in("tree"))
	e.sh(`cmp "$1/before" "$2/before"; cmp "$1/big" "$2/big"`, src, m.Point)

	e.poll("status says that OSS is away", 30*time.Second, func() bool { return m.status().Queue.Away != "" })
	r, err := m.Wait(m.Point, 2*time.Second)
	e.ok(err)
	if r.Code != 3 {
		t.Errorf("wait with the server away: want exit 3, got %v", r)
	}
	if s := m.status(); s.Queue.Pending == 0 {
		t.Errorf("nothing is pending: %+v", s)
	}
	e.ok(e.server.Start(e.soon()))
	m.wait(m.Point)
	if s := m.status(); s.Queue.Away != "" || s.Queue.Pending != 0 {
		t.Errorf("after all has arrived: %+v", s)
	}
	e.verify("", src)
	m.umount(0)
}

func TestUsedCacheDirectoryMountsWhileOSSIsAway(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=20s")
	e.write(m.in("pending"), "pending bytes")
	e.ok(os.Mkdir(m.in("ours"), 0o755))
	m.kill9()
	e.ok(e.server.Kill())
	m.start()
	e.reads(m.in("pending"), "pending bytes")
	e.write(m.in("ours/made offline"), "more") // where OSS is known to hold nothing
	// Elsewhere silence is no absence: the name may be there.
	if err := os.WriteFile(m.in("unknown"), nil, 0o644); !errors.Is(err, syscall.EIO) {
		t.Errorf("a name of which nothing is known: %v, want EIO", err)
	}
	if names, err := os.ReadDir(m.Point); !errors.Is(err, syscall.EIO) || len(names) != 2 {
		t.Errorf("the root shows %v, %v; want what is known, and EIO", names, err)
	}
	e.poll("status says that OSS is away", time.Minute, func() bool { return m.status().Queue.Away != "" })
	e.ok(e.server.Start(e.soon()))
	m.umount(0, "--drain=90s")
	e.object("pending", "pending bytes")
	e.object("ours/made offline", "more")
}
