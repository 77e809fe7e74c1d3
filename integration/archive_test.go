package integration

import (
	"errors"
	"hash/crc64"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
	"golang.org/x/sys/unix"
)

// Archived objects and OSS's own symlinks. covers H28

// archived puts an object of a storage class.
func (e *env) archived(class, key, text string) {
	e.Helper()
	e.put(key, strings.NewReader(text), oss.ObjectStorageClass(oss.StorageClassType(class)))
}

// sums fails unless the object, which may be archived, has the sum of text.
func (e *env) sums(key, text string) {
	e.Helper()
	h, err := e.bucket().GetObjectDetailedMeta(key)
	e.ok(err)
	want := strconv.FormatUint(crc64.Checksum([]byte(text), crc64.MakeTable(crc64.ECMA)), 10)
	if got := h.Get("X-Oss-Hash-Crc64ecma"); got != want {
		e.Errorf("%s: CRC64 %s, want that of %q", key, got, text)
	}
}

// What needs the bytes of an archived object fails at the call, what does not
// works; once it is restored, which gives it no new version, all does. covers H28
func TestArchivedObjects(t *testing.T) {
	t.Parallel()
	for _, class := range []string{"Archive", "ColdArchive", "DeepColdArchive"} {
		t.Run(class, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			names := []string{"f", "d/deep/er", "gone", "emptied", "replaced", "pair"}
			for _, name := range names {
				e.archived(class, name, "bytes of "+name)
			}
			e.archived(class, "d/made/", "")
			e.put("plain", strings.NewReader("plain"))
			e.put("a", strings.NewReader("a"))
			m := e.mount("cache", "--write-back-delay=0s")
			if out := e.sh(`cd / && ls -1 "$1" && stat -c %s "$1/f"`, m.Point); out != "a\nd\nemptied\nf\ngone\npair\nplain\nreplaced\n10\n" {
				t.Errorf("listed: %q", out)
			}
			f := m.in("f")
			calls := map[string]func() error{
				"read":                func() error { return second(os.ReadFile(f)) },
				"open for writing":    func() error { return second(os.OpenFile(f, os.O_WRONLY|os.O_APPEND, 0)) },
				"truncate to 3 bytes": func() error { return os.Truncate(f, 3) },
				"rename":              func() error { return os.Rename(f, m.in("g")) },
				"exchange":            func() error { return unix.Renameat2(-1, f, -1, m.in("plain"), unix.RENAME_EXCHANGE) },
				"exchange, the other": func() error { return unix.Renameat2(-1, m.in("plain"), -1, f, unix.RENAME_EXCHANGE) },
				"chmod":               func() error { return os.Chmod(f, 0o600) },
				"chown":               func() error { return os.Chown(f, 7, 8) },
				"utimens":             func() error { return unix.Utimes(f, []unix.Timeval{{Sec: 1}, {Sec: 2}}) },
				"setxattr":            func() error { return unix.Setxattr(f, "user.color", []byte("red"), 0) },
				"rename of its directory": func() error {
					return os.Rename(m.in("d"), m.in("e"))
				},
				"exchange of its directory": func() error {
					return unix.Renameat2(-1, m.in("d"), -1, m.in("plain"), unix.RENAME_EXCHANGE)
				},
			}
			stuck := func(state string) {
				t.Helper()
				for what, call := range calls {
					if err := call(); !errors.Is(err, syscall.EPERM) {
						t.Errorf("%s while it is %s: %v", what, state, err)
					}
				}
				if got := e.state(f); got != state {
					t.Errorf("its state is %q, not %q", got, state)
				}
			}
			stuck("archived")
			named := func() int { return strings.Count(m.P.Err.String(), "restore it first") }
			e.poll("the remedy is named", patience, func() bool { return named() > 0 })
			if n := named(); n != 1 {
				t.Errorf("the remedy is named %d times", n)
			}
			// What needs no bytes of it.
			e.ok(os.Remove(m.in("gone")))
			e.ok(os.Truncate(m.in("emptied"), 0))
			e.write(m.in("replaced"), "new bytes")
			e.ok(os.Rename(m.in("a"), m.in("pair")))
			e.ok(os.Chmod(m.in("d/made"), 0o700)) // a directory has none
			m.wait(m.Point)
			e.sums("emptied", "")
			e.sums("replaced", "new bytes")
			e.object("pair", "a")
			e.reads(m.in("replaced"), "new bytes") // a clean copy is here
			keys, err := e.server.Keys("")
			e.ok(err)
			if got := strings.Join(keys, " "); got != "d/deep/er d/made/ emptied f pair plain replaced" {
				t.Errorf("keys: %s", got)
			}

			for _, key := range []string{"f", "d/deep/er"} {
				e.ok(e.bucket().RestoreObject(key))
			}
			stuck("restoring")
			_, err = e.server.Fault("clock,by=2m") // by then it is done
			e.ok(err)
			if got := e.state(f); !strings.HasPrefix(got, "restored until 20") {
				t.Errorf("its state is %q", got)
			}
			e.reads(f, "bytes of f")
			e.appends(f, " and more")
			e.ok(os.Chmod(f, 0o600))
			e.ok(os.Rename(f, m.in("g")))
			e.ok(os.Rename(m.in("d"), m.in("e")))
			m.wait(m.Point)
			e.sums("g", "bytes of f and more")
			e.reads(m.in("g"), "bytes of f and more") // here, though archived there
			keys, err = e.server.Keys("e/")
			e.ok(err)
			if got := strings.Join(keys, " "); got != "e/ e/deep/er e/made/" {
				t.Errorf("keys of the moved directory: %s", got)
			}
			if fi, err := os.Stat(m.in("e/made")); err != nil || fi.Mode().Perm() != 0o700 {
				t.Errorf("the directory in it: %v %v", fi, err)
			}
			h, err := e.bucket().GetObjectDetailedMeta("e/deep/er")
			e.ok(err)
			if got := h.Get("X-Oss-Storage-Class"); got != class {
				t.Errorf("the moved object is of class %s", got)
			}
		})
	}
}

