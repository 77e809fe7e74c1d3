package integration

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Who they are: alice owns things, bob shares her group, carol is a stranger.
const (
	alice, bob, carol    = 1001, 1002, 1003
	family, work_, other = 2001, 2002, 2003
)

func pointer(p *uint32) uintptr { return uintptr(unsafe.Pointer(p)) }

// raw calls the kernel for this thread only.
func raw(call, a, b, c uintptr) error {
	if _, _, errno := syscall.RawSyscall(call, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

// everybody does what as each of the four.
func (p *probe) everybody(do func(who string)) {
	for _, u := range []struct {
		who      string
		uid, gid int
		groups   []int
	}{{"alice", alice, family, []int{work_}}, {"bob", bob, family, nil}, {"bob by his second group", bob, other, []int{family}}, {"carol", carol, other, nil}} {
		p.as(u.uid, u.gid, u.groups, func() { do(u.who) })
	}
}

func (p *probe) owned(name string, uid, gid int) {
	p.need(unix.Lchown(p.in(name), uid, gid))
}

// given makes a file of alice's.
func (p *probe) given(name string, mode uint32) {
	p.file(name, "of "+name, 0o600)
	p.owned(name, alice, family)
	p.need(unix.Chmod(p.in(name), mode))
}

func (p *probe) givenDir(name string, mode uint32) {
	p.mkdir(name, 0o755)
	p.owned(name, alice, family)
	p.need(unix.Chmod(p.in(name), mode))
}

var accessHabits = []habit{
	{name: "who may open a file", do: func(p *probe) {
		for _, mode := range []uint32{0, 0o400, 0o200, 0o600, 0o040, 0o020, 0o004, 0o002, 0o640, 0o664, 0o444, 0o066} {
			name := fmt.Sprintf("f%03o", mode)
			p.given(name, mode)
			p.everybody(func(who string) {
				p.shut(who+" reads "+name, name, unix.O_RDONLY)
				p.shut(who+" writes "+name, name, unix.O_WRONLY)
				p.shut(who+" does both with "+name, name, unix.O_RDWR)
				p.try(who+" truncates "+name, unix.Truncate(p.in(name), 3))
			})
		}
	}},
	{name: "who may use a directory", do: func(p *probe) {
		for _, mode := range []uint32{0, 0o700, 0o500, 0o300, 0o100, 0o070, 0o050, 0o030, 0o007, 0o001, 0o004, 0o755, 0o775} {
			name := fmt.Sprintf("d%03o", mode)
			p.mkdir(name, 0o755)
			p.given(name+"/f", 0o666)
			p.owned(name, alice, family)
			p.need(unix.Chmod(p.in(name), mode))
			p.everybody(func(who string) {
				_, err := os.ReadDir(p.in(name))
				p.try(who+" lists "+name, err)
				var st unix.Stat_t
				p.try(who+" looks up in "+name, unix.Stat(p.in(name+"/f"), &st))
				p.try(who+" makes a directory in "+name, unix.Mkdir(p.in(name+"/d"), 0o755))
				p.try(who+" removes it from "+name, unix.Rmdir(p.in(name+"/d")))
				p.shut(who+" creates in "+name, name+"/n", unix.O_CREAT|unix.O_WRONLY)
				p.try(who+" renames in "+name, unix.Rename(p.in(name+"/n"), p.in(name+"/m")))
				p.try(who+" unlinks in "+name, unix.Unlink(p.in(name+"/m")))
			})
		}
	}},
	{name: "access asks the real user", do: func(p *probe) {
		p.given("f", 0o640)
		p.given("x", 0o750)
		p.givenDir("d", 0o710)
		p.everybody(func(who string) {
			for _, name := range []string{"f", "x", "d", "absent"} {
				for _, mode := range []uint32{unix.F_OK, unix.R_OK, unix.W_OK, unix.X_OK, unix.R_OK | unix.W_OK} {
					p.try(fmt.Sprint(who, " asks ", name, " ", mode), unix.Access(p.in(name), mode))
				}
			}
		})
	}},
	{name: "who may chmod", do: func(p *probe) {
		p.given("f", 0o644)
		p.givenDir("d", 0o755)
		p.everybody(func(who string) {
			p.try(who+" the file", unix.Chmod(p.in("f"), 0o666))
			p.attr("f")
			p.try(who+" the directory", unix.Chmod(p.in("d"), 0o777))
			p.try(who+" back", unix.Chmod(p.in("f"), 0o644))
		})
	}},
	{name: "who may chown", do: func(p *probe) {
		p.given("f", 0o644)
		p.given("g", 0o644)
		p.need(unix.Symlink("f", p.in("l")))
		p.owned("l", alice, family)
		p.everybody(func(who string) {
			p.try(who+" gives it away", unix.Chown(p.in("f"), bob, -1))
			p.try(who+" takes it", unix.Chown(p.in("f"), bob, family))
			p.try(who+" to the other group", unix.Chown(p.in("f"), -1, work_))
			p.attr("f")
			p.try(who+" to a strange group", unix.Chown(p.in("f"), -1, 4711))
			p.try(who+" back", unix.Chown(p.in("f"), -1, family))
			p.try(who+" changes nothing", unix.Chown(p.in("g"), -1, -1))
			p.try(who+" a link", unix.Lchown(p.in("l"), -1, work_))
		})
		p.attr("l")
		p.try("root gives it away", unix.Chown(p.in("g"), carol, other))
		p.try("root changes one", unix.Chown(p.in("f"), -1, other))
	}},
	{name: "who may set times", do: func(p *probe) {
		now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
		then := []unix.Timespec{{Sec: 1000}, {Sec: 2000, Nsec: 5}}
		omit := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}
		for _, mode := range []uint32{0o644, 0o666, 0o444} {
			name := fmt.Sprintf("f%o", mode)
			p.given(name, mode)
			p.everybody(func(who string) {
				p.try(who+" to now "+name, unix.UtimesNanoAt(unix.AT_FDCWD, p.in(name), now, 0))
				p.try(who+" to then "+name, unix.UtimesNanoAt(unix.AT_FDCWD, p.in(name), then, 0))
				p.try(who+" to nothing "+name, unix.UtimesNanoAt(unix.AT_FDCWD, p.in(name), omit, 0))
			})
		}
	}},
	{name: "a sticky directory", do: func(p *probe) {
		p.mkdir("tmp", 0o1777)
		p.mkdir("dst", 0o777)
		for i, kind := range []string{"f", "d"} {
			name := "tmp/" + kind
			make := func() {
				if i == 0 {
					p.given(name, 0o666)
				} else {
					p.givenDir(name, 0o777)
				}
			}
			make()
			p.everybody(func(who string) {
				p.try(who+" renames "+kind, unix.Rename(p.in(name), p.in("tmp/x")))
				p.try(who+" renames it back", unix.Rename(p.in("tmp/x"), p.in(name)))
				p.try(who+" moves it out", unix.Rename(p.in(name), p.in("dst/x")))
				p.try(who+" moves it in", unix.Rename(p.in("dst/x"), p.in(name)))
				if i == 0 {
					fd, err := unix.Open(p.in("tmp/n"+who), unix.O_CREAT|unix.O_WRONLY, 0o644)
					p.try(who+" creates", err)
					unix.Close(fd)
					p.try(who+" renames over it", unix.Rename(p.in("tmp/n"+who), p.in(name)))
					p.try(who+" unlinks it", unix.Unlink(p.in(name)))
				} else {
					p.try(who+" removes it", unix.Rmdir(p.in(name)))
				}
			})
			p.tree()
		}
	}},
	{name: "a directory with the set-group bit", do: func(p *probe) {
		p.mkdir("d", 0o755)
		p.owned("d", 0, family)
		p.need(unix.Chmod(p.in("d"), 0o2777))
		p.file("d/f", "x", 0o644)
		p.need(unix.Mkdir(p.in("d/d"), 0o755))
		p.need(unix.Mkdir(p.in("d/d/d"), 0o755))
		p.need(unix.Symlink("x", p.in("d/l")))
		p.need(unix.Mkfifo(p.in("d/p"), 0o644))
		p.as(carol, other, nil, func() {
			p.shut("carol creates", "d/c", unix.O_CREAT|unix.O_WRONLY)
			p.try("carol makes a directory", unix.Mkdir(p.in("d/cd"), 0o755))
			p.try("carol makes a directory in it", unix.Mkdir(p.in("d/cd/cd"), 0o755))
			fd, err := unix.Open(p.in("d/sg"), unix.O_CREAT|unix.O_WRONLY, 0o2755)
			p.try("carol creates with the bit", err)
			unix.Close(fd)
		})
		p.tree()
	}},
	{name: "who made it owns it", do: func(p *probe) {
		p.mkdir("d", 0o777)
		p.everybody(func(who string) {
			p.shut(who+" creates", "d/f "+who, unix.O_CREAT|unix.O_WRONLY)
			p.try(who+" makes a directory", unix.Mkdir(p.in("d/d "+who), 0o750))
			p.try(who+" makes a link", unix.Symlink("x", p.in("d/l "+who)))
			p.try(who+" makes a FIFO", unix.Mkfifo(p.in("d/p "+who), 0o620))
			p.try(who+" makes a node", unix.Mknod(p.in("d/n "+who), unix.S_IFREG|0o604, 0))
			p.try(who+" makes a device", unix.Mknod(p.in("d/c "+who), unix.S_IFCHR|0o604, 0x103))
		})
		p.tree()
	}},
	{name: "the umask", do: func(p *probe) {
		p.mkdir("d", 0o777)
		for _, mask := range []int{0, 0o022, 0o077, 0o127, 0o777} {
			p.as(alice, family, nil, func() {
				unix.Umask(mask)
				name := fmt.Sprintf("d/%03o", mask)
				fd, err := unix.Open(p.in(name+"f"), unix.O_CREAT|unix.O_WRONLY, 0o777)
				p.try("create", err)
				unix.Close(fd)
				p.try("mkdir", unix.Mkdir(p.in(name+"d"), 0o1777))
				p.try("mkfifo", unix.Mkfifo(p.in(name+"p"), 0o666))
				p.try("mknod", unix.Mknod(p.in(name+"n"), unix.S_IFREG|0o666, 0))
				p.try("symlink", unix.Symlink("x", p.in(name+"l")))
			})
		}
		p.tree()
	}},
	{name: "a file made read-only is written by its maker", do: func(p *probe) {
		p.mkdir("d", 0o777)
		p.as(alice, family, nil, func() {
			for _, mode := range []uint32{0o444, 0o000, 0o200} {
				name := fmt.Sprintf("d/f%o", mode)
				fd, err := unix.Open(p.in(name), unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, mode)
				p.try("create "+name, err)
				_, err = unix.Write(fd, []byte("written"))
				p.try("write", err)
				p.try("truncate", unix.Ftruncate(fd, 4))
				b := make([]byte, 10)
				n, err := unix.Pread(fd, b, 0)
				p.try("read "+string(b[:max(n, 0)]), err)
				p.try("close", unix.Close(fd))
				p.shut("open again", name, unix.O_RDWR)
			}
		})
		p.tree()
	}},
	{name: "set-id bits go", do: func(p *probe) {
		ways := []struct {
			name string
			do   func(path string) error
		}{
			{"write", func(path string) error {
				fd, err := unix.Open(path, unix.O_WRONLY, 0)
				if err != nil {
					return err
				}
				defer unix.Close(fd)
				_, err = unix.Write(fd, []byte("X"))
				return err
			}},
			{"truncate", func(path string) error { return unix.Truncate(path, 1) }},
			{"ftruncate", func(path string) error {
				fd, err := unix.Open(path, unix.O_WRONLY, 0)
				if err != nil {
					return err
				}
				defer unix.Close(fd)
				return unix.Ftruncate(fd, 1)
			}},
			{"open and truncate", func(path string) error {
				fd, err := unix.Open(path, unix.O_WRONLY|unix.O_TRUNC, 0)
				if err != nil {
					return err
				}
				return unix.Close(fd)
			}},
			{"chown to itself", func(path string) error { return unix.Chown(path, -1, family) }},
			{"chown", func(path string) error { return unix.Chown(path, alice, family) }},
			{"chmod", func(path string) error { return unix.Chmod(path, 0o6755) }},
			{"utimes", func(path string) error { return unix.Utimes(path, nil) }},
			{"open only", func(path string) error {
				fd, err := unix.Open(path, unix.O_WRONLY, 0)
				if err != nil {
					return err
				}
				return unix.Close(fd)
			}},
		}
		for _, mode := range []uint32{0o6777, 0o4777, 0o2777, 0o2767, 0o6766} {
			for _, way := range ways {
				for _, who := range []int{0, alice, carol} {
					name := fmt.Sprintf("%s by %d of %o", way.name, who, mode)
					p.given(name, mode)
					if who == 0 {
						p.try(name, way.do(p.in(name)))
					} else {
						p.as(who, map[int]int{alice: family, carol: other}[who], nil, func() { p.try(name, way.do(p.in(name))) })
					}
					p.attr(name)
				}
			}
		}
		for _, who := range []int{0, alice, carol} { // the bits are set while the file is open
			name := fmt.Sprintf("open as they are set, write by %d", who)
			write := func(fd int, what string) { _, err := unix.Write(fd, []byte(what)); p.try(name, err) }
			p.given(name, 0o666)
			maker, err := unix.Open(p.in(name), unix.O_WRONLY|unix.O_TRUNC, 0)
			p.need(err)
			write(maker, "all of it")
			p.need(unix.Chmod(p.in(name), 0o6777))
			p.attr(name)
			change := func() {
				fd, err := unix.Open(p.in(name), unix.O_WRONLY, 0)
				p.try(name, err)
				write(fd, "X")
				p.try(name, unix.Close(fd))
			}
			if who == 0 {
				change()
			} else {
				p.as(who, map[int]int{alice: family, carol: other}[who], nil, change)
			}
			p.attr(name)
			p.try(name, unix.Close(maker))
			p.attr(name)
		}
		p.as(alice, family, nil, func() { // as install(1) does
			fd, err := unix.Open(p.in("set by its writer"), unix.O_CREAT|unix.O_WRONLY, 0o600)
			p.need(err)
			_, err = unix.Write(fd, []byte("written"))
			p.try("write", err)
			p.try("fchmod", unix.Fchmod(fd, 0o4755))
			p.attr("set by its writer")
			p.try("close", unix.Close(fd))
		})
		p.attr("set by its writer")
		p.given("not of this group", 0o755)
		p.owned("not of this group", alice, other)
		p.as(alice, family, nil, func() { p.try("chmod g+s", unix.Chmod(p.in("not of this group"), 0o2755)) })
		p.attr("not of this group")
		p.givenDir("dir", 0o6755)
		p.try("chown of a directory", unix.Chown(p.in("dir"), bob, -1))
		p.attr("dir")
	}},
	{name: "a directory moves only with leave to write to it", do: func(p *probe) {
		p.mkdir("a", 0o777)
		p.mkdir("b", 0o777)
		p.givenDir("a/d", 0o755)
		p.as(bob, family, nil, func() {
			p.try("within its parent", unix.Rename(p.in("a/d"), p.in("a/e")))
			p.try("back", unix.Rename(p.in("a/e"), p.in("a/d")))
			p.try("to another parent", unix.Rename(p.in("a/d"), p.in("b/d")))
		})
		p.as(alice, family, nil, func() { p.try("by its owner", unix.Rename(p.in("a/d"), p.in("b/d"))) })
		p.mkdir("ro", 0o755)
		p.given("a/f", 0o666)
		p.as(alice, family, nil, func() {
			p.try("into a directory of root", unix.Rename(p.in("a/f"), p.in("ro/f")))
			p.try("link into it", unix.Symlink("x", p.in("ro/l")))
		})
		p.tree()
	}},
	{name: "only a path that may be walked leads somewhere", do: func(p *probe) {
		p.mkdir("a", 0o755)
		p.mkdir("a/b", 0o755)
		p.given("a/b/f", 0o666)
		p.need(unix.Chmod(p.in("a"), 0o700))
		p.as(alice, family, nil, func() {
			var st unix.Stat_t
			p.try("stat", unix.Stat(p.in("a/b/f"), &st))
			p.try("lstat of what is not there", unix.Lstat(p.in("a/b/g"), &st))
			p.shut("open", "a/b/f", unix.O_RDONLY)
			p.try("unlink", unix.Unlink(p.in("a/b/f")))
			p.try("rename", unix.Rename(p.in("a/b/f"), p.in("a/b/g")))
			_, err := os.Readlink(p.in("a/b/f"))
			p.try("readlink", err)
		})
	}},
	{name: "open without a trace", do: func(p *probe) {
		p.given("f", 0o666)
		p.as(alice, family, nil, func() { p.shut("by the owner", "f", unix.O_RDONLY|unix.O_NOATIME) })
		p.as(carol, other, nil, func() { p.shut("by another", "f", unix.O_RDONLY|unix.O_NOATIME) })
	}},
}
