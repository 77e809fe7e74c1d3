package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

// recovered is the JSON of `ossmount recover list --json`.
type recovered struct {
	Held []struct {
		Path, State, Kind, Reason, Remedy string
		Size                              int64
	}
	Found []struct {
		Name, Path, File string
		Size             int64
		Why              string `json:"why_not"`
	}
}

// recoverCmd runs `ossmount recover` and demands the exit code.
func (e *env) recoverCmd(code int, args ...string) harness.Result {
	e.Helper()
	return e.command(code, append([]string{"recover"}, args...)...)
}

func (e *env) command(code int, args ...string) harness.Result {
	e.Helper()
	r, err := harness.Run(e.soon(), harness.Credentials(), binary, args...)
	e.ok(err)
	if r.Code != code {
		e.Fatalf("ossmount %q: want exit %d, got %v", args, code, r)
	}
	return r
}

func (e *env) recoverList(where string) (l recovered) {
	e.Helper()
	e.ok(json.Unmarshal([]byte(e.recoverCmd(0, "list", "--json", where).Out), &l))
	return l
}

// crashWriting kills the daemon while name is being written: it had the text was
// closed ("": it is new), and gets text from off on.
func (m *mount) crashWriting(name, was, text string, off int64) {
	m.e.Helper()
	if was != "" {
		m.e.write(m.in(name), was)
	}
	unforked(func() {
		f := m.e.open(m.in(name), os.O_CREATE|os.O_WRONLY)
		m.e.writeAt(f, text, off)
		m.kill9()
		f.Close()
	})
}

// Interrupted files are published as the disk has them, or given up: in the mount,
// or on its cache directory before it is mounted again.
func TestInterruptedFilesArePublishedOrGivenUp(t *testing.T) {
	t.Parallel()
	for _, offline := range []bool{false, true} {
		t.Run(fmt.Sprint("offline ", offline), func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			old := strings.Repeat("old ", 50_000)
			for _, key := range []string{"d/publish", "d/discard", "d/other"} {
				e.put(key, strings.NewReader("what OSS has"))
			}
			m := e.mount("cache", "--write-back-delay=1h", "--meta-ttl=1s")
			for _, name := range []string{"publish", "discard"} {
				e.write(m.in("d/"+name), old)
			}
			unforked(func() {
				for _, name := range []string{"publish", "discard", "other"} {
					f := e.open(m.in("d/"+name), os.O_WRONLY)
					defer f.Close()
					e.writeAt(f, "NEW", 100)
				}
				m.kill9()
			})
			where, at := "--cache-dir="+m.Cache, func(name string) string { return "d/" + name }
			if !offline {
				m.start()
				where, at = m.Point, func(name string) string { return m.in("d/" + name) }
			}
			flags := func(args ...string) []string {
				if offline {
					return append(args, where, "--region="+harness.Region)
				}
				return args
			}
			l := e.recoverList(where)
			if len(l.Held) != 2 || l.Held[0].Path != "d/discard" || l.Held[1].State != "interrupted" || !strings.Contains(l.Held[1].Remedy, "recover publish") {
				t.Fatalf("list: %+v", l)
			}
			if r := e.recoverCmd(0, "list", where); !strings.Contains(r.Out, at("publish")) || !strings.Contains(r.Out, "ossmount recover discard") {
				t.Errorf("list: %v", r)
			}
			e.recoverCmd(0, flags("publish", at("publish"))...)
			r := e.recoverCmd(2, flags("discard", at("discard"))...)
			if !strings.Contains(r.Err, "--yes") {
				t.Errorf("discard that nobody confirms: %v", r)
			}
			e.recoverCmd(1, flags("discard", "--yes", at("discard"), at("nothing"))...)
			if l := e.recoverList(where); len(l.Held) != 1 {
				t.Errorf("after a discard with a wrong name in it: %+v", l)
			}
			if r = e.recoverCmd(0, flags("discard", "--yes", at("discard"))...); !strings.Contains(r.Out, "gave up interrupted  "+at("discard")) {
				t.Errorf("discard: %v", r)
			}
			e.recoverCmd(1, flags("discard", "--yes", at("discard"))...)
			if offline {
				m.start()
			}
			e.poll("the name shows what OSS has", patience, func() bool {
				b, err := os.ReadFile(m.in("d/discard"))
				return err == nil && string(b) == "what OSS has"
			})
			m.umount(0, "--drain=30s")
			e.object("d/publish", old[:100]+"NEW"+old[103:])
			e.object("d/discard", "what OSS has")
		})
	}
}

