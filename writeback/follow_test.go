package writeback

import "testing"

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
