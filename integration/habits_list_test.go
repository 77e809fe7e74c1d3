package integration

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var listHabits = []habit{
	{name: "a listing goes on from where it was told to", once: true, do: func(p *probe) {
		for i := range 300 {
			p.file(fmt.Sprintf("f%03d", i), "", 0o644)
		}
		fd := p.open(".", unix.O_DIRECTORY)
		all := p.entries(fd, 1000)
		seen := map[string]int{}
		for _, d := range all {
			seen[d.name]++
		}
		p.say("%d entries, %d names, %d and %d", len(all), len(seen), seen["."], seen[".."])
		wrong := 0
		for _, i := range []int{0, 1, 2, 100, 299, 17, 150} { // forward and back
			p.need(second(unix.Seek(fd, all[i].next, 0)))
			if rest := p.batch(fd, 200); len(rest) == 0 || rest[0].name != all[i+1].name {
				wrong++
			}
		}
		p.say("%d wrong after seeking", wrong)
		p.need(second(unix.Seek(fd, all[len(all)-1].next, 0)))
		p.say("at the end: %d", len(p.batch(fd, 1000)))
		p.file("new", "", 0o644)
		p.need(unix.Unlink(p.in("f000")))
		p.need(second(unix.Seek(fd, 0, 0)))
		seen = map[string]int{}
		for _, d := range p.entries(fd, 500) {
			seen[d.name]++
		}
		p.say("from the start again: %d names, %d new, %d removed", len(seen), seen["new"], seen["f000"])
	}},
	{name: "a listing is right while names come and go", once: true, do: func(p *probe) {
		for i := range 1000 {
			p.file(fmt.Sprintf("stays%04d", i), "", 0o644)
			p.file(fmt.Sprintf("goes%04d", i), "", 0o644)
		}
		fd := p.open(".", unix.O_DIRECTORY)
		seen := map[string]int{}
		for n := 0; ; n++ {
			batch := p.batch(fd, 2000)
			if len(batch) == 0 {
				break
			}
			for _, d := range batch {
				seen[d.name]++
			}
			for i := range 20 {
				unix.Unlink(p.in(fmt.Sprintf("goes%04d", n*20+i)))
				if n < 50 {
					p.file(fmt.Sprintf("comes%04d", n*20+i), "", 0o644)
				}
			}
		}
		twice, missing := 0, 0
		for _, n := range seen {
			if n > 1 {
				twice++
			}
		}
		for i := range 1000 {
			if seen[fmt.Sprintf("stays%04d", i)] != 1 {
				missing++
			}
		}
		p.say("%d twice, %d missing", twice, missing)
	}},
	{name: "a listing goes on while its directory moves", once: true, do: func(p *probe) {
		const n = 3000 // more rows than are read at once
		p.mkdir("d", 0o755)
		p.mkdir("e", 0o755)
		for i := range n {
			p.file(fmt.Sprintf("d/f%04d", i), "", 0o644)
		}
		fd := p.open("d", unix.O_DIRECTORY)
		seen := map[string]int{}
		for i, to := range []string{"e/moved", "back", "e/again", "d", "e/once more"} {
			for _, d := range p.batch(fd, 8192) {
				seen[d.name]++
			}
			p.need(unix.Rename(p.in([]string{"d", "e/moved", "back", "e/again", "d"}[i]), p.in(to)))
		}
		for _, d := range p.entries(fd, 8192) {
			seen[d.name]++
		}
		once := 0
		for i := range n {
			if seen[fmt.Sprintf("f%04d", i)] == 1 {
				once++
			}
		}
		p.say("%d of %d names once, %d in all", once, n, len(seen))
	}},
	{name: "what is listed is removed, batch by batch", do: func(p *probe) {
		p.mkdir("d", 0o755)
		for i := range 700 {
			p.file(fmt.Sprintf("d/f%03d", i), "", 0o644)
		}
		fd := p.open("d", unix.O_DIRECTORY)
		n := 0
		for {
			batch := p.batch(fd, 1000)
			if len(batch) == 0 {
				break
			}
			for _, d := range batch {
				if !strings.HasPrefix(d.name, ".") {
					p.need(unix.Unlink(p.in("d/" + d.name)))
					n++
				}
			}
		}
		p.say("%d removed", n)
		p.try("rmdir", unix.Rmdir(p.in("d")))
	}},
	{name: "a listing tells kinds", do: func(p *probe) {
		for _, kind := range kinds {
			p.thing(kind, "the "+kind)
		}
		fd := p.open(".", unix.O_DIRECTORY)
		kind := map[string]byte{}
		for _, d := range p.entries(fd, 4096) {
			kind[d.name] = d.kind
		}
		for _, k := range append(kinds, ".", "..") {
			name := "the " + k
			if strings.HasPrefix(k, ".") {
				name = k
			}
			p.say("%s: %d", name, kind[name])
		}
	}},
	{name: "a listing with too little room", once: true, do: func(p *probe) {
		p.file(strings.Repeat("n", 200), "", 0o644)
		fd := p.open(".", unix.O_DIRECTORY)
		var err error
		for err == nil {
			var n int
			if n, err = unix.Getdents(fd, make([]byte, 60)); n == 0 {
				break
			}
		}
		p.try("getdents", err)
	}},
	{name: "changes are seen at once", once: true, do: func(p *probe) {
		var st unix.Stat_t
		for i := range 30 {
			name := fmt.Sprint("f", i)
			p.try("absent", unix.Stat(p.in(name), &st))
			p.file(name, "x", 0o644)
			p.try("there", unix.Stat(p.in(name), &st))
			list, err := os.ReadDir(p.dir)
			p.try(fmt.Sprint("listed ", len(list)), err)
			p.need(unix.Rename(p.in(name), p.in("r"+name)))
			p.try("moved", unix.Stat(p.in(name), &st))
			p.try("moved here", unix.Stat(p.in("r"+name), &st))
			if i%2 == 0 {
				p.need(unix.Unlink(p.in("r" + name)))
			}
		}
	}},
}

