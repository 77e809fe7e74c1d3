package release

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ossmount/ossmount/integration/harness"
)

// patience is a deadline for one step, of which some compile.
const patience = 8 * time.Minute

// published is where the release of this checkout was built, once for all tests.
var published struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	err := harness.CanMount()
	if err == nil && os.Geteuid() != 0 {
		err = fmt.Errorf("run these tests as root: they install packages and mount")
	}
	if err == nil {
		published.dir, err = os.MkdirTemp("", "ossmount-dist-")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(published.dir)
	os.Exit(code)
}

// checkout is the top of the repository.
func checkout(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// dist returns the directory with the release for this architecture.
func dist(t *testing.T) string {
	t.Helper()
	published.once.Do(func() {
		published.err = build(t, checkout(t), published.dir)
	})
	if published.err != nil {
		t.Fatal(published.err)
	}
	return published.dir
}

// build runs the release of the sources in dir into another directory.
func build(t *testing.T, dir, into string, env ...string) error {
	r, err := run(t, dir, append(env, "DIST="+into), "deploy/packages/release", runtime.GOARCH)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("deploy/packages/release: %v", r)
	}
	return err
}

// run runs a command in dir to its end.
func run(t *testing.T, dir string, env []string, name string, args ...string) (harness.Result, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// env(1) has the command begin in dir.
	return harness.Run(ctx, env, "env", append([]string{"-C", dir, name}, args...)...)
}

// must is run for what has to exit with 0; it returns what was printed.
func must(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	r, err := run(t, dir, env, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	if r.Code != 0 {
		t.Fatalf("%s %q: %v", name, args, r)
	}
	return r.Out
}

// one returns the only file in dir that matches.
func one(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s in %s: %q %v", pattern, dir, found, err)
	}
	return found[0]
}

// sources copies the sources into a new directory, as they are now.
func sources(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, checkout(t), nil, "sh", "-euc", `git ls-files -z --cached --others --exclude-standard | tar -c --null --ignore-failed-read -T - | tar -x -C "$0"`, dir)
	return dir
}

// server starts the OSS server of the program.
func server(t *testing.T, bin string) *harness.Server {
	t.Helper()
	s := &harness.Server{Bin: bin, Dir: filepath.Join(t.TempDir(), "objects")}
	t.Cleanup(func() {
		if s.P != nil && !s.P.Ended() {
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
		}
	})
	if err := s.Start(soon(t)); err != nil {
		t.Fatal(err)
	}
	return s
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// holds fails unless the object holds want.
func holds(t *testing.T, s *harness.Server, key, want string) {
	t.Helper()
	sum, size, err := s.ObjectSum(key)
	if err != nil {
		t.Fatalf("object %s: %v", key, err)
	}
	if w, _ := harness.Sum(strings.NewReader(want)); w != sum {
		t.Fatalf("object %s has %d bytes, and not those that were written", key, size)
	}
}

// lookPath fails the test where a program is missing.
func lookPath(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("%v: .ci/tools installs it", err)
		}
	}
}
