package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

// changed is a big object that somebody has put there, a fresh mount, and a
// local file with the same bytes that is treated in the same way.
type changed struct {
	*env
	m     *mount
	local string // directory of the local file
	size  int64
}

const changedKey = "changed.bin"

func bigObject(t *testing.T, flags ...string) *changed {
	c := &changed{env: setup(t), size: 128 << 20}
	if *full {
		c.size = 1 << 30
	}
	c.local = c.path("local")
	c.ok(os.Mkdir(c.local, 0o755))
	c.ok(harness.WriteFile(c.at(), 7, uint64(c.size)))
	f, err := os.Open(c.at())
	c.ok(err)
	defer f.Close()
	c.ok(c.bucket().UploadFile(changedKey, c.at(), 16<<20))
	c.m = c.mount("cache", flags...)
	c.ok(c.server.Reset())
	return c
}

func (c *changed) at() string { return c.local + "/" + changedKey }

// both does the same to the local file and to that of the mount.
func (c *changed) both(do func(path string) error) {
	c.Helper()
	c.ok(do(c.at()))
	c.ok(do(c.m.in(changedKey)))
}

// moved waits until all is on OSS, compares it, through this mount and on OSS,
// and tells what was moved for it.
func (c *changed) moved(what string) (up, down int64) {
	c.Helper()
	c.m.wait(c.m.in(changedKey))
	n := c.counts()
	for _, op := range []string{"PutObject", "UploadPart"} {
		up += n.Ops[op].BytesIn
	}
	down = n.Ops["GetObject"].BytesOut
	c.Logf("%s: uploaded %.3f MiB, downloaded %.3f MiB, %d requests", what, mib(up), mib(down), n.Requests)
	c.verify("", c.local)
	c.sh(`cmp "$1" "$2"`, c.at(), c.m.in(changedKey))
	c.ok(c.server.Reset())
	return up, down
}

func (c *changed) atMost(what string, n, most int64) {
	c.Helper()
	if n > most {
		c.Errorf("%s: %.3f MiB, at most %.3f MiB allowed", what, mib(n), mib(most))
	}
}

// patched opens the file without truncating it, and writes.
func patched(text string, offs ...int64) func(path string) error {
	return func(path string) error {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		for _, off := range offs {
			if _, err := f.WriteAt([]byte(text), off); err != nil {
				return err
			}
		}
		return f.Close()
	}
}

func appended(text string) func(path string) error {
	return func(path string) error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		if _, err := f.WriteString(text); err != nil {
			return err
		}
		return f.Close()
	}
}

const mebi = 1 << 20

// What a change of a big object costs; each on a mount that knows nothing of it.
func TestChangesOfABigObjectCostWhatWasChanged(t *testing.T) {
	one := strings.Repeat("another MiB that is not what was there, ", mebi/40+1)[:mebi]
	r := rand.New(rand.NewPCG(5, 5))
	for _, s := range []struct {
		name     string
		do       func(size int64) func(path string) error
		up, down int64 // at most
		sum      int64 // of both, at most
	}{
		{name: "append of 1 MiB", up: mebi * 12 / 10, down: mebi / 5,
			do: func(int64) func(string) error { return appended(one) }},
		{name: "1 MiB at an odd offset in the middle", up: mebi * 3 / 2, down: mebi / 2,
			do: func(size int64) func(string) error { return patched(one, size/2+12345) }},
		{name: "100 random writes of 4 KiB", sum: 100 * mebi * 3 / 10,
			do: func(size int64) func(string) error {
				var offs []int64
				for range 100 {
					offs = append(offs, r.Int64N(size-4096))
				}
				return patched(one[:4096], offs...)
			}},
		{name: "truncated to half", up: mebi / 5, down: mebi / 5,
			do: func(size int64) func(string) error {
				return func(path string) error { return os.Truncate(path, size/2) }
			}},
		{name: "cut and grown again", up: mebi * 3, down: mebi / 5,
			do: func(size int64) func(string) error {
				return func(path string) error {
					if err := os.Truncate(path, size/2); err != nil {
						return err
					}
					return os.Truncate(path, size/2+2*mebi)
				}
			}},
		{name: "a hole, and bytes far behind the end", up: mebi * 7, down: mebi / 2,
			do: func(size int64) func(string) error {
				return func(path string) error {
					f, err := os.OpenFile(path, os.O_RDWR, 0)
					if err != nil {
						return err
					}
					defer f.Close()
					if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 3*mebi+1, 2*mebi); err != nil {
						return err
					}
					_, err = f.WriteAt([]byte("far behind"), size+4*mebi)
					return err
				}
			}},
	} {
		t.Run(s.name, func(t *testing.T) {
			if !*full {
				t.Parallel()
			}
			c := bigObject(t)
			c.both(s.do(c.size))
			up, down := c.moved(s.name)
			if s.sum > 0 {
				c.atMost("uploaded and downloaded", up+down, s.sum)
				return
			}
			c.atMost("uploaded", up, s.up)
			c.atMost("downloaded", down, s.down)
		})
	}
}