// While a program writes to an interrupted file nothing is done about it.
func TestInterruptedFilesThatAreOpenAreLeftAlone(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=1h")
	m.crashWriting("f", "closed once", "NEW", 3)
	m.start()
	// In a process of its own: the commands are children of this one, and close what
	// they have got from it.
	p, err := harness.Start(nil, "/bin/sh", "-c", `exec 3<>"$1"; echo opened; exec sleep 1000`, "sh", m.in("f"))
	e.ok(err)
	defer p.Kill()
	if _, err := p.Out.Line(e.soon(), "opened"); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"publish", "discard"} {
		args := []string{what, m.in("f")}
		if what == "discard" {
			args = append(args, "--yes")
		}
		if r := e.recoverCmd(1, args...); !strings.Contains(r.Err, "open") {
			t.Errorf("%s: %v", what, r)
		}
	}
	e.ok(p.Kill()) // which closes it again
	e.poll("it is closed", patience, func() bool { return len(m.status().OpenFiles) == 0 })
	m.umount(0, "--drain=30s")
	e.object("f", "cloNEW once")
}

// Found bytes get their name again, or another; nothing that is there goes for them
// without --force, and they can be taken out and given up.
func TestFoundBytesGetANameAgain(t *testing.T) {
	t.Parallel()
	for _, offline := range []bool{false, true} {
		t.Run(fmt.Sprint("offline ", offline), func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			m := e.mount("cache", "--write-back-delay=0s", "--meta-ttl=1s")
			e.ok(os.Mkdir(m.in("d"), 0o755))
			names := []string{"d/again", "d/moved", "d/over", "d/gone"}
			text := func(name string) string { return strings.Repeat(name+" ", 100_000) }
			unforked(func() {
				for _, name := range names {
					f := e.open(m.in(name), os.O_CREATE|os.O_WRONLY)
					defer f.Close()
					e.writeAt(f, text(name), 0)
				}
				m.kill9()
			})
			m.start()
			e.ok(os.MkdirAll(m.in("d"), 0o755))
			e.write(m.in("d/over"), "another")
			e.write(m.in("file"), "a file")
			m.wait(m.Point)
			where := m.Point
			flags := func(args ...string) []string { return append(args, "--mountpoint="+m.Point) }
			at := m.in
			if offline {
				m.umount(0)
				where = "--cache-dir=" + m.Cache
				flags = func(args ...string) []string { return append(args, where, "--region="+harness.Region) }
				at = func(name string) string { return name }
			}
			found := map[string]string{}
			for _, l := range e.recoverList(where).Found {
				found[l.Path] = l.Name
			}
			if len(found) != len(names) {
				t.Fatalf("found: %q", found)
			}
			if r := e.recoverCmd(1, flags("publish", found["d/over"])...); !strings.Contains(r.Err, "--force") {
				t.Errorf("something is there: %v", r)
			}
			e.recoverCmd(1, flags("publish", found["d/over"], at("file/beneath"), "--force")...)
			e.recoverCmd(1, flags("publish", found["d/over"], at("d"), "--force")...)
			e.recoverCmd(1, flags("publish", "found:ffff")...)
			e.recoverCmd(2, flags("publish", "found:")...)
			out := e.path("exported")
			if r := e.recoverCmd(0, flags("export", found["d/gone"], out)...); !strings.Contains(r.Out, "all ") {
				t.Errorf("export: %v", r)
			}
			e.reads(out, text("d/gone"))
			e.recoverCmd(1, flags("export", found["d/moved"], out)...)
			e.reads(out, text("d/gone")) // what is there is not overwritten
			e.recoverCmd(0, flags("publish", found["d/again"])...)
			e.recoverCmd(0, flags("publish", found["d/moved"], at("new/sub/name"))...)
			e.recoverCmd(0, flags("publish", found["d/over"], "--force")...)
			e.recoverCmd(0, flags("discard", found["d/gone"], "--yes")...)
			if l := e.recoverList(where); len(l.Found)+len(l.Held) > 0 {
				t.Errorf("left: %+v", l)
			}
			if offline {
				m.start()
			}
			for name, was := range map[string]string{"d/again": "d/again", "new/sub/name": "d/moved", "d/over": "d/over"} {
				e.poll(name+" is there", patience, func() bool {
					b, err := os.ReadFile(m.in(name))
					return err == nil && string(b) == text(was)
				})
			}
			m.wait(m.Point)
			for name, was := range map[string]string{"d/again": "d/again", "new/sub/name": "d/moved", "d/over": "d/over"} {
				e.object(name, text(was))
			}
			if _, err := os.Stat(m.in("d/gone")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("what was given up: %v", err)
			}
			m.umount(0)
		})
	}
}

