package integration

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ossmount/ossmount/integration/harness"
)

// What is in the cache directory is for its user alone, with any umask, and also
// what libraries make there.
func TestCacheDirectoryIsForItsUserAlone(t *testing.T) {
	t.Parallel()
	for _, umask := range []string{"000", "777"} {
		e := setup(t)
		wrapped := e.path("ossmount")
		e.ok(os.WriteFile(wrapped, fmt.Appendf(nil, "#!/bin/sh\numask %s\nexec %s \"$@\"\n", umask, binary), 0o755))
		m := &mount{e: e, Mount: &harness.Mount{Bin: wrapped, Source: "oss://" + harness.Bucket, Point: e.path("mnt"), Cache: e.path("cache"), Flags: e.usual()}}
		e.ok(os.Mkdir(m.Point, 0o755))
		m.start()
		e.write(m.in("f"), "text")
		m.wait(m.Point)
		e.write(m.in(strings.Repeat("a long name, whose witness needs a file ", 5)), "x")
		e.ok(os.Mkdir(m.in("d"), 0o755))
		f, err := os.Create(m.in("never closed"))
		e.ok(err)
		f.WriteString("lost")
		m.kill9()
		f.Close()
		m.start() // with a lost+found
		m.wait(m.Point)
		seen := 0
		e.ok(filepath.WalkDir(m.Cache, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			st, err := d.Info()
			if err != nil {
				return err
			}
			want := fs.FileMode(0o600)
			if d.IsDir() {
				want = 0o700
			}
			if seen++; st.Mode().Perm() != want {
				t.Errorf("umask %s: %s is %v", umask, path, st.Mode())
			}
			return nil
		}))
		if _, err := os.Lstat(filepath.Join(m.Cache, "lost+found")); err != nil || seen < 270 {
			t.Errorf("%d names were seen, %v", seen, err)
		}
		e.leaves(work, "what was never closed is open in the kernel still")
	}
}

// A directory into which others can put something, or that is somebody else's, is
// no cache directory.
func TestCacheDirectoryOfOthersIsRefused(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.ok(os.Mkdir(e.path("mnt"), 0o755))
	for name, c := range map[string]struct {
		make func(dir string) error
		says string
	}{
		"writable by all":    {func(dir string) error { return os.Chmod(dir, 0o777) }, "chmod go-w"},
		"writable by some":   {func(dir string) error { return os.Chmod(dir, 0o720) }, "chmod go-w"},
		"of somebody else":   {func(dir string) error { return os.Chown(dir, 4711, 4711) }, "belongs to user 4711"},
		"led to by a link":   {replaceByLink(4711), "symbolic link of user 4711"},
		"holding their lock": {func(dir string) error { return theirFile(filepath.Join(dir, "lock")) }, "belongs to user 4711"},
	} {
		dir := e.path(name)
		e.ok(os.Mkdir(dir, 0o700))
		e.ok(c.make(dir))
		for _, background := range []string{"--background=false", "--background"} {
			r, err := harness.Run(e.soon(), harness.Credentials(), binary, append([]string{"mount", "oss://" + harness.Bucket, e.path("mnt"), "--cache-dir=" + dir, background}, e.usual()...)...)
			e.ok(err)
			if r.Code != 1 || !strings.Contains(r.Err, c.says) || strings.Count(r.Err, "\n") != 1 {
				t.Errorf("%s, %s: %v", name, background, r)
			}
		}
	}
}

// replaceByLink makes a link of the user uid of a directory, to one of ours.
func replaceByLink(uid int) func(dir string) error {
	return func(dir string) error {
		if err := os.Rename(dir, dir+" itself"); err != nil {
			return err
		}
		if err := os.Symlink(dir+" itself", dir); err != nil {
			return err
		}
		return os.Lchown(dir, uid, uid)
	}
}

func theirFile(path string) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	return os.Chown(path, 4711, 4711)
}

