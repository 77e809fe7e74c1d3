package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

// shell is a program with a working directory. It ends with the test at the latest.
type shell struct {
	e   *env
	in  io.WriteCloser
	out *bufio.Reader
}

func (e *env) shell() *shell {
	e.Helper()
	p, in, out, err := harness.StartPiped([]string{"LC_ALL=C"}, "/bin/sh")
	e.ok(err)
	e.Cleanup(func() {
		in.Close()
		e.check(p.Kill())
		out.Close()
	})
	return &shell{e: e, in: in, out: bufio.NewReader(out)}
}

// run runs a line and returns what it prints, and its exit code.
func (s *shell) run(line string) (text string, code int) {
	s.e.Helper()
	_, err := fmt.Fprintf(s.in, "{ %s; } 2>&1\necho end $?\n", line)
	s.e.ok(err)
	for {
		got, err := s.out.ReadString('\n')
		s.e.ok(err)
		if n, _ := fmt.Sscanf(got, "end %d", &code); n == 1 {
			return text, code
		}
		text += got
	}
}

// says fails unless the line prints want.
func (s *shell) says(line, want string) {
	s.e.Helper()
	if text, _ := s.run(line); !strings.Contains(text, want) {
		s.e.Errorf("%s says %q, want %q", line, text, want)
	}
}

const notConnected = "endpoint is not connected"

// A program whose working directory, and file, are from before a restart has neither,
// until it goes there again by its path.
// covers H46
func TestWorkingDirectoriesOfARestart(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(m *mount){
		"umount": func(m *mount) { m.umount(0) },
		"SIGTERM": func(m *mount) {
			m.P.Signal(syscall.SIGTERM)
			code, err := m.P.Wait(patience)
			m.e.ok(err)
			if code != 0 {
				m.e.Errorf("it ends with %d", code)
			}
		},
		"SIGKILL": func(m *mount) { m.kill9() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			m := e.mount("cache")
			e.ok(os.Mkdir(m.in("dir"), 0o755))
			e.write(m.in("dir/f"), "here\n")
			s := e.shell()
			s.says("cd '"+m.in("dir")+"' && exec 3<f && cat f", "here")
			end(m)
			if at, err := harness.Mounted(m.Point); err != nil || name != "SIGKILL" && len(at) > 0 {
				t.Errorf("after the end it is mounted on %q, %v", at, err)
			}
			s.says("cat f", notConnected)
			m.start()
			e.reads(m.in("dir/f"), "here\n")
			s.says("cat f", notConnected)   // by the old directory
			s.says("cat <&3", notConnected) // by the old descriptor
			s.says("ls /proc/self/cwd/", notConnected)
			s.says("cd -P .", "can't cd")
			s.says(`cd "$PWD" && cat f`, "here")
			s.says("exec 3<f && cat <&3", "here")
		})
	}
}

// covers H46
func TestSIGTERMInterruptsOpenFiles(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--drain=1s")
	f := e.holdOpen(m.in("open for writing"), os.O_CREATE|os.O_WRONLY)
	f.writeAt("half", 0)
	m.P.Signal(syscall.SIGTERM)
	code, err := m.P.Wait(patience)
	e.ok(err)
	last := m.P.Err.Tail(1)
	if code != 3 || !strings.Contains(last, "interrupted now: open for writing") {
		t.Errorf("it ends with %d, and says last: %s", code, last)
	}
	f.end()
	m.start()
	if s := m.status(); s.Queue.Interrupted != 1 {
		t.Errorf("the open file is not interrupted: %+v", s.Queue)
	}
	e.reads(m.in("open for writing"), "half")
	m.umount(4)
}

// Somebody else unmounts: the daemon uploads what is pending, and ends; the next one
// waits for it.
// covers H46
func TestForeignUmount(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=1h", "--drain=2m")
	e.write(m.in("f"), "pending")
	e.ok(e.server.Kill()) // so that it takes its time
	e.ok(unix.Unmount(m.Point, 0))
	e.ok(m.P.Err.Say(e.soon(), "somebody else has unmounted"))
	first := m.P

	args := append([]string{"mount", m.Source, m.Point, "--cache-dir=" + m.Cache}, m.Flags...)
	next, err := harness.Start(harness.Credentials(), binary, args...)
	e.ok(err)
	m.P = next
	e.mounts = append(e.mounts, &mount{e: e, Mount: new(*m.Mount)})
	e.ok(next.Err.Say(e.soon(), "a daemon that is about to end has the cache directory; waiting for it"))
	e.ok(e.server.Start(e.soon()))
	code, err := first.Wait(patience)
	e.ok(err)
	if code != 0 {
		t.Errorf("the first daemon ends with %d: %s", code, first.Err.Tail(1))
	}
	_, err = next.Out.Line(e.soon(), "mounted ")
	e.ok(err)
	e.object("f", "pending")
	e.reads(m.in("f"), "pending")
	m.umount(0)
}

