package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

// A habit is a small piece of work with a file system that tells what it saw.
// It is played in a plain directory and in a mount, and both must tell the
// same; so nobody has to write down what is right.
type habit struct {
	name string
	do   func(p *probe)
	// once: what it leaves is not compared after a remount, because it is not
	// for OSS or differs by nature.
	once bool
}

// probe is where a habit works, and what it told.
type probe struct {
	dir     string // its own directory
	mounted bool   // this is the mount, not the plain directory
	lines   []string
	close   []func()
}

// stop ends a habit that cannot go on; what it told so far counts.
type stop struct{}

func (p *probe) in(name string) string { return filepath.Join(p.dir, name) }

func (p *probe) say(format string, args ...any) {
	p.lines = append(p.lines, fmt.Sprintf(format, args...))
}

// try tells how a call ended.
func (p *probe) try(what string, err error) {
	p.lines = append(p.lines, what+": "+errname(err))
}

// need ends the habit if what it builds upon does not work.
func (p *probe) need(err error) {
	if err != nil {
		_, _, line, _ := runtime.Caller(1)
		p.say("cannot go on at line %d: %s", line, errname(err))
		panic(stop{})
	}
}

func errname(err error) string {
	if err == nil {
		return "ok"
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// file makes a file.
func (p *probe) file(name, content string, mode uint32) {
	fd, err := unix.Open(p.in(name), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err == nil {
		defer unix.Close(fd)
		_, err = unix.Write(fd, []byte(content))
	}
	if err == nil {
		err = unix.Fchmod(fd, mode)
	}
	p.need(err)
}

func (p *probe) mkdir(name string, mode uint32) {
	p.need(unix.Mkdir(p.in(name), 0o700))
	p.need(unix.Chmod(p.in(name), mode))
}

// open opens a file until the habit ends, and tells how that went.
func (p *probe) open(name string, flags int) int {
	fd, err := unix.Open(p.in(name), flags|unix.O_CLOEXEC, 0o644)
	p.need(err)
	p.close = append(p.close, func() { unix.Close(fd) })
	return fd
}

// shut opens and closes, and tells how opening went.
func (p *probe) shut(what, name string, flags int) {
	fd, err := unix.Open(p.in(name), flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o644)
	p.try(what, err)
	if err == nil {
		unix.Close(fd)
	}
}

func (p *probe) stat(name string) (st unix.Stat_t) {
	p.need(unix.Lstat(p.in(name), &st))
	return st
}

// attr tells mode, owner, links and size.
func (p *probe) attr(name string) {
	var st unix.Stat_t
	if err := unix.Lstat(p.in(name), &st); err != nil {
		p.try("lstat "+name, err)
		return
	}
	p.say("%s is %s", name, attributes(&st))
}

func (p *probe) fattr(what string, fd int) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		p.try("fstat "+what, err)
		return
	}
	p.say("%s is %s", what, attributes(&st))
}

// attributes are those that every file system must agree on: links and sizes
// of directories are each one's own.
func attributes(st *unix.Stat_t) string {
	s := fmt.Sprintf("%06o of %d:%d", st.Mode, st.Uid, st.Gid)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
		s += fmt.Sprintf(", %d links, device %#x", st.Nlink, st.Rdev)
	case unix.S_IFDIR:
	default:
		s += fmt.Sprintf(", %d links, %d bytes", st.Nlink, st.Size)
	}
	return s
}

// reads tells what a file holds.
func (p *probe) reads(name string) {
	b, err := os.ReadFile(p.in(name))
	if err != nil {
		p.try("read "+name, err)
		return
	}
	p.say("%s holds %s", name, brief(b))
}

func brief(b []byte) string {
	if len(b) <= 60 {
		return fmt.Sprintf("%q", b)
	}
	sum, _ := harness.Sum(bytes.NewReader(b))
	return fmt.Sprintf("%d bytes %.12s", len(b), sum)
}

// tree tells all names beneath the habit's directory.
func (p *probe) tree() {
	for _, line := range remains(p.dir, noTimes) {
		p.say("  %s", line)
	}
}

// as plays do on a thread of its own, which has another user and groups, no
// capabilities, and a umask of its own.
func (p *probe) as(uid, gid int, groups []int, do func()) {
	var failed any
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { failed = recover() }()
		// The thread ends with the goroutine: nobody else gets its credentials.
		runtime.LockOSThread()
		p.need(unix.Unshare(unix.CLONE_FS))
		unix.Umask(0)
		list := make([]uint32, max(1, len(groups)))
		for i, g := range groups {
			list[i] = uint32(g)
		}
		p.need(raw(unix.SYS_SETGROUPS, uintptr(len(groups)), pointer(&list[0]), 0))
		p.need(raw(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)))
		p.need(raw(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)))
		do()
	}()
	<-done
	if failed != nil {
		panic(failed)
	}
}