// Wherever a link is planted in a cache directory: it is not followed, the mount says
// what stands there, and what it leads to is as before.
func TestPlantedLinksAreNotFollowed(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=1h", "--drain=0s")
	e.write(m.in("pending"), "mine")
	f, err := os.Create(m.in("never closed"))
	e.ok(err)
	_, err = f.WriteString("lost")
	e.ok(err)
	m.kill9()
	f.Close()
	m.start()
	m.umount(3)
	secret, empty := e.path("secret"), e.path("other directory")
	e.write(secret, "a secret of somebody")
	e.ok(os.Mkdir(empty, 0o700))
	before := time.Unix(1_700_000_000, 0)
	e.ok(harness.SetMtime(secret, before))
	untouched := func(what string) {
		t.Helper()
		b, err := os.ReadFile(secret)
		st, serr := os.Lstat(secret)
		if err != nil || serr != nil || string(b) != "a secret of somebody" || !st.ModTime().Equal(before) || st.Mode().Perm() != 0o644 {
			t.Errorf("%s: what the link leads to is %q, %v, %v %v", what, b, st, err, serr)
		}
		if names, err := os.ReadDir(empty); err != nil || len(names) > 0 {
			t.Errorf("%s: there are new files where the link leads: %v %v", what, names, err)
		}
	}
	args := append(append([]string{"mount", m.Source, m.Point, "--cache-dir=" + m.Cache}, m.Flags...), "--log-level=error")
	for name, c := range map[string]struct {
		to   string
		args []string
	}{
		"contents": {empty, args}, "contents/01": {empty, args}, "lost+found": {empty, args}, "journal": {empty, args}, "journal/db": {empty, args},
		"journal/horizon": {secret, args}, "journal/db/MANIFEST": {secret, args}, "identity.json": {secret, args}, "lock": {secret, args}, "control.sock": {secret, args},
		"daemon.log": {secret, append([]string{"mount", "--background"}, args[1:]...)},
	} {
		path := filepath.Join(m.Cache, name)
		aside := path + ".aside"
		there := os.Rename(path, aside) == nil
		e.ok(os.Symlink(c.to, path))
		for _, args := range [][]string{c.args, {"status", "--cache-dir=" + m.Cache}, {"drain", "--cache-dir=" + m.Cache, "--timeout=1ms"}} {
			if args[0] != "mount" && (name == "daemon.log" || name == "control.sock") {
				continue // nobody needs it
			}
			r, err := harness.Run(e.soon(), harness.Credentials(), binary, args...)
			e.ok(err)
			if r.Code != 1 || !strings.Contains(r.Err, "remove it") || !strings.Contains(r.Err, filepath.Base(name)) || strings.Count(r.Err, "\n") != 1 {
				t.Errorf("%s, %s: %v", args[0], name, r)
			}
			untouched(args[0] + ", " + name)
		}
		e.ok(os.Remove(path))
		if there {
			e.ok(os.Rename(aside, path))
		}
	}
	// In the place of bytes: they count as gone, and the secret is not uploaded.
	content := ""
	e.ok(filepath.WalkDir(filepath.Join(m.Cache, "contents"), func(path string, d fs.DirEntry, err error) error {
		if b, rerr := os.ReadFile(path); rerr == nil && string(b) == "mine" {
			content = path
		}
		return err
	}))
	e.ok(os.Rename(content, e.path("aside")))
	e.ok(os.Symlink(secret, content))
	e.ok(os.Symlink(secret, content+".x~"))
	m.Flags = append(m.Flags, "--write-back-delay=0s")
	m.start()
	e.poll("its row is parked", patience, func() bool { return m.status().Queue.Parked == 1 })
	if kept := m.status().Queue.Kept[0]; kept.Key != "pending" || !strings.Contains(kept.Reason, "bytes are missing") {
		t.Errorf("kept: %+v", kept)
	}
	if b, err := os.ReadFile(m.in("pending")); err == nil && strings.Contains(string(b), "secret") {
		t.Error("the link is read through the mount")
	}
	untouched("a content")
	m.umount(4)
	keys, err := e.server.Keys("")
	e.ok(err)
	if len(keys) > 0 {
		t.Errorf("objects: %q", keys)
	}
	if _, err := os.Lstat(content + ".x~"); err == nil {
		t.Error("what looks like a witness that was being written was not removed")
	}
	m.e.leaves(nameless, "the test takes a content away")
}

