package fs

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/writeback"
)

// listed counts listings.
type listed struct {
	Remote
	n atomic.Int64
}

func (l *listed) List(ctx context.Context, q object.ListQuery) (object.Page, error) {
	l.n.Add(1)
	return l.Remote.List(ctx, q)
}

// inOrder walks through the tree beneath dir, each directory before what is in it, as
// find does, and returns what is shown.
func (b *testbed) inOrder(t tb, dir string) (all []string) {
	for _, n := range b.list(t, dir) {
		all = append(all, dir+n)
		if strings.HasSuffix(n, "/") {
			if e, err := b.fs.overlay.lookup(context.Background(), dir, strings.TrimSuffix(n, "/")); err != nil || !e.dir {
				t.Fatal(dir+n, e, err)
			}
			all = append(all, b.inOrder(t, dir+n)...)
		}
	}
	return all
}

// A tree of many small directories is asked for by some pages, not by one listing for
// each directory.
func TestWalksAskForManyDirectoriesAtOnce(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	b.fs.o.MetaTTL = time.Hour
	const dirs = 300
	for i := range dirs {
		for k := range 3 {
			b.object(t, fmt.Sprintf("src/%02d/%03d/f%d", i/20, i, k), nil)
		}
	}
	count := &listed{Remote: b.fs.remote}
	b.fs.remote = count
	if n := len(b.inOrder(t, "")); n != 1+dirs/20+4*dirs {
		t.Errorf("%d names", n)
	}
	if n := count.n.Load(); n > 20 {
		t.Errorf("%d listings for %d directories", n, dirs)
	}
}

// What a walk shows is what each directory shows by itself, wherever a page ends.
func TestWalks(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	b.fs.o.MetaTTL = time.Hour
	b.fs.overlay.walk.worth = 0
	small := &smallPages{Remote: b.fs.remote}
	b.fs.remote = small
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		small.max = rapid.IntRange(1, 9).Draw(t, "names on a page")
		base := fmt.Sprintf("run%d/", run)
		part := rapid.SampledFrom([]string{"a", "a-", "a.b", "a.", "a0", "b", "b!", "\U0010FFFF"})
		want := map[string]bool{}
		for _, parts := range rapid.SliceOfN(rapid.SliceOfN(part, 1, 4), 1, 30).Draw(t, "objects") {
			key := base + strings.Join(parts, "/")
			if rapid.Bool().Draw(t, "a directory") {
				key += "/"
			}
			want[key] = true
		}
		for k := range want {
			b.object(t, k, nil)
		}
		shown := map[string]bool{}
		for k := range want {
			shown[k] = true
			for at := len(base); at < len(k); at++ {
				if k[at] == '/' {
					shown[k[:at+1]] = true
				}
			}
		}
		for k := range shown { // of a file and a directory of one name, the directory is shown
			if shown[k+"/"] {
				delete(shown, k)
			}
		}
		delete(shown, base)
		got := b.inOrder(t, base)
		slices.Sort(got)
		if wanted := slices.Sorted(maps.Keys(shown)); !slices.Equal(got, wanted) {
			t.Fatalf("shown %q\nwant  %q", got, wanted)
		}
	})
}

func TestCommonDir(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{"a/b/", "a/c/", "a/"}, {"a/b/", "a/b/", "a/b/"}, {"a/b/", "a/bc/", "a/"}, {"a/", "b/", ""}, {"a/", "a/b/c/", "a/"}, {"", "a/", ""},
	} {
		if got := commonDir(c.a, c.b); got != c.want {
			t.Errorf("%q, %q: %q, want %q", c.a, c.b, got, c.want)
		}
	}
}

// A listing from before the directory's own object came says nothing of that, in a walk
// as elsewhere. covers H20
func TestWalksAndWhatHasSettled(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	b.fs.o.MetaTTL = time.Hour
	ctx, o := t.Context(), b.fs.overlay
	for _, dir := range []string{"a/", "b/", "c/", "e/"} {
		b.object(t, dir+"x", nil)
	}
	b.list(t, "d/")
	if err := b.fs.commit(func(c *writeback.Change) error {
		return c.Put(&writeback.Row{Key: "d/", Attr: object.Attr{Mode: object.TypeDir | 0o700}, Known: true})
	}); err != nil {
		t.Fatal(err)
	}
	if left, err := b.fs.q.Drain(ctx); err != nil || left.Pending != 0 {
		t.Fatalf("%+v, %v", left, err)
	}
	for _, dir := range []string{"a/", "b/", "c/", "e/"} {
		b.list(t, dir)
	}
	if info, err := o.marker(ctx, "d/"); err != nil || info == nil {
		t.Errorf("%v, %v", info, err)
	}
}
