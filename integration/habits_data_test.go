package integration

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

var dataHabits = []habit{
	{name: "fallocate", do: func(p *probe) {
		modes := []struct {
			name string
			mode uint32
		}{{"allocate", 0}, {"allocate, keep size", unix.FALLOC_FL_KEEP_SIZE}, {"punch", unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE},
			{"zero", unix.FALLOC_FL_ZERO_RANGE}, {"zero, keep size", unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE}}
		for _, m := range modes {
			for i, r := range [][2]int64{{0, 100}, {100, 5000}, {4096, 8192}, {15000, 10000}, {30000, 4096}, {0, 0}, {-1, 10}, {10, -1}} {
				name := fmt.Sprintf("%s %d", m.name, i)
				p.file(name, string(bytes.Repeat([]byte("0123456789"), 2000)), 0o644)
				fd := p.open(name, unix.O_RDWR)
				p.try(name, unix.Fallocate(fd, m.mode, r[0], r[1]))
				p.reads(name)
			}
		}
		p.file("f", "x", 0o644)
		fd := p.open("f", unix.O_RDWR)
		p.try("punch without keeping the size", unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE, 0, 10))
		p.try("bits that nobody knows", unix.Fallocate(fd, 1<<20, 0, 10))
		p.try("beyond all", unix.Fallocate(fd, 0, 1<<62, 1<<62))
		d := p.open(".", unix.O_DIRECTORY)
		p.try("in a directory", unix.Fallocate(d, 0, 0, 10))
		p.tree()
	}},
	{name: "holes are where zeros are", once: true, do: func(p *probe) {
		fd := p.open("f", unix.O_CREAT|unix.O_RDWR)
		p.need(second(unix.Pwrite(fd, bytes.Repeat([]byte("a"), 5000), 1<<20)))
		p.need(second(unix.Pwrite(fd, bytes.Repeat([]byte("b"), 5000), 3<<20)))
		p.need(unix.Ftruncate(fd, 4<<20))
		p.need(unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 3<<20, 4096))
		b, err := os.ReadFile(p.in("f"))
		p.need(err)
		for at := int64(0); at < 4<<20; {
			data, err := unix.Seek(fd, at, unix.SEEK_DATA)
			if err == unix.ENXIO {
				data, err = 4<<20, nil
			}
			p.need(err)
			if bytes.ContainsFunc(b[at:data], func(r rune) bool { return r != 0 }) {
				p.say("a hole at %d has bytes", at)
			}
			if data == 4<<20 {
				break
			}
			at, err = unix.Seek(fd, data, unix.SEEK_HOLE)
			p.need(err)
			if at <= data || at > 4<<20 {
				p.say("data at %d ends at %d", data, at)
				break
			}
		}
		for _, at := range []int64{4 << 20, 5 << 20, -1} {
			_, err := unix.Seek(fd, at, unix.SEEK_DATA)
			p.try(fmt.Sprint("data at ", at), err)
			_, err = unix.Seek(fd, at, unix.SEEK_HOLE)
			p.try(fmt.Sprint("hole at ", at), err)
		}
		p.file("full", "full", 0o644)
		fd = p.open("full", unix.O_RDWR)
		n, err := unix.Seek(fd, 1, unix.SEEK_HOLE)
		p.try(fmt.Sprint("the hole behind all ", n), err)
		n, err = unix.Seek(fd, 1, unix.SEEK_DATA)
		p.try(fmt.Sprint("data ", n), err)
	}},
	{name: "copy_file_range", do: func(p *probe) {
		p.file("from", strings.Repeat("0123456789", 10_000), 0o644)
		p.file("to", "abc", 0o644)
		from, to := p.open("from", unix.O_RDWR), p.open("to", unix.O_RDWR)
		do := func(what string, a int, offA int64, b int, offB int64, n int) {
			x, y := offA, offB
			got, err := unix.CopyFileRange(a, &x, b, &y, n, 0)
			p.try(fmt.Sprintf("%s %d %d %d", what, got, x, y), err)
		}
		do("into the middle", from, 5, to, 1, 10)
		do("behind the end", from, 50, to, 5000, 10)
		do("more than there is", from, 99_000, to, 0, 5000)
		do("at the end", from, 100_000, to, 0, 10)
		do("beyond the end", from, 200_000, to, 0, 10)
		do("nothing", from, 0, to, 0, 0)
		do("within one file", from, 0, from, 50_000, 1000)
		do("within one file, over itself", from, 0, from, 500, 1000)
		do("all", from, 0, to, 0, 100_000)
		_, err := unix.CopyFileRange(from, nil, to, nil, 7, 0)
		p.try("at the positions", err)
		a, _ := unix.Seek(from, 0, 1)
		b, _ := unix.Seek(to, 0, 1)
		p.say("positions %d %d", a, b)
		ro := p.open("to", unix.O_RDONLY)
		do("into a reader", from, 0, ro, 0, 10)
		ap := p.open("to", unix.O_WRONLY|unix.O_APPEND)
		do("into an appender", from, 0, ap, 0, 10)
		d := p.open(".", unix.O_DIRECTORY)
		do("from a directory", d, 0, to, 0, 10)
		_, err = unix.CopyFileRange(from, nil, to, nil, 7, 1)
		p.try("with a flag", err)
		p.tree()
	}},
	{name: "shared maps", do: func(p *probe) {
		p.file("f", strings.Repeat("0123456789", 1000), 0o644)
		fd, err := unix.Open(p.in("f"), unix.O_RDWR|unix.O_CLOEXEC, 0)
		p.need(err)
		m, err := unix.Mmap(fd, 0, 10_000, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		p.need(err)
		copy(m[100:], "by map")
		b := make([]byte, 6)
		p.need(second(unix.Pread(fd, b, 100)))
		p.say("%q is read", b)
		p.need(second(unix.Pwrite(fd, []byte("by write"), 200)))
		p.say("%q is in the map", m[200:208])
		w := p.open("f", unix.O_RDWR)
		p.need(second(unix.Pwrite(w, []byte("by another"), 300)))
		p.say("%q is in the map", m[300:310])
		n, err := unix.Open(p.in("f"), unix.O_RDWR|unix.O_CLOEXEC, 0)
		p.need(err)
		m2, err := unix.Mmap(n, 4096, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		p.need(err)
		unix.Close(n)
		copy(m[4100:], "seen by the other map")
		p.say("%q", m2[4:25])
		p.need(unix.Close(fd))
		copy(m[5000:], "after close")
		p.need(unix.Msync(m, unix.MS_SYNC))
		copy(m2[2000:], "after msync")
		p.need(unix.Munmap(m))
		p.need(unix.Munmap(m2))
		p.reads("f")
	}},
	{name: "private maps", do: func(p *probe) {
		p.file("f", strings.Repeat("0123456789", 1000), 0o644)
		fd := p.open("f", unix.O_RDONLY)
		m, err := unix.Mmap(fd, 0, 10_000, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
		p.need(err)
		copy(m, "mine")
		p.say("%q", m[:8])
		_, err = unix.Mmap(fd, 0, 10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		p.try("shared for writing of a reader", err)
		w := p.open("f", unix.O_WRONLY)
		_, err = unix.Mmap(w, 0, 10, unix.PROT_READ, unix.MAP_SHARED)
		p.try("of a writer", err)
		_, err = unix.Mmap(p.open(".", unix.O_DIRECTORY), 0, 10, unix.PROT_READ, unix.MAP_SHARED)
		p.try("of a directory", err)
		p.need(unix.Munmap(m))
		p.reads("f")
	}},
	{name: "a map of a file that loses its name", do: func(p *probe) {
		p.file("f", strings.Repeat("x", 5000), 0o644)
		fd := p.open("f", unix.O_RDWR)
		m, err := unix.Mmap(fd, 0, 5000, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		p.need(err)
		p.need(unix.Unlink(p.in("f")))
		p.file("f", "another", 0o644)
		copy(m[10:], "ghost")
		p.try("msync", unix.Msync(m, unix.MS_SYNC))
		p.say("%q", m[8:17])
		p.need(unix.Munmap(m))
		p.reads("f")
	}},
	{name: "reads and writes at all places", do: func(p *probe) {
		fd := p.open("f", unix.O_CREAT|unix.O_RDWR)
		for _, at := range []int64{0, 10, 4095, 4096, 100_000, 99_990, 1 << 20, 3} {
			n, err := unix.Pwrite(fd, []byte("0123456789"), at)
			p.try(fmt.Sprint("write ", n, " at ", at), err)
		}
		p.try("write at less than nothing", second(unix.Pwrite(fd, []byte("x"), -1)))
		for _, at := range []int64{0, 5, 1<<20 + 5, 1<<20 + 10, 1 << 30} {
			b := make([]byte, 10)
			n, err := unix.Pread(fd, b, at)
			p.try(fmt.Sprintf("read %d at %d %q", n, at, b), err)
		}
		n, err := unix.Writev(fd, [][]byte{[]byte("vec"), nil, []byte("tor")})
		p.try(fmt.Sprint("writev ", n), err)
		at, err := unix.Seek(fd, 0, 2)
		p.try(fmt.Sprint("end ", at), err)
		p.reads("f")
	}},
	{name: "truncation shows zeros", do: func(p *probe) {
		p.file("f", strings.Repeat("x", 10_000), 0o644)
		for _, n := range []int64{5000, 9000, 0, 3, 4096, 1} {
			p.need(unix.Truncate(p.in("f"), n))
			p.reads("f")
		}
		fd := p.open("g", unix.O_CREAT|unix.O_RDWR)
		m := func() { p.fattr("g", fd); p.reads("g") }
		p.need(second(unix.Write(fd, []byte("0123456789"))))
		p.need(unix.Ftruncate(fd, 4))
		m()
		p.need(second(unix.Write(fd, []byte("ab")))) // behind the end: a hole
		m()
		p.need(unix.Ftruncate(fd, 100))
		m()
	}},
	{name: "two handles see one file", do: func(p *probe) {
		a, b := p.open("f", unix.O_CREAT|unix.O_RDWR), p.open("f", unix.O_RDWR)
		buf := make([]byte, 100)
		for i := range 20 {
			p.need(second(unix.Pwrite(a, []byte(fmt.Sprint(i)), int64(i*3))))
			n, err := unix.Pread(b, buf, 0)
			p.try(fmt.Sprintf("%q", buf[:max(0, n)]), err)
			p.need(unix.Ftruncate(b, int64(i*3+2)))
			p.fattr("f", a)
		}
	}},
}

var xattrHabits = []habit{
	{name: "extended attributes", do: func(p *probe) {
		p.file("f", "x", 0o644)
		p.mkdir("d", 0o755)
		b := make([]byte, 1000)
		for _, name := range []string{"f", "d"} {
			path := p.in(name)
			get := func(attr string) {
				n, err := unix.Getxattr(path, attr, b)
				p.try(fmt.Sprintf("%s %s is %q", name, attr, b[:max(0, n)]), err)
			}
			get("user.a")
			p.try("remove what is not there", unix.Removexattr(path, "user.a"))
			p.try("replace what is not there", unix.Setxattr(path, "user.a", []byte("1"), unix.XATTR_REPLACE))
			p.try("create", unix.Setxattr(path, "user.a", []byte("1"), unix.XATTR_CREATE))
			p.try("create again", unix.Setxattr(path, "user.a", []byte("2"), unix.XATTR_CREATE))
			get("user.a")
			p.try("replace", unix.Setxattr(path, "user.a", []byte("a longer value"), unix.XATTR_REPLACE))
			get("user.a")
			p.try("set", unix.Setxattr(path, "user.empty", nil, 0))
			get("user.empty")
			for _, attr := range []string{"user.UPPER", "user.upper", "user.under_score", "user.ümläut", "user.a.b.c", "user.with space", "user.new\nline", "user.%41=&", "user." + strings.Repeat("n", 250)} {
				p.try("set "+attr, unix.Setxattr(path, attr, []byte("\x00\xff\n of "+attr), 0))
				get(attr)
			}
			names := xattrs(path)
			p.say("%q", names)
			p.try("a name of 256 bytes", unix.Setxattr(path, "user."+strings.Repeat("n", 251), nil, 0))
			p.try("no name", unix.Setxattr(path, "user.", nil, 0))
			p.try("both flags", unix.Setxattr(path, "user.b", nil, unix.XATTR_CREATE|unix.XATTR_REPLACE))
			_, err := unix.Getxattr(path, "user.a", b[:3])
			p.try("too little room", err)
			n, err := unix.Getxattr(path, "user.a", nil)
			p.try(fmt.Sprint("asked for the length ", n), err)
			_, err = unix.Listxattr(path, b[:3])
			p.try("too little room for the list", err)
			p.try("remove", unix.Removexattr(path, "user.upper"))
			get("user.upper")
			p.try("remove again", unix.Removexattr(path, "user.upper"))
		}
	}},
	{name: "extended attributes stay with their file", do: func(p *probe) {
		p.file("f", "x", 0o644)
		p.need(unix.Setxattr(p.in("f"), "user.a", []byte("1"), 0))
		p.need(os.WriteFile(p.in("f"), []byte("rewritten"), 0o600))
		p.need(unix.Chmod(p.in("f"), 0o755))
		p.need(unix.Rename(p.in("f"), p.in("g")))
		p.need(unix.Setxattr(p.in("g"), "user.b", []byte("2"), 0))
		p.file("f", "another", 0o644)
		p.file("over", "over", 0o644)
		p.need(unix.Setxattr(p.in("over"), "user.c", []byte("3"), 0))
		p.file("under", "under", 0o644)
		p.need(unix.Setxattr(p.in("under"), "user.d", []byte("4"), 0))
		p.need(unix.Rename(p.in("over"), p.in("under")))
		fd := p.open("h", unix.O_CREAT|unix.O_RDWR)
		p.try("of an open file", unix.Fsetxattr(fd, "user.h", []byte("5"), 0))
		p.need(second(unix.Write(fd, []byte("written after it"))))
		p.mkdir("d", 0o755)
		p.need(unix.Setxattr(p.in("d"), "user.dir", []byte("6"), 0))
		p.need(unix.Rename(p.in("d"), p.in("e")))
		p.tree()
	}},
	{name: "extended attributes of other kinds", do: func(p *probe) {
		p.need(unix.Symlink("f", p.in("l")))
		p.need(unix.Mkfifo(p.in("p"), 0o644))
		p.try("of a link", unix.Lsetxattr(p.in("l"), "user.a", []byte("1"), 0))
		p.try("of a FIFO", unix.Setxattr(p.in("p"), "user.a", []byte("1"), 0))
		p.try("of what is not there", unix.Setxattr(p.in("absent"), "user.a", []byte("1"), 0))
		p.file("f", "x", 0o644)
		p.try("of no name space", unix.Setxattr(p.in("f"), "a", []byte("1"), 0))
		p.try("of an unknown one", unix.Setxattr(p.in("f"), "nobody.a", []byte("1"), 0))
		_, err := unix.Lgetxattr(p.in("l"), "user.a", nil)
		p.say("read of a link: %v", err == unix.ENODATA || err == unix.EPERM)
	}},
	{name: "who may use extended attributes", do: func(p *probe) {
		p.given("f", 0o640)
		p.everybody(func(who string) {
			p.try(who+" sets", unix.Setxattr(p.in("f"), "user.a", []byte(who), 0))
			_, err := unix.Getxattr(p.in("f"), "user.a", make([]byte, 100))
			p.try(who+" gets", err)
			p.try(who+" removes", unix.Removexattr(p.in("f"), "user.a"))
		})
	}},
	{name: "extended attributes that are too large", once: true, do: func(p *probe) {
		p.file("f", "x", 0o644)
		p.try("beyond what Linux takes", unix.Setxattr(p.in("f"), "user.a", make([]byte, 64<<10+1), 0))
		p.try("two thousand bytes", unix.Setxattr(p.in("f"), "user.a", bytes.Repeat([]byte("v"), 2000), 0))
		err := unix.Setxattr(p.in("f"), "user.b", make([]byte, 60_000), 0)
		p.say("sixty thousand are refused or kept: %v", slices.Contains([]string{"ok", "ENOSPC", "E2BIG"}, errname(err)))
		refused := false
		for i := range 100 {
			err := unix.Setxattr(p.in("f"), fmt.Sprint("user.n", i), make([]byte, 500), 0)
			if refused = err == unix.ENOSPC || err == unix.E2BIG; err != nil {
				if !refused {
					p.try("many", err)
				}
				break
			}
		}
		b := make([]byte, 3000)
		n, err := unix.Getxattr(p.in("f"), "user.a", b)
		p.try(fmt.Sprint("the first is there ", n), err)
		p.say("many are refused in the end or kept")
	}},
}
