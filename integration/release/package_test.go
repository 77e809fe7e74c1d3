package release

import (
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ossmount/ossmount/integration/harness"
)

// The same commit gives the same bytes: from another directory, with another
// umask, time zone and locale.
func TestReleaseIsReproducible(t *testing.T) {
	t.Parallel()
	first := dist(t)
	version := versionOf(t, first)
	epoch := strings.TrimSpace(must(t, checkout(t), nil, "git", "log", "-1", "--format=%ct"))
	again := t.TempDir()
	env := []string{"VERSION=" + version, "SOURCE_DATE_EPOCH=" + epoch, "TZ=Asia/Shanghai", "OSS_ENDPOINT=http://nowhere.example", "OSS_REGION=nowhere"}
	if err := build(t, sources(t), again, env...); err != nil {
		t.Fatal(err)
	}
	want, got := read(t, filepath.Join(first, "SHA256SUMS")), read(t, filepath.Join(again, "SHA256SUMS"))
	if want != got {
		t.Errorf("built again, it is\n%sand was\n%s", got, want)
	}
	if n := strings.Count(want, "\n"); n != 3 {
		t.Errorf("SHA256SUMS has %d lines, want archive, deb and rpm:\n%s", n, want)
	}
	must(t, first, nil, "sha256sum", "--quiet", "-c", "SHA256SUMS")
}

// The archive has all that belongs to the program, and the program is static and
// says its version.
func TestArchiveHasEverything(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, dir, nil, "tar", "-xzf", one(t, dist(t), "*.tar.gz"))
	top := one(t, dir, "*")
	for _, name := range []string{"ossmount", "README.md", "LICENSE", "CHANGELOG.md", "man/ossmount.1", "man/ossmount-mount.1",
		"completions/ossmount.bash", "completions/ossmount.zsh", "completions/ossmount.fish", "systemd/example.yaml"} {
		if st, err := os.Stat(filepath.Join(top, name)); err != nil || st.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	isStatic(t, filepath.Join(top, "ossmount"))
	out := must(t, top, nil, "./ossmount", "version")
	if want := "ossmount " + versionOf(t, dist(t)) + " "; !strings.HasPrefix(out, want) {
		t.Errorf("it calls itself %q, want %q", out, want)
	}
	changes, err := filepath.Glob(filepath.Join(checkout(t), "docs/changelog/unreleased/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range changes {
		if text := read(t, change); !strings.Contains(read(t, filepath.Join(top, "CHANGELOG.md")), text) {
			t.Errorf("CHANGELOG.md is without %s", filepath.Base(change))
		}
	}
}

// The deb installs here, its program mounts, and a purge leaves nothing behind.
func TestDebInstallsMountsAndUninstalls(t *testing.T) {
	t.Parallel()
	lookPath(t, "apt-get", "dpkg", "dpkg-deb", "fusermount3")
	deb := one(t, dist(t), "*.deb")
	before := traces(t)
	if len(before) > 0 {
		t.Fatalf("ossmount is installed here; take it away first: %q", before)
	}
	var there []string // of the package's paths, those of others
	for _, path := range contents(t, deb) {
		if _, err := os.Lstat(path); err == nil {
			there = append(there, path)
		}
	}
	t.Cleanup(func() {
		if len(traces(t)) > 0 {
			apt(t, "purge", "ossmount")
		}
	})
	apt(t, "install", deb)
	must(t, "/", nil, "dpkg", "--verify", "ossmount")
	if to, err := filepath.EvalSymlinks("/sbin/mount.fuse.ossmount"); err != nil || to != "/usr/bin/ossmount" {
		t.Errorf("the mount helper leads to %q: %v", to, err)
	}
	mountsAndUploads(t, "/usr/bin/ossmount")

	apt(t, "purge", "ossmount")
	if after := traces(t); len(after) > 0 {
		t.Errorf("these are left after a purge: %q", after)
	}
	for _, path := range contents(t, deb) {
		if _, err := os.Lstat(path); err == nil && !slices.Contains(there, path) {
			t.Errorf("%s is left after a purge", path)
		}
	}
}

// mountsAndUploads mounts a bucket with an installed program and sees a file arrive.
func mountsAndUploads(t *testing.T, bin string) {
	t.Helper()
	s := server(t, bin)
	dir := t.TempDir()
	m := &harness.Mount{Bin: bin, Source: "oss://" + harness.Bucket, Point: filepath.Join(dir, "mnt"), Cache: filepath.Join(dir, "cache"),
		Flags: []string{"--endpoint=" + s.URL, "--region=" + harness.Region}}
	if err := os.Mkdir(m.Point, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Destroy(); err != nil {
			t.Error(err)
		}
	})
	if err := m.Start(soon(t)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.Point, "hello"), []byte("from the package"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r, err := m.Umount(soon(t)); err != nil || r.Code != 0 {
		t.Fatalf("umount: %v %v", r, err)
	}
	holds(t, s, "hello", "from the package")
}

// The rpm has what the deb has, but for where zsh looks, and its files can be taken
// out of it.
func TestRPMHoldsTheSame(t *testing.T) {
	t.Parallel()
	lookPath(t, "rpm", "rpm2cpio", "cpio")
	rpm, dir := one(t, dist(t), "*.rpm"), t.TempDir()
	list := strings.Fields(must(t, dir, nil, "rpm", "-qpl", rpm))
	for _, path := range contents(t, one(t, dist(t), "*.deb")) {
		path = strings.ReplaceAll(path, "/zsh/vendor-completions", "/zsh/site-functions")
		if !strings.HasSuffix(path, "/") && !slices.Contains(list, path) {
			t.Errorf("%s is in the deb, and not in the rpm", path)
		}
	}
	if needs := must(t, dir, nil, "rpm", "-qp", "--requires", rpm); !slices.Contains(strings.Fields(needs), "fuse3") {
		t.Errorf("the rpm needs %q, and not fuse3", needs)
	}
	must(t, dir, nil, "rpm", "-K", "--nosignature", rpm)
	must(t, dir, nil, "sh", "-euc", `rpm2cpio "$0" | cpio -idm --quiet --no-absolute-filenames`, rpm)
	isStatic(t, filepath.Join(dir, "usr/bin/ossmount"))
	if to, err := filepath.EvalSymlinks(filepath.Join(dir, "usr/sbin/mount.fuse.ossmount")); err != nil || to != filepath.Join(dir, "usr/bin/ossmount") {
		t.Errorf("the mount helper leads to %q: %v", to, err)
	}
}

// What make install puts beneath a prefix, make uninstall takes away; with /usr it
// is what the packages hold.
func TestMakeInstallAndUninstall(t *testing.T) {
	t.Parallel()
	dir := sources(t)
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	archive := t.TempDir()
	must(t, archive, nil, "tar", "-xzf", one(t, dist(t), "*.tar.gz"), "--strip-components=1")
	must(t, dir, nil, "cp", filepath.Join(archive, "ossmount"), "bin/ossmount")

	for _, prefix := range []string{"/usr", "/usr/local", filepath.Join(t.TempDir(), "home")} {
		to, env := t.TempDir(), []string{"PREFIX=" + prefix}
		env = append(env, "DESTDIR="+to)
		must(t, dir, env, "make", "install")
		got := files(t, to)
		if prefix == "/usr" {
			var want []string
			for _, path := range contents(t, one(t, dist(t), "*.deb")) {
				if !strings.HasSuffix(path, "/") {
					want = append(want, strings.ReplaceAll(path, "/zsh/vendor-completions", "/zsh/site-functions"))
				}
			}
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("make install PREFIX=/usr installs\n%q, the deb\n%q", got, want)
			}
		}
		must(t, to, nil, filepath.Join(to, prefix, "bin/ossmount"), "version")
		if unit, err := os.ReadFile(filepath.Join(to, prefix, "lib/systemd/system/ossmount@.service")); err == nil && !bytes.Contains(unit, []byte("="+prefix+"/bin/ossmount")) {
			t.Errorf("the unit does not start %s/bin/ossmount:\n%s", prefix, unit)
		}
		must(t, dir, env, "make", "uninstall")
		if left := files(t, to); len(left) > 0 {
			t.Errorf("make uninstall leaves %q", left)
		}
	}
}

