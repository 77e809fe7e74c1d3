package writeback

import (
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// When a version was modified is noted as a listing shows it, and nothing else: what
// else is remembered may have become newer since the listing was laid beside it, as
// after a chmod, which leaves the ETag as it is. covers H23
func TestOnlyTheDateIsNoted(t *testing.T) {
	s := newMemStore()
	s.free = true
	r := openRooms(t, 0, s, func(o *Options) { o.Delay = -1 })
	remembered := func() (a *journal.Attrs) {
		t.Helper()
		if err := r.q.View(func(tx *journal.Tx) (err error) { a, err = tx.Attrs("f"); return err }); err != nil || a == nil {
			t.Fatalf("%v, %v", a, err)
		}
		return a
	}
	r.put(t, "f", "x")
	if _, err := r.q.Wait(t.Context(), "f"); err != nil {
		t.Fatal(err)
	}
	old := remembered()
	newer := object.Attr{Mode: object.TypeFile | 0o600}
	if _, err := r.q.Change(func(c *Change) error {
		clean := &Row{Key: "f", Base: old.Ref, Size: 1, Expected: old.Ref, Known: true, AsOf: r.q.Newest()}
		return c.Alter("f", clean, func(r *Row) { r.Attr = newer })
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.q.Wait(t.Context(), "f"); err != nil {
		t.Fatal(err)
	}
	shown := object.Entry{Key: "f", ETag: remembered().Ref.ETag, Size: 1, LastModified: time.Unix(1_700_000_000, 0)}
	if err := r.q.Dated([]object.Entry{shown, {Key: "gone", ETag: "e", LastModified: shown.LastModified}}); err != nil {
		t.Fatal(err)
	}
	a := remembered()
	if got := object.ReadAttr(a.Meta, object.Attr{}).Mode; got != newer.Mode {
		t.Errorf("mode %o, want %o", got, newer.Mode)
	}
	if !a.LastModified.Equal(shown.LastModified) {
		t.Errorf("modified %v, want %v", a.LastModified, shown.LastModified)
	}
	shown.LastModified = shown.LastModified.Add(time.Hour) // of another version, with the same bytes
	if err := r.q.Dated([]object.Entry{shown}); err != nil {
		t.Fatal(err)
	}
	if now := remembered(); !now.LastModified.Equal(a.LastModified) {
		t.Errorf("modified %v, was %v", now.LastModified, a.LastModified)
	}
}