// locker is another process that locks for a test: it reads commands, one a
// line, and answers each with a line.
type locker struct {
	p    *probe
	in   io.WriteCloser
	out  *os.File
	cmd  *exec.Cmd
	rest string
}

const lockerEnv = "OSSMOUNT_TEST_LOCKER"

// lockerMain is the other process: flock, lock and so on of the file named.
func lockerMain(path string) {
	fd, err := unix.Open(path, unix.O_RDWR, 0)
	fmt.Println(errname(err))
	for {
		var what string
		var kind, start, n int64
		if _, err := fmt.Scanln(&what, &kind, &start, &n); err != nil {
			return
		}
		l := unix.Flock_t{Type: int16(kind), Start: start, Len: n}
		switch what {
		case "flock":
			fmt.Println(errname(unix.Flock(fd, int(kind))))
		case "set":
			fmt.Println(errname(unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &l)))
		case "wait":
			fmt.Println(errname(unix.FcntlFlock(uintptr(fd), unix.F_SETLKW, &l)))
		case "get":
			err := unix.FcntlFlock(uintptr(fd), unix.F_GETLK, &l)
			fmt.Println(errname(err), l.Type, l.Start, l.Len, l.Pid != 0)
		case "reopen": // closing any descriptor of a file drops the POSIX locks
			other, _ := unix.Open(path, unix.O_RDONLY, 0)
			fmt.Println(errname(unix.Close(other)))
		}
	}
}

func (p *probe) locker(name string) *locker {
	l := &locker{p: p, cmd: exec.Command(os.Args[0])}
	l.cmd.Env = append(os.Environ(), lockerEnv+"="+p.in(name))
	r, w, err := os.Pipe()
	p.need(err)
	l.cmd.Stdout, l.out = w, r
	l.in, err = l.cmd.StdinPipe()
	p.need(err)
	p.need(l.cmd.Start())
	w.Close()
	p.close = append(p.close, l.end)
	p.say("opened: %s", l.line())
	return l
}

func (l *locker) end() {
	l.in.Close()
	l.cmd.Process.Kill()
	l.cmd.Wait()
	l.out.Close()
}

// line is the next answer.
func (l *locker) line() string {
	for !strings.Contains(l.rest, "\n") {
		l.out.SetReadDeadline(time.Now().Add(patience))
		b := make([]byte, 100)
		n, err := l.out.Read(b)
		if err != nil {
			return fmt.Sprint("no answer: ", err)
		}
		l.rest += string(b[:n])
	}
	line, rest, _ := strings.Cut(l.rest, "\n")
	l.rest = rest
	return line
}

