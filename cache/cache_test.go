package cache

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ossmount/ossmount/internal/object"
)

var ours = Identity{Endpoint: "http://127.0.0.1:1", Bucket: "b", Prefix: "p/"}

func open(t *testing.T, dir string, o Options) *Cache {
	t.Helper()
	c, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Numbers are never used again, also when the journal knows higher ones than
// the disk. covers H8
func TestNumbersAreNeverReused(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, Options{Identity: ours})
	x, err := c.Create()
	if err != nil {
		t.Fatal(err)
	}
	first := x.Number()
	x.Close()
	c.Close()
	c = open(t, dir, Options{Identity: ours})
	c.Reserve(first + 100)
	y, err := c.Create()
	if err != nil {
		t.Fatal(err)
	}
	defer y.Close()
	if y.Number() <= first+100 {
		t.Fatalf("number %d after %d", y.Number(), first+100)
	}
}

// One directory, one bucket, one process.
func TestAnotherOwnerIsRefused(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, Options{Identity: ours})
	if !c.IsNew() {
		t.Error("a new directory is not new")
	}
	if _, err := Open(dir, Options{Identity: ours}); !errors.Is(err, ErrBusy) {
		t.Errorf("a second process: %v", err)
	}
	c.Close()
	other := ours
	other.Bucket = "other"
	_, err := Open(dir, Options{Identity: other})
	if err == nil || !strings.Contains(err.Error(), "--cache-dir") {
		t.Errorf("another bucket: %v", err)
	}
	if c := open(t, dir, Options{}); c.Identity().Bucket != "b" {
		t.Errorf("identity %v", c.Identity())
	}
	if _, err := Open(t.TempDir(), Options{}); err == nil {
		t.Error("a directory that was never mounted was taken for one")
	}
}

// A witness is read back, short or long, and a later short one replaces a long
// one. covers H7
func TestWitness(t *testing.T) {
	for _, sidecars := range []bool{false, true} {
		c := open(t, t.TempDir(), Options{Identity: ours})
		c.sidecars = c.sidecars || sidecars
		x, err := c.Create()
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		if _, ok, err := c.Witness(x.Number()); ok || err != nil {
			t.Errorf("a new content has a witness, %v", err)
		}
		for _, key := range []string{"short", strings.Repeat("long", 600), "short again"} {
			w := Witness{Key: key, Seq: 9, State: StateClosed, Expected: object.Ref{ETag: "e"}}
			if err := x.SetWitness(w); err != nil {
				t.Fatal(err)
			}
			got, ok, err := c.Witness(x.Number())
			if err != nil || !ok || got.Key != key || got.Seq != 9 || got.State != StateClosed {
				t.Errorf("sidecars %v: read %+v %v %v", sidecars, got, ok, err)
			}
		}
		if err := c.Drop(x.Number()); err != nil {
			t.Fatal(err)
		}
		left, _ := filepath.Glob(filepath.Join(c.Dir(), "contents", "*", "*"))
		if len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestCloneIsApart(t *testing.T) {
	c := open(t, t.TempDir(), Options{Identity: ours})
	x, err := c.Create()
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if _, err := x.WriteAt([]byte("hello"), 0); err != nil {
		t.Fatal(err)
	}
	y, err := x.Clone(Witness{Key: "k", State: StateOpen})
	if err != nil {
		t.Fatal(err)
	}
	defer y.Close()
	if _, err := x.WriteAt([]byte("J"), 0); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(c.path(y.Number()))
	if err != nil || string(b) != "hello" {
		t.Fatalf("%q %v", b, err)
	}
	if w, ok, err := c.Witness(y.Number()); err != nil || !ok || w.Key != "k" || w.State != StateOpen {
		t.Errorf("the copy says of itself %+v, %v", w, err)
	}
	if failed := c.SyncContents([]uint64{x.Number(), y.Number(), 12345}); len(failed) != 0 {
		t.Fatal(failed)
	}
}

// covers H8: a content in lost+found keeps its number over a restart.
func TestNumbersInLostAndFoundAreNotReused(t *testing.T) {
	dir := t.TempDir()
	o := Options{Identity: Identity{Bucket: "b"}}
	c, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	x, err := c.Create()
	if err != nil {
		t.Fatal(err)
	}
	x.Close()
	if err := c.Lose(x.Number()); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if c, err = Open(dir, o); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	y, err := c.Create()
	if err != nil {
		t.Fatal(err)
	}
	defer y.Close()
	if y.Number() <= x.Number() {
		t.Errorf("content %d after %d went to lost+found", y.Number(), x.Number())
	}
}

// A content of lost+found that is moved back says that it is open, whatever it
// said before and wherever its witness stands; it can be lost again. covers H7
func TestFoundContentsAreMovedBackAsOpen(t *testing.T) {
	c := open(t, t.TempDir(), Options{Identity: Identity{Bucket: "b"}})
	for _, sidecars := range []bool{false, true} {
		for _, key := range []string{"short", strings.Repeat("long", 700)} {
			c.sidecars = sidecars
			x, err := c.Create()
			if err != nil {
				t.Fatal(err)
			}
			n := x.Number()
			if _, err := x.WriteAt([]byte("text"), 8192); err != nil {
				t.Fatal(err)
			}
			err = errors.Join(x.SetWitness(Witness{Key: key, Seq: 3, Size: 4, State: StateClosed}), x.Close(), c.Lose(n))
			if err != nil {
				t.Fatal(err)
			}
			l, err := c.Lost(n)
			if err != nil || l.Key() != key || l.Size != 8196 {
				t.Fatalf("lost: %+v, %v", l, err)
			}
			if s, err := l.Written(); err != nil || !s.Covers(8192, 8196) {
				t.Errorf("written: %v, %v", s, err)
			}
			if err := c.Reclaim(n); err != nil {
				t.Fatal(err)
			}
			w, ok, err := c.Witness(n)
			if err != nil || !ok || w.Key != key || w.State != StateOpen || w.Seq != 3 {
				t.Errorf("its witness: %.300v, %t, %v", w, ok, err)
			}
			if _, err := c.Lost(n); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it is in lost+found still: %v", err)
			}
			if err := c.Reclaim(n); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("moved back twice: %v", err)
			}
			if err := c.Lose(n); err != nil {
				t.Fatal(err)
			}
			if l, err := c.Lost(n); err != nil || l.Witness.State != StateOpen {
				t.Errorf("lost again: %.300v, %v", l, err)
			}
			if err := c.DropLost(n); err != nil {
				t.Error(err)
			}
			if left, err := os.ReadDir(c.lostDir()); err != nil || len(left) > 0 {
				t.Errorf("left in lost+found: %v, %v", left, err)
			}
		}
	}
}