// One change after another, of an object that is cached, partly cached, renamed,
// and open meanwhile.
func TestChangesOfABigObjectGoOn(t *testing.T) {
	t.Parallel()
	c := bigObject(t)
	few := func(what string, do func(path string) error) {
		t.Helper()
		c.both(do)
		c.m.wait(c.m.in(changedKey))
		n := c.counts()
		c.atMost(what, n.Ops["PutObject"].BytesIn+n.Ops["UploadPart"].BytesIn, 2*mebi)
		c.verify("", c.local)
		c.ok(c.server.Reset())
	}
	few("an append", appended("one"))
	few("another", appended("two"))
	c.sh(`cmp "$1" "$2"`, c.at(), c.m.in(changedKey)) // all of it is here now
	few("of what is cached", patched("three", 1, 50*mebi, 100*mebi))
	few("and again", patched("four", 77*mebi))
	reader := c.open(c.m.in(changedKey), os.O_RDONLY)
	for i, off := range []int64{10, 20 * mebi, 20*mebi + 5, c.size - 3} {
		few("beside a reader", patched(fmt.Sprint("while it is open, ", i), off))
		few("beside a reader", appended(fmt.Sprint("the end of ", i)))
	}
	few("beside a reader", func(path string) error { return os.Truncate(path, c.size-mebi) })
	few("beside a reader", func(path string) error { return os.Truncate(path, c.size) })
	c.ok(reader.Close())
	c.m.wait(c.m.Point)
	c.verify("", c.local)
	c.ok(c.server.Reset())
	c.both(patched("before it is renamed", 5*mebi))
	c.ok(os.Rename(c.m.in(changedKey), c.m.in("renamed")))
	c.ok(os.Rename(c.at(), c.local+"/renamed"))
	c.m.wait(c.m.Point)
	c.verify("", c.local)
	n := c.counts()
	c.atMost("of one that was renamed", n.Ops["PutObject"].BytesIn+n.Ops["UploadPart"].BytesIn, 2*mebi)
	c.m.umount(0)
	c.m = c.mount("another-cache")
	c.sh(`cmp "$1" "$2"`, c.local+"/renamed", c.m.in("renamed"))
}

func TestRsyncInPlaceCostsWhatWasChanged(t *testing.T) {
	t.Parallel()
	c := bigObject(t)
	c.ok(patched(strings.Repeat("x", mebi), c.size/3)(c.at()))
	c.sh(`rsync -I --inplace --no-whole-file "$1" "$2"`, c.at(), c.m.in(changedKey))
	up, _ := c.moved("rsync --inplace --no-whole-file of a file with 1 MiB changed")
	c.atMost("uploaded", up, mebi*3/2)
}

// A change of what is just being uploaded costs the parts that it touches, and
// those in flight.
func TestRewriteDuringUpload(t *testing.T) {
	t.Parallel()
	r := halfway(t)
	text := strings.Repeat("4 KiB ", 700)[:4096]
	r.ok(patched(text, 1000)(r.source + "/" + bigKey))
	r.ok(patched(text, 1000)(r.m.in(bigKey)))
	r.onServer()
	r.arrives(r.allowed() + 2*r.part)
}

// A kill at any stage of a change: it is there after the next mount, and costs no
// more than the parts in flight.
func TestChangesOfABigObjectSurviveSIGKILL(t *testing.T) {
	for _, s := range []struct {
		name string
		stop func(c *changed)
	}{
		{"before anything was sent", func(c *changed) {}},
		{"when the upload has begun", func(c *changed) {
			c.poll("an upload", time.Minute, func() bool {
				u, err := c.server.Uploads()
				c.ok(err)
				return len(u) > 0
			})
		}},
		{"when parts are there", func(c *changed) {
			c.poll("a part", time.Minute, func() bool {
				u, err := c.server.Uploads()
				c.ok(err)
				return len(u) > 0 && u[0].Parts > 2
			})
		}},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			c := bigObject(t, "--part-size=256KiB", "--upload-limit=2MiB", "--write-back-delay=10ms")
			text := strings.Repeat("0123456789abcdef", mebi/16)
			c.both(patched(text, 12345, 40*mebi+7, 90*mebi))
			s.stop(c)
			c.m.kill9()
			c.m.start()
			up, down := c.moved("3 × 1 MiB, killed " + s.name)
			c.atMost("uploaded", up, 3*mebi+mebi/2+32*256<<10)
			c.atMost("downloaded", down, 2*mebi)
		})
	}
}

