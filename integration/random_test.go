package integration

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ossmount/ossmount/integration/harness"
)

// TestRandomWorkEqualsAPlainDirectory does the same random operations in a
// mount and in a plain directory, kills and remounts the daemon in between,
// and compares. OSS answers late, and small parts make many uploads.
//
// A seed that failed is played again with OSSMOUNT_SEED.
func TestRandomWorkEqualsAPlainDirectory(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("OSSMOUNT_SEED"); s != "" {
		fmt.Sscan(s, &seed)
	}
	t.Logf("OSSMOUNT_SEED=%d", seed)
	e := setup(t, "--latency=3ms")
	w := &work{env: e, r: rand.New(rand.NewPCG(seed, 2)), plain: e.path("plain")}
	e.ok(os.Mkdir(w.plain, 0o755))
	w.m = e.mount("cache", "--write-back-delay=50ms", "--part-size=100KiB", "--multipart-threshold=200KiB", "--meta-ttl=1s", "--doubt=1s")
	long := 20 * time.Second
	if *full {
		long = 5 * time.Minute
	}
	rounds, kills := 0, 0
	for end := time.Now().Add(long); time.Now().Before(end); rounds++ {
		for range 5 + w.r.IntN(60) {
			w.step()
		}
		switch w.r.IntN(6) {
		case 0:
			w.m.kill9()
			w.m.start()
			kills++
		case 1:
			if r, err := w.m.Umount(e.soon(), "--drain=0s"); err != nil || r.Code != 0 && r.Code != 3 {
				t.Fatalf("umount: %v %v", r, err)
			}
			w.m.start()
		case 2:
			w.m.wait(w.m.Point)
			w.m.umount(0)
			w.m.Cache = e.path(fmt.Sprint("cache-", rounds)) // nothing local is left
			w.m.start()
		case 3:
			w.m.wait(w.m.Point)
		}
		w.compare(rounds)
	}
	w.m.wait(w.m.Point)
	w.compare(rounds)
	w.m.umount(0)
	e.verify("", w.plain)
	t.Logf("%d operations (%v), %d rounds, %d kills", w.n, w.done, rounds, kills)
}

type work struct {
	*env
	m     *mount
	r     *rand.Rand
	plain string
	n     int
	done  map[string]int
	last  []string // what was done, for a failure
}

func (w *work) compare(round int) {
	w.Helper()
	want, err := harness.Snapshot(w.plain)
	w.ok(err)
	got, err := harness.Snapshot(w.m.Point)
	if err != nil {
		w.Fatalf("round %d: %v\nlast:\n%s", round, err, strings.Join(w.last, "\n"))
	}
	forget := func(tree map[string]harness.Entry) { // times are each file system's own, but where they are set
		for name, e := range tree {
			if e.Mtime >= time.Now().Add(-time.Hour).UnixNano() {
				e.Mtime = 0
				tree[name] = e
			}
		}
	}
	forget(want)
	forget(got)
	for name, e := range want {
		if e.Mode.IsDir() { // a name made in it moves its time, here and not always there
			g := got[name]
			e.Mtime, g.Mtime = 0, 0
			want[name] = e
			if _, ok := got[name]; ok {
				got[name] = g
			}
		}
	}
	if lines := harness.Diff(want, got); len(lines) > 0 {
		w.Fatalf("round %d, %d operations: %d differences:\n%s\nlast:\n%s", round, w.n, len(lines), strings.Join(lines, "\n"), strings.Join(w.last, "\n"))
	}
}

// step does one operation on both sides: both succeed, or both fail with the
// same number.
func (w *work) step() {
	w.Helper()
	w.n++
	name, do := w.draw()
	if w.done == nil {
		w.done = map[string]int{}
	}
	w.done[strings.Fields(name)[0]]++
	want, got := do(w.plain), do(w.m.Point)
	w.last = append(w.last[max(0, len(w.last)-99):], fmt.Sprintf("%s: %v", name, number(want)))
	if number(want) != number(got) {
		w.Fatalf("operation %d, %s: want %v, got %v\nlast:\n%s", w.n, name, want, got, strings.Join(w.last, "\n"))
	}
}

