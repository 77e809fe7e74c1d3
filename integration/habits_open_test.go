package integration

import (
	"bytes"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

var openHabits = []habit{
	{name: "open of anything with any flag", do: func(p *probe) {
		flags := []struct {
			name string
			bits int
		}{{"read", 0}, {"write", unix.O_WRONLY}, {"both", unix.O_RDWR}, {"create", unix.O_CREAT | unix.O_WRONLY}, {"exclusive", unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY},
			{"directory", unix.O_DIRECTORY}, {"directory for writing", unix.O_DIRECTORY | unix.O_WRONLY}, {"no follow", unix.O_NOFOLLOW}, {"no follow, create", unix.O_NOFOLLOW | unix.O_CREAT | unix.O_WRONLY},
			{"path", unix.O_PATH}, {"path of a directory", unix.O_PATH | unix.O_DIRECTORY}, {"truncate", unix.O_TRUNC | unix.O_WRONLY}, {"truncate for reading", unix.O_TRUNC},
			{"append", unix.O_APPEND | unix.O_WRONLY}, {"sync", unix.O_SYNC | unix.O_RDWR}, {"dsync", unix.O_DSYNC | unix.O_RDWR}, {"all three", unix.O_RDWR | unix.O_WRONLY}}
		p.file("the file", "the file", 0o644)
		p.mkdir("the directory", 0o755)
		for i, kind := range kinds {
			for j, f := range flags {
				name := fmt.Sprintf("%d-%d", i, j)
				p.thing(kind, name)
				p.shut(kind+" to "+f.name, name, f.bits)
				p.attr(name)
				p.shut(kind+"/ to "+f.name, name+"/", f.bits)
				os.Remove(p.in("nowhere"))
			}
		}
		p.tree()
	}},
	{name: "append", do: func(p *probe) {
		p.file("f", "0123", 0o644)
		a := p.open("f", unix.O_APPEND|unix.O_RDWR)
		b := p.open("f", unix.O_RDWR)
		p.try("append", second(unix.Write(a, []byte("ab"))))
		p.try("at an offset", second(unix.Pwrite(a, []byte("cd"), 1)))
		p.try("by another", second(unix.Pwrite(b, []byte("ZZ"), 10)))
		p.try("append behind it", second(unix.Write(a, []byte("ef"))))
		p.try("truncate", unix.Ftruncate(b, 2))
		p.try("append to the rest", second(unix.Write(a, []byte("gh"))))
		at, err := unix.Seek(a, 0, 1)
		p.try(fmt.Sprint("position ", at), err)
		_, err = unix.FcntlInt(uintptr(b), unix.F_SETFL, unix.O_APPEND)
		p.try("made an appender", err)
		p.try("append", second(unix.Write(b, []byte("ij"))))
		p.reads("f")
	}},
	{name: "direct", do: func(p *probe) {
		const page = 4096
		mem, err := unix.Mmap(-1, 0, 4*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		p.need(err)
		defer unix.Munmap(mem)
		copy(mem, bytes.Repeat([]byte("0123456789abcdef"), 2*page/16))
		d := p.open("f", unix.O_CREAT|unix.O_RDWR|unix.O_DIRECT)
		n, err := unix.Pwrite(d, mem[:2*page], 0)
		p.try(fmt.Sprint("write ", n), err)
		n, err = unix.Pwrite(d, mem[:page], 3*page)
		p.try(fmt.Sprint("write behind a hole ", n), err)
		n, err = unix.Pread(d, mem[2*page:], page)
		p.try(fmt.Sprint("read ", n), err)
		p.say("%v", bytes.Equal(mem[:page], mem[2*page:3*page]))
		n, err = unix.Pread(d, mem, 4*page)
		p.try(fmt.Sprint("read at the end ", n), err)
		b := p.open("f", unix.O_RDWR)
		p.need(second(unix.Pwrite(b, []byte("buffered"), 5)))
		n, err = unix.Pread(d, mem[:page], 0)
		p.try(fmt.Sprintf("read what was buffered %d %.16q", n, mem[:max(n, 0)]), err)
		p.reads("f")
	}},
	{name: "a temporary file", once: true, do: func(p *probe) {
		fd, err := unix.Open(p.dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err == unix.EOPNOTSUPP && p.mounted {
			p.say("one is had, or none")
			return
		}
		p.need(err)
		defer unix.Close(fd)
		b := make([]byte, 4)
		p.need(second(unix.Pwrite(fd, []byte("temp"), 0)))
		p.need(second(unix.Pread(fd, b, 0)))
		list, err := os.ReadDir(p.dir)
		if err != nil || len(list) > 0 || string(b) != "temp" {
			p.say("%v %v %q", list, err, b)
		}
		p.say("one is had, or none")
	}},
	{name: "a handle keeps its rights", do: func(p *probe) {
		p.file("f", "x", 0o644)
		fd := p.open("f", unix.O_RDONLY)
		p.try("write to a reader", second(unix.Write(fd, []byte("x"))))
		p.try("truncate a reader", unix.Ftruncate(fd, 0))
		p.try("allocate in a reader", unix.Fallocate(fd, 0, 0, 10))
		w := p.open("f", unix.O_WRONLY)
		p.try("read from a writer", second(unix.Read(w, make([]byte, 1))))
		p.need(unix.Chmod(p.in("f"), 0))
		p.try("write when the mode is gone", second(unix.Write(w, []byte("yz"))))
		d := p.open(".", unix.O_DIRECTORY)
		p.try("read a directory", second(unix.Read(d, make([]byte, 1))))
		p.try("write a directory", second(unix.Write(d, make([]byte, 1))))
		p.try("sync a directory", unix.Fsync(d))
		p.try("datasync a directory", unix.Fdatasync(d))
		p.try("truncate a directory", unix.Truncate(p.dir, 0))
		p.try("truncate to less than nothing", unix.Ftruncate(w, -1))
		p.try("truncate what is not there", unix.Truncate(p.in("absent"), 0))
	}},
	{name: "a link by its descriptor", once: true, do: func(p *probe) {
		p.file("f", "x", 0o644)
		err := unix.Link(p.in("f"), p.in("g"))
		p.say("hard links are refused or made: %v", p.mounted && err == unix.EPERM || !p.mounted && err == nil)
	}},
}

var kindHabits = []habit{
	{name: "a FIFO", do: func(p *probe) {
		p.need(unix.Mkfifo(p.in("p"), 0o622))
		p.attr("p")
		p.try("again", unix.Mkfifo(p.in("p"), 0o644))
		p.shut("write without a reader", "p", unix.O_WRONLY)
		r := p.open("p", unix.O_RDONLY|unix.O_NONBLOCK)
		w := p.open("p", unix.O_WRONLY|unix.O_NONBLOCK)
		p.try("write", second(unix.Write(w, []byte("through"))))
		b := make([]byte, 20)
		n, err := unix.Read(r, b)
		p.try("read "+string(b[:max(n, 0)]), err)
		p.attr("p")
		p.need(unix.Rename(p.in("p"), p.in("q")))
		p.need(unix.Chmod(p.in("q"), 0o600))
		p.need(unix.Chown(p.in("q"), 3, 4))
		p.tree()
	}},
	{name: "nodes", do: func(p *probe) {
		p.try("file", unix.Mknod(p.in("f"), unix.S_IFREG|0o604, 0))
		p.try("file without a type", unix.Mknod(p.in("g"), 0o640, 0))
		p.try("FIFO", unix.Mknod(p.in("p"), unix.S_IFIFO|0o604, 0))
		p.try("socket", unix.Mknod(p.in("s"), unix.S_IFSOCK|0o604, 0))
		p.try("directory", unix.Mknod(p.in("d"), unix.S_IFDIR|0o755, 0))
		p.try("again", unix.Mknod(p.in("f"), unix.S_IFREG|0o604, 0))
		p.tree()
	}},
	{name: "devices", do: func(p *probe) {
		p.try("character", unix.Mknod(p.in("c"), unix.S_IFCHR|0o620, int(unix.Mkdev(1, 3))))
		p.try("block", unix.Mknod(p.in("b"), unix.S_IFBLK|0o602, int(unix.Mkdev(300, 70000))))
		p.try("whiteout", unix.Mknod(p.in("w"), unix.S_IFCHR, 0))
		p.try("rename", unix.Rename(p.in("b"), p.in("b2")))
		p.tree()
	}},
	{name: "a socket", do: func(p *probe) {
		// Its path is longer than a socket's may be: bind by a directory's descriptor.
		d := p.open(".", unix.O_PATH|unix.O_DIRECTORY)
		at := &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/s", d)}
		l, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		p.need(err)
		defer unix.Close(l)
		p.try("bind", unix.Bind(l, at))
		p.try("listen", unix.Listen(l, 1))
		p.attr("s")
		c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		p.need(err)
		defer unix.Close(c)
		p.try("connect", unix.Connect(c, at))
		p.shut("open", "s", unix.O_RDWR)
		again, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		p.need(err)
		defer unix.Close(again)
		p.try("bind again", unix.Bind(again, at))
		p.tree()
	}},
	{name: "a file system tells its size", once: true, do: func(p *probe) {
		p.file("f", "x", 0o644)
		var d, f unix.Statfs_t
		p.try("statfs of a directory", unix.Statfs(p.dir, &d))
		p.try("statfs of a file", unix.Statfs(p.in("f"), &f))
		p.say("%v %v %v %v", d.Blocks == f.Blocks && d.Blocks > 0, d.Bfree >= d.Bavail, d.Blocks >= d.Bfree, d.Bsize >= 512 && d.Namelen == 255)
		p.try("statfs of what is not there", unix.Statfs(p.in("absent"), &d))
	}},
	{name: "inode numbers", do: func(p *probe) {
		p.file("f", "x", 0o644)
		p.mkdir("d", 0o755)
		p.mkdir("d/e", 0o755)
		p.need(unix.Symlink("f", p.in("l")))
		seen := map[uint64]string{}
		names := []string{".", "f", "d", "d/e", "l"}
		for _, name := range names {
			st := p.stat(name)
			if other, ok := seen[st.Ino]; ok || st.Ino == 0 {
				p.say("%s has the number of %q", name, other)
			}
			seen[st.Ino] = name
		}
		listed := p.listed(".")
		for _, name := range names {
			if want, ok := listed[name]; ok && want != p.stat(name).Ino {
				p.say("the listing has another number for %s", name)
			}
		}
		if st := p.stat(".."); listed[".."] != st.Ino {
			p.say("the listing has another number for ..")
		}
		before := p.stat("f")
		fd := p.open("f", unix.O_RDWR)
		var st unix.Stat_t
		p.need(unix.Fstat(fd, &st))
		p.say("by handle: %v", st.Ino == before.Ino && st.Dev == before.Dev)
		p.need(unix.Rename(p.in("f"), p.in("d/g")))
		p.say("after a rename: %v", p.stat("d/g").Ino == before.Ino)
		p.file("f", "another", 0o644)
		p.say("another file has another: %v", p.stat("f").Ino != before.Ino)
		inside := p.stat("d/e").Ino
		p.need(unix.Rename(p.in("d"), p.in("moved")))
		p.say("beneath a renamed directory: %v", p.stat("moved/e").Ino == inside && p.stat("moved/g").Ino == before.Ino)
		p.need(unix.Chmod(p.in("moved/g"), 0o600))
		p.need(os.WriteFile(p.in("moved/g"), []byte("rewritten"), 0o644))
		p.say("after a rewrite: %v", p.stat("moved/g").Ino == before.Ino)
	}},
	{name: "blocks", do: func(p *probe) {
		p.file("empty", "", 0o644)
		p.say("empty: %d", p.stat("empty").Blocks)
		p.file("f", string(bytes.Repeat([]byte("x"), 100_000)), 0o644)
		st := p.stat("f")
		p.say("full: %v, %v", st.Blocks*512 >= 100_000, st.Blocks*512 < 300_000)
		fd := p.open("sparse", unix.O_CREAT|unix.O_RDWR)
		p.need(unix.Ftruncate(fd, 8<<20))
		p.say("sparse: %v", p.stat("sparse").Blocks*512 < 1<<20)
		p.need(second(unix.Pwrite(fd, []byte("x"), 4<<20)))
		p.say("sparse with a byte: %v", p.stat("sparse").Blocks*512 < 1<<20)
		p.say("block size: %v", st.Blksize >= 512)
	}},
}

// listed is a directory as getdents64 tells it, with inode numbers.
func (p *probe) listed(name string) map[string]uint64 {
	fd := p.open(name, unix.O_DIRECTORY)
	out := map[string]uint64{}
	for _, d := range p.entries(fd, 1<<16) {
		if d.name == ".." && name == "." {
			out[".."] = d.ino
		}
		if d.name != "." && d.name != ".." {
			out[d.name] = d.ino
		}
	}
	return out
}

type dirent struct {
	name string
	ino  uint64
	next int64 // where the listing goes on
	kind byte
}

// batch is one getdents64.
func (p *probe) batch(fd, size int) (list []dirent) {
	b := make([]byte, size)
	n, err := unix.Getdents(fd, b)
	p.need(err)
	for b = b[:n]; len(b) > 0; {
		d := (*unix.Dirent)(unsafe.Pointer(&b[0]))
		name := b[unsafe.Offsetof(d.Name):d.Reclen]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		list = append(list, dirent{string(name), d.Ino, d.Off, d.Type})
		b = b[d.Reclen:]
	}
	return list
}

// entries lists on from where fd is to the end.
func (p *probe) entries(fd, size int) (list []dirent) {
	for {
		more := p.batch(fd, size)
		if len(more) == 0 {
			return list
		}
		list = append(list, more...)
	}
}