// covers H44: what contents take is kept up without a look at them all, and a
// start finds the same.
func TestWhatContentsTakeIsKeptUp(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, Options{Identity: ours, Size: 1 << 30})
	used := func() int64 {
		u, err := c.Usage()
		if err != nil {
			t.Fatal(err)
		}
		return u.Used
	}
	about := func(what string, want int64) {
		t.Helper()
		if got := used(); got < want || got > want+64<<10 {
			t.Errorf("%s: %d bytes, wanted %d", what, got, want)
		}
	}
	var all []uint64
	for range 10 {
		x, err := c.Create()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := x.WriteAt(make([]byte, 1<<20), 0); err != nil {
			t.Fatal(err)
		}
		all = append(all, x.Number())
		x.Close()
	}
	about("ten written", 10<<20)
	x, err := c.Open(all[0])
	if err != nil {
		t.Fatal(err)
	}
	y, err := c.Open(all[0]) // the same once more
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if _, err := y.WriteAt(make([]byte, 3<<20), 1<<20); err != nil {
		t.Fatal(err)
	}
	about("one rewritten by two", 12<<20)
	if err := c.Drop(all[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := x.WriteAt(make([]byte, 1<<20), 0); err != nil {
		t.Fatal(err)
	}
	x.Close()
	y.Close()
	about("it is dropped while it is written", 9<<20)
	if err := c.Lose(all[1]); err != nil {
		t.Fatal(err)
	}
	if u, err := c.Usage(); err != nil || u.Found < 1<<20 {
		t.Errorf("found: %+v %v", u, err)
	}
	before := used()
	c.Close()
	c = open(t, dir, Options{Identity: ours, Size: 1 << 30})
	if u, err := c.Usage(); err != nil || u.Used != before || u.Found < 1<<20 {
		t.Errorf("after a start %+v, before %d: %v", u, before, err)
	}
}

// covers H44: a directory that is taken away is not taken for an empty one.
func TestDirectoryThatIsGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	c := open(t, dir, Options{Identity: ours})
	if err := os.Rename(dir, dir+"-aside"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(); !errors.Is(err, ErrGone) {
		t.Errorf("create: %v", err)
	}
	if _, err := c.Open(1); !errors.Is(err, ErrGone) {
		t.Errorf("open: %v", err)
	}
}

// A crash in the middle of a drop, or of the writing of a witness, leaves a file
// beside a content that is not there, or half of one beside one that is: the next
// start removes them, and nothing else.
func TestWitnessesWithoutAContentAreRemoved(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, Options{Identity: ours})
	var paths []string
	for range 2 {
		x, err := c.Create()
		if err != nil {
			t.Fatal(err)
		}
		if err := x.SetWitness(Witness{Key: strings.Repeat("long ", 1000), State: StateClosed}); err != nil {
			t.Fatal(err)
		}
		x.Close()
		paths = append(paths, c.Path(x.Number()))
	}
	c.Close()
	half := paths[0] + sidecarSuffix + "~"
	if err := errors.Join(os.WriteFile(half, nil, 0o600), os.Remove(paths[1])); err != nil {
		t.Fatal(err)
	}
	c = open(t, dir, Options{Identity: ours})
	defer c.Close()
	for path, want := range map[string]bool{half: false, paths[1] + sidecarSuffix: false, paths[0]: true, paths[0] + sidecarSuffix: true} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("%s: %v", filepath.Base(path), err)
		}
	}
	if w, ok, err := c.Witness(1); !ok || err != nil || w.State != StateClosed {
		t.Errorf("%+v %v %v", w, ok, err)
	}
}
