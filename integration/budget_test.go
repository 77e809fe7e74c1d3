package integration

import (
	"fmt"
	"os"
	"testing"

	"github.com/ossmount/ossmount/integration/harness"
)

// Requests are counted over the whole life of a mount, from the check at its
// start to its unmounting.

func TestCopyOfAThousandFilesIsOneRequestEach(t *testing.T) {
	t.Parallel()
	e := setup(t)
	src := e.path("src/tree")
	for d := range 10 {
		e.ok(os.MkdirAll(fmt.Sprintf("%s/dir%d", src, d), 0o755))
		for f := range 100 {
			e.ok(harness.WriteFile(fmt.Sprintf("%s/dir%d/file%02d", src, d, f), uint64(d*100+f), 4096))
		}
	}
	m := e.mount("cache", "--write-back-delay=1s", "--meta-ttl=1h") // on a slow machine the default would pass meanwhile
	e.sh(`cp -r "$1" "$2"`, src, m.Point)
	m.wait(m.Point)
	m.umount(0)
	c := e.counts()
	t.Logf("%d requests for 1,000 files in 10 directories (and their parent): %v", c.Requests, c)
	if most := int64(1000 + 11 + 20); c.Requests > most {
		t.Errorf("%d requests, at most %d allowed: %v", c.Requests, most, c)
	}
	m.start()
	e.sh(`diff -r "$1" "$2"`, src, m.in("tree"))
}

func TestFileRemovedWithinTheDelayCostsNothing(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=30s")
	e.ok(e.server.Reset())
	e.sh(`cp /bin/sh "$1/gone"; rm "$1/gone"`, m.Point)
	m.wait(m.Point)
	m.umount(0)
	c := e.counts()
	t.Log(c)
	if n := c.OfObjects(); n != 0 {
		t.Errorf("%d requests for objects, want none: %v", n, c)
	}
}

func TestFileRenamedWithinTheDelayIsOnePut(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=30s")
	e.ok(e.server.Reset())
	e.ok(harness.WriteFile(e.path("file"), 7, 100_000))
	e.sh(`rsync -a "$1" "$2/"`, e.path("file"), m.Point) // .file.XXXXXX, chmod, utimes, rename
	m.umount(0)
	c := e.counts()
	t.Log(c)
	if c.OfObjects() != 1 || c.Ops["PutObject"].Requests != 1 {
		t.Errorf("want one PutObject and nothing else: %v", c)
	}
	e.ok(os.Mkdir(e.path("src"), 0o755))
	e.ok(os.Rename(e.path("file"), e.path("src/file")))
	e.verify("", e.path("src"))
}

func TestRewritesWithinTheDelayAreOnePut(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=30s")
	e.ok(e.server.Reset())
	for i := range 20 {
		e.write(m.in("f"), fmt.Sprint("version ", i))
		e.ok(os.Chmod(m.in("f"), os.FileMode(0o600+i%8)))
	}
	m.umount(0)
	c := e.counts()
	if c.OfObjects() != 1 {
		t.Errorf("want one request: %v", c)
	}
	e.object("f", "version 19")
}

func TestRemovalOfAThousandObjectsLeavesNone(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache")
	e.sh(`mkdir "$1/d"; for i in $(seq 1000); do echo $i > "$1/d/$i"; done`, m.Point)
	m.wait(m.Point)
	m.umount(0)
	m.start()
	e.ok(e.server.Reset())
	e.sh(`rm -r "$1/d"`, m.Point)
	m.wait(m.Point)
	m.umount(0)
	c := e.counts()
	t.Log(c)
	if most := int64(1001 + 30); c.Requests > most { // in batches it would be 2 + 30
		t.Errorf("%d requests, at most %d allowed: %v", c.Requests, most, c)
	}
	keys, err := e.server.Keys("")
	e.ok(err)
	if len(keys) != 0 {
		t.Errorf("objects are left: %.10q", keys)
	}
}
