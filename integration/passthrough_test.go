package integration

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What the kernel writes itself comes to OSS as the programs have left it: a file
// that is written through a mapping after its last descriptor was closed. covers H12
func TestMappingsWriteOnAfterTheClose(t *testing.T) {
	t.Parallel()
	for _, size := range []int{4096, 3 * mebi} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			m := e.mount("cache", "--write-back-delay=0s", "--multipart-threshold=1MiB", "--part-size=1MiB")
			f, err := os.Create(m.in("mapped"))
			e.ok(err)
			e.ok(f.Truncate(int64(size)))
			b, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			e.ok(err)
			b[0] = 'a' // that page is dirty from now on: the next store leaves no time
			e.ok(f.Close())
			e.write(m.in("other"), "sent while the first one waits")
			m.wait(m.in("other"))
			if keys, err := e.server.Keys("mapped"); err != nil || len(keys) > 0 {
				t.Errorf("it was sent while it was mapped: %v, %v", keys, err)
			}
			want := bytes.Repeat([]byte("mapped! "), size/8)
			copy(b, want)
			e.ok(unix.Munmap(b))
			m.wait(m.in("mapped"))
			e.object("mapped", string(want))
			e.reads(m.in("mapped"), string(want))
		})
	}
}

// writer is a program that has a file open, and writes to it what it is told.
func (e *env) writer(path string) (tell func(text string), end func()) {
	e.Helper()
	c := exec.Command("sh", "-c", `exec 3<>"$0"; while read -r t; do printf %s "$t" >&3 2>/dev/null; echo done; done`, path)
	in, err := c.StdinPipe()
	e.ok(err)
	out, err := c.StdoutPipe()
	e.ok(err)
	e.ok(c.Start())
	lines := bufio.NewScanner(out)
	tell = func(text string) {
		e.Helper()
		_, err := fmt.Fprintln(in, text)
		e.ok(err)
		if !lines.Scan() {
			e.Fatalf("the writer has ended: %v", lines.Err())
		}
	}
	return tell, func() {
		in.Close()
		_ = c.Wait()
	}
}

// The programs of a daemon that was killed go on writing to the contents that they
// have open, and the next daemon must not send those half-way. covers H12
func TestOrphansWriteOn(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=1h")
	tell, end := e.writer(m.in("f"))
	defer end()
	tell("before,") // each of these is a flush: the shell's child has it, too
	m.kill9()
	tell("after,")
	m.Flags = append(m.Flags, "--write-back-delay=0s")
	m.start()
	e.write(m.in("other"), "sent while the first one waits")
	m.wait(m.in("other"))
	tell("late")
	end()
	if got := m.state("f"); got == "clean" {
		t.Errorf("f is %s", got)
	}
	e.poll("what the writer left is there", patience, func() bool {
		text, err := os.ReadFile(m.in("f"))
		return err == nil && string(text) == "before,after,late"
	})
	f, err := os.OpenFile(m.in("f"), os.O_WRONLY|os.O_APPEND, 0)
	e.ok(err)
	_, err = f.WriteString(".")
	e.ok(err)
	e.ok(f.Close())
	m.wait(m.in("f"))
	e.object("f", "before,after,late.")
}

// Many open the same file, each in its own way, again and again: none is refused,
// and none reads or writes the content of another. covers H9, H14
func TestMixedOpensOfOneFile(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"auto", "off"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			m := e.mount("cache", "--write-back-delay=0s", "--passthrough="+mode)
			path := m.in("f")
			sized := func(i int) string { return strings.Repeat(string(rune('a'+i%26)), []int{5, 2 * mebi}[i%2]) }
			for i := range 60 {
				want := sized(i)
				f, err := os.Create(path) // a content of its own, where nobody has it open
				e.ok(err)
				r, err := os.Open(path)
				e.ok(err)
				_, err = f.WriteString(want)
				e.ok(err)
				e.reads(path, want)
				g, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
				e.ok(err)
				_, err = g.WriteString("!")
				e.ok(err)
				b := make([]byte, len(want)+2)
				if n, _ := r.ReadAt(b, 0); string(b[:n]) != want+"!" {
					t.Fatalf("round %d: %d bytes read, %d written", i, n, len(want)+1)
				}
				for _, h := range []*os.File{f, r, g} {
					e.ok(h.Close())
				}
				if i%3 == 0 {
					m.wait(path)
					e.object("f", want+"!")
				}
				e.reads(path, want+"!")
			}
			m.wait(path)
			e.object("f", sized(59)+"!")
		})
	}
}

// The mount says whether the kernel serves files itself, and the flag decides.
func TestPassthroughIsThere(t *testing.T) {
	t.Parallel()
	e := setup(t)
	for mode, want := range map[string]bool{"auto": true, "off": false} {
		m := e.mount("cache "+mode, "--passthrough="+mode)
		if got := m.status().Passthrough; got != want {
			t.Errorf("--passthrough=%s: status says %v", mode, got)
		}
		m.umount(0)
	}
}

// A file is closed, and the mount ended at once: it is pending, not interrupted, also
// where the kernel says a moment after the close that the file is closed.
func TestClosedJustBeforeTheEnd(t *testing.T) {
	t.Parallel()
	e := setup(t)
	for i, size := range []int{10, 3 * mebi, 5 * mebi, 3 * mebi} {
		m := e.mount(fmt.Sprint("cache", i), "--write-back-delay=1h")
		e.write(m.in(fmt.Sprint("f", i)), strings.Repeat("x", size))
		m.umount(3, "--drain=0s")
		s, err := m.CacheStatus()
		e.ok(err)
		if s.Queue.Pending != 1 || s.Queue.Interrupted != 0 {
			t.Errorf("%d bytes: %d pending, %d interrupted", size, s.Queue.Pending, s.Queue.Interrupted)
		}
		m.start()
		m.umount(0, "--drain=1m")
	}
}