// as runs a program as another user.
func as(ctx context.Context, uid uint32, bin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.Dir = "/"
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// With --allow-other the kernel judges by mode and owner, as on a local disk; without
// it nobody else sees anything. In neither case is the daemon somebody else's to
// command.
func TestOtherUsersOfAMount(t *testing.T) {
	t.Parallel()
	const other = 4711
	e := setup(t)
	for dir := e.dir; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		e.ok(os.Chmod(dir, 0o755)) // whoever may go nowhere sees nothing of what is tested
	}
	bin := e.path("bin")
	e.sh(`cp "$1" "$2" && chmod 755 "$2"`, binary, bin)
	closed := e.mountSource("oss://"+harness.Bucket, "closed", "cache1", e.usual()...)
	e.write(closed.in("f"), "text")
	closed.wait(closed.Point)
	if out, err := as(e.soon(), other, "/bin/ls", closed.Point); err == nil || !strings.Contains(out, "Permission denied") {
		t.Errorf("without --allow-other: %s %v", out, err)
	}

	m := e.mountSource("oss://"+harness.Bucket+"/shared", "shared", "cache2", append(e.usual(), "--allow-other")...)
	e.write(m.in("readable"), "text")
	e.write(m.in("secret"), "text")
	e.ok(os.Chmod(m.in("secret"), 0o600))
	e.ok(os.Mkdir(m.in("theirs"), 0o700))
	e.ok(os.Chown(m.in("theirs"), other, other))
	e.ok(os.Mkdir(m.in("closed"), 0o700))
	e.write(m.in("closed/inside"), "text")
	e.ok(os.Mkdir(m.in("tmp"), 0o755))
	e.ok(os.Chmod(m.in("tmp"), 0o777|os.ModeSticky))
	e.write(m.in("tmp/ours"), "text")
	for name, c := range map[string]struct {
		script string
		may    bool
	}{
		"read what is readable":      {`cat "$1/readable"`, true},
		"read what is not":           {`cat "$1/secret"`, false},
		"write what is not theirs":   {`echo x >> "$1/readable"`, false},
		"make a file in our root":    {`echo x > "$1/new"`, false},
		"remove our file":            {`rm -f "$1/readable"`, false},
		"rename our file":            {`mv "$1/readable" "$1/theirs/stolen"`, false},
		"change our mode":            {`chmod 777 "$1/secret"`, false},
		"change an owner":            {`chown 4711 "$1/readable"`, false},
		"give their own away":        {`echo x > "$1/theirs/gift" && chown 0 "$1/theirs/gift"`, false},
		"look into a closed one":     {`ls "$1/closed"`, false},
		"go through a closed one":    {`cat "$1/closed/inside"`, false},
		"set times of our file":      {`touch -d 2001-01-01 "$1/readable"`, false},
		"set attributes of our file": {`setfattr -n user.x -v y "$1/readable"`, false},
		"write in their own":         {`mkdir "$1/theirs/d" && echo x > "$1/theirs/d/f" && mv "$1/theirs/d" "$1/theirs/e" && cat "$1/theirs/e/f"`, true},
		"write in a shared one":      {`echo x > "$1/tmp/mine" && rm "$1/tmp/mine"`, true},
		"remove ours in sticky":      {`rm -f "$1/tmp/ours"`, false},
	} {
		out, err := as(e.soon(), other, "/bin/sh", "-c", c.script, "sh", m.Point)
		if (err == nil) != c.may {
			t.Errorf("another user may %s: %v; want %v\n%s", name, err == nil, c.may, out)
		}
	}
	var st syscall.Stat_t
	e.ok(syscall.Stat(m.in("theirs/e/f"), &st))
	if st.Uid != other || st.Gid != other {
		t.Errorf("their file belongs to %d:%d", st.Uid, st.Gid)
	}
	e.reads(m.in("readable"), "text")

	// The commands: not while the socket is closed to them, nor when it is open.
	for _, open := range []bool{false, true} {
		want := "permission denied"
		if open {
			e.ok(os.Chmod(m.Cache, 0o711))
			e.ok(os.Chmod(filepath.Join(m.Cache, "control.sock"), 0o666))
			want = "belongs to user 0"
		}
		for _, args := range [][]string{{"status", m.Point}, {"umount", m.Point}, {"wait", m.in("readable")}, {"recover", "export", m.in("readable"), "/tmp/none"}} {
			if out, err := as(e.soon(), other, bin, args...); err == nil || !strings.Contains(out, want) {
				t.Errorf("%q with an open socket %v: %s %v", args, open, out, err)
			}
		}
	}
	if s := m.status(); s.PID != m.P.PID() {
		t.Errorf("our own user: %+v", s)
	}
}

