package writeback

import (
	"testing"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// What stands for an object with bytes of its own, as for an OSS symlink that is
// moved, does not forget that OSS holds one under the old name. covers H28
func TestMoveOfWhatHasNoBase(t *testing.T) {
	r := openRooms(t, 0, silent{})
	was := object.Ref{Key: "link", ETag: "E"}
	_, err := r.q.Change(func(c *Change) error {
		return c.Move("link", "to", &Row{Text: "target", Size: 6, Expected: was, Known: true}, object.Ref{}, true)
	})
	if err != nil {
		t.Fatal(err)
	}
	old, err := r.q.Row("link")
	if err != nil || old == nil || old.Kind != journal.Delete || !old.Expected.Same(was) {
		t.Errorf("the old name: %+v, %v", old, err)
	}
	if moved, err := r.q.Row("to"); err != nil || moved == nil || moved.Text != "target" || !moved.Expected.IsZero() {
		t.Errorf("the new name: %+v, %v", moved, err)
	}
}