// What is taken out at once keeps its paths; a cache directory that is mounted is
// not acted on behind the back of its daemon.
func TestEverythingIsTakenOutAtOnce(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=1h")
	e.ok(os.MkdirAll(m.in("d e/sub"), 0o755))
	e.write(m.in("d e/sub/f"), "closed once")
	unforked(func() {
		f := e.open(m.in("d e/sub/f"), os.O_WRONLY)
		g := e.open(m.in("never closed"), os.O_CREATE|os.O_WRONLY)
		e.writeAt(f, "NEW", 3)
		e.writeAt(g, "all of it", 0)
		m.kill9()
		f.Close()
		g.Close()
	})
	m.start()
	r := e.recoverCmd(1, "discard", "--all", "--yes", "--cache-dir="+m.Cache)
	if !strings.Contains(r.Err, m.Point) {
		t.Errorf("it does not name the mount: %v", r)
	}
	l := e.recoverList(m.Point)
	if len(l.Found) != 1 || len(l.Held) != 1 {
		t.Fatalf("%+v", l)
	}
	s := m.status()
	if s.LostBytes == 0 {
		t.Errorf("status does not count what is in lost+found: %+v", s)
	}
	out := e.path("out")
	e.recoverCmd(0, "export", "--all", out, "--mountpoint="+m.Point)
	e.reads(out+"/d e/sub/f", "cloNEW once")
	e.reads(out+"/lost+found/"+strings.TrimPrefix(l.Found[0].Name, "found:"), "all of it")
	e.recoverCmd(0, "publish", "--all", "--mountpoint="+m.Point)
	e.recoverCmd(0, "discard", "--all", "--yes", "--mountpoint="+m.Point)
	if r := e.recoverCmd(0, "list", m.Point); !strings.Contains(r.Out, "nothing waits") {
		t.Errorf("left: %v", r)
	}
	m.umount(0, "--drain=30s")
	e.object("d e/sub/f", "cloNEW once")
	keys, err := e.server.Keys("")
	e.ok(err)
	if len(keys) != 3 { // two directories
		t.Errorf("objects: %q", keys)
	}
}

// What was parked for a reason that is mended goes on when it is told to; of a
// delete that is given up the object stays.
func TestParkedChangesAreTriedAgainOrGivenUp(t *testing.T) {
	t.Parallel()
	e := setup(t)
	for _, key := range []string{"again", "kept"} {
		e.put(key, strings.NewReader("what OSS has"))
	}
	m := e.mount("cache", "--write-back-delay=0s")
	put, err := e.server.Fault("error,code=FileImmutable,status=409,op=PutObject")
	e.ok(err)
	del, err := e.server.Fault("error,code=FileImmutable,status=409,op=DeleteObject|DeleteMultipleObjects")
	e.ok(err)
	e.write(m.in("new"), "ours")
	e.ok(os.Remove(m.in("again")))
	e.ok(os.Remove(m.in("kept")))
	e.poll("all is parked", patience, func() bool { return m.status().Queue.Parked == 3 })
	for _, h := range e.recoverList(m.Point).Held {
		if !strings.Contains(h.Remedy, "ossmount retry PATH") {
			t.Errorf("%+v", h)
		}
	}
	for _, f := range []int{put.ID, del.ID} {
		if _, err := e.server.RemoveFault(f); err != nil {
			t.Error(err)
		}
	}
	if r := e.recoverCmd(0, "discard", m.in("kept"), "--yes"); !strings.Contains(r.Out, "its delete") {
		t.Errorf("discard: %v", r)
	}
	e.command(0, "retry", m.in("new"), m.in("again"))
	m.wait(m.Point)
	e.object("new", "ours")
	e.object("kept", "what OSS has")
	if keys, err := e.server.Keys(""); err != nil || len(keys) != 2 {
		t.Errorf("objects: %q, %v", keys, err)
	}
	e.poll("the object is there again", patience, func() bool {
		b, err := os.ReadFile(m.in("kept"))
		return err == nil && string(b) == "what OSS has"
	})
	e.command(1, "retry", m.in("new"))
	m.umount(0)
}

