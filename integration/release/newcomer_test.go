package release

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/ossmount/ossmount/integration/harness"
)

// Who has nothing but README.md at hand, in a home of their own, types what it says
// from the first command to the last: the demo runs, a program is installed, files
// arrive in a bucket, and when all is taken away nothing is left.
//
// The commands are those of the page. Where the source comes from, the bucket, its
// endpoint and key are replaced; sudo is not needed; and PREFIX is in that home, since
// the machine is not ours.
func TestNewcomerFollowsTheREADME(t *testing.T) {
	t.Parallel()
	lookPath(t, "git", "make", "bash")
	home, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	archive := t.TempDir()
	must(t, archive, nil, "tar", "-xzf", one(t, dist(t), "*.tar.gz"), "--strip-components=1")
	s := server(t, filepath.Join(archive, "ossmount"))
	source := origin(t, home)
	script := strings.NewReplacer("YOUR_KEY_ID", harness.KeyID, "YOUR_KEY_SECRET", harness.Secret, "YOUR_BUCKET", harness.Bucket,
		"https://oss-cn-hangzhou.aliyuncs.com", s.URL, "cn-hangzhou", harness.Region).Replace(commands(t, read(t, filepath.Join(source, "README.md"))))
	for _, part := range []string{"git clone ", "make demo", "make install", "ossmount mount oss://" + harness.Bucket, "--endpoint=" + s.URL, "ossmount wait", "make uninstall"} {
		if !strings.Contains(script, part) {
			t.Fatalf("README.md does not say %q any more:\n%s", part, script)
		}
	}
	photo := filepath.Join(home, "photos/2026/sea.jpg")
	if err := os.MkdirAll(filepath.Dir(photo), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(photo, []byte("the sea"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := files(t, home)

	t.Cleanup(func() { end(t, home) })
	out := must(t, home, env(t, home), "bash", "-euo", "pipefail", "-c", script)
	for _, said := range []string{"all equal", "mounted oss://" + harness.Bucket + "/photos/"} {
		if !strings.Contains(out, said) {
			t.Errorf("nothing says %q:\n%s", said, out)
		}
	}
	holds(t, s, "photos/2026/sea.jpg", "the sea")

	if after := files(t, home); strings.Join(after, "\n") != strings.Join(before, "\n") {
		t.Errorf("files are left: %q, there were %q", after, before)
	}
	for _, dir := range []string{"oss", "ossmount", ".cache/ossmount"} {
		if _, err := os.Stat(filepath.Join(home, dir)); err == nil {
			t.Errorf("~/%s is left", dir)
		}
	}
	if at, err := harness.Mounted(home); err != nil || len(at) > 0 {
		t.Errorf("mounts are left: %q %v", at, err)
	}
	if at, err := harness.Listening(home); err != nil || len(at) > 0 {
		t.Errorf("sockets are left: %q %v", at, err)
	}
	if left := living(t, home); len(left) > 0 {
		t.Errorf("processes are left: %d", left)
	}
}

// commands are those of the page: its blocks that are marked as sh.
func commands(t *testing.T, page string) string {
	t.Helper()
	var script strings.Builder
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(page, -1) {
		script.WriteString(block[1])
	}
	if script.Len() == 0 {
		t.Fatal("README.md has no commands")
	}
	return script.String()
}

// origin makes the sources, as they are now, what git finds where the README says
// that they are.
func origin(t *testing.T, home string) string {
	t.Helper()
	dir := sources(t)
	must(t, dir, nil, "sh", "-euc", `git init -q && git add -A && git -c user.name=n -c user.email=n@localhost commit -q -m all`)
	config := "[url \"file://" + dir + "\"]\n\tinsteadOf = https://github.com/ossmount/ossmount\n"
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// env is that of the newcomer. Go keeps what it has compiled and downloaded where the
// other tests have it.
func env(t *testing.T, home string) []string {
	t.Helper()
	shims := t.TempDir()
	if err := os.WriteFile(filepath.Join(shims, "sudo"), []byte("#!/bin/sh\nexec \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	tmp, prefix := filepath.Join(home, "tmp"), filepath.Join(home, "prefix")
	if err := os.Mkdir(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	vars := []string{"HOME=" + home, "TMPDIR=" + tmp, "PREFIX=" + prefix, "PATH=" + prefix + "/bin:" + shims + ":" + os.Getenv("PATH"),
		"XDG_CACHE_HOME=", "XDG_CONFIG_HOME=" + t.TempDir(), // where Go counts its calls
		"OSS_SESSION_TOKEN=", "OSS_ENDPOINT=", "OSS_REGION="}
	for _, name := range []string{"GOPATH", "GOMODCACHE", "GOCACHE", "GOENV", "GOPROXY", "GOFLAGS", "GOSUMDB"} {
		vars = append(vars, name+"="+strings.TrimSpace(must(t, "/", nil, "go", "env", name)))
	}
	return vars
}

// living are the processes whose program lies beneath dir.
func living(t *testing.T, dir string) (pids []int) {
	t.Helper()
	exes, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, exe := range exes {
		if to, err := os.Readlink(exe); err == nil && strings.HasPrefix(to, dir+"/") {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(exe)))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// end ends what a page that broke off has left running beneath dir.
func end(t *testing.T, dir string) {
	t.Helper()
	for _, pid := range living(t, dir) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			t.Error(err)
		}
	}
	at, err := harness.Mounted(dir)
	if err != nil {
		t.Error(err)
	}
	for _, point := range at {
		if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", point, err)
		}
	}
}
