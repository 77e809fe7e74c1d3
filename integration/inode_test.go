package integration

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestInodeNumbersAreTheSameAfterARemount(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.put("prefix/of another", strings.NewReader("x"))
	m := e.mount("cache")
	e.write(m.in("f"), "x")
	e.ok(os.MkdirAll(m.in("d/e"), 0o755))
	e.write(m.in("d/e/g"), "y")
	e.ok(os.Symlink("f", m.in("l")))
	e.ok(unix.Mkfifo(m.in("p"), 0o644))
	names := []string{"", "f", "d", "d/e", "d/e/g", "l", "p", "prefix", "prefix/of another"}
	numbers := func() map[string]uint64 {
		t.Helper()
		of, seen := map[string]uint64{}, map[uint64]string{}
		for _, name := range names {
			var st unix.Stat_t
			e.ok(unix.Lstat(m.in(name), &st))
			if seen[st.Ino] != "" {
				t.Errorf("%q and %q have one number", name, seen[st.Ino])
			}
			of[name], seen[st.Ino] = st.Ino, name
		}
		return of
	}
	first := numbers()
	for _, step := range []string{"upload", "remount", "empty cache"} {
		m.wait(m.Point)
		if step != "upload" {
			m.umount(0)
			if step == "empty cache" {
				m.Cache = e.path("another-cache")
			}
			m.start()
		}
		for name, n := range numbers() {
			if first[name] != n {
				t.Errorf("%s: %q has the number %d, and had %d", step, name, n, first[name])
			}
		}
	}
}
