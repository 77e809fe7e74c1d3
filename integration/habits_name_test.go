package integration

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

var kinds = []string{"nothing", "file", "empty directory", "full directory", "link to a file", "link to a directory", "dangling link", "FIFO"}

// thing makes one of the kinds under a name.
func (p *probe) thing(kind, name string) {
	switch kind {
	case "file":
		p.file(name, "of "+name, 0o640)
	case "empty directory":
		p.mkdir(name, 0o751)
	case "full directory":
		p.mkdir(name, 0o755)
		p.file(name+"/in it", name, 0o644)
	case "link to a file":
		p.need(unix.Symlink("the file", p.in(name)))
	case "link to a directory":
		p.need(unix.Symlink("the directory", p.in(name)))
	case "dangling link":
		p.need(unix.Symlink("nowhere", p.in(name)))
	case "FIFO":
		p.need(unix.Mkfifo(p.in(name), 0o600))
	}
}

func renameAll(flags uint) func(p *probe) {
	return func(p *probe) {
		p.file("the file", "the file", 0o644)
		p.mkdir("the directory", 0o755)
		for i, a := range kinds {
			for j, b := range kinds {
				from, to := fmt.Sprintf("%d-%d.a", i, j), fmt.Sprintf("%d-%d.b", i, j)
				p.thing(a, from)
				p.thing(b, to)
				p.try(a+" over "+b, unix.Renameat2(unix.AT_FDCWD, p.in(from), unix.AT_FDCWD, p.in(to), flags))
				p.attr(from)
				p.attr(to)
			}
		}
		p.tree()
	}
}