// Every way in which a secret could come out: logs of every level, errors, status,
// the arguments of processes, the cache directory, a panic with its stack.
func TestSecretsStayWhereTheyAre(t *testing.T) {
	t.Parallel()
	bin, err := crashBinary()
	if err != nil {
		t.Fatal(err)
	}
	e := setup(t)
	e.leaves(panics, "the test asks for one")
	const token = "t0ken-that-nobody-may-print"
	secrets := []string{harness.Secret, token}
	clean := func(what, text string) {
		t.Helper()
		for _, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("%s: a secret is in it", what)
			}
		}
	}
	none := []string{"OSS_ENDPOINT=", "OSS_REGION="}
	id, secret := "OSS_ACCESS_KEY_ID="+harness.KeyID, "OSS_ACCESS_KEY_SECRET="+harness.Secret
	// Refusals, with both signatures: of a wrong secret, of a token that nobody gave.
	e.ok(os.Mkdir(e.path("mnt"), 0o755))
	for _, region := range []string{"", harness.Region} {
		for name, env := range map[string][]string{
			"wrong secret": append(none, id, "OSS_ACCESS_KEY_SECRET=x"+harness.Secret, "OSS_SESSION_TOKEN="),
			"wrong token":  append(none, id, secret, "OSS_SESSION_TOKEN="+token),
			"wrong key":    append(none, "OSS_ACCESS_KEY_ID=nobody", secret, "OSS_SESSION_TOKEN="+token),
		} {
			r, err := harness.Run(e.soon(), env, bin, "mount", "oss://"+harness.Bucket+"-x", e.path("mnt"), "--cache-dir="+e.path("refused"), "--endpoint="+e.server.URL, "--region="+region, "--log-level=debug")
			e.ok(err)
			if r.Code == 0 {
				t.Errorf("%s: mounted", name)
			}
			clean(name, r.Out+r.Err)
		}
	}
	// In the background, with all that goes wrong.
	cache := e.path("cache")
	env := append(none, id, secret, "OSS_SESSION_TOKEN=", "OSSMOUNT_PANIC=noted, not sent:2")
	r, err := harness.Run(e.soon(), env, bin, append([]string{"mount", "oss://" + harness.Bucket, e.path("mnt"), "--cache-dir=" + cache, "--background", "--stall=1s"}, e.usual()...)...)
	e.ok(err)
	if r.Code != 0 {
		t.Fatal(r)
	}
	clean("what a mount in the background prints", r.Out+r.Err)
	m := &harness.Mount{Bin: bin, Point: e.path("mnt"), Cache: cache}
	unmounted := false
	defer func() {
		if !unmounted {
			_, _ = m.Run(e.soon(), "umount", "--force", "--drain=0s", m.Point)
		}
	}()
	s, err := m.Status()
	e.ok(err)
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.PID))
	e.ok(err)
	clean("the arguments of the daemon", string(args))
	e.write(e.path("mnt/one"), "1")
	e.write(e.path("mnt/two"), "2")
	e.poll("the panic", patience, func() bool { s, err := m.Status(); return err == nil && s.InternalErrors == 1 })
	e.ok(e.server.Kill())
	e.write(e.path("mnt/three"), "3")
	e.poll("OSS is away", patience, func() bool { s, err := m.Status(); return err == nil && s.Queue.Away != "" })
	for _, args := range [][]string{{"status", m.Point}, {"status", "--json", m.Point}, {"recover", "list", m.Point}} {
		r, err := m.Run(e.soon(), args...)
		e.ok(err)
		clean(strings.Join(args, " "), r.Out+r.Err)
	}
	stacks, err := m.Goroutines(e.soon())
	e.ok(err)
	clean("the goroutines", stacks)
	e.ok(e.server.Start(e.soon()))
	r, err = m.Run(e.soon(), "umount", m.Point)
	e.ok(err)
	unmounted = r.Code != 1
	if r.Code != 4 {
		t.Errorf("umount with a parked change: %v", r)
	}
	clean("umount", r.Out+r.Err)
	log, err := os.ReadFile(filepath.Join(cache, "daemon.log"))
	e.ok(err)
	if !strings.Contains(string(log), "internal error") || !strings.Contains(string(log), "level=DEBUG") {
		t.Error("the log does not have what it was looked through for")
	}
	for _, s := range secrets {
		if out := e.sh(`grep -rlaF -- "$1" "$2" || true`, s, cache); out != "" {
			t.Errorf("a secret is in the cache directory: %s", out)
		}
	}
}
