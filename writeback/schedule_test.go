package writeback

import (
	"testing"

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
	r.q.Seal(n)
	row, err := r.q.Row("file")
	if err != nil || row == nil {
		t.Fatal(row, err)
	}
	row.Due = 0
	if r.q.waits(row) {
		t.Errorf("the Delete waits: %+v", r.q.blocked["file"])
	}
}