var renameHabits = []habit{
	{name: "rename of anything over anything", do: renameAll(0)},
	{name: "rename without replacing", do: renameAll(unix.RENAME_NOREPLACE)},
	{name: "exchange of anything with anything", do: renameAll(unix.RENAME_EXCHANGE)},
	{name: "rename with flags that make no sense", do: func(p *probe) {
		p.file("a", "a", 0o644)
		p.file("b", "b", 0o644)
		for _, flags := range []uint{unix.RENAME_EXCHANGE | unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE | unix.RENAME_WHITEOUT, 1 << 10} {
			p.try(fmt.Sprint(flags), unix.Renameat2(unix.AT_FDCWD, p.in("a"), unix.AT_FDCWD, p.in("b"), flags))
		}
		p.tree()
	}},
	{name: "rename to where it cannot go", do: func(p *probe) {
		p.mkdir("d", 0o755)
		p.mkdir("d/e", 0o755)
		p.file("d/e/f", "x", 0o644)
		p.file("f", "x", 0o644)
		for _, c := range [][2]string{{"d", "d/e/x"}, {"d", "d/x"}, {"d/e", "d"}, {"d", "d/e"}, {"d/e/f", "d"}, {"d/e/f", "d/e"}, {"d", "d/e/f"}, {"f", "absent/f"}, {"absent/f", "f"}, {"f", "f/x"}, {"f/x", "f"}, {"f", "g/"}, {"f/", "g"}, {"f", "d/"}, {"f", "f"}, {"d", "d"}, {"d/.", "x"}, {"d", "x/."}, {"d/e/..", "x"}, {"f", "d/.."}} {
			p.try(c[0]+" to "+c[1], unix.Rename(p.dir+"/"+c[0], p.dir+"/"+c[1]))
			p.try(c[0]+" exchanged with "+c[1], unix.Renameat2(unix.AT_FDCWD, p.dir+"/"+c[0], unix.AT_FDCWD, p.dir+"/"+c[1], unix.RENAME_EXCHANGE))
		}
		p.try("with slashes", unix.Rename(p.dir+"/d/", p.dir+"/moved/"))
		p.tree()
	}},
	{name: "rename of what is open", do: func(p *probe) {
		p.file("a", "the old", 0o644)
		p.file("b", "the new one", 0o600)
		a, b := p.open("a", unix.O_RDWR), p.open("b", unix.O_RDWR)
		p.need(unix.Rename(p.in("b"), p.in("a")))
		p.fattr("the overwritten", a)
		p.fattr("the moved", b)
		buf := make([]byte, 20)
		n, err := unix.Pread(a, buf, 0)
		p.try("read the overwritten: "+string(buf[:max(n, 0)]), err)
		p.try("write to the overwritten", second(unix.Pwrite(a, []byte("ghost"), 0)))
		p.try("chmod of the overwritten", unix.Fchmod(a, 0o777))
		p.try("write to the moved", second(unix.Pwrite(b, []byte("THE"), 0)))
		p.try("truncate the moved", unix.Ftruncate(b, 7))
		p.try("sync the moved", unix.Fsync(b))
		p.reads("a")
		p.need(unix.Mkdir(p.in("d"), 0o755))
		d := p.open("d", unix.O_DIRECTORY)
		p.need(unix.Rename(p.in("d"), p.in("e")))
		fd, err := unix.Openat(d, "made in it", unix.O_CREAT|unix.O_WRONLY, 0o644)
		p.try("create in a moved directory", err)
		unix.Close(fd)
		p.fattr("the moved directory", d)
		p.tree()
	}},
	{name: "exchange of what is open", do: func(p *probe) {
		p.file("a", "A", 0o644)
		p.file("b", "BB", 0o600)
		a, b := p.open("a", unix.O_RDWR), p.open("b", unix.O_RDWR)
		p.try("exchange", unix.Renameat2(unix.AT_FDCWD, p.in("a"), unix.AT_FDCWD, p.in("b"), unix.RENAME_EXCHANGE))
		p.try("write a", second(unix.Pwrite(a, []byte("written to A"), 0)))
		p.try("write b", second(unix.Pwrite(b, []byte("written to B, too"), 0)))
		p.fattr("a", a)
		p.fattr("b", b)
		p.tree()
	}},
	{name: "exchange of trees", do: func(p *probe) {
		for _, d := range []string{"a", "b"} {
			p.mkdir(d, 0o755)
			for i := range 5 {
				p.mkdir(fmt.Sprint(d, "/", i), 0o755)
				p.file(fmt.Sprint(d, "/", i, "/f"), d, 0o644)
			}
			p.file(d+"/only "+d, d, 0o644)
		}
		p.try("exchange", unix.Renameat2(unix.AT_FDCWD, p.in("a"), unix.AT_FDCWD, p.in("b/3"), unix.RENAME_EXCHANGE))
		p.tree()
		p.try("with its own child", unix.Renameat2(unix.AT_FDCWD, p.in("b"), unix.AT_FDCWD, p.in("b/3"), unix.RENAME_EXCHANGE))
		p.tree()
	}},
	{name: "directories swapped by three renames", do: func(p *probe) {
		for _, d := range []string{"a", "b"} {
			p.mkdir(d, 0o755)
			p.file(d+"/both", d, 0o644)
			p.file(d+"/only "+d, d, 0o644)
		}
		p.try("1", unix.Rename(p.in("a"), p.in("t")))
		p.try("2", unix.Rename(p.in("b"), p.in("a")))
		p.try("3", unix.Rename(p.in("t"), p.in("b")))
		p.tree()
	}},
	{name: "a path that is exchanged all the time is always there", once: true, do: func(p *probe) {
		p.file("f", "x", 0o644)
		done := make(chan bool)
		go func() {
			defer close(done)
			for range 500 {
				fd, err := unix.Open(p.in("t"), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
				if err == nil {
					unix.Close(fd)
				}
				unix.Rename(p.in("t"), p.in("f"))
			}
		}()
		seen := map[string]int{}
		for more := true; more; {
			select {
			case <-done:
				more = false
			default:
			}
			fd, err := unix.Open(p.in("f"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			seen["open "+errname(err)]++
			if err == nil {
				unix.Close(fd)
			}
			var st unix.Stat_t
			seen["stat "+errname(unix.Stat(p.in("f"), &st))]++
		}
		for what := range seen {
			if !strings.HasSuffix(what, " ok") {
				p.say("%s", what)
			}
		}
	}},
	{name: "what is open is there while it moves, and what is in it", once: true, do: func(p *probe) {
		p.mkdir("d", 0o755)
		p.mkdir("d/e", 0o755)
		p.file("d/e/f", "x", 0o644)
		d, e, f := p.open("d", unix.O_DIRECTORY), p.open("d/e", unix.O_DIRECTORY), p.open("d/e/f", unix.O_PATH)
		done := make(chan bool)
		go func() {
			defer close(done)
			for i := range 150 {
				unix.Rename(p.in("d"), p.in("moved"))
				unix.Renameat(e, "f", e, "g")
				unix.Renameat(e, "g", e, "f")
				unix.Rename(p.in("moved"), p.in("d"))
				if i%3 == 0 {
					unix.Renameat(d, "e", d, "e2")
					unix.Renameat(d, "e2", d, "e")
				}
			}
		}()
		seen := map[string]int{}
		for more := true; more; {
			select {
			case <-done:
				more = false
			default:
			}
			var st unix.Stat_t
			seen["stat of d "+errname(unix.Fstat(d, &st))]++
			seen["stat of f "+errname(unix.Fstat(f, &st))]++
			seen["chmod of d "+errname(unix.Fchmod(d, 0o755))]++
			name := fmt.Sprint("new", seen["create ok"])
			fd, err := unix.Openat(e, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
			seen["create "+errname(err)]++
			if err != nil {
				continue
			}
			unix.Close(fd)
			seen["stat of what was made "+errname(unix.Fstatat(e, name, &st, 0))]++
			seen["unlink "+errname(unix.Unlinkat(e, name, 0))]++
			seen["mkdir "+errname(unix.Mkdirat(e, "dir", 0o755))]++
			seen["rmdir "+errname(unix.Unlinkat(e, "dir", unix.AT_REMOVEDIR))]++
		}
		for what := range seen {
			if !strings.HasSuffix(what, " ok") {
				p.say("%s", what)
			}
		}
	}},
	{name: "an open file that was replaced shows its own attributes", once: true, do: func(p *probe) {
		p.file("f", "0123456789", 0o600)
		fd := p.open("f", unix.O_RDONLY)
		p.need(unix.Symlink("/etc/passwd", p.in("l")))
		p.need(unix.Rename(p.in("l"), p.in("f")))
		p.fattr("the handle", fd)
		p.attr("f")
		p.file("g", "abc", 0o600)
		fd = p.open("g", unix.O_RDONLY)
		p.need(unix.Unlink(p.in("g")))
		p.mkdir("g", 0o700)
		p.fattr("the handle", fd)
		p.file("h", "abc", 0o600)
		fd = p.open("h", unix.O_PATH)
		p.need(unix.Unlink(p.in("h")))
		p.file("h", "another", 0o644)
		p.fattr("the path handle", fd)
		p.mkdir("i", 0o700)
		p.mkdir("j", 0o755)
		fd = p.open("i", unix.O_DIRECTORY)
		p.need(unix.Rename(p.in("j"), p.in("i")))
		p.fattr("the directory's handle", fd)
	}},
}

var nameHabits = []habit{
	{name: "unlink and rmdir that cannot be", do: func(p *probe) {
		for _, kind := range kinds {
			p.thing(kind, "u "+kind)
			p.thing(kind, "r "+kind)
			p.try("unlink of "+kind, unix.Unlink(p.in("u "+kind)))
			p.try("rmdir of "+kind, unix.Rmdir(p.in("r "+kind)))
		}
		p.mkdir("d", 0o755)
		p.file("f", "x", 0o644)
		p.need(unix.Symlink("d", p.in("l")))
		for _, path := range []string{"d/.", "d/..", "f/", "f/x", "absent/x", "l/", "absent", "d/"} {
			p.try("rmdir "+path, unix.Rmdir(p.dir+"/"+path))
			p.try("unlink "+path, unix.Unlink(p.dir+"/"+path))
		}
		p.tree()
	}},
	{name: "a directory that is gone", once: true, do: func(p *probe) {
		p.mkdir("d", 0o755)
		fd := p.open("d", unix.O_DIRECTORY)
		p.need(unix.Rmdir(p.in("d")))
		p.try("create in it", second(unix.Openat(fd, "f", unix.O_CREAT|unix.O_WRONLY, 0o644)))
		p.try("mkdir in it", unix.Mkdirat(fd, "d", 0o755))
		p.try("symlink in it", unix.Symlinkat("x", fd, "l"))
		p.try("look up in it", second(unix.Openat(fd, "f", unix.O_RDONLY, 0)))
		n, err := unix.ReadDirent(fd, make([]byte, 4096))
		p.try(fmt.Sprint("list it: ", n > 60), err)
		p.fattr("it", fd)
		p.mkdir("d", 0o700)
		p.try("create in it when there is another", second(unix.Openat(fd, "f", unix.O_CREAT|unix.O_WRONLY, 0o644)))
		p.fattr("it", fd)
		p.tree()
	}},
	{name: "a file without a name", do: func(p *probe) {
		p.file("f", "0123456789", 0o644)
		fd := p.open("f", unix.O_RDWR)
		p.need(unix.Unlink(p.in("f")))
		p.fattr("it", fd)
		p.try("write", second(unix.Pwrite(fd, []byte("XX"), 20)))
		p.try("truncate", unix.Ftruncate(fd, 15))
		p.try("chmod", unix.Fchmod(fd, 0o600))
		p.try("chown", unix.Fchown(fd, 5, 6))
		p.try("sync", unix.Fsync(fd))
		p.try("allocate", unix.Fallocate(fd, 0, 0, 100))
		p.fattr("it", fd)
		b := make([]byte, 100)
		n, err := unix.Pread(fd, b, 0)
		p.try(brief(b[:max(n, 0)]), err)
		p.tree()
	}},
	{name: "names", do: func(p *probe) {
		for _, name := range []string{"n", strings.Repeat("n", 255), strings.Repeat("n", 256), strings.Repeat("ü", 127), strings.Repeat("ü", 128), "new\nline", "...", "..a", ".a", " ", "a ", "\\", "\\a", "a\\b", "%2F", "?", "*", "\x01", "\x7f", "ü", "u\u0308", "日本", "🚚", "A", "a", ".ossmount", "con", "a:b", "-", "--help"} {
			s := name
			if len(s) > 20 {
				s = fmt.Sprintf("%d bytes %.4s", len(s), s)
			}
			fd, err := unix.Open(p.in("f"+name), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
			p.try("create f"+s, err)
			unix.Close(fd)
			fd, err = unix.Open(p.in(name), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
			p.try("create "+s, err)
			unix.Close(fd)
			p.try("unlink "+s, unix.Unlink(p.in(name)))
			p.try("mkdir "+s, unix.Mkdir(p.in(name), 0o755))
			p.try("rename f"+s, unix.Rename(p.in("f"+name), p.in(name)+"/in it"))
			p.try("symlink "+s, unix.Symlink("x", p.in("l"+name)))
		}
		for _, name := range []string{"", ".", ".."} {
			p.try("mkdir "+name, unix.Mkdir(p.dir+"/"+name, 0o755))
			p.shut("create "+name, ".", unix.O_CREAT|unix.O_WRONLY)
		}
		p.tree()
	}},
	{name: "names that are not UTF-8", once: true, do: func(p *probe) {
		// A plain directory takes them; OSS does not, and the call says so.
		want := ""
		if p.mounted {
			want = "EILSEQ"
		} else {
			want = "ok"
		}
		said := func(what string, err error) { p.say("%s as wanted: %v", what, errname(err) == want) }
		for _, name := range []string{"\xff", "a\x80b", "\xed\xa0\x80"} {
			fd, err := unix.Open(p.in(name), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
			said("create", err)
			unix.Close(fd)
			unix.Unlink(p.in(name))
			said("mkdir", unix.Mkdir(p.in(name), 0o755))
			unix.Rmdir(p.in(name))
			said("symlink", unix.Symlink("x", p.in(name)))
			unix.Unlink(p.in(name))
			said("mkfifo", unix.Mkfifo(p.in(name), 0o644))
			unix.Unlink(p.in(name))
			p.thing("file", "f")
			said("rename", unix.Rename(p.in("f"), p.in(name)))
			unix.Unlink(p.in("f"))
			unix.Unlink(p.in(name))
			var st unix.Stat_t
			p.try("stat", unix.Lstat(p.in(name), &st))
			p.shut("open", name, unix.O_RDONLY)
		}
	}},
	{name: "a key that would be too long", once: true, do: func(p *probe) {
		path, made := p.dir, 0
		for range 8 {
			path += "/" + strings.Repeat("d", 200)
			if err := unix.Mkdir(path, 0o755); err != nil {
				p.say("mkdir: %s as wanted", map[bool]string{true: errname(err), false: "ok"}[!p.mounted])
				if p.mounted && errname(err) != "ENAMETOOLONG" {
					p.say("mkdir: %s", errname(err))
				}
				break
			}
			made++
		}
		if p.mounted && (made < 3 || made > 5) {
			p.say("%d directories of 200 bytes were made; OSS takes 1,023 bytes", made)
		}
		if !p.mounted {
			p.say("mkdir: ok as wanted")
		}
	}},
	{name: "links", do: func(p *probe) {
		p.file("f", "the file", 0o644)
		p.mkdir("d", 0o755)
		p.file("d/f", "in d", 0o644)
		for _, to := range []string{"f", "d", "d/f", "./f", "../links/f", "nowhere", "/etc/passwd", "/", "l", "link loop", strings.Repeat("x/", 2000) + "y", strings.Repeat("x", 4095), strings.Repeat("x", 4096), "", "ü\n", "with space "} {
			name := "l " + brief([]byte(to))
			name = strings.ReplaceAll(name, "/", "|")
			p.try("make "+name, unix.Symlink(to, p.in(name)))
			b := make([]byte, 5000)
			n, err := unix.Readlink(p.in(name), b)
			p.try("read "+name+brief(b[:max(n, 0)]), err)
			p.attr(name)
			var st unix.Stat_t
			p.try("follow "+name, unix.Stat(p.in(name), &st))
		}
		p.need(unix.Symlink("b", p.in("a")))
		p.need(unix.Symlink("a", p.in("b")))
		p.need(unix.Symlink("self", p.in("self")))
		p.shut("open a loop", "a", unix.O_RDONLY)
		p.shut("open itself", "self", unix.O_RDONLY)
		p.shut("open through a loop", "a/x", unix.O_RDONLY)
		p.try("again", unix.Symlink("x", p.in("a")))
		_, err := os.Readlink(p.in("f"))
		p.try("readlink of a file", err)
		_, err = os.Readlink(p.in("d"))
		p.try("readlink of a directory", err)
		p.try("chmod through it", unix.Chmod(p.in(`l "f"`), 0o600))
		p.try("lchown", unix.Lchown(p.in(`l "f"`), 3, 4))
		p.shut("open without following", `l "f"`, unix.O_RDONLY|unix.O_NOFOLLOW)
		p.shut("open the path of", `l "f"`, unix.O_PATH|unix.O_NOFOLLOW)
		p.shut("open a directory through it", `l "d"`, unix.O_RDONLY|unix.O_DIRECTORY)
		p.tree()
	}},
	{name: "a link to bytes that are not UTF-8", do: func(p *probe) {
		p.try("make", unix.Symlink("\xff\xfe/a", p.in("l")))
		to, err := os.Readlink(p.in("l"))
		p.try(fmt.Sprintf("read %q", to), err)
	}},
	{name: "forty links are followed, and not more", do: func(p *probe) {
		p.file("l0", "x", 0o644)
		for i := range 42 {
			p.need(unix.Symlink(fmt.Sprint("l", i), p.in(fmt.Sprint("l", i+1))))
		}
		for _, i := range []int{1, 39, 40, 41, 42} {
			p.shut(fmt.Sprint(i), fmt.Sprint("l", i), unix.O_RDONLY)
		}
	}},
}