// number is the errno of an error; those of an occupied target are one.
func number(err error) error {
	for err != nil {
		if n, ok := err.(syscall.Errno); ok {
			if n == syscall.EEXIST {
				n = syscall.ENOTEMPTY
			}
			return n
		}
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err
		}
		err = u.Unwrap()
	}
	return nil
}

// draw draws an operation.
func (w *work) draw() (string, func(root string) error) {
	a, b := w.path(), w.path()
	n := []int{0, 1, 100, 5000, 150_000, 250_000, 700_000}[w.r.IntN(7)]
	data := make([]byte, n)
	for i, b := 0, byte(w.r.Uint32()); i < n; i++ {
		data[i] = b + byte(i>>9)
	}
	off := int64(w.r.IntN(300_000))
	switch k := w.r.IntN(22); k {
	case 0, 1, 2, 3:
		return fmt.Sprintf("write %s %d", a, n), func(root string) error { return os.WriteFile(filepath.Join(root, a), data, 0o644) }
	case 4, 5:
		return fmt.Sprintf("append %s %d", a, n), func(root string) error {
			return change(root, a, os.O_WRONLY|os.O_APPEND, func(f *os.File) error { _, err := f.Write(data); return err })
		}
	case 6, 7:
		return fmt.Sprintf("overwrite %s %d at %d", a, n, off), func(root string) error {
			return change(root, a, os.O_RDWR, func(f *os.File) error { _, err := f.WriteAt(data, off); return err })
		}
	case 8:
		return fmt.Sprintf("truncate %s %d", a, off), func(root string) error { return syscall.Truncate(filepath.Join(root, a), off) }
	case 9, 10, 11, 12:
		return fmt.Sprintf("rename %s %s", a, b), func(root string) error {
			return syscall.Rename(filepath.Join(root, a), filepath.Join(root, b))
		}
	case 13, 14:
		return fmt.Sprintf("unlink %s", a), func(root string) error { return syscall.Unlink(filepath.Join(root, a)) }
	case 15:
		return fmt.Sprintf("rmdir %s", a), func(root string) error { return syscall.Rmdir(filepath.Join(root, a)) }
	case 16, 17:
		return fmt.Sprintf("mkdir %s", a), func(root string) error { return syscall.Mkdir(filepath.Join(root, a), 0o755) }
	case 18:
		return fmt.Sprintf("symlink %s %s", b, a), func(root string) error { return syscall.Symlink(b, filepath.Join(root, a)) }
	case 19:
		mode := os.FileMode(0o600 + w.r.IntN(0o200))
		return fmt.Sprintf("chmod %s %o", a, mode), func(root string) error {
			path := filepath.Join(root, a)
			if fi, err := os.Lstat(path); err == nil && fi.Mode()&os.ModeSymlink != 0 {
				return nil
			}
			return syscall.Chmod(path, uint32(mode))
		}
	case 20:
		at := time.Unix(w.r.Int64N(1_700_000_000), w.r.Int64N(1_000_000_000))
		return fmt.Sprintf("utimes %s %v", a, at.UnixNano()), func(root string) error { return harness.SetMtime(filepath.Join(root, a), at) }
	default:
		return fmt.Sprintf("rewrite %s while it is renamed to %s", a, b), func(root string) error {
			return change(root, a, os.O_RDWR, func(f *os.File) error {
				_, err := f.WriteAt(data, off/2)
				syscall.Rename(filepath.Join(root, a), filepath.Join(root, b))
				f.Write(bytes.ToUpper([]byte("after the rename")))
				return err
			})
		}
	}
}

func change(root, name string, flags int, do func(f *os.File) error) error {
	f, err := os.OpenFile(filepath.Join(root, name), flags, 0)
	if err != nil {
		return err
	}
	if err := do(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// path draws a name of few, so that they meet.
func (w *work) path() string {
	parts := make([]string, 1+w.r.IntN(3))
	for i := range parts {
		parts[i] = string("abcd"[w.r.IntN(4)])
	}
	return strings.Join(parts, "/")
}