// OSS symlinks are symlinks; what is changed becomes one of ours, and the
// target is never touched. covers H28
func TestSymlinksOfOSS(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.put("in/target", strings.NewReader("the target"))
	e.put("in/sub/deep", strings.NewReader("deep"))
	e.put("outside", strings.NewReader("outside"))
	e.put("in/odd/a//b", strings.NewReader("no path leads here"))
	links := map[string][2]string{ // its key's target, and what readlink says
		"in/beside":        {"in/target", "target"},
		"in/sub/up":        {"in/target", "../target"},
		"in/sub/here":      {"in/sub/deep", "deep"},
		"in/down":          {"in/sub/deep", "sub/deep"},
		"in/ü + %2F":       {"in/ä b+c", "ä b+c"},
		"in/dangling":      {"in/nothing", "nothing"},
		"in/to a link":     {"in/beside", "beside"},
		"in/to itself":     {"in/to itself", "to itself"},
		"in/out":           {"outside", "oss://bkt/outside"},
		"in/odd link":      {"in/odd/a//b", "oss://bkt/in/odd/a//b"},
		"in/moved":         {"in/target", "target"},
		"in/gone":          {"in/target", "target"},
		"in/overwritten":   {"in/target", "target"},
		"in/dated":         {"in/target", "target"},
		"in/tree/l":        {"in/tree/f", "f"},
		"in/tree/m/out":    {"in/target", "../../target"},
		"in/tree/dangling": {"in/nothing", "../nothing"},
	}
	e.put("in/tree/f", strings.NewReader("f"))
	for key, l := range links {
		e.ok(e.bucket().PutSymlink(key, l[0]))
	}
	e.laterSecond() // younger ones are asked about once more
	e.ok(e.server.Reset())
	m := e.mountSource("oss://bkt/in", "mnt", "cache", e.usual()...)
	shown := func() {
		t.Helper()
		for key, l := range links {
			path := m.in(strings.TrimPrefix(key, "in/"))
			if text, err := os.Readlink(path); err != nil || text != l[1] {
				t.Errorf("readlink %s: %q %v, want %q", key, text, err, l[1])
			}
			if fi, err := os.Lstat(path); err != nil || fi.Mode() != os.ModeSymlink|0o777 || fi.Size() != int64(len(l[1])) {
				t.Errorf("lstat %s: %v %v", key, fi, err)
			}
		}
	}
	shown()
	e.sh(`cd / && ls -lR "$1"`, m.Point)
	if c := e.counts(); c.Ops["GetSymlink"].Requests != int64(len(links)) {
		t.Errorf("%d links, and %v", len(links), c)
	}
	if out := e.sh(`cd / && find "$1" -type l | wc -l`, m.Point); strings.TrimSpace(out) != "17" {
		t.Errorf("find finds %s links", out)
	}
	e.reads(m.in("beside"), "the target")
	e.reads(m.in("sub/up"), "the target")
	e.reads(m.in("to a link"), "the target")
	e.is(syscall.ENOENT, second(os.ReadFile(m.in("dangling"))))
	e.is(syscall.ENOENT, second(os.ReadFile(m.in("out"))))
	m.umount(0)
	e.ok(e.server.Reset())
	m = e.mountSource("oss://bkt/in", "mnt", "cache", e.usual()...)
	shown()
	if c := e.counts(); c.OfObjects() != 0 {
		t.Errorf("what is known is asked for again: %v", c)
	}

	e.ok(os.Rename(m.in("moved"), m.in("sub/renamed")))
	e.ok(os.Remove(m.in("gone")))
	e.write(m.in("plain"), "plain")
	e.ok(os.Rename(m.in("plain"), m.in("overwritten")))
	e.ok(unix.UtimesNanoAt(unix.AT_FDCWD, m.in("dated"), []unix.Timespec{{Sec: 5}, {Sec: 6}}, unix.AT_SYMLINK_NOFOLLOW))
	e.ok(os.Rename(m.in("tree"), m.in("grove")))
	readlink := func(name, want string) {
		t.Helper()
		if text, err := os.Readlink(m.in(name)); err != nil || text != want {
			t.Errorf("readlink %s: %q %v, want %q", name, text, err, want)
		}
	}
	after := func() {
		t.Helper()
		readlink("sub/renamed", "target")
		readlink("dated", "target")
		readlink("grove/l", "f")
		readlink("grove/m/out", "../../target")
		readlink("grove/dangling", "../nothing")
		e.reads(m.in("grove/l"), "f")
		e.reads(m.in("overwritten"), "plain")
		e.is(syscall.ENOENT, second(os.Lstat(m.in("gone"))))
		e.is(syscall.ENOENT, second(os.Lstat(m.in("moved"))))
		if fi, err := os.Lstat(m.in("dated")); err != nil || fi.ModTime().Unix() != 6 {
			t.Errorf("dated: %v %v", fi, err)
		}
	}
	after()
	m.wait(m.Point)
	after()
	if s := m.status(); len(s.Queue.Kept) != 0 {
		t.Errorf("%+v", s.Queue.Kept)
	}
	m.umount(0)
	e.object("in/target", "the target")
	for key, text := range map[string]string{"in/sub/renamed": "target", "in/dated": "target", "in/grove/l": "f", "in/grove/m/out": "../../target"} {
		h, err := e.bucket().GetObjectDetailedMeta(key)
		e.ok(err)
		if h.Get("X-Oss-Object-Type") == "Symlink" || h.Get("X-Oss-Meta-Mode") != "41471" {
			t.Errorf("%s is no symlink of ours: %v", key, h)
		}
		e.object(key, text)
	}
	keys, err := e.server.Keys("in/")
	e.ok(err)
	for _, key := range []string{"in/moved", "in/gone", "in/tree/l", "in/tree/m/out", "in/tree/dangling"} {
		if slices.Contains(keys, key) {
			t.Errorf("%s is still there", key)
		}
	}
	m = e.mountSource("oss://bkt/in", "mnt", "another-cache", e.usual()...)
	after()
}