// covers H46
func TestUmountOfADeadMount(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache")
	e.write(m.in("f"), "x")
	m.wait(m.Point)
	e.ok(os.Symlink(e.dir, e.path("link")))
	e.ok(os.Symlink("mnt", e.path("alias")))
	for _, args := range [][]string{{m.Point, "--force"}, {m.Point}, {e.path("link/mnt")}, {e.path("alias"), "--force"}} {
		m.kill9()
		e.poll("the mount is dead", patience, m.Dead)
		r, err := m.Run(e.soon(), append([]string{"umount"}, args...)...)
		e.ok(err)
		if at, err := harness.Mounted(m.Point); err != nil || len(at) != 0 || r.Code != 0 {
			t.Errorf("umount %q: %v; mounted are %q %v", args, r, at, err)
		}
		m.start()
	}
	r, err := m.Run(e.soon(), "umount", e.dir, "--force")
	e.ok(err)
	if r.Code != 1 || !strings.Contains(r.Err, "is not a mount of ossmount") {
		t.Errorf("umount of what is none: %v", r)
	}
}

// A daemon that is there and does not answer cannot be asked; its mount can be taken
// away all the same.
func TestUmountOfAHungMount(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache")
	e.write(m.in("f"), "x")
	m.wait(m.Point)
	m.P.Signal(syscall.SIGSTOP)
	defer m.P.Signal(syscall.SIGCONT)
	polite := make(chan harness.Result, 1)
	go func() {
		r, err := m.Run(e.soon(), "umount", m.Point)
		e.check(err)
		polite <- r
	}()
	r, err := m.Run(e.soon(), "umount", "--force", m.Point)
	e.ok(err)
	if at, err := harness.Mounted(m.Point); err != nil || len(at) != 0 || r.Code != 3 || !strings.Contains(r.Err, "is detached, but its daemon is there still") {
		t.Errorf("umount --force: %v; mounted are %q %v", r, at, err)
	}
	if r := <-polite; r.Code != 1 || !strings.Contains(r.Err, "does not answer: --force detaches") {
		t.Errorf("umount: %v", r)
	}
	m.P.Signal(syscall.SIGCONT)
	if code, err := m.P.Wait(patience); err != nil || code != 0 {
		t.Errorf("when it goes on it finds itself unmounted, and ends with %d, %v", code, err)
	}
}

// Each change of state is a line, and with --log-format=json each line is an object,
// the last one too.
func TestLogInJSON(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--log-format=json", "--multipart-threshold=1MiB", "--part-size=256KiB")
	e.ok(harness.WriteFile(m.in("large"), 1, 3<<20))
	e.write(m.in("small"), "x")
	m.wait(m.Point)
	e.ok(os.Remove(m.in("small")))
	m.wait(m.Point)
	f := e.holdOpen(m.in("half"), os.O_CREATE|os.O_WRONLY)
	f.writeAt("half", 0)
	m.umount(3, "--force")
	f.end()
	type line struct {
		Time, Level, Msg, Key string
		Exit                  int
	}
	var all []line
	for text := range strings.Lines(m.P.Err.String()) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil || l.Time == "" || l.Level == "" || l.Msg == "" {
			t.Fatalf("%q: %v", text, err)
		}
		all = append(all, l)
	}
	for _, want := range []line{
		{Level: "INFO", Msg: "mounted"},
		{Level: "DEBUG", Msg: "an upload has begun", Key: "large"},
		{Level: "INFO", Msg: "uploaded", Key: "large"},
		{Level: "DEBUG", Msg: "uploaded", Key: "small"},
		{Level: "DEBUG", Msg: "deleted", Key: "small"},
		{Level: "WARN", Msg: "interrupted: the file is open for writing while the mount ends; the bytes are kept", Key: "half"},
	} {
		n := 0
		for _, l := range all {
			if l.Level == want.Level && l.Msg == want.Msg && l.Key == want.Key {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d lines are %+v", n, want)
		}
	}
	if last := all[len(all)-1]; last.Level != "ERROR" || last.Exit != 3 || !strings.Contains(last.Msg, "interrupted now: half") {
		t.Errorf("the last line is %+v", last)
	}
}
