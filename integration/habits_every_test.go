package integration

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// everyKind is all that a name can be.
var everyKind = []string{"file", "directory", "FIFO", "block device", "character device", "socket", "link"}

// make1 makes one of everyKind with the mode 0644 (a directory: 0755).
func (p *probe) make1(kind, name string) {
	switch kind {
	case "file":
		p.file(name, "x", 0o644)
	case "directory":
		p.mkdir(name, 0o755)
	case "FIFO":
		p.need(unix.Mkfifo(p.in(name), 0o644))
	case "block device":
		p.need(unix.Mknod(p.in(name), unix.S_IFBLK|0o644, int(unix.Mkdev(1, 2))))
	case "character device":
		p.need(unix.Mknod(p.in(name), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 2))))
	case "socket":
		d := p.open(".", unix.O_PATH|unix.O_DIRECTORY)
		s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		p.need(err)
		defer unix.Close(s)
		p.need(unix.Bind(s, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", d, name)}))
		p.need(unix.Chmod(p.in(name), 0o644))
	case "link":
		p.need(unix.Symlink("the end of the link", p.in(name)))
	}
}

func (p *probe) gone(name string) {
	if err := unix.Unlink(p.in(name)); err == unix.EISDIR {
		p.need(unix.Rmdir(p.in(name)))
	} else {
		p.need(err)
	}
}

// everyWay does something with one of each kind, by its name "n" and through a
// link to it, and looks which times that moves.
func everyWay(do func(p *probe, way, kind, path string)) func(p *probe) {
	return func(p *probe) {
		p.file("the end of the link", "", 0o644)
		for _, kind := range everyKind {
			p.make1(kind, "n")
			p.need(unix.Symlink("n", p.in("to n")))
			do(p, kind, kind, "n")
			do(p, kind+" through a link", kind, "to n")
			p.attr("n")
			p.attr("to n")
			p.gone("n")
			p.gone("to n")
		}
	}
}

// moved is moves for what everyWay has made.
func (p *probe) moved(what string, do func() error) {
	p.moves(what, do, "n", "to n", "the end of the link", ".")
}

// movedBy is moved by another user.
func (p *probe) movedBy(uid, gid int, groups []int, what string, do func() error) {
	p.moved(fmt.Sprint(what, " by ", uid), func() (err error) {
		p.as(uid, gid, groups, func() { err = do() })
		return err
	})
}

