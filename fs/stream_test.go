package fs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/writeback"
)

// smallPages is an OSS that lists a few names at a time.
type smallPages struct {
	Remote
	max int
}

func (s *smallPages) List(ctx context.Context, q object.ListQuery) (object.Page, error) {
	q.Max = s.max
	return s.Remote.List(ctx, q)
}

// A directory that is too big to be kept is listed page by page, and from any
// place on: each name once, whatever stands on the edge of a page. covers H20
func TestPagesAndPlaces(t *testing.T) {
	names := []string{"a", "a-", "a.b", "a0", "b", "b!", "c"}
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	small := &smallPages{Remote: b.fs.remote}
	b.fs.remote = small
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		small.max = rapid.IntRange(1, 4).Draw(t, "names on a page")
		base := fmt.Sprintf("run%d/", run)
		keys := func(label string) []string {
			return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
				return rapid.SampledFrom(names).Draw(t, "name") + rapid.SampledFrom([]string{"", "/", "/x"}).Draw(t, "below")
			}), 0, 9).Draw(t, label)
		}
		for _, k := range keys("objects") {
			b.object(t, base+k, nil)
		}
		for _, k := range keys("puts") {
			b.row(t, base+k, true)
		}
		for _, k := range keys("deletes") {
			b.row(t, base+k, false)
		}
		whole := b.list(t, base)
		if d := duplicates(whole); d != "" {
			t.Fatalf("%q twice in %q", d, whole)
		}
		b.fs.overlay.forget(base)
		b.fs.overlay.mu.Lock()
		b.fs.overlay.big[base] = time.Now().Add(time.Hour)
		b.fs.overlay.mu.Unlock()
		paged := b.list(t, base)
		// A file and a directory of one name that come on different pages show
		// as the file; else the same names are shown.
		bare := func(s []string) (out []string) {
			for _, n := range s {
				out = append(out, strings.TrimSuffix(n, "/"))
			}
			slices.Sort(out)
			return out
		}
		if !slices.Equal(bare(whole), bare(paged)) {
			t.Fatalf("page by page %q, at once %q", paged, whole)
		}
		for i, place := range paged {
			rest := b.listFrom(t, base, place)
			// A directory whose file was given out before the place may come again.
			if got := slices.DeleteFunc(rest, func(n string) bool { return slices.Contains(bare(paged[:i+1]), strings.TrimSuffix(n, "/")) }); !slices.Equal(bare(got), bare(paged[i+1:])) {
				t.Fatalf("after %q: %q, want %q", place, got, paged[i+1:])
			}
		}
	})
}

func duplicates(names []string) string {
	seen := map[string]bool{}
	for _, n := range names {
		n = strings.TrimSuffix(n, "/")
		if seen[n] {
			return n
		}
		seen[n] = true
	}
	return ""
}

// With listings that are good for ever, a big directory is known as one, too, and
// not listed anew for each name.
func TestABigDirectoryStaysBigForEver(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	b.fs.o.MetaTTL = 100 * 365 * 24 * time.Hour // --meta-ttl=inf
	b.fs.overlay.isBig("big/")
	if _, _, big := b.fs.overlay.cached("big/"); !big {
		t.Error("it is forgotten at once")
	}
}

// The attributes that a listing has at hand were read when the names of the page came:
// those of a row that has settled since are newer, though ETag and size are the same.
// covers H20 covers H23
func TestWhatAListingHasAtHandMayBeOld(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	b.fs.o.MetaTTL = time.Hour
	ctx, o := t.Context(), b.fs.overlay
	b.object(t, "f", []byte("x"))
	e, err := o.lookup(ctx, "", "f") // what it carries is remembered
	if err != nil {
		t.Fatal(err)
	}
	newer := e.attr
	newer.Mode = object.TypeFile | 0o600
	if err := b.fs.commit(func(c *writeback.Change) error { return c.SetAttr("f", newer, e.clean()) }); err != nil {
		t.Fatal(err)
	}
	s, err := o.stream(ctx, "", nil, "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if i, ok, err := s.next(ctx); err != nil || !ok || i.name != "f" {
		t.Fatalf("%+v, %v, %v", i, ok, err)
	}
	if left, err := b.fs.q.Drain(ctx); err != nil || left.Pending != 0 {
		t.Fatalf("%+v, %v", left, err)
	}
	e, err = o.lookupIn(ctx, "", "f", s)
	if err != nil {
		t.Fatal(err)
	}
	if e.attr.Mode != newer.Mode {
		t.Errorf("mode %o, want %o", e.attr.Mode, newer.Mode)
	}
}

// A directory that is on OSS before the call that makes it is done is there. covers
// H20
func TestDirectoryThatSettlesAtOnce(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	b.fs.o.MetaTTL = time.Hour
	ctx, o := t.Context(), b.fs.overlay
	settle := func(f func(c *writeback.Change) error) {
		t.Helper()
		if err := b.fs.commit(f); err != nil {
			t.Fatal(err)
		}
		if left, err := b.fs.q.Drain(ctx); err != nil || left.Pending != 0 {
			t.Fatalf("%+v, %v", left, err)
		}
	}
	b.object(t, "d/last", nil) // all of it went a moment ago
	e, err := o.lookup(ctx, "d/", "last")
	if err != nil {
		t.Fatal(err)
	}
	b.list(t, "")
	settle(func(c *writeback.Change) error { return c.Delete(e.key, e.ref, true) })
	before := b.fs.q.Moment()
	defer before.Done()
	settle(func(c *writeback.Change) error {
		return c.Put(&writeback.Row{Key: "d/", Attr: object.Attr{Mode: object.TypeDir | 0o755}, Known: true})
	})
	o.born("d/", false, before)
	if e, err := o.lookup(ctx, "", "d"); err != nil || !e.dir {
		t.Errorf("%+v, %v", e, err)
	}
}