// Wherever a crash comes while found bytes are published, and another while the
// directory is taken up again, they are in lost+found, or the file is there. covers
// H7
func TestCrashWhileFoundBytesArePublished(t *testing.T) {
	t.Parallel()
	e := setup(t)
	bin, err := harness.Build(context.Background(), e.dir, "crash")
	e.ok(err)
	text := strings.Repeat("the only copy ", 20_000)
	m := e.mount("cache", "--write-back-delay=1h")
	e.write(m.in("pending"), "x") // so that taking up the journal commits something
	unforked(func() {
		f := e.open(m.in("f"), os.O_CREATE|os.O_WRONLY)
		p := e.open(m.in("pending"), os.O_WRONLY)
		e.writeAt(f, text, 0)
		e.writeAt(p, "y", 0)
		m.kill9()
		f.Close()
		p.Close()
	})
	e.ok(harness.Detach(m.Point))
	c := &foundCrash{env: e, bin: bin, text: text}
	f := e.recoverList("--cache-dir=" + m.Cache).Found[0]
	// What it says of itself would be garbage among the contents.
	const witness = "user.ossmount.witness"
	says := func(path string) string {
		buf := make([]byte, 4096)
		n, err := unix.Getxattr(path, witness, buf)
		e.ok(err)
		return string(buf[:n])
	}
	others, err := filepath.Glob(m.Cache + "/contents/*/*")
	if err != nil || len(others) != 1 {
		t.Fatalf("contents: %q, %v", others, err)
	}
	var pending struct{ ID string }
	e.ok(json.Unmarshal([]byte(says(others[0])), &pending))
	said := strings.NewReplacer(`"id":""`, `"id":"`+pending.ID+`"`, `"st":"open"`, `"s":1,"st":"closed"`).Replace(says(f.File))
	e.ok(unix.Setxattr(f.File, witness, []byte(said), 0))
	name := f.Name
	play := func(first, second string) error { return c.play(m.Cache, name, first, second) }
	log := e.path("points")
	dir := c.copy(m.Cache)
	r, err := c.run(dir, []string{"OSSMOUNT_CRASH_LOG=" + log}, "publish", name)
	e.ok(err)
	if r.Code != 0 {
		t.Fatalf("publish: %v", r)
	}
	b, err := os.ReadFile(log)
	e.ok(err)
	passed := points{}
	for point := range strings.Lines(string(b)) {
		passed[strings.TrimSpace(point)]++
	}
	for _, must := range []string{"found marked, not moved", "found moved, its witness not", "found moved, not committed", "witness written, not committed", "changed"} {
		if passed[must] == 0 {
			t.Errorf("publish does not pass %q: %v", must, passed)
		}
	}
	var g errgroup.Group
	g.SetLimit(runtime.NumCPU())
	plays := 0
	for _, point := range passed.names() {
		for _, n := range passed.passings(point) {
			for _, second := range []string{"", "contents synced:1"} {
				plays++
				g.Go(func() error {
					if err := play(fmt.Sprintf("%s:%d", point, n), second); err != nil {
						t.Error(err)
					}
					return nil
				})
			}
		}
	}
	e.ok(g.Wait())
	t.Logf("%d crashes at %d points", plays, len(passed))
}

type foundCrash struct {
	*env
	bin, text string
}

