package writeback

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/extent"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// A content that is open for reading stays when nothing names it any more: its
// file may be opened for writing, too, and goes on with it.
func TestWhatIsOpenIsNotDropped(t *testing.T) {
	r := openRooms(t, 0, silent{})
	n, _ := r.put(t, "file", "patched, and published since")
	reader := r.q.Follow(n, nil)
	seq, err := r.q.Change(func(c *Change) error { return c.tx.DropRow("file") })
	if err != nil {
		t.Fatal(err)
	}
	r.q.Unneeded(n)
	if err := r.j.WaitHorizon(t.Context(), seq); err != nil {
		t.Fatal(err)
	}
	r.q.sweep()
	r.q.OpenForWrite(n)
	if _, err := r.q.BeforeWrite(t.Context(), n, false); err != nil {
		t.Errorf("a writer has joined the reader: %v", err)
	}
	r.q.Seal(n, "")
	reader.Done()
	if err := r.j.WaitHorizon(t.Context(), r.j.Last()); err != nil {
		t.Fatal(err)
	}
	r.q.sweep()
	if _, err := r.c.Stat(n); err == nil {
		t.Error("it is still there when nobody has it open")
	}
}

// A change that waits for one hold waits for the next one, too, and the next one is
// asked to fill at once: it was not there when the change began to wait.
func TestTheNextHoldIsAskedToFill(t *testing.T) {
	s := newMemStore()
	s.free = true
	r := openRooms(t, 0, s, func(o *Options) { o.Delay, o.HandleGrace = time.Millisecond, time.Hour })
	first, second := make(chan bool, 1), make(chan bool, 1)
	hold := r.q.Hold(object.Ref{Key: "file"}, 0, func() { first <- true })
	r.put(t, "file", "changed")
	<-first
	next := r.q.Hold(object.Ref{Key: "file"}, 0, func() { second <- true })
	hold.Release()
	<-second
	s.mu.Lock()
	if _, ok := s.objects["file"]; ok {
		t.Error("it went in between")
	}
	s.mu.Unlock()
	next.Release()
	if _, err := r.q.Wait(t.Context(), "file"); err != nil {
		t.Error(err)
	}
}

// slow holds the answers to all Puts of a key back.
type slow struct {
	*memStore
	key          string
	landed, told chan bool
}

func (s *slow) Put(ctx context.Context, key string, body io.Reader, size int64, o object.PutOptions) (object.Ref, error) {
	ref, err := s.memStore.Put(ctx, key, body, size, o)
	if key == s.key && err == nil {
		s.landed <- true
		<-s.told
	}
	return ref, err
}

// changed commits that "old" at key has become "old, changed".
func (r *rooms) changed(t *testing.T, key string, ref object.Ref) (n uint64) {
	t.Helper()
	n, _ = r.put(t, key, "\x00\x00\x00, changed")
	r.alter(t, key, func(row *Row) {
		row.ForgetSum()
		row.Base, row.Dirty, row.Expected = ref, extent.Of(3, row.Size), ref
	})
	return n
}

// A file that was changed is renamed while its bytes are on their way to its old
// name, and land there: who reads it is led on, also before the answer has come.
func TestRenamedWhileItReplacesItsOwnBase(t *testing.T) {
	s := &slow{memStore: newMemStore(), key: "f", landed: make(chan bool), told: make(chan bool)}
	s.free = true
	r := openRooms(t, 0, s)
	old := s.set("f", []byte("old"), etagOf([]byte("old")), nil)
	n := r.changed(t, "f", old)
	drained := make(chan error)
	go func() {
		left, err := r.q.Drain(context.WithoutCancel(t.Context()))
		if err == nil && left.Stuck > 0 {
			err = errors.New("parked")
		}
		drained <- err
	}()
	<-s.landed
	if _, err := r.q.Change(func(c *Change) error { return c.Move("f", "g", nil, object.Ref{}, true) }); err != nil {
		t.Fatal(err)
	}
	if next, ok := r.q.Successor(direct, old, n); !ok || next.ETag != etagOf([]byte("old, changed")) {
		t.Errorf("for its own holes it is led to %+v, %t", next, ok)
	}
	if next, ok := r.q.Successor(direct, old, 0); ok {
		t.Errorf("who has opened what it was is led to %+v", next)
	}
	s.told <- true
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if g, _ := s.get("g"); string(g.data) != "old, changed" {
		t.Errorf("g is %q", g.data)
	}
	if _, there := s.get("f"); there {
		t.Error("f is still there")
	}
}

// What is to be sent was opened, and then the version that it was made from gave way
// to its own bytes: it is opened anew, and not taken for lost.
func TestBaseMovesOnBeforeTheNote(t *testing.T) {
	s := newMemStore()
	s.free = true
	r := openRooms(t, 0, s)
	old := s.set("f", []byte("old"), etagOf([]byte("old")), nil)
	r.changed(t, "g", old)
	row, err := r.q.Row("g")
	if err != nil {
		t.Fatal(err)
	}
	now := s.set("f", []byte("old, changed"), etagOf([]byte("old, changed")), nil)
	if _, err := r.j.Update(func(tx *journal.Tx) error {
		cur, err := tx.Row("g")
		if err != nil {
			return err
		}
		cur.Base = now // as moveOn does
		return tx.PutRow(cur)
	}); err != nil {
		t.Fatal(err)
	}
	transfer := &transfer{q: r.q, first: row, row: row}
	if _, err := transfer.note(transfer.tag()); !errors.Is(err, errAgainNow) {
		t.Errorf("it goes on with what was opened: %v", err)
	}
	if base, err := r.q.rebase(t.Context(), row); err != nil || !base.Same(now) {
		t.Errorf("its base is %+v, %v", base, err)
	}
	r.drained(t)
	if g, _ := s.get("g"); string(g.data) != "old, changed" {
		t.Errorf("g is %q", g.data)
	}
}

// Between the look that nobody needs the object at a key and the note of what shall
// replace it, an open file has committed a hole over it, and let go (R2).
func TestHoleBetweenLookAndNote(t *testing.T) {
	s := newMemStore()
	s.free = true
	r := openRooms(t, 0, s)
	old := s.set("f", []byte("old"), etagOf([]byte("old")), nil)
	if _, err := r.q.Change(func(c *Change) error { return c.Delete("f", old, true) }); err != nil {
		t.Fatal(err)
	}
	row, err := r.q.Row("f")
	if err != nil {
		t.Fatal(err)
	}
	transfer := &transfer{q: r.q, first: row, row: row} // as admitted
	r.changed(t, "g", old)
	if _, err := transfer.note(transfer.tag()); !errors.Is(err, errSuperseded) {
		t.Errorf("it is going to be deleted: %v", err)
	}
	r.drained(t)
	if g, _ := s.get("g"); string(g.data) != "old, changed" {
		t.Errorf("g is %q", g.data)
	}
}
