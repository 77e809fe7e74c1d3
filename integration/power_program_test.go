package integration

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

// programEnv is the variable in which the process finds the mount in which it shall do
// what it reads on its standard input. It is a process of its own: the one that runs
// the tests starts others all the time, and each of them has its open files for a
// moment and closes them, which is a close of a file in the middle of being written.
const programEnv = "OSSMOUNT_TEST_PROGRAM"

// step is one thing that a program does.
type step struct {
	Op   string
	A, B string // names beneath the mount
	Seed uint64 // of bytes
	Size int64
	Off  int64
	Mode uint32
	Time int64
}

func (s step) String() string {
	return fmt.Sprintf("%s %s %s seed %d size %d off %d mode %o", s.Op, s.A, s.B, s.Seed, s.Size, s.Off, s.Mode)
}

// text is n bytes of which no two seeds share eight, at any place.
func text(seed uint64, n int64) []byte {
	b := make([]byte, n)
	x := seed * 0x9e3779b97f4a7c15
	for i := range b {
		if i%8 == 0 {
			x = x*6364136223846793005 + 1442695040888963407
		}
		b[i] = byte(x >> (8 * (i % 8)))
	}
	return b
}

// programMain does the steps of several programs at once, and says before each that it
// begins, and after each that it has returned.
func programMain(root string) {
	var scripts [][]step
	if err := json.NewDecoder(os.Stdin).Decode(&scripts); err != nil {
		fmt.Fprintln(os.Stderr, "program:", err)
		os.Exit(1)
	}
	var said sync.Mutex
	say := func(format string, args ...any) {
		said.Lock()
		defer said.Unlock()
		fmt.Fprintf(os.Stdout, format+"\n", args...)
	}
	var all sync.WaitGroup
	for w, script := range scripts {
		all.Go(func() {
			p := &scribe{root: root}
			for i, s := range script {
				say("b %d %d", w, i)
				if err := p.do(s); err != nil {
					say("e %d %d %s", w, i, errname(err))
					return
				}
				say("r %d %d", w, i)
			}
		})
	}
	all.Wait()
	// It stays, with its files open, until the machine is off.
	io.Copy(io.Discard, os.Stdin)
}

// scribe is a program that writes; it has at most one file open.
type scribe struct {
	root string
	f    int
}

func (p *scribe) at(name string) string { return p.root + "/" + name }

func (p *scribe) do(s step) (err error) {
	switch s.Op {
	case "create":
		if p.f, err = unix.Open(p.at(s.A), unix.O_CREAT|unix.O_TRUNC|unix.O_RDWR, 0o644); err != nil {
			return err
		}
		return p.write(text(s.Seed, s.Size), 0)
	case "patch":
		if p.f, err = unix.Open(p.at(s.A), unix.O_RDWR, 0); err != nil {
			return err
		}
		return p.write(text(s.Seed, s.Size), s.Off)
	case "append":
		if p.f, err = unix.Open(p.at(s.A), unix.O_WRONLY|unix.O_APPEND, 0); err != nil {
			return err
		}
		return p.write(text(s.Seed, s.Size), s.Off)
	case "more":
		return p.write(text(s.Seed, s.Size), s.Off)
	case "fsync":
		return unix.Fsync(p.f)
	case "close":
		return p.close()
	case "sync again":
		fd, err := unix.Open(p.at(s.A), unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Fsync(fd)
	case "sync the directory":
		fd, err := unix.Open(p.at(s.A), unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Fsync(fd)
	case "truncate":
		return unix.Truncate(p.at(s.A), s.Size)
	case "rename":
		return unix.Rename(p.at(s.A), p.at(s.B))
	case "exchange":
		return unix.Renameat2(unix.AT_FDCWD, p.at(s.A), unix.AT_FDCWD, p.at(s.B), unix.RENAME_EXCHANGE)
	case "unlink":
		return unix.Unlink(p.at(s.A))
	case "mkdir":
		return unix.Mkdir(p.at(s.A), 0o755)
	case "rmdir":
		return unix.Rmdir(p.at(s.A))
	case "symlink":
		return unix.Symlink(s.B, p.at(s.A))
	case "chmod":
		return unix.Chmod(p.at(s.A), s.Mode)
	case "utimes":
		return harness.SetMtime(p.at(s.A), time.Unix(0, s.Time))
	}
	return fmt.Errorf("no such step: %v", s)
}

// close returns when the mount knows that the file is closed: of a large one, which the
// kernel serves, it is told a moment after close(2) has returned (docs/durability.md).
func (p *scribe) close() error {
	var st unix.Stat_t
	err := unix.Fstat(p.f, &st)
	path, lerr := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", p.f))
	if err := errors.Join(err, lerr, unix.Close(p.f)); err != nil || st.Size <= 1<<20 {
		return err
	}
	state := make([]byte, 100)
	for {
		switch n, err := unix.Lgetxattr(path, "user.ossmount.state", state); {
		case errors.Is(err, unix.ENOENT): // it has been removed since it was opened
			return nil
		case err != nil:
			return err
		case string(state[:n]) != "open":
			return nil
		}
		time.Sleep(time.Millisecond)
	}
}

// write writes in pieces, as programs do.
func (p *scribe) write(b []byte, off int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(p.f, b[:min(len(b), 96<<10)], off)
		if err != nil {
			return err
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// told is what the programs have said until the machine went off.
type told struct {
	p  *harness.Process
	in io.WriteCloser

	mu     sync.Mutex
	events []event
	wrong  []string
	done   chan struct{}
}

type event struct {
	begins  bool
	program int
	step    int
}

// runPrograms starts the process that does the scripts in a mount.
func runPrograms(root string, scripts [][]step) (*told, error) {
	b, err := json.Marshal(scripts)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, in, out, err := harness.StartPiped([]string{programEnv + "=" + root}, self)
	if err != nil {
		return nil, err
	}
	t := &told{p: p, in: in, done: make(chan struct{})}
	go t.listen(out)
	if _, err := in.Write(b); err != nil {
		return t, err
	}
	return t, nil
}

func (t *told) listen(out io.Reader) {
	defer close(t.done)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		t.hear(lines.Text())
	}
}

func (t *told) hear(line string) {
	var what, errname string
	var e event
	fmt.Sscan(line, &what, &e.program, &e.step, &errname)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch what {
	case "b", "r":
		e.begins = what == "b"
		t.events = append(t.events, e)
	case "e":
		switch errname {
		case syscall.ENOTCONN.Error(), "ENOTCONN", "ECONNABORTED", "EIO": // the machine went off
		default:
			t.wrong = append(t.wrong, line)
		}
	default:
		t.wrong = append(t.wrong, line)
	}
}

// now is how much has been said.
func (t *told) now() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.events)
}

// end kills the process and returns all that it had said.
func (t *told) end() (events []event, wrong []string, err error) {
	t.p.Signal(syscall.SIGKILL)
	<-t.done
	t.in.Close()
	_, err = t.p.Wait(patience)
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.events, t.wrong, err
}
