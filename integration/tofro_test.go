package integration

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

var toFro = flag.Int("tofro", 150, "how many changes each program of TestRenamedToAndFroWhileItIsCarried makes")

// Directories are renamed to and fro while the engine carries what is in them; after
// each call every name is there, with what was written last. (R5, R9)
func TestRenamedToAndFroWhileItIsCarried(t *testing.T) {
	t.Parallel()
	for _, delay := range []string{"0s", "20ms", "200ms"} {
		t.Run("delay "+delay, func(t *testing.T) {
			t.Parallel()
			toAndFro(t, "--write-back-delay="+delay, "--doubt=300ms")
		})
	}
}

func toAndFro(t *testing.T, flags ...string) {
	e := setup(t)
	m := e.mount("cache", flags...)
	var g errgroup.Group
	for w := range 3 {
		g.Go(func() error {
			rnd := rand.New(rand.NewPCG(uint64(w), uint64(time.Now().UnixNano())))
			at, to := m.in(fmt.Sprintf("w%d/c0", w)), m.in(fmt.Sprintf("w%d/c1", w))
			if err := os.MkdirAll(at, 0o755); err != nil {
				return err
			}
			modes, texts := map[string]os.FileMode{}, map[string]string{}
			any := func() string {
				for name := range modes {
					return name
				}
				return ""
			}
			for step := range *toFro {
				name := fmt.Sprintf("%04d", rnd.IntN(60))
				var err error
				what := ""
				switch n := rnd.IntN(11); {
				case n == 10: // by which the engine goes on at once
					what = "sync " + at
					err = syncDir(at)
				case n < 4:
					what = "rename " + at
					if err = os.Rename(at, to); err == nil {
						at, to = to, at
					}
				case n < 6 || len(modes) == 0:
					what = "write " + name
					texts[name] = fmt.Sprint("step ", step)
					if _, there := modes[name]; !there {
						modes[name] = 0o644
					}
					err = os.WriteFile(at+"/"+name, []byte(texts[name]), 0o644)
				case n < 8:
					name = any()
					modes[name] = os.FileMode(0o600 + rnd.IntN(8)*8 + rnd.IntN(8))
					what = "chmod " + name
					err = os.Chmod(at+"/"+name, modes[name])
				default:
					name = any()
					what = "read " + name
					var b []byte
					if b, err = os.ReadFile(at + "/" + name); err == nil && string(b) != texts[name] {
						err = fmt.Errorf("%q, want %q", b, texts[name])
					}
				}
				if err != nil {
					return fmt.Errorf("program %d, step %d, %s: %w", w, step, what, err)
				}
				if step%10 != 0 {
					continue
				}
				list, err := os.ReadDir(at)
				if err != nil || len(list) != len(modes) {
					return fmt.Errorf("program %d, step %d, after %s: %d names, want %d (%v); %s", w, step, what, len(list), len(modes), err, lacking(at, list, modes))
				}
				for _, d := range list {
					st, err := d.Info()
					if err != nil || st.Mode().Perm() != modes[d.Name()] {
						return fmt.Errorf("program %d, step %d, %s has mode %v, want %v: %w", w, step, d.Name(), st, modes[d.Name()], err)
					}
				}
			}
			return nil
		})
	}
	e.ok(g.Wait())
	m.wait(m.Point)
	m.umount(0)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// lacking tells which names of modes list lacks, and what is seen of them a little later.
func lacking(dir string, list []os.DirEntry, modes map[string]os.FileMode) (said string) {
	there := map[string]bool{}
	for _, d := range list {
		there[d.Name()] = true
	}
	again, _ := os.ReadDir(dir)
	for name := range modes {
		if !there[name] {
			_, err := os.Lstat(dir + "/" + name)
			now := slices.ContainsFunc(again, func(d os.DirEntry) bool { return d.Name() == name })
			said += fmt.Sprintf("%s is not listed (then: %t, lstat: %v) ", name, now, err)
		}
	}
	return said
}
