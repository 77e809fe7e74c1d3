package fs

import (
	"context"
	"slices"
	"testing"
	"time"
)

// A listing that is brought up to date shows what it would with all that has
// settled since laid over it, and holds on to none of that.
func TestListingsAreBroughtUpToDate(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	b.fs.o.MetaTTL = time.Hour
	for _, k := range []string{"d/a", "d/b", "d/gone/", "d/sub/x"} {
		b.object(t, k, []byte("x"))
	}
	before := b.list(t, "d/")
	b.row(t, "d/a", false)
	b.row(t, "d/gone/", false)
	b.row(t, "d/new", true)
	b.row(t, "d/made/", true)
	b.row(t, "d/deep/y", true)
	want := b.list(t, "d/")
	if left, err := b.fs.q.Drain(context.Background()); err != nil || left.Pending != 0 {
		t.Fatalf("%+v, %v", left, err)
	}
	laid := b.list(t, "d/")
	if b.fs.q.Remembered() == 0 {
		t.Fatal("nothing is remembered: the test does not test")
	}
	b.fs.overlay.mu.Lock()
	b.fs.overlay.renewLocked()
	b.fs.overlay.mu.Unlock()
	if n := b.fs.q.Remembered(); n != 0 {
		t.Errorf("%d settles are still remembered", n)
	}
	folded := b.list(t, "d/")
	if !slices.Equal(laid, want) || !slices.Equal(folded, want) || slices.Equal(before, want) {
		t.Errorf("before %q, then %q, settled %q, brought up to date %q", before, want, laid, folded)
	}
}
