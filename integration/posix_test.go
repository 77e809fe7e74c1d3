package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

// behaviour is one thing that a file system does. It works in dir, which is
// once a directory of the mount and once a plain one: both must come out
// equal, now and, for the mount, after a remount with an empty cache directory.
type behaviour struct {
	name string
	do   func(e *env, dir string)
}

var behaviours = []behaviour{
	{"write at offsets, in any order", func(e *env, dir string) {
		f := e.open(dir+"/f", os.O_CREATE|os.O_RDWR)
		defer f.Close()
		e.writeAt(f, "cccc", 8)
		e.writeAt(f, "aaaa", 0)
		e.writeAt(f, "bb", 5)
		e.reads(dir+"/f", "aaaa\x00bb\x00cccc")
	}},
	{"append", func(e *env, dir string) {
		e.write(dir+"/f", "one,")
		for i := range 5 {
			f := e.open(dir+"/f", os.O_APPEND|os.O_WRONLY)
			_, err := fmt.Fprint(f, i, ",")
			e.ok(err)
			e.ok(f.Close())
		}
		e.reads(dir+"/f", "one,0,1,2,3,4,")
	}},
	{"two appenders", func(e *env, dir string) {
		a, b := e.open(dir+"/f", os.O_CREATE|os.O_APPEND|os.O_WRONLY), e.open(dir+"/f", os.O_APPEND|os.O_WRONLY)
		defer a.Close()
		defer b.Close()
		for range 3 {
			a.WriteString("a")
			b.WriteString("b")
		}
		e.reads(dir+"/f", "ababab")
	}},
	{"truncate down and up", func(e *env, dir string) {
		e.write(dir+"/f", "0123456789")
		e.ok(os.Truncate(dir+"/f", 4))
		e.ok(os.Truncate(dir+"/f", 8))
		e.reads(dir+"/f", "0123\x00\x00\x00\x00")
		f := e.open(dir+"/f", os.O_RDWR)
		defer f.Close()
		e.ok(f.Truncate(2))
		e.writeAt(f, "x", 5)
		e.reads(dir+"/f", "01\x00\x00\x00x")
	}},
	{"sparse files", func(e *env, dir string) {
		f := e.open(dir+"/f", os.O_CREATE|os.O_RDWR)
		defer f.Close()
		e.writeAt(f, "end", 5<<20)
		e.writeAt(f, "middle", 1<<20)
		e.ok(f.Truncate(6 << 20))
		b := make([]byte, 10)
		_, err := f.ReadAt(b, 1<<20-2)
		e.ok(err)
		if string(b) != "\x00\x00middle\x00\x00" {
			e.Errorf("around a hole: %q", b)
		}
	}},
	{"fsync keeps the file open and right", func(e *env, dir string) {
		f := e.open(dir+"/f", os.O_CREATE|os.O_RDWR)
		defer f.Close()
		for i := range 3 {
			e.writeAt(f, fmt.Sprint(i), int64(i))
			e.ok(f.Sync())
		}
		e.reads(dir+"/f", "012")
		d := e.open(dir, os.O_RDONLY)
		defer d.Close()
		e.ok(d.Sync())
	}},
	{"unlink while open", func(e *env, dir string) {
		f := e.open(dir+"/f", os.O_CREATE|os.O_RDWR)
		defer f.Close()
		e.writeAt(f, "still here", 0)
		e.ok(os.Remove(dir + "/f"))
		e.is(syscall.ENOENT, second(os.Stat(dir+"/f")))
		e.write(dir+"/f", "another file")
		e.writeAt(f, "STILL", 0)
		b := make([]byte, 10)
		_, err := f.ReadAt(b, 0)
		e.ok(err)
		if string(b) != "STILL here" {
			e.Errorf("the unlinked file reads %q", b)
		}
		e.reads(dir+"/f", "another file")
	}},
	{"rmdir refuses what is not empty", func(e *env, dir string) {
		e.ok(os.Mkdir(dir+"/d", 0o755))
		e.write(dir+"/d/f", "x")
		e.is(syscall.ENOTEMPTY, syscall.Rmdir(dir+"/d"))
		e.is(syscall.ENOTDIR, syscall.Rmdir(dir+"/d/f"))
		e.is(syscall.EISDIR, syscall.Unlink(dir+"/d"))
		e.is(syscall.EEXIST, os.Mkdir(dir+"/d", 0o755))
		e.ok(os.Remove(dir + "/d/f"))
		e.ok(syscall.Rmdir(dir + "/d"))
		e.ok(os.Mkdir(dir+"/kept", 0o755))
	}},
	{"readdir knows the types", func(e *env, dir string) {
		e.write(dir+"/file", "x")
		e.ok(os.Mkdir(dir+"/dir", 0o755))
		e.ok(os.Symlink("file", dir+"/link"))
		e.ok(os.Symlink("nowhere", dir+"/dangling"))
		list, err := os.ReadDir(dir)
		e.ok(err)
		var got []string
		for _, d := range list {
			got = append(got, d.Name()+" "+d.Type().String())
		}
		want := []string{"dangling L---------", "dir d---------", "file ----------", "link L---------"}
		if !slices.Equal(got, want) {
			e.Errorf("readdir: %q, want %q", got, want)
		}
	}},
	{"rename over an existing file that is open", func(e *env, dir string) {
		e.write(dir+"/old", "old")
		e.write(dir+"/new", "new")
		f := e.open(dir+"/old", os.O_RDONLY)
		defer f.Close()
		e.ok(os.Rename(dir+"/new", dir+"/old"))
		e.reads(dir+"/old", "new")
		b, err := io.ReadAll(f)
		e.ok(err)
		if string(b) != "old" {
			e.Errorf("the open handle reads %q", b)
		}
		e.is(syscall.ENOENT, second(os.Stat(dir+"/new")))
	}},
	{"rename while it is written", func(e *env, dir string) {
		f := e.open(dir+"/a", os.O_CREATE|os.O_RDWR)
		defer f.Close()
		e.writeAt(f, "before", 0)
		e.ok(os.Rename(dir+"/a", dir+"/b"))
		e.writeAt(f, " after", 6)
		e.reads(dir+"/b", "before after")
	}},
	{"rename of directories", func(e *env, dir string) {
		e.ok(os.MkdirAll(dir+"/a/b/c", 0o755))
		e.write(dir+"/a/b/c/f", "deep")
		e.write(dir+"/a/f", "shallow")
		e.ok(os.Symlink("b/c/f", dir+"/a/link"))
		e.ok(os.Rename(dir+"/a", dir+"/z"))
		e.reads(dir+"/z/link", "deep")
		e.ok(os.Mkdir(dir+"/empty", 0o755))
		e.ok(syscall.Rename(dir+"/z/b", dir+"/empty"))
		e.reads(dir+"/empty/c/f", "deep")
		e.is(syscall.ENOTEMPTY, syscall.Rename(dir+"/empty", dir+"/z"))
		e.is(syscall.EINVAL, syscall.Rename(dir+"/z", dir+"/z/sub"))
		e.is(syscall.ENOTDIR, syscall.Rename(dir+"/empty", dir+"/z/f"))
		e.is(syscall.EISDIR, syscall.Rename(dir+"/z/f", dir+"/empty"))
	}},
	{"rename without replacing, and exchange", func(e *env, dir string) {
		e.write(dir+"/a", "A")
		e.write(dir+"/b", "B")
		e.is(syscall.EEXIST, unix.Renameat2(unix.AT_FDCWD, dir+"/a", unix.AT_FDCWD, dir+"/b", unix.RENAME_NOREPLACE))
		e.ok(unix.Renameat2(unix.AT_FDCWD, dir+"/a", unix.AT_FDCWD, dir+"/c", unix.RENAME_NOREPLACE))
		e.reads(dir+"/c", "A")
	}},
	{"swap of two names by three renames", func(e *env, dir string) {
		e.write(dir+"/a", "A")
		e.write(dir+"/b", "BB")
		e.ok(os.Rename(dir+"/a", dir+"/t"))
		e.ok(os.Rename(dir+"/b", dir+"/a"))
		e.ok(os.Rename(dir+"/t", dir+"/b"))
		e.reads(dir+"/a", "BB")
		e.reads(dir+"/b", "A")
	}},
	{"modes and owners", func(e *env, dir string) {
		for _, mode := range []os.FileMode{0o600, 0o755, 0o444, 0} {
			name := fmt.Sprintf("%s/f%o", dir, mode)
			e.write(name, "x")
			e.ok(os.Chmod(name, mode))
		}
		e.ok(os.Mkdir(dir+"/d", 0o755))
		e.ok(os.Chmod(dir+"/d", 0o751|os.ModeSticky|os.ModeSetgid))
		e.ok(os.Chown(dir+"/f755", 1234, 5678))
		e.ok(os.Lchown(dir+"/d", 7, 8))
		e.owned(dir+"/f755", 1234, 5678)
		e.owned(dir+"/d", 7, 8)
	}},
	{"times to the nanosecond", func(e *env, dir string) {
		e.write(dir+"/f", "x")
		e.ok(os.Mkdir(dir+"/d", 0o755))
		e.ok(os.Symlink("f", dir+"/l"))
		for i, name := range []string{"f", "d", "l"} {
			e.ok(harness.SetMtime(dir+"/"+name, time.Unix(1_234_567_890+int64(i), 987_654_321)))
		}
		e.write(dir+"/old", "x")
		e.ok(harness.SetMtime(dir+"/old", time.Unix(-86400*365, 1)))
		e.write(dir+"/far", "x")
		e.ok(harness.SetMtime(dir+"/far", time.Unix(7_000_000_000, 999_999_999)))
	}},
	{"a write moves the mtime, a chmod does not", func(e *env, dir string) {
		e.write(dir+"/w", "x")
		e.ok(harness.SetMtime(dir+"/w", time.Unix(1000, 0)))
		f := e.open(dir+"/w", os.O_APPEND|os.O_WRONLY)
		f.WriteString("y")
		e.ok(f.Close())
		if fi, err := os.Stat(dir + "/w"); err != nil || time.Since(fi.ModTime()) > time.Hour {
			e.Errorf("mtime after a write: %v %v", fi, err)
		}
		e.write(dir+"/c", "x")
		e.ok(harness.SetMtime(dir+"/c", time.Unix(1000, 5)))
		e.ok(os.Chmod(dir+"/c", 0o600))
		if fi, err := os.Stat(dir + "/c"); err != nil || fi.ModTime().UnixNano() != 1000*1e9+5 {
			e.Errorf("mtime after chmod: %v %v", fi.ModTime(), err)
		}
	}},
	{"exclusive create", func(e *env, dir string) {
		f := e.open(dir+"/f", os.O_CREATE|os.O_EXCL|os.O_WRONLY)
		e.ok(f.Close())
		e.is(syscall.EEXIST, second(os.OpenFile(dir+"/f", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)))
	}},
	{"open with truncation while open", func(e *env, dir string) {
		f := e.open(dir+"/f", os.O_CREATE|os.O_RDWR)
		defer f.Close()
		e.writeAt(f, "0123456789", 0)
		g := e.open(dir+"/f", os.O_TRUNC|os.O_WRONLY)
		_, err := g.WriteString("ab")
		e.ok(err)
		e.ok(g.Close())
		e.writeAt(f, "z", 4)
		e.reads(dir+"/f", "ab\x00\x00z")
	}},
	{"a mapped file", func(e *env, dir string) {
		f := e.open(dir+"/f", os.O_CREATE|os.O_RDWR)
		e.ok(f.Truncate(10000))
		m, err := unix.Mmap(int(f.Fd()), 0, 10000, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		e.ok(err)
		copy(m[5000:], "through the map")
		e.ok(unix.Msync(m, unix.MS_SYNC))
		e.ok(unix.Munmap(m))
		e.ok(f.Close())
	}},
	{"odd names", func(e *env, dir string) {
		for _, name := range harness.OddNames {
			e.write(filepath.Join(dir, name), "of "+name)
			e.ok(os.MkdirAll(filepath.Join(dir, "dirs", name), 0o755))
		}
		e.is(syscall.ENAMETOOLONG, second(os.Create(dir+"/"+string(bytes.Repeat([]byte("n"), 256)))))
	}},
	{"a thousand names, half of them removed", func(e *env, dir string) {
		for i := range 1000 {
			e.write(fmt.Sprintf("%s/%d", dir, i), fmt.Sprint(i))
		}
		for i := 0; i < 1000; i += 2 {
			e.ok(os.Remove(fmt.Sprintf("%s/%d", dir, i)))
		}
		list, err := os.ReadDir(dir)
		e.ok(err)
		if len(list) != 500 {
			e.Errorf("%d names are listed, want 500", len(list))
		}
	}},
	{"removal of a tree", func(e *env, dir string) {
		e.ok(harness.Generate(dir+"/tree", 4, 100))
		e.ok(os.RemoveAll(dir + "/tree"))
		e.is(syscall.ENOENT, second(os.Stat(dir+"/tree")))
	}},
	{"fallocate and seeking holes", func(e *env, dir string) {
		f := e.open(dir+"/f", os.O_CREATE|os.O_RDWR)
		defer f.Close()
		err := unix.Fallocate(int(f.Fd()), 0, 0, 100_000)
		if errors.Is(err, unix.EOPNOTSUPP) {
			err = f.Truncate(100_000) // what posix_fallocate makes of it
		}
		e.ok(err)
		e.writeAt(f, "x", 70_000)
		if n, err := f.Seek(0, 3 /* SEEK_DATA */); err != nil || n > 70_000 {
			e.Errorf("SEEK_DATA: %d %v", n, err)
		}
	}},
}

func TestBehavesAsALocalDirectory(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache")
	plain := e.path("plain")
	for _, where := range []string{m.Point, plain} {
		for _, b := range behaviours {
			dir := filepath.Join(where, b.name)
			e.ok(os.MkdirAll(dir, 0o755))
			t.Run(b.name, func(t *testing.T) {
				sub := *e
				sub.T = t
				b.do(&sub, dir)
			})
		}
	}
	// Times that nobody set are those of the moment: take those of the mount.
	e.copyTimes(m.Point, plain, false)
	e.sameTrees(plain, m.Point)
	m.wait(m.Point)
	e.sameTrees(plain, m.Point)
	m.umount(0)
	e.verify("", plain)
	m = e.mount("another-cache")
	// When names came to a directory is known to the cache directory alone (H30).
	e.copyTimes(m.Point, plain, true)
	e.sameTrees(plain, m.Point)
	e.owned(m.in("modes and owners/f755"), 1234, 5678)
	e.owned(m.in("modes and owners/d"), 7, 8)
	m.umount(0)
}

// TestBehavesTheSameWithUploadedFiles repeats them where each step finds what
// came before already on OSS, and no local bytes.
func TestBehavesTheSameWithUploadedFiles(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=0s")
	d := m.Point
	steps := []struct {
		name string
		do   func()
		want map[string]string
	}{
		{"create", func() { e.write(d+"/f", "0123456789") }, map[string]string{"f": "0123456789"}},
		{"append", func() { e.appends(d+"/f", "abc") }, map[string]string{"f": "0123456789abc"}},
		{"write in the middle", func() {
			f := e.open(d+"/f", os.O_RDWR)
			e.writeAt(f, "XX", 3)
			e.ok(f.Close())
		}, map[string]string{"f": "012XX56789abc"}},
		{"truncate", func() { e.ok(os.Truncate(d+"/f", 5)) }, map[string]string{"f": "012XX"}},
		{"truncate up", func() { e.ok(os.Truncate(d+"/f", 7)) }, map[string]string{"f": "012XX\x00\x00"}},
		{"rename", func() { e.ok(os.Rename(d+"/f", d+"/g")) }, map[string]string{"g": "012XX\x00\x00"}},
		{"rename and append", func() { e.ok(os.Rename(d+"/g", d+"/h")); e.appends(d+"/h", "!") }, map[string]string{"h": "012XX\x00\x00!"}},
		{"append and rename", func() { e.appends(d+"/h", "?"); e.ok(os.Rename(d+"/h", d+"/i")) }, map[string]string{"i": "012XX\x00\x00!?"}},
		{"another", func() { e.write(d+"/j", "JJJ") }, map[string]string{"i": "012XX\x00\x00!?", "j": "JJJ"}},
		{"swap", func() {
			e.ok(os.Rename(d+"/i", d+"/t"))
			e.ok(os.Rename(d+"/j", d+"/i"))
			e.ok(os.Rename(d+"/t", d+"/j"))
		}, map[string]string{"j": "012XX\x00\x00!?", "i": "JJJ"}},
		{"swap and append to one", func() {
			e.ok(os.Rename(d+"/i", d+"/t"))
			e.ok(os.Rename(d+"/j", d+"/i"))
			e.ok(os.Rename(d+"/t", d+"/j"))
			e.appends(d+"/j", "+")
		}, map[string]string{"i": "012XX\x00\x00!?", "j": "JJJ+"}},
		{"rename over", func() { e.ok(os.Rename(d+"/j", d+"/i")) }, map[string]string{"i": "JJJ+"}},
		{"remove and make again", func() { e.ok(os.Remove(d + "/i")); e.write(d+"/i", "new") }, map[string]string{"i": "new"}},
		{"into a directory", func() { e.ok(os.Mkdir(d+"/d", 0o755)); e.ok(os.Rename(d+"/i", d+"/d/i")) }, map[string]string{"d/": "", "d/i": "new"}},
		{"directory renamed", func() { e.ok(os.Rename(d+"/d", d+"/e")) }, map[string]string{"e/": "", "e/i": "new"}},
		{"directory renamed with a pending child", func() {
			e.write(d+"/e/p", "pending")
			e.appends(d+"/e/i", "er")
			e.ok(os.Rename(d+"/e", d+"/x"))
		}, map[string]string{"x/": "", "x/i": "newer", "x/p": "pending"}},
		{"a file where a directory was", func() { e.ok(os.RemoveAll(d + "/x")); e.write(d+"/x", "file") }, map[string]string{"x": "file"}},
		{"a directory where a file was", func() {
			e.ok(os.Remove(d + "/x"))
			e.ok(os.Mkdir(d+"/x", 0o755))
			e.write(d+"/x/y", "y")
		}, map[string]string{"x/": "", "x/y": "y"}},
		{"exchange", func() {
			e.write(d+"/z", "z")
			err := unix.Renameat2(unix.AT_FDCWD, d+"/z", unix.AT_FDCWD, d+"/x/y", unix.RENAME_EXCHANGE)
			if err != nil {
				t.Logf("RENAME_EXCHANGE: %v", err)
				e.write(d+"/z", "y")
				e.write(d+"/x/y", "z")
			}
		}, map[string]string{"x/": "", "x/y": "z", "z": "y"}},
	}
	for i, s := range steps {
		if t.Failed() {
			return
		}
		t.Run(s.name, func(t *testing.T) {
			sub := *e
			sub.T = t
			sm := mount{Mount: m.Mount, e: &sub}
			s.do()
			for key, want := range s.want {
				if key[len(key)-1] != '/' {
					sub.reads(d+"/"+key, want)
				}
			}
			sm.wait(m.Point)
			keys, err := e.server.Keys("")
			sub.ok(err)
			if len(keys) != len(s.want) {
				t.Errorf("keys: %q, want those of %q", keys, s.want)
			}
			for key, want := range s.want {
				sub.object(key, want)
			}
			if i%3 == 2 { // and now without any local byte
				sm.umount(0)
				m.Cache = e.path(fmt.Sprint("cache-", i))
				m.start()
			}
		})
	}
	m.umount(0)
}

func TestStatfsShowsTheCacheDisk(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache")
	var disk, here unix.Statfs_t
	e.ok(unix.Statfs(m.Cache, &disk))
	e.ok(unix.Statfs(m.Point, &here))
	free, shown := int64(disk.Bavail)*disk.Bsize, int64(here.Bavail)*here.Bsize
	if shown <= 0 || shown > free+1<<30 {
		t.Errorf("statfs shows %d free bytes, the cache disk has %d", shown, free)
	}
	if here.Namelen != 255 {
		t.Errorf("namelen %d", here.Namelen)
	}
}

func TestStateIsAnExtendedAttribute(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=60s")
	e.write(m.in("f"), "x")
	// The kernel tells of the last close a moment later.
	e.poll("it is pending after its close", patience, func() bool { return e.state(m.in("f")) == "pending" })
	m.umount(0)
	m.start()
	if s := e.state(m.in("f")); s != "clean" {
		t.Errorf("after umount and mount: %q", s)
	}
}

func TestSymlinksCannotBeHardAndDevicesAreEmptyObjects(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache")
	e.write(m.in("f"), "x")
	e.is(syscall.EPERM, os.Link(m.in("f"), m.in("hard")))
	e.ok(unix.Mkfifo(m.in("fifo"), 0o640))
	m.wait(m.Point)
	m.umount(0)
	m = e.mount("another-cache")
	fi, err := os.Lstat(m.in("fifo"))
	e.ok(err)
	if fi.Mode() != os.ModeNamedPipe|0o640 {
		t.Errorf("the FIFO is %v", fi.Mode())
	}
}

// copyTimes gives everything beneath to the modification time that it has
// beneath from.
func (e *env) copyTimes(from, to string, dirs bool) {
	e.Helper()
	tree, err := harness.Snapshot(from)
	e.ok(err)
	for name, entry := range tree {
		if st, err := os.Lstat(filepath.Join(to, name)); err == nil && (st.IsDir() || !dirs) {
			e.ok(harness.SetMtime(filepath.Join(to, name), time.Unix(0, entry.Mtime)))
		}
	}
}

func (e *env) state(path string) string {
	e.Helper()
	b := make([]byte, 1000)
	n, err := unix.Getxattr(path, "user.ossmount.state", b)
	e.ok(err)
	return string(b[:n])
}

func (e *env) open(path string, flags int) *os.File {
	e.Helper()
	f, err := os.OpenFile(path, flags, 0o644)
	e.ok(err)
	return f
}

func (e *env) writeAt(f *os.File, s string, off int64) {
	e.Helper()
	_, err := f.WriteAt([]byte(s), off)
	e.ok(err)
}

func (e *env) appends(path, s string) {
	e.Helper()
	f := e.open(path, os.O_APPEND|os.O_WRONLY)
	_, err := f.WriteString(s)
	e.ok(err)
	e.ok(f.Close())
}

func (e *env) is(want syscall.Errno, err error) {
	e.Helper()
	if !errors.Is(err, want) {
		e.Errorf("want %v (%s), got %v", want, unix.ErrnoName(want), err)
	}
}

func (e *env) owned(path string, uid, gid uint32) {
	e.Helper()
	var st unix.Stat_t
	e.ok(unix.Lstat(path, &st))
	if st.Uid != uid || st.Gid != gid {
		e.Errorf("%s belongs to %d:%d, want %d:%d", path, st.Uid, st.Gid, uid, gid)
	}
}

func second[T any](_ T, err error) error { return err }
