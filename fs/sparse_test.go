package fs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/writeback"
)

// getting runs f before each Get, and fails it where f does.
type getting struct {
	Remote
	f func() error
}

func (g *getting) Get(ctx context.Context, ref object.Ref, off, n int64) (io.ReadCloser, error) {
	if err := g.f(); err != nil {
		return nil, err
	}
	return g.Remote.Get(ctx, ref, off, n)
}

// A file is truncated and published while somebody still waits for bytes behind
// its new end: that wait ends, and nothing is asked for there.
func TestReadsBehindTheEndOfTheSuccessor(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	old := bytes.Repeat([]byte("old"), 1<<20)
	b.object(t, "f", old)
	e, err := b.fs.overlay.lookup(t.Context(), "", "f")
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.fs.newSparse(e.ref, e.size, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.release()
	cut := old[:1000]
	gets := 0
	b.fs.remote = &getting{b.fs.remote, func() error {
		if gets++; gets > 1 {
			return nil
		}
		b.object(t, "f", cut)
		info, err := b.oss.Head(t.Context(), "f")
		if err != nil {
			return err
		}
		s.succeed(info.Ref)
		return &object.Error{Op: "GetObject", Kind: object.Again, Err: errors.New("the connection broke")}
	}}
	if err := s.need(t.Context(), 2<<20, 10, 10); err != nil || gets != 1 {
		t.Errorf("the wait ends with %v after %d requests", err, gets)
	}
	p := make([]byte, 2000)
	if n, err := s.readAt(t.Context(), p, 0); err != nil || !bytes.Equal(p[:n], cut) || !s.whole() {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

// Between the look at a row and the moment from which its content is followed
// the version that it was made from was replaced by our own doing: it is looked at
// once more.
func TestRowWhoseBaseMovesOnIsLookedAtAgain(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	y, err := b.fs.create("f", object.Attr{}, object.Ref{})
	if err != nil {
		t.Fatal(err)
	}
	defer y.Close()
	var row *writeback.Row
	_, err = b.fs.q.Change(func(c *writeback.Change) error {
		row = &writeback.Row{Key: "f", Content: y.Number(), Base: object.Ref{Key: "f", ETag: "1", Size: 10}, Size: 10}
		return c.Put(row)
	})
	if err != nil {
		t.Fatal(err)
	}
	for etag, want := range map[string]error{"1": nil, "0": errSettled} {
		x := &file{fs: b.fs}
		found := *row
		found.Base.ETag = etag
		if err := x.fromRow(&found); err != nil {
			t.Fatal(err)
		}
		if err := x.isCurrent(); err != want {
			t.Errorf("found with the base %s: %v", etag, err)
		}
		x.letGo()
	}
}

// While OSS does not give the bytes between what was written, a write does not
// wait for them each time.
func TestGatheringInVain(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	b.object(t, "f", bytes.Repeat([]byte("old"), 1<<20))
	e, err := b.fs.overlay.lookup(t.Context(), "", "f")
	if err != nil {
		t.Fatal(err)
	}
	x := &file{fs: b.fs, size: e.size, origin: e.ref}
	if x.base, err = b.fs.newSparse(e.ref, e.size, 1, nil); err != nil {
		t.Fatal(err)
	}
	defer x.letGo()
	for i := range int64(maxScattered + 1) {
		x.markLocked(100*i, 100*i+1)
	}
	b.oss.fail.Store(&object.Error{Op: "GetObject", Kind: object.Denied, Fate: object.Answered, Status: 403})
	if !x.isScattered() {
		t.Fatal("it is not scattered")
	}
	if x.gather(t.Context()); x.isScattered() {
		t.Error("the next write would wait once more")
	}
}

// All bytes of a version come between the look that some are missing and the moment
// from which it is held for the holes of a content: nothing has kept it in place
// since, so the bytes that have come are used.
func TestAllComesBeforeTheHolesAreOwned(t *testing.T) {
	for _, readers := range []int{1, 2} {
		b := newTestbed(t, t.TempDir())
		defer b.tidy()
		b.object(t, "f", []byte("old"))
		e, err := b.fs.overlay.lookup(t.Context(), "", "f")
		if err != nil {
			t.Fatal(err)
		}
		x := &file{fs: b.fs, n: b.fs.root, size: e.size, handles: 1, writers: 1}
		for range readers {
			if x.base, err = b.fs.sparse(e.ref, e.size); err != nil {
				t.Fatal(err)
			}
		}
		if err := x.base.need(t.Context(), 0, e.size, e.size); err != nil {
			t.Fatal(err)
		}
		if err := x.holeLocked(e.ref); !errors.Is(err, errWhole) || x.content != nil {
			t.Errorf("%d readers: holes over what nobody holds: %v", readers, err)
		}
		if err := x.startLocked(); err != nil || x.base != nil || x.content == nil {
			t.Fatalf("%d readers: %v, base %v", readers, err, x.base)
		}
		p := make([]byte, 3)
		if _, err := x.content.ReadAt(p, 0); err != nil || string(p) != "old" {
			t.Errorf("%d readers: %q, %v", readers, p, err)
		}
		x.letGo()
	}
}

// What comes next is under way before a reader gets there, though never more than it
// has read, and reads that overtake each other do not end that.
func TestWhatComesNextIsFetchedAhead(t *testing.T) {
	const piece = 128 << 10
	for _, c := range []struct {
		name  string
		order [4]int64 // of the pieces of each four
	}{{"one after the other", [4]int64{0, 1, 2, 3}}, {"overtaking", [4]int64{0, 2, 1, 3}}} {
		b := newTestbed(t, t.TempDir())
		defer b.tidy()
		data := bytes.Repeat([]byte("0123456789abcdef"), 48<<20/16)
		b.object(t, "f", data)
		s := b.version(t, "f")
		defer s.release()
		p := make([]byte, piece)
		for at := int64(0); at < int64(len(data)); at += 4 * piece {
			for i, n := range c.order {
				if at < 2<<20 { // it is a sequence at first
					n = int64(i)
				}
				off := at + n*piece
				if _, err := s.readAt(t.Context(), p, off); err != nil || !bytes.Equal(p, data[off:off+piece]) {
					t.Fatalf("%s: at %d: %v", c.name, off, err)
				}
			}
			s.mu.Lock()
			first := s.next / s.block
			for first < int64(len(s.blocks)) && s.blocks[first] != missing {
				first++
			}
			ahead, end := first*s.block-s.next, first == int64(len(s.blocks))
			run, window := s.run, s.window
			s.mu.Unlock()
			if at >= 2<<20 && ahead < 1<<20 && !end {
				t.Errorf("%s: at %d %d bytes are under way, with a window of %d", c.name, at, ahead, window)
			}
			if most := max(2*firstWindow, run) + window; ahead > most {
				t.Errorf("%s: at %d %d bytes are under way, having read %d", c.name, at, ahead, run)
			}
		}
		if got := b.oss.bytes.Load(); got != int64(len(data)) {
			t.Errorf("%s: %d bytes were fetched of %d", c.name, got, len(data))
		}
	}
}

// version returns a use of what OSS holds under a name of the root.
func (b *testbed) version(t *testing.T, name string) *sparse {
	t.Helper()
	e, err := b.fs.overlay.lookup(t.Context(), "", name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.fs.sparse(e.ref, e.size)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