// play plays a habit in dir.
func (h *habit) play(dir string, mounted bool) (p *probe) {
	p = &probe{dir: dir, mounted: mounted}
	defer func() {
		for _, f := range p.close {
			f()
		}
		if err := recover(); err != nil {
			if _, ok := err.(stop); !ok {
				panic(err)
			}
		}
	}()
	h.do(p)
	return p
}

// Which times remains tells.
const (
	noTimes   = 0
	fileTimes = unix.S_IFREG // not those of directories, which names that come and go move: OSS does not keep that
	allTimes  = unix.S_IFMT
)

// remains is what lies beneath dir: a line for each name.
func remains(dir string, times uint32) (lines []string) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		s := fmt.Sprintf("%q is %s", rel, attributes(&st))
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			s += fmt.Sprintf(" -> %.60q", to)
		case unix.S_IFREG:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			s += " holds " + brief(b)
		}
		if times == allTimes || times == fileTimes && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			s += fmt.Sprintf(" of %d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
		}
		for _, name := range xattrs(path) {
			v := make([]byte, 64<<10)
			n, err := unix.Lgetxattr(path, name, v)
			s += fmt.Sprintf(" %s=%s %s", name, brief(v[:max(0, n)]), errname(err))
		}
		lines = append(lines, s)
		return nil
	})
	if err != nil {
		lines = append(lines, fmt.Sprint("error: ", err))
	}
	slices.Sort(lines)
	return lines
}

// xattrs lists the attributes user.* of a path.
func xattrs(path string) (names []string) {
	b := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, b)
	if err != nil {
		return nil
	}
	for name := range strings.SplitSeq(string(b[:n]), "\x00") {
		if strings.HasPrefix(name, "user.") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// compare fails the test for the first lines that differ.
func compare(t *testing.T, plain, mount []string) {
	t.Helper()
	wrong := 0
	for i := range max(len(plain), len(mount)) {
		a, b := "(nothing)", "(nothing)"
		if i < len(plain) {
			a = plain[i]
		}
		if i < len(mount) {
			b = mount[i]
		}
		if a == b {
			continue
		}
		t.Errorf("plain: %s\nmount: %s", a, b)
		if wrong++; wrong == 12 {
			t.Fatal("and so on")
		}
	}
}

// covers H29, H30
func TestHabitsOfALocalFileSystem(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.ok(os.Chmod(filepath.Dir(e.dir), 0o755)) // other users work beneath it
	e.ok(os.Chmod(e.dir, 0o755))
	m := e.mountSource("oss://"+harness.Bucket+"/a/prefix", "mnt", "cache", append(e.usual(), "--allow-other", "--meta-ttl=1s")...)
	plain := e.path("plain")
	e.ok(os.Mkdir(plain, 0o755))
	played := map[uint32]map[string][]string{fileTimes: {}, allTimes: {}} // what each habit left, as the mount showed it
	for _, h := range slices.Concat(accessHabits, timeHabits, renameHabits, nameHabits, openHabits, kindHabits, everyHabits, dataHabits, lockHabits, xattrHabits, listHabits) {
		t.Run(h.name, func(t *testing.T) {
			dirs := [2]string{filepath.Join(plain, h.name), m.in(h.name)}
			var told [2]*probe
			for i, dir := range dirs {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				told[i] = h.play(dir, i == 1)
			}
			compare(t, told[0].lines, told[1].lines)
			if !h.once {
				compare(t, remains(dirs[0], noTimes), remains(dirs[1], noTimes))
				if !t.Failed() {
					for times := range played {
						played[times][h.name] = remains(dirs[1], times)
					}
				}
			}
		})
	}
	m.wait(m.Point)
	for _, again := range []struct {
		name, cache string
		times       uint32
	}{{"after a drain", "", allTimes}, {"after a remount", "cache", allTimes}, {"from OSS alone", "another-cache", fileTimes}} {
		if again.cache != "" {
			m.umount(0)
			m.Cache = e.path(again.cache)
			m.start()
		}
		for name, want := range played[again.times] {
			t.Run(again.name+"/"+name, func(t *testing.T) {
				compare(t, want, remains(m.in(name), again.times))
			})
		}
	}
}