var everyHabits = []habit{
	{name: "chmod of every kind", once: true, do: everyWay(func(p *probe, way, _, path string) {
		p.moved("chmod of "+way, func() error { return unix.Chmod(p.in(path), 0o111) })
		p.attr("n")
		p.movedBy(carol, other, nil, "chmod of "+way, func() error { return unix.Chmod(p.in(path), 0o777) })
		p.moved("set-id bits of "+way, func() error { return unix.Chmod(p.in(path), 0o7777) })
		p.attr("n")
		p.need(unix.Chown(p.in(path), alice, family))
		p.movedBy(alice, family, nil, "chmod of "+way, func() error { return unix.Chmod(p.in(path), 0o6755) })
		p.attr("n")
		p.movedBy(alice, other, nil, "chmod of another group's "+way, func() error { return unix.Chmod(p.in(path), 0o2755) })
		p.attr("n")
	})},
	{name: "chown of every kind", once: true, do: everyWay(func(p *probe, way, kind, path string) {
		groups := []int{family, work_}
		for _, chown := range []struct {
			name string
			do   func(path string, uid, gid int) error
		}{{"chown", unix.Chown}, {"lchown", unix.Lchown}} {
			own := func(uid, gid int) func() error {
				return func() error { return chown.do(p.in(path), uid, gid) }
			}
			bits := func() {
				if kind != "link" {
					p.need(unix.Chmod(p.in("n"), 0o6555))
				}
			}
			what := chown.name + " of " + way
			p.moved(what, own(123, 456))
			p.attr("n")
			// The kernel keeps that to itself: times stay, as POSIX has it.
			p.try(what+" to nothing else", own(-1, -1)())
			p.as(carol, other, nil, func() { p.try(what+" to nothing else by carol", own(-1, -1)()) })
			p.need(own(alice, family)())
			bits()
			p.movedBy(alice, family, groups, what, own(-1, work_))
			p.attr("n")
			bits()
			p.movedBy(alice, family, groups, what+" to itself", own(alice, family))
			p.attr("n")
			p.movedBy(carol, other, nil, what, own(carol, -1))
			p.movedBy(carol, other, nil, what, own(-1, other))
			p.movedBy(alice, family, groups, what+" to another", own(bob, -1))
			bits()
			p.moved(what+" by root", own(7, 8))
			p.attr("n")
		}
	})},
	{name: "utimens of every kind", once: true, do: everyWay(func(p *probe, way, _, path string) {
		now, omit := unix.Timespec{Nsec: unix.UTIME_NOW}, unix.Timespec{Nsec: unix.UTIME_OMIT}
		for _, flag := range []int{0, unix.AT_SYMLINK_NOFOLLOW} {
			for _, c := range []struct {
				name string
				a, m unix.Timespec
			}{
				{"both", unix.Timespec{Sec: 1 << 31}, unix.Timespec{Sec: 1 << 32, Nsec: 123_456_789}},
				{"one", unix.Timespec{Sec: -1, Nsec: 1}, omit}, {"the other", omit, unix.Timespec{Sec: 5}},
				{"neither", omit, omit}, {"now", now, now}, {"now and then", now, unix.Timespec{Sec: 77}},
			} {
				set := func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, p.in(path), []unix.Timespec{c.a, c.m}, flag) }
				p.moved(fmt.Sprint("set ", c.name, " of ", way, flag), set)
				for _, name := range []string{"n", "to n"} {
					if st := p.stat(name); c.a.Nsec != unix.UTIME_NOW && c.a.Nsec != unix.UTIME_OMIT && flag != 0 && name == path {
						p.say("atime %d.%09d", st.Atim.Sec, st.Atim.Nsec)
					} else if c.m.Nsec != unix.UTIME_NOW && flag != 0 && name == path {
						p.say("mtime %d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
					}
				}
				p.movedBy(carol, other, nil, fmt.Sprint("set ", c.name, " of ", way, flag), set)
			}
		}
	})},
	{name: "rename and removal of every kind", once: true, do: everyWay(func(p *probe, way, kind, path string) {
		before := p.stat(path)
		p.movedBy(carol, other, nil, "rename of "+way, func() error { return unix.Rename(p.in(path), p.in("m")) })
		p.movedBy(carol, other, nil, "removal of "+way, func() error { return unix.Unlink(p.in(path)) })
		p.moves("rename of "+way, func() error { return unix.Rename(p.in(path), p.in("m")) }, path+">m", ".")
		after := p.stat("m")
		p.say("the same: %v; %d links", before.Ino == after.Ino && before.Mode == after.Mode && before.Rdev == after.Rdev, after.Nlink)
		p.need(unix.Rename(p.in("m"), p.in(path)))
		p.try("truncate of "+way, unix.Truncate(p.in(path), 5))
		if kind != "block device" && kind != "character device" {
			p.shut("open of "+way, path, unix.O_RDONLY)
			p.shut("creation of "+way, path, unix.O_CREAT|unix.O_WRONLY)
			p.shut("exclusive creation of "+way, path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY)
			p.shut("open as a directory of "+way, path, unix.O_DIRECTORY)
		}
		p.try("mkdir over "+way, unix.Mkdir(p.in(path), 0o755))
		p.try("mkfifo over "+way, unix.Mkfifo(p.in(path), 0o755))
		p.try("mknod over "+way, unix.Mknod(p.in(path), unix.S_IFREG, 0))
		p.try("link over "+way, unix.Symlink("x", p.in(path)))
		p.try("walk through "+way, unix.Access(p.in(path)+"/x", unix.F_OK))
	})},
	{name: "what fails moves no time", once: true, do: func(p *probe) {
		p.mkdir("d", 0o755)
		p.file("d/f", "0123456789", 0o644)
		p.mkdir("d/d", 0o755)
		p.mkdir("e", 0o777)
		fails := func(what string, do func() error) {
			p.moves(what, func() (err error) {
				p.as(carol, other, nil, func() { err = do() })
				return err
			}, "d", "d/f", "d/d", "e", ".")
		}
		fails("create", func() error { return p.withFile("d/new", unix.O_CREAT|unix.O_WRONLY, nothing) })
		fails("open for writing", func() error { return p.withFile("d/f", unix.O_WRONLY, nothing) })
		fails("open and truncate", func() error { return p.withFile("d/f", unix.O_RDONLY|unix.O_TRUNC, nothing) })
		fails("truncate", func() error { return unix.Truncate(p.in("d/f"), 1) })
		fails("mkdir", func() error { return unix.Mkdir(p.in("d/new"), 0o755) })
		fails("mkfifo", func() error { return unix.Mkfifo(p.in("d/new"), 0o755) })
		fails("symlink", func() error { return unix.Symlink("x", p.in("d/new")) })
		fails("unlink", func() error { return unix.Unlink(p.in("d/f")) })
		fails("rmdir", func() error { return unix.Rmdir(p.in("d/d")) })
		fails("rename within", func() error { return unix.Rename(p.in("d/f"), p.in("d/g")) })
		fails("rename out", func() error { return unix.Rename(p.in("d/f"), p.in("e/f")) })
		fails("rename in", func() error { return unix.Rename(p.in("e"), p.in("d/e")) })
		fails("utimes", func() error { return unix.Utimes(p.in("d/f"), nil) })
		fails("setxattr", func() error { return unix.Setxattr(p.in("d/f"), "user.a", []byte("x"), 0) })
		fails("fallocate by a reader", func() error {
			return p.withFile("d/f", unix.O_RDONLY, func(fd int) error { return unix.Fallocate(fd, 0, 0, 100) })
		})
	}},
	{name: "paths that lead nowhere, with every call", once: true, do: func(p *probe) {
		p.file("f", "x", 0o644)
		p.mkdir("d", 0o755)
		p.mkdir("closed", 0o700)
		p.file("closed/f", "x", 0o666)
		p.need(unix.Symlink("loop", p.in("loop")))
		p.need(unix.Symlink("nowhere", p.in("dangling")))
		long := strings.Repeat("n", 256)
		deep := "d" + strings.Repeat("/.", 2100) // beyond PATH_MAX
		paths := map[string]string{"a long name": long, "beneath a long name": long + "/x", "a long path": deep + "/x", "beneath a file": "f/x",
			"beneath what is absent": "absent/x", "absent": "absent", "a loop": "loop", "beneath a loop": "loop/x", "dangling": "dangling", "beneath what dangles": "dangling/x",
			"in a closed directory": "closed/f", "absent in a closed directory": "closed/x"}
		var st unix.Stat_t
		var fs unix.Statfs_t
		calls := []struct {
			name string
			do   func(path string) error
		}{
			{"open", func(path string) error { return opens(path, unix.O_RDONLY) }},
			{"open for writing", func(path string) error { return opens(path, unix.O_WRONLY|unix.O_TRUNC) }},
			{"create", func(path string) error { return opens(path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY) }},
			{"stat", func(path string) error { return unix.Stat(path, &st) }},
			{"lstat", func(path string) error { return unix.Lstat(path, &st) }},
			{"statfs", func(path string) error { return unix.Statfs(path, &fs) }},
			{"access", func(path string) error { return unix.Access(path, unix.R_OK) }},
			{"readlink", func(path string) error { return second(unix.Readlink(path, make([]byte, 10))) }},
			{"chmod", func(path string) error { return unix.Chmod(path, 0o644) }},
			{"chown", func(path string) error { return unix.Chown(path, carol, other) }},
			{"lchown", func(path string) error { return unix.Lchown(path, carol, other) }},
			{"utimes", func(path string) error { return unix.Utimes(path, nil) }},
			{"truncate", func(path string) error { return unix.Truncate(path, 1) }},
			{"getxattr", func(path string) error { return second(unix.Getxattr(path, "user.x", nil)) }},
			{"setxattr", func(path string) error { return unix.Setxattr(path, "user.x", nil, 0) }},
			{"mkdir", func(path string) error { return unix.Mkdir(path, 0o755) }},
			{"mkfifo", func(path string) error { return unix.Mkfifo(path, 0o644) }},
			{"mknod", func(path string) error { return unix.Mknod(path, unix.S_IFREG|0o644, 0) }},
			{"symlink", func(path string) error { return unix.Symlink("x", path) }},
			{"unlink", unix.Unlink},
			{"rmdir", unix.Rmdir},
			{"rename from", func(path string) error { return unix.Rename(path, p.in("moved")) }},
			{"rename to", func(path string) error { return unix.Rename(p.in("f"), path) }},
			{"link from", func(path string) error { return unix.Link(path, p.in("linked")) }},
			{"link to", func(path string) error { return unix.Link(p.in("f"), path) }},
		}
		for _, name := range slices.Sorted(maps.Keys(paths)) {
			path := paths[name]
			for _, c := range calls {
				do := func(who string) {
					err := c.do(p.dir + "/" + path)
					if strings.HasPrefix(c.name, "link") && err == nil {
						err = unix.EPERM // the one thing that an object cannot be
					}
					p.try(who+": "+c.name+" of "+name, err)
				}
				p.as(carol, other, nil, func() { do("carol") })
				if path == "dangling" || path == "absent" || path == "loop" || strings.HasPrefix(path, "closed") {
					continue // root would get somewhere
				}
				do("root")
			}
		}
	}},
	{name: "a program that runs", once: true, do: func(p *probe) {
		b, err := os.ReadFile("/bin/sleep")
		p.need(err)
		p.file("prog", string(b), 0o755)
		cmd := exec.Command(p.in("prog"), fmt.Sprint(int(patience/time.Second)))
		p.need(cmd.Start())
		p.close = append(p.close, func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
		p.moves("open and truncate", func() error { return p.withFile("prog", unix.O_WRONLY|unix.O_TRUNC, nothing) }, "prog")
		p.shut("open for writing", "prog", unix.O_WRONLY)
		p.shut("open for both", "prog", unix.O_RDWR)
		p.shut("open for reading", "prog", unix.O_RDONLY)
		p.try("truncate", unix.Truncate(p.in("prog"), 1))
		p.try("chmod", unix.Chmod(p.in("prog"), 0o700))
		p.file("next", "another", 0o755)
		p.try("rename over it", unix.Rename(p.in("next"), p.in("prog")))
		p.try("signal", cmd.Process.Signal(unix.Signal(0)))
		p.shut("open for writing", "prog", unix.O_WRONLY)
		w := p.open("open", unix.O_CREAT|unix.O_WRONLY)
		p.need(second(unix.Write(w, b)))
		p.need(unix.Fchmod(w, 0o755))
		p.try("run what is written", exec.Command(p.in("open"), "0").Run())
	}},
	{name: "links of directories", do: func(p *probe) {
		links := func(what string) { p.say("%s: a %d, b %d", what, p.stat("a").Nlink, p.stat("b").Nlink) }
		p.mkdir("a", 0o755)
		p.mkdir("b", 0o755)
		links("empty")
		p.file("a/f", "x", 0o644)
		p.mkdir("a/d", 0o755)
		p.mkdir("a/e", 0o755)
		p.need(unix.Symlink("d", p.in("a/l")))
		links("two in a")
		p.need(unix.Rename(p.in("a/d"), p.in("b/d")))
		links("one moved")
		p.need(unix.Rename(p.in("a/e"), p.in("b/d")))
		links("one moved over it")
		p.need(unix.Renameat2(unix.AT_FDCWD, p.in("a/f"), unix.AT_FDCWD, p.in("b/d"), unix.RENAME_EXCHANGE))
		links("exchanged with a file")
		p.need(unix.Rmdir(p.in("a/f")))
		links("removed")
	}},
}

func opens(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o644)
	if err == nil {
		unix.Close(fd)
	}
	return err
}