// copy is a copy of a cache directory that nobody has.
func (c *foundCrash) copy(dir string) string {
	to, err := os.MkdirTemp(c.dir, "copy-")
	c.ok(err)
	c.sh(`cp -a "$1/." "$2"`, dir, to)
	return to
}

func (c *foundCrash) run(dir string, env []string, args ...string) (harness.Result, error) {
	return harness.Run(c.soon(), append(harness.Credentials(), env...), c.bin, append([]string{"recover", "--cache-dir=" + dir, "--region=" + harness.Region}, args...)...)
}

func (c *foundCrash) play(was, name, first, second string) error {
	dir := c.copy(was)
	defer os.RemoveAll(dir)
	failed := func(err error) error { return fmt.Errorf("killed at %q, then %q: %w", first, second, err) }
	r, err := c.run(dir, []string{"OSSMOUNT_CRASH=" + first}, "publish", name)
	if err != nil {
		return failed(err)
	}
	published := r.Code == 0
	if second != "" {
		if _, err := c.run(dir, []string{"OSSMOUNT_CRASH=" + second}, "list"); err != nil {
			return failed(err)
		}
	}
	r, err = c.run(dir, nil, "list", "--json")
	if err != nil || r.Code != 0 {
		return failed(fmt.Errorf("list: %v, %w", r, err))
	}
	var l recovered
	if err := json.Unmarshal([]byte(r.Out), &l); err != nil {
		return failed(err)
	}
	if len(l.Found) == 0 { // it has its name
		s := harness.Mount{Bin: c.bin, Cache: dir}
		st, err := s.CacheStatus()
		if err != nil {
			return failed(err)
		}
		for _, w := range st.Queue.Waiting {
			if w.Key == "f" && w.Size == int64(len(c.text)) {
				b, err := os.ReadFile(filepath.Join(dir, contentOf(name)))
				if err == nil && string(b) != c.text {
					err = errors.New("the file has other bytes")
				}
				if err != nil {
					return failed(err)
				}
				return nil
			}
		}
		return failed(fmt.Errorf("the bytes are nowhere: %+v", st.Queue))
	}
	if published {
		return failed(errors.New("the file that was published is in lost+found"))
	}
	b, err := os.ReadFile(l.Found[0].File)
	if err != nil || string(b) != c.text || l.Found[0].Name != name {
		return failed(fmt.Errorf("lost+found has %s, %d bytes, %w", l.Found[0].Name, len(b), err))
	}
	return nil
}

// contentOf is where a content lies that was found under a name.
func contentOf(name string) string {
	n := strings.TrimPrefix(name, "found:")
	low := n[max(0, len(n)-2):]
	if len(low) == 1 {
		low = "0" + low
	}
	return filepath.Join("contents", low, n)
}

// The same in the daemon of a mount: it dies while it publishes, and the next one
// has the bytes in lost+found again, from where they get their name.
func TestDaemonThatDiesWhileItPublishesFoundBytes(t *testing.T) {
	t.Parallel()
	e := setup(t)
	bin, err := harness.Build(context.Background(), e.dir, "crash")
	e.ok(err)
	text := strings.Repeat("the only copy ", 20_000)
	m := e.mount("cache", "--write-back-delay=0s")
	m.crashWriting("f", "", text, 0)
	m.Bin = bin
	for _, point := range []string{"found marked, not moved", "found moved, not committed", "witness written, not committed"} {
		m.Env = append(harness.Credentials(), "OSSMOUNT_CRASH="+point+":1")
		m.start()
		l := e.recoverList(m.Point)
		if len(l.Found) != 1 || l.Found[0].Path != "f" {
			t.Fatalf("before %q: %+v", point, l)
		}
		e.reads(l.Found[0].File, text)
		e.recoverCmd(1, "publish", l.Found[0].Name, "--mountpoint="+m.Point)
		if _, err := m.P.Wait(patience); err != nil {
			t.Fatalf("it did not die at %q: %v", point, err)
		}
		e.ok(harness.Detach(m.Point))
	}
	m.Env = harness.Credentials()
	m.start()
	e.recoverCmd(0, "publish", e.recoverList(m.Point).Found[0].Name, "--mountpoint="+m.Point)
	e.reads(m.in("f"), text)
	m.wait(m.Point)
	e.object("f", text)
	m.umount(0)
}