func (l *locker) ask(what string, kind int, start, n int64) {
	l.send(what, kind, start, n)
	l.p.say("%s %d %d %d: %s", what, kind, start, n, l.line())
}

func (l *locker) send(what string, kind int, start, n int64) {
	fmt.Fprintln(l.in, what, strconv.Itoa(kind), start, n)
}

var lockHabits = []habit{
	{name: "flock between processes", once: true, do: func(p *probe) {
		p.file("f", "x", 0o644)
		a, b := p.locker("f"), p.locker("f")
		a.ask("flock", unix.LOCK_EX|unix.LOCK_NB, 0, 0)
		b.ask("flock", unix.LOCK_EX|unix.LOCK_NB, 0, 0)
		b.ask("flock", unix.LOCK_SH|unix.LOCK_NB, 0, 0)
		a.ask("flock", unix.LOCK_SH|unix.LOCK_NB, 0, 0)
		b.ask("flock", unix.LOCK_SH|unix.LOCK_NB, 0, 0)
		a.ask("flock", unix.LOCK_EX|unix.LOCK_NB, 0, 0)
		a.ask("flock", unix.LOCK_UN, 0, 0)
		b.ask("flock", unix.LOCK_EX|unix.LOCK_NB, 0, 0)
		a.send("flock", unix.LOCK_EX, 0, 0) // waits
		b.ask("flock", unix.LOCK_UN, 0, 0)
		p.say("woken: %s", a.line())
		a.end()
		b.ask("flock", unix.LOCK_EX|unix.LOCK_NB, 0, 0)
		fd := p.open("f", unix.O_RDONLY)
		p.try("a third", unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB))
		b.ask("set", unix.F_WRLCK, 0, 0) // the two kinds know nothing of each other
	}},
	{name: "POSIX locks between processes", once: true, do: func(p *probe) {
		p.file("f", "0123456789", 0o644)
		a, b := p.locker("f"), p.locker("f")
		a.ask("set", unix.F_WRLCK, 0, 10)
		b.ask("set", unix.F_RDLCK, 5, 10)
		b.ask("get", unix.F_RDLCK, 5, 10)
		b.ask("set", unix.F_RDLCK, 10, 10)
		a.ask("get", unix.F_WRLCK, 0, 0)
		a.ask("set", unix.F_UNLCK, 3, 3) // a hole in its lock
		b.ask("set", unix.F_WRLCK, 3, 3)
		b.ask("get", unix.F_WRLCK, 0, 3)
		b.ask("get", unix.F_WRLCK, 6, 3)
		a.ask("set", unix.F_RDLCK, 0, 3)
		b.ask("set", unix.F_RDLCK, 0, 3)
		a.ask("set", unix.F_WRLCK, 0, 3)
		b.ask("set", unix.F_WRLCK, 100, 0) // to the end, wherever that is
		a.ask("set", unix.F_RDLCK, 1<<40, 1)
		b.ask("set", unix.F_UNLCK, 0, 0)
		a.ask("set", unix.F_WRLCK, 0, 0)
		a.ask("reopen", 0, 0, 0)
		b.ask("set", unix.F_WRLCK, 0, 0)
		a.send("wait", unix.F_WRLCK, 0, 0)
		b.ask("set", unix.F_UNLCK, 0, 0)
		p.say("woken: %s", a.line())
		b.ask("set", unix.F_WRLCK, 0, 0)
		a.end()
		b.ask("set", unix.F_WRLCK, 0, 0)
	}},
	{name: "locks on descriptions", once: true, do: func(p *probe) {
		p.file("f", "0123456789", 0o644)
		a, b := p.open("f", unix.O_RDWR), p.open("f", unix.O_RDWR)
		lock := func(what string, fd int, kind int16) {
			p.try(what, unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Len: 5}))
		}
		lock("a", a, unix.F_WRLCK)
		lock("b", b, unix.F_WRLCK)
		lock("b reads", b, unix.F_RDLCK)
		lock("a lets go", a, unix.F_UNLCK)
		lock("b", b, unix.F_WRLCK)
	}},
}
