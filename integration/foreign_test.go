package integration

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossmount/ossmount/integration/harness"
)

func TestObjectsOfOthersAreListedAndRead(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.put("readme.txt", strings.NewReader("hello"))
	e.put("deep/er/and/deeper.txt", strings.NewReader("down here"))
	e.put("made/", strings.NewReader(""))
	e.put("moded", strings.NewReader("m"), oss.Meta("mode", "33216"), oss.Meta("mtime", "1234567890.123456789"), oss.Meta("uid", "55"))
	e.put("sym", strings.NewReader("readme.txt"), oss.Meta("mode", "41471"))
	m := e.mount("cache")
	if out := e.sh(`cd / && ls -1 "$1"`, m.Point); out != "deep\nmade\nmoded\nreadme.txt\nsym\n" {
		t.Errorf("ls: %q", out)
	}
	e.reads(m.in("readme.txt"), "hello")
	e.reads(m.in("deep/er/and/deeper.txt"), "down here")
	e.reads(m.in("sym"), "hello")
	fi, err := os.Stat(m.in("moded"))
	e.ok(err)
	if fi.Mode() != 0o700 || fi.ModTime().UnixNano() != 1234567890123456789 || fi.Sys().(*syscall.Stat_t).Uid != 55 {
		t.Errorf("attributes of an object with metadata: %v %v %+v", fi.Mode(), fi.ModTime(), fi.Sys())
	}
	// A directory that is only a prefix stays one when its last file goes.
	e.ok(os.Remove(m.in("deep/er/and/deeper.txt")))
	if fi, err := os.Stat(m.in("deep/er/and")); err != nil || !fi.IsDir() {
		t.Errorf("the directory of the removed file: %v", err)
	}
	m.wait(m.Point)
	m.umount(0)
	m = e.mount("another-cache")
	if fi, err := os.Stat(m.in("deep/er/and")); err != nil || !fi.IsDir() {
		t.Errorf("the directory of the removed file, in a new mount: %v", err)
	}
}

// Objects with keys that no path leads to are not shown, are none the worse for
// what happens around them, and keep their directory from being removed.
func TestKeysThatNoPathCanHave(t *testing.T) {
	t.Parallel()
	e := setup(t)
	long := strings.Repeat("n", 256)
	odd := []string{"/x", "//y/z", "./dot", "../dots", long, long + "/in it"}
	for _, dir := range []string{"d", "only"} {
		for _, k := range odd {
			e.put(dir+"/"+k, strings.NewReader(k))
		}
	}
	e.put("d/f", strings.NewReader("f"))
	m := e.mount("cache", "--write-back-delay=2s")
	shows := func(what, want string) {
		t.Helper()
		if got := e.sh(`cd / && find "$1" -mindepth 1 -printf '%P\n' | sort | tr '\n' ' '`, m.Point); got != want {
			t.Errorf("%s: the mount shows %q, want %q", what, got, want)
		}
	}
	shows("before", "d d/f only ")
	e.is(syscall.ENOTEMPTY, syscall.Rmdir(m.in("only")))
	e.ok(os.Rename(m.in("d"), m.in("e")))
	shows("renamed", "e e/f only ")
	e.ok(os.Remove(m.in("e/f")))
	e.is(syscall.ENOTEMPTY, syscall.Rmdir(m.in("e")))
	e.ok(os.Mkdir(m.in("d"), 0o755))
	e.is(syscall.ENOTEMPTY, syscall.Rename(m.in("d"), m.in("only")))
	e.ok(os.Remove(m.in("d")))
	m.wait(m.Point)
	shows("on OSS", "e only ")
	for _, dir := range []string{"e", "only"} {
		for _, k := range odd {
			e.object(dir+"/"+k, k)
		}
	}
	if n := strings.Count(m.P.Err.String(), "no path can have"); n != 1 {
		t.Errorf("the log says %d times that there are such keys", n)
	}
	keys, err := e.server.Keys("")
	e.ok(err)
	if len(keys) != 2*len(odd)+1 { // and e/ itself, which has lost its last name that shows
		t.Errorf("the bucket holds %.30q", keys)
	}
}

func TestFirstByteNeedsNoWholeDownload(t *testing.T) {
	t.Parallel()
	e := setup(t)
	const size = 256 << 20
	body, err := io.ReadAll(harness.Random(3, size))
	e.ok(err)
	e.put("big", bytes.NewReader(body))
	m := e.mount("cache")
	e.ok(e.server.Reset())
	f := e.open(m.in("big"), os.O_RDONLY)
	defer f.Close()
	for _, off := range []int64{0, 128<<20 + 777, size - 100} {
		b := make([]byte, 100)
		_, err := f.ReadAt(b, off)
		e.ok(err)
		if !bytes.Equal(b, body[off:off+100]) {
			t.Errorf("wrong bytes at %d", off)
		}
	}
	c := e.counts()
	t.Logf("three reads of 100 bytes in an object of 256 MiB: %.1f MiB received, %d GETs", mib(c.BytesOut), c.Ops["GetObject"].Requests)
	if c.BytesOut > 48<<20 {
		t.Errorf("%d bytes received for three reads of 100 bytes", c.BytesOut)
	}
	if c.Ops["GetObject"].Status["200"] > 0 {
		t.Errorf("a whole object was asked for: %v", c)
	}
	sum, err := harness.SumFile(m.in("big"))
	e.ok(err)
	if want, _ := harness.Sum(bytes.NewReader(body)); sum != want {
		t.Error("the whole file reads wrong")
	}
	c = e.counts()
	t.Logf("and then all of it: %.1f MiB received, %d GETs", mib(c.BytesOut), c.Ops["GetObject"].Requests)
	if c.BytesOut > size*5/4 {
		t.Errorf("%d bytes received for one file of %d", c.BytesOut, size)
	}
}

