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
