package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ossmount/ossmount/integration/harness"
)

// forest makes dirs directories with files files each, of a few bytes, by n
// hands at once.
func (e *env) forest(root string, dirs, files int) {
	e.Helper()
	var g errgroup.Group
	g.SetLimit(8)
	for d := range dirs {
		g.Go(func() error {
			dir := fmt.Sprintf("%s/dir%03d", root, d)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			for f := range files {
				if err := os.WriteFile(fmt.Sprintf("%s/file%04d", dir, f), []byte(fmt.Sprint("file ", f, " of ", d)), 0o644); err != nil {
					return err
				}
			}
			return nil
		})
	}
	e.ok(g.Wait())
}

// spent is what the server was asked since the last Reset; more than most fail
// the test.
func (e *env) spent(what string, most int64) harness.Counts {
	e.Helper()
	c := e.counts()
	e.Logf("%s: %v", what, c)
	if c.Requests > most {
		e.Errorf("%s: %d requests, at most %d allowed", what, c.Requests, most)
	}
	return c
}

func TestRemovalOfFiveThousandObjectsIsAFewBatches(t *testing.T) {
	e := setup(t)
	// A slow machine would list the directories again each 5 s: that is not what
	// is counted here.
	m := e.mount("cache", "--meta-ttl=1m", "--write-back-delay=1s") // the default
	e.forest(m.in("tree"), 50, 100)
	m.wait(m.Point)
	m.umount(0)
	e.ok(e.server.Reset())
	m.start()
	e.sh(`rm -rf "$1"`, m.in("tree"))
	m.wait(m.Point)
	m.umount(0)
	e.spent("rm -rf of 5,000 files in 50 directories", 120)
	keys, err := e.server.Keys("")
	e.ok(err)
	if len(keys) > 0 {
		t.Errorf("%d objects are left: %.5q", len(keys), keys)
	}
}

func TestRenameOfADirectoryIsOneCopyEach(t *testing.T) {
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=5s")
	e.forest(m.in("old"), 1, 1000)
	m.umount(0, "--drain=2m")
	m.start()
	e.ok(e.server.Reset())
	e.sh(`mv "$1" "$2"`, m.in("old/dir000"), m.in("new"))
	c := e.spent("until mv has returned", 5)
	if c.Ops["CopyObject"].Requests > 0 {
		t.Error("copies were made within the write-back delay")
	}
	if list, err := os.ReadDir(m.in("new")); err != nil || len(list) != 1000 {
		t.Errorf("%d names in the new place, want 1000: %v", len(list), err)
	}
	m.wait(m.Point)
	m.umount(0)
	c = e.spent("in all", 1000+20)
	if n := c.Ops["CopyObject"].Requests; n < 999 || n > 1001 {
		t.Errorf("%d copies", n)
	}
	keys, err := e.server.Keys("old/dir000/")
	e.ok(err)
	if len(keys) > 0 {
		t.Errorf("old names are left: %.5q", keys)
	}
}

func TestModesOfPendingFilesCostNothing(t *testing.T) {
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=10s")
	e.forest(m.in("tree"), 10, 100)
	e.ok(e.server.Reset())
	e.sh(`chmod -R u=rwX,go= "$1"`, m.in("tree"))
	if n := e.counts().OfObjects(); n > 0 {
		t.Errorf("chmod has asked %v", e.counts())
	}
	m.umount(0, "--drain=2m")
	if n := e.counts().OfObjects(); n != 1011 {
		t.Errorf("%d requests for 1,000 files and 11 directories: %v", n, e.counts())
	}
	m = e.mount("another-cache")
	if out := e.sh(`find "$1" -type f ! -perm 600 -o -type d ! -perm 700`, m.in("tree")); out != "" {
		t.Errorf("modes:\n%.300s", out)
	}
}

func TestAttributesOfOthersAreAskedForOnce(t *testing.T) {
	e := setup(t)
	var g errgroup.Group
	g.SetLimit(16)
	b := e.bucket()
	for i := range 10_000 {
		g.Go(func() error { return b.PutObject(fmt.Sprintf("dir/of another %05d", i), strings.NewReader("x")) })
	}
	e.ok(g.Wait())
	// What was learnt within two seconds of a change is asked once more, because
	// LastModified has only seconds: let them be old.
	put := time.Now()
	e.poll("the objects are a few seconds old", patience, func() bool { return time.Since(put) > 3500*time.Millisecond })
	m := e.mount("cache", "--meta-ttl=1m")
	e.ok(e.server.Reset())
	if out := e.sh(`ls -l "$1" | wc -l`, m.in("dir")); strings.TrimSpace(out) != "10001" {
		t.Errorf("ls -l prints %s lines", out)
	}
	e.spent("ls -l of 10,000 objects of others", 10_020)
	m.umount(0)
	m.start()
	e.ok(e.server.Reset())
	if out := e.sh(`ls -l "$1" | wc -l`, m.in("dir")); strings.TrimSpace(out) != "10001" {
		t.Errorf("ls -l prints %s lines", out)
	}
	e.spent("after a remount", 12)
}

func TestRsyncOfATreeIsOneRequestEach(t *testing.T) {
	e := setup(t)
	src := e.path("src")
	e.forest(src, 110, 10)
	for i := range 70 {
		e.write(fmt.Sprintf("%s/dir%03d/more", src, i), fmt.Sprint("more ", i))
	}
	e.sh(`find "$1" -exec touch -d "2020-01-02 03:04:05.678" {} +; chmod 600 "$1"/*/file0003`, src)
	e.ok(e.server.Reset())
	m := e.mount("cache", "--write-back-delay=5s")
	e.sh(`rsync -a "$1/" "$2/tree/"`, src, m.Point)
	m.umount(0, "--drain=2m")
	e.spent("rsync -a of 1,170 files in 110 directories", 1450)
	e.ok(e.server.Reset())
	m.start()
	if out := e.sh(`rsync -a -i "$1/" "$2/tree/"`, src, m.Point); out != "" {
		t.Errorf("rsync has done again:\n%.1000s", out)
	}
	m.umount(0)
	c := e.counts()
	lists := c.Ops["ListObjectsV2"].Requests + c.Ops["ListObjects"].Requests
	t.Logf("the same again: %v", c)
	if lists > 112+10 || c.Requests-lists > 50 {
		t.Errorf("%d listings of 112 directories, and %d other requests", lists, c.Requests-lists)
	}
	m = e.mount("another-cache")
	e.sh(`rsync -a -n -i --checksum "$1/" "$2/tree/" | (! grep .)`, src, m.Point)
}