// The same, and the daemon is killed: before the change is sent, and in the middle
// of it.
func TestRewriteDuringUploadSurvivesSIGKILL(t *testing.T) {
	t.Parallel()
	r := halfway(t)
	text := strings.Repeat("4 KiB ", 700)[:4096]
	r.ok(patched(text, 1000)(r.source + "/" + bigKey))
	r.ok(patched(text, 1000)(r.m.in(bigKey)))
	r.m.kill9()
	r.m.start()
	was := r.onServer()
	r.poll("the upload goes on", time.Minute, func() bool {
		n := r.onServer()
		return n > was || n == 0
	})
	r.m.kill9()
	r.onServer()
	r.m.start()
	r.arrives(r.size + 3*r.concurrency*r.part + 2*r.part)
}

// The answer to Complete is lost after OSS has made the new version out of the old
// one: it is no conflict, nothing is sent again, and a reader who has the file open
// reads on. covers H5
func TestLostAnswerToCompleteOverItsOwnBase(t *testing.T) {
	t.Parallel()
	c := bigObject(t, "--doubt=2s")
	reader := c.open(c.m.in(changedKey), os.O_RDONLY)
	c.ok(second(c.server.Fault("reset,at=after,op=CompleteMultipartUpload,count=1")))
	c.both(appended(strings.Repeat("appended ", mebi/9)))
	up, _ := c.moved("append, the answer to Complete lost")
	c.atMost("uploaded", up, mebi*12/10)
	if n := c.m.conflicts(); n > 0 {
		t.Errorf("%d conflicts", n)
	}
	p := make([]byte, 4096)
	if _, err := reader.ReadAt(p, c.size/2); err != nil {
		t.Errorf("the reader: %v", err)
	}
	c.both(patched("and on", 3*mebi))
	up, _ = c.moved("and one change more")
	c.atMost("uploaded", up, mebi/2)
	c.ok(reader.Close())
}

// Two changed files that are open for reading trade their names, and the engine
// fills one of them to free both; a writer joins the readers after that.
func TestExchangeOfChangedFilesThatAreOpen(t *testing.T) {
	t.Parallel()
	e := setup(t)
	olda := strings.Repeat("0123456789abcdef", 2<<20/16)
	oldb := strings.Repeat("ABCDEFGHIJKLMNOP", 2<<20/16)
	e.put("a", strings.NewReader(olda))
	e.put("b", strings.NewReader(oldb))
	m := e.mount("cache", "--multipart-threshold=1MiB", "--part-size=256KiB", "--handle-grace=1s", "--write-back-delay=1s")
	e.ok(patched("one", 100)(m.in("a")))
	e.ok(patched("one", 100)(m.in("b")))
	ra := e.open(m.in("a"), os.O_RDONLY)
	rb := e.open(m.in("b"), os.O_RDONLY)
	defer ra.Close()
	defer rb.Close()
	e.ok(unix.Renameat2(unix.AT_FDCWD, m.in("a"), unix.AT_FDCWD, m.in("b"), unix.RENAME_EXCHANGE))
	before := e.contents("cache")
	m.wait(m.Point)
	e.poll("the content that was filled is dropped", patience, func() bool {
		now := e.contents("cache")
		return slices.ContainsFunc(before, func(path string) bool { return !slices.Contains(now, path) })
	})
	e.ok(patched("two", 5000)(m.in("b")))
	e.ok(patched("two", 5000)(m.in("a")))
	m.wait(m.Point)
	want := olda[:100] + "one" + olda[103:5000] + "two" + olda[5003:]
	e.reads(m.in("b"), want)
	e.object("b", want)
	want = oldb[:100] + "one" + oldb[103:5000] + "two" + oldb[5003:]
	e.reads(m.in("a"), want)
	e.object("a", want)
}

// contents are the files of the contents in a cache directory.
func (e *env) contents(cache string) []string {
	e.Helper()
	files, err := filepath.Glob(e.path(cache + "/contents/*/*"))
	e.ok(err)
	return files
}
