package writeback

import (
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/object"
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
	r.q.Seal(n)
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