func TestObjectsOfOthersCanBeChanged(t *testing.T) {
	t.Parallel()
	e := setup(t)
	changes := []struct {
		name string
		do   func(path string)
		want func(old []byte) []byte
	}{
		{"append", func(p string) { e.appends(p, "more") }, func(b []byte) []byte { return append(b, "more"...) }},
		{"overwrite in the middle", func(p string) {
			f := e.open(p, os.O_RDWR)
			e.writeAt(f, "new", 1000)
			e.ok(f.Close())
		}, func(b []byte) []byte { copy(b[1000:], "new"); return b }},
		{"truncate", func(p string) { e.ok(os.Truncate(p, 1234)) }, func(b []byte) []byte { return b[:1234] }},
		{"truncate up", func(p string) { e.ok(os.Truncate(p, 20<<20)) }, func(b []byte) []byte { return append(b, make([]byte, 20<<20-len(b))...) }},
		{"empty", func(p string) { e.ok(os.Truncate(p, 0)) }, func([]byte) []byte { return nil }},
		{"replace", func(p string) { e.write(p, "replaced") }, func([]byte) []byte { return []byte("replaced") }},
		{"chmod", func(p string) { e.ok(os.Chmod(p, 0o600)) }, func(b []byte) []byte { return b }},
		{"rename", func(p string) { e.ok(os.Rename(p, p+".old")); e.ok(os.Rename(p+".old", p)) }, func(b []byte) []byte { return b }},
		{"write far beyond the end", func(p string) {
			f := e.open(p, os.O_WRONLY)
			e.writeAt(f, "far", 14<<20)
			e.ok(f.Close())
		}, func(b []byte) []byte { return append(append(b, make([]byte, 14<<20-len(b))...), "far"...) }},
	}
	for _, size := range []uint64{100_000, 12 << 20} {
		for _, c := range changes {
			e.put(fmt.Sprintf("%s of %d", c.name, size), harness.Random(size, size))
		}
	}
	m := e.mount("cache")
	for _, size := range []uint64{100_000, 12 << 20} {
		old, err := io.ReadAll(harness.Random(size, size))
		e.ok(err)
		for _, c := range changes {
			name := fmt.Sprintf("%s of %d", c.name, size)
			want := string(c.want(bytes.Clone(old)))
			c.do(m.in(name))
			e.reads(m.in(name), want)
			m.wait(m.in(name))
			e.object(name, want)
			e.reads(m.in(name), want)
		}
	}
}

func TestPrefixIsAWorldOfItsOwn(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.put("outside", strings.NewReader("x"))
	e.put("a/b/inside", strings.NewReader("in"))
	e.put("a/bc", strings.NewReader("not in it"))
	m := e.mountSource("oss://"+harness.Bucket+"/a/b", "mnt", "cache", e.usual()...)
	other := e.mountSource("oss://"+harness.Bucket+"/z", "other", "cache-z", e.usual()...)
	e.reads(m.in("inside"), "in")
	e.write(m.in("new"), "new")
	e.write(other.in("new"), "other")
	e.ok(os.Mkdir(m.in("d"), 0o755))
	m.wait(m.Point)
	other.wait(other.in("new"))
	keys, err := e.server.Keys("")
	e.ok(err)
	if got := strings.Join(keys, " "); got != "a/b/d/ a/b/inside a/b/new a/bc outside z/new" {
		t.Errorf("keys: %s", got)
	}
}

func TestChangesOfOthersAreSeen(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.put("f", strings.NewReader("one"))
	m := e.mount("cache", "--meta-ttl=0s")
	e.reads(m.in("f"), "one")
	e.put("f", strings.NewReader("two, longer"))
	e.put("new", strings.NewReader("x"))
	e.poll("the new version is read", patience, func() bool {
		b, err := os.ReadFile(m.in("f"))
		e.ok(err)
		if s := string(b); s != "one" && s != "two, longer" && s != "two" {
			t.Fatalf("mixed bytes: %q", s)
		}
		return string(b) == "two, longer"
	})
	e.poll("the new object is listed", patience, func() bool {
		_, err := os.Stat(m.in("new"))
		return err == nil
	})
	e.ok(e.bucket().DeleteObject("new"))
	e.poll("the removed object is gone", patience, func() bool {
		_, err := os.Stat(m.in("new"))
		return os.IsNotExist(err)
	})
}
