package integration

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tick waits until the clock that file systems take their times from moves.
func tick() {
	var first, now unix.Timespec
	unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &first)
	for now = first; now == first; {
		unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now)
	}
}

// moves does something and tells which times of the names it moved; "a>b" is
// what was called a before, and b afterwards.
func (p *probe) moves(what string, do func() error, names ...string) {
	before := make([]unix.Stat_t, len(names))
	for i, name := range names {
		was, is, ok := strings.Cut(name, ">")
		unix.Lstat(p.in(was), &before[i])
		if ok {
			names[i] = is
		}
	}
	tick()
	err := do()
	s := what + " (" + errname(err) + ") moves"
	for i, name := range names {
		var st unix.Stat_t
		if err := unix.Lstat(p.in(name), &st); err != nil {
			s += fmt.Sprintf(" %s:%s", name, errname(err))
			continue
		}
		if st.Mtim != before[i].Mtim {
			s += " mtime of " + name
		}
		if st.Ctim != before[i].Ctim {
			s += " ctime of " + name
		}
	}
	p.say("%s", s)
}

func (p *probe) withFile(name string, flags int, do func(fd int) error) error {
	fd, err := unix.Open(p.in(name), flags|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return do(fd)
}

func nothing(int) error { return nil }

var timeHabits = []habit{
	{name: "times of a file", do: func(p *probe) {
		p.file("f", "0123456789", 0o644)
		p.moves("write", func() error {
			return p.withFile("f", unix.O_WRONLY, func(fd int) error { return second(unix.Write(fd, []byte("x"))) })
		}, "f", ".")
		p.moves("write of nothing", func() error {
			return p.withFile("f", unix.O_WRONLY, func(fd int) error { return second(unix.Write(fd, nil)) })
		}, "f", ".")
		p.moves("append", func() error {
			return p.withFile("f", unix.O_WRONLY|unix.O_APPEND, func(fd int) error { return second(unix.Write(fd, []byte("x"))) })
		}, "f", ".")
		p.moves("open and close for writing", func() error { return p.withFile("f", unix.O_RDWR, nothing) }, "f", ".")
		p.moves("open with O_CREAT", func() error { return p.withFile("f", unix.O_RDWR|unix.O_CREAT, nothing) }, "f", ".")
		p.moves("read", func() error { return second(os.ReadFile(p.in("f"))) }, "f", ".")
		p.moves("truncate", func() error { return unix.Truncate(p.in("f"), 5) }, "f", ".")
		p.moves("truncate to the same size", func() error { return unix.Truncate(p.in("f"), 5) }, "f", ".")
		p.moves("truncate up", func() error { return unix.Truncate(p.in("f"), 50) }, "f", ".")
		p.moves("ftruncate", func() error {
			return p.withFile("f", unix.O_RDWR, func(fd int) error { return unix.Ftruncate(fd, 7) })
		}, "f", ".")
		p.moves("open with O_TRUNC", func() error { return p.withFile("f", unix.O_RDWR|unix.O_TRUNC, nothing) }, "f", ".")
		p.moves("fsync", func() error { return p.withFile("f", unix.O_RDWR, unix.Fsync) }, "f", ".")
		p.moves("fallocate", func() error {
			return p.withFile("f", unix.O_RDWR, func(fd int) error { return unix.Fallocate(fd, 0, 0, 8192) })
		}, "f", ".")
		p.moves("punch a hole", func() error {
			return p.withFile("f", unix.O_RDWR, func(fd int) error {
				return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096)
			})
		}, "f", ".")
		p.file("g", "source", 0o644)
		p.moves("copy_file_range", func() error {
			return p.withFile("g", unix.O_RDONLY, func(from int) error {
				return p.withFile("f", unix.O_WRONLY, func(to int) error { return second(unix.CopyFileRange(from, nil, to, nil, 6, 0)) })
			})
		}, "f", "g", ".")
		p.moves("write through a map", func() error {
			return p.withFile("f", unix.O_RDWR, func(fd int) error {
				b, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
				if err != nil {
					return err
				}
				defer unix.Munmap(b)
				b[0]++
				return unix.Msync(b, unix.MS_SYNC)
			})
		}, "f", ".")
	}},
	{name: "times by chmod and chown", do: func(p *probe) {
		p.file("f", "x", 0o644)
		p.mkdir("d", 0o755)
		p.need(unix.Symlink("f", p.in("l")))
		for _, name := range []string{"f", "d"} {
			p.moves("chmod", func() error { return unix.Chmod(p.in(name), 0o700) }, name, ".")
			p.moves("chmod to the same", func() error { return unix.Chmod(p.in(name), 0o700) }, name, ".")
			p.moves("chown", func() error { return unix.Chown(p.in(name), 7, 8) }, name, ".")
			p.moves("chown to the same", func() error { return unix.Chown(p.in(name), 7, 8) }, name, ".")
		}
		p.moves("lchown", func() error { return unix.Lchown(p.in("l"), 7, 8) }, "l", "f", ".")
		p.moves("chmod of an open file", func() error {
			return p.withFile("f", unix.O_RDWR, func(fd int) error { return unix.Fchmod(fd, 0o640) })
		}, "f", ".")
	}},
	{name: "times by utimens", do: func(p *probe) {
		p.file("f", "x", 0o644)
		p.mkdir("d", 0o755)
		for _, name := range []string{"f", "d"} {
			set := func(what string, a, m unix.Timespec) {
				p.moves(what, func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, p.in(name), []unix.Timespec{a, m}, 0) }, name, ".")
				if st := p.stat(name); st.Mtim.Sec < 1e9 {
					p.say("mtime %v", st.Mtim)
				}
			}
			omit, now := unix.Timespec{Nsec: unix.UTIME_OMIT}, unix.Timespec{Nsec: unix.UTIME_NOW}
			set("both", unix.Timespec{Sec: 1, Nsec: 2}, unix.Timespec{Sec: 3, Nsec: 999_999_999})
			set("atime alone", unix.Timespec{Sec: 5}, omit)
			set("neither", omit, omit)
			set("mtime alone", omit, unix.Timespec{Sec: -10, Nsec: 1})
			set("the same again", omit, unix.Timespec{Sec: -10, Nsec: 1})
			set("now", now, now)
			set("bad", unix.Timespec{}, unix.Timespec{Nsec: 1_000_000_000})
		}
	}},
	{name: "atime as it was set", do: func(p *probe) {
		p.file("f", "x", 0o644)
		p.need(unix.UtimesNanoAt(unix.AT_FDCWD, p.in("f"), []unix.Timespec{{Sec: 1111, Nsec: 22}, {Sec: 3333}}, 0))
		p.say("atime %v", p.stat("f").Atim)
	}},
	{name: "times of the parent", do: func(p *probe) {
		p.mkdir("d", 0o755)
		p.mkdir("e", 0o755)
		p.moves("create", func() error { return p.withFile("d/f", unix.O_CREAT|unix.O_WRONLY, nothing) }, "d", ".")
		p.moves("exclusive create that fails", func() error { return p.withFile("d/f", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, nothing) }, "d", "d/f")
		p.moves("write in it", func() error {
			return p.withFile("d/f", unix.O_WRONLY, func(fd int) error { return second(unix.Write(fd, []byte("x"))) })
		}, "d")
		p.moves("mkdir", func() error { return unix.Mkdir(p.in("d/d"), 0o755) }, "d", ".")
		p.moves("mkdir that fails", func() error { return unix.Mkdir(p.in("d/d"), 0o755) }, "d", "d/d")
		p.moves("symlink", func() error { return unix.Symlink("x", p.in("d/l")) }, "d", ".")
		p.moves("mkfifo", func() error { return unix.Mkfifo(p.in("d/p"), 0o644) }, "d", ".")
		p.moves("mknod", func() error { return unix.Mknod(p.in("d/n"), unix.S_IFREG|0o644, 0) }, "d", ".")
		p.moves("rename in it", func() error { return unix.Rename(p.in("d/f"), p.in("d/g")) }, "d", "d/f>d/g", ".")
		p.moves("rename out of it", func() error { return unix.Rename(p.in("d/g"), p.in("e/g")) }, "d", "e", "d/g>e/g", ".")
		p.moves("rename to itself", func() error { return unix.Rename(p.in("e/g"), p.in("e/g")) }, "e", "e/g", ".")
		p.moves("rename that fails", func() error { return unix.Rename(p.in("d/absent"), p.in("e/g")) }, "d", "e", "e/g")
		p.moves("rename of a directory", func() error { return unix.Rename(p.in("d/d"), p.in("e/d")) }, "d", "e", "d/d>e/d", ".")
		p.moves("rename over", func() error { return unix.Rename(p.in("d/l"), p.in("e/g")) }, "d", "e", "d/l>e/g", ".")
		p.moves("exchange", func() error {
			return unix.Renameat2(unix.AT_FDCWD, p.in("d/n"), unix.AT_FDCWD, p.in("e/d"), unix.RENAME_EXCHANGE)
		}, "d", "e", "d/n>e/d", "e/d>d/n")
		p.moves("unlink", func() error { return unix.Unlink(p.in("d/p")) }, "d", ".")
		p.moves("unlink that fails", func() error { return unix.Unlink(p.in("d/p")) }, "d", ".")
		p.moves("rmdir that fails", func() error { return unix.Rmdir(p.in("e")) }, "e", ".")
		p.moves("rmdir", func() error { return unix.Rmdir(p.in("d/n")) }, "d", ".")
		p.moves("list", func() error { return second(os.ReadDir(p.in("d"))) }, "d", ".")
	}},
	{name: "ctime of what loses its name", do: func(p *probe) {
		p.file("f", "x", 0o644)
		p.file("g", "x", 0o644)
		p.file("over", "y", 0o644)
		for _, name := range []string{"f", "g"} {
			fd := p.open(name, unix.O_RDONLY)
			var a, b unix.Stat_t
			p.need(unix.Fstat(fd, &a))
			tick()
			if name == "f" {
				p.need(unix.Unlink(p.in(name)))
			} else {
				p.need(unix.Rename(p.in("over"), p.in(name)))
			}
			p.need(unix.Fstat(fd, &b))
			p.say("%s: ctime moved %v, mtime moved %v, %d links", name, a.Ctim != b.Ctim, a.Mtim != b.Mtim, b.Nlink)
		}
	}},
	{name: "new things have the time of now", do: func(p *probe) {
		from := time.Now().Add(-time.Second)
		p.file("f", "x", 0o644)
		p.mkdir("d", 0o755)
		p.need(unix.Symlink("x", p.in("l")))
		p.need(unix.Mkfifo(p.in("p"), 0o644))
		for _, name := range []string{"f", "d", "l", "p"} {
			st := p.stat(name)
			for i, ts := range []unix.Timespec{st.Atim, st.Mtim, st.Ctim} {
				at := time.Unix(ts.Unix())
				p.say("%s %d: %v", name, i, at.After(from) && at.Before(time.Now().Add(time.Second)))
			}
		}
	}},
	{name: "times seen by handle and by name are one", do: func(p *probe) {
		p.file("f", "x", 0o644)
		fd := p.open("f", unix.O_RDWR)
		for i := range 5 {
			tick()
			p.need(second(unix.Pwrite(fd, []byte("x"), int64(i))))
			var a unix.Stat_t
			p.need(unix.Fstat(fd, &a))
			b := p.stat("f")
			p.say("mtime %v ctime %v size %d, not before mtime %v", a.Mtim == b.Mtim, a.Ctim == b.Ctim, b.Size, a.Ctim.Nano() >= a.Mtim.Nano())
		}
	}},
}
