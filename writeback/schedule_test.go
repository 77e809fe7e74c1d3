package writeback

import (
	"errors"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/extent"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// The scheduler looks at a file that is open, and before it notes that the row
// waits for its being closed somebody removes the name: the Delete waits for
// nothing. Nobody would tell it: the content has no name when it is sealed.
func TestRowThatTakesThePlaceOfOneThatIsBlocked(t *testing.T) {
	r := openRooms(t, 0, silent{})
	n, _ := r.put(t, "file", "open")
	r.q.OpenForWrite(n)
	_, err := r.q.Change(func(c *Change) error {
		row, err := c.Row("file")
		if err != nil {
			return err
		}
		row.Expected = object.Ref{Key: "file", ETag: "E"}
		return c.tx.PutRow(row)
	})
	if err != nil {
		t.Fatal(err)
	}
	err = r.j.View(func(tx *journal.Tx) error {
		_, err := r.q.Change(func(c *Change) error { return c.Delete("file", object.Ref{}, false) })
		if err != nil {
			return err
		}
		row, err := tx.Row("file")
		if err == nil {
			r.q.admit(row, tx.At(), false, false, false)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	r.q.Seal(n, "")
	row, err := r.q.Row("file")
	if err != nil || row == nil {
		t.Fatal(row, err)
	}
	row.Due = 0
	if r.q.waits(row) {
		t.Errorf("the Delete waits: %+v", r.q.blocked["file"])
	}
}

// The scheduler looks at Deletes, and before it puts them to their batch somebody gives
// one of the names a file again: that is uploaded, not deleted. covers H1
func TestPutThatTakesThePlaceOfAGatheredDelete(t *testing.T) {
	store := newMemStore()
	store.free = true
	r := openRooms(t, 0, store, func(o *Options) { o.Delay = time.Hour })
	refs := map[string]object.Ref{}
	for _, key := range []string{"a", "b", "c"} {
		refs[key] = store.set(key, []byte("old"), etagOf([]byte("old")), nil)
	}
	_, err := r.q.Change(func(c *Change) error {
		for key, ref := range refs {
			if err := c.Delete(key, ref, true); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = r.j.View(func(tx *journal.Tx) error {
		r.put(t, "b", "new")
		for key := range refs {
			row, err := tx.Row(key)
			if err != nil {
				return err
			}
			r.q.admit(row, tx.At(), false, false, true)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if left, err := r.q.Drain(t.Context()); err != nil || left.Pending != 0 || left.Stuck != 0 {
		t.Fatalf("%+v, %v", left, err)
	}
	for _, key := range []string{"a", "b", "c"} {
		o, there := store.get(key)
		if there != (key == "b") || there && string(o.data) != "new" {
			t.Errorf("%s: %t %q", key, there, o.data)
		}
	}
}

// Two names have been exchanged, and what they hold is made of versions that are
// gone: each row waits for itself by way of the other. They are parked, and do not
// wake each other for ever.
func TestCircleOfWhatIsGone(t *testing.T) {
	store := newMemStore()
	store.free = true
	r := openRooms(t, 0, store)
	for key, other := range map[string]string{"a": "b", "b": "a"} {
		n, _ := r.put(t, key, "12345")
		_, err := r.q.Change(func(c *Change) error {
			return c.Put(&Row{Key: key, Content: n, Size: 5, Base: object.Ref{Key: other, ETag: "gone", Size: 5}, Dirty: extent.Of(0, 1),
				Attr: object.Attr{Mode: object.TypeFile | 0o644}, Known: true})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	left, err := r.q.Drain(t.Context())
	if err != nil || left.Stuck != 2 || left.Pending != 0 {
		t.Errorf("%+v, %v", left, err)
	}
}

// The failure of a row that looks at the object of a key does not end the pause of
// that key's own row.
func TestFailureEndsNoOtherPause(t *testing.T) {
	r := openRooms(t, 0, silent{})
	r.q.block("busy", time.Now().Add(time.Hour), "busy")
	r.q.block("waits", time.Time{}, stillNeeded)
	for _, base := range []string{"busy", "waits"} {
		r.q.ended(&transfer{q: r.q, row: &Row{Key: "looks at " + base}}, errors.New("failed"), base)
	}
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	if _, blocked := r.q.blocked["busy"]; !blocked {
		t.Error("it is tried again at once")
	}
	if _, blocked := r.q.blocked["waits"]; blocked {
		t.Error("it is not looked at again")
	}
}