// contents lists what a deb holds: absolute paths, directories with a slash at the end.
func contents(t *testing.T, deb string) (paths []string) {
	t.Helper()
	for line := range strings.Lines(must(t, "/", nil, "dpkg-deb", "-c", deb)) {
		fields := strings.Fields(line)
		paths = append(paths, strings.TrimPrefix(fields[5], "."))
	}
	if len(paths) < 20 {
		t.Fatalf("the deb holds %q only", paths)
	}
	return paths
}

// apt runs apt-get, which waits while somebody else installs.
func apt(t *testing.T, what, name string) {
	t.Helper()
	must(t, "/", []string{"DEBIAN_FRONTEND=noninteractive"}, "apt-get", what, "-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", name)
}

// traces are the files of this system that are named after ossmount.
func traces(t *testing.T) []string {
	t.Helper()
	out := must(t, "/", nil, "sh", "-c", `find -P /etc /usr /opt /srv /var/lib /var/cache /var/spool /lib/systemd /run -xdev \( -name go -o -name go-build \) -prune -o -name '*ossmount*' -print 2>/dev/null; :`)
	return strings.Fields(out)
}

func files(t *testing.T, dir string) (paths []string) {
	t.Helper()
	for line := range strings.Lines(must(t, dir, nil, "find", ".", "!", "-type", "d")) {
		paths = append(paths, strings.TrimPrefix(strings.TrimSpace(line), "."))
	}
	slices.Sort(paths)
	return paths
}

func isStatic(t *testing.T, bin string) {
	t.Helper()
	f, err := elf.Open(bin)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Errorf("%s is linked dynamically", bin)
		}
	}
}

// versionOf is the version in the name of the archive.
func versionOf(t *testing.T, dist string) string {
	t.Helper()
	m := regexp.MustCompile(`ossmount-(.*)-linux-`).FindStringSubmatch(filepath.Base(one(t, dist, "*.tar.gz")))
	if m == nil {
		t.Fatal("the archive has no version in its name")
	}
	return m[1]
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
