package journal

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/object"
)

// Rows with as much metadata as OSS takes can be set back, too.
func TestBigRowsAreUndone(t *testing.T) {
	dir := t.TempDir()
	open := func(boot string) (*Journal, error) {
		return Open(t.Context(), dir, Options{Contents: &synced{map[uint64]int{}}, BootID: boot, Step: time.Hour})
	}
	j, err := open("one")
	if err != nil {
		t.Fatal(err)
	}
	row := func(k int, v string) {
		if _, err := j.Update(func(tx *Tx) error {
			return tx.PutRow(&Row{Key: fmt.Sprintf("f%04d", k), Kind: Put, Meta: object.Meta{"xattr": strings.Repeat(v, 7000)}})
		}); err != nil {
			t.Fatal(err)
		}
	}
	for k := range 300 {
		row(k, "a")
	}
	if err := j.WaitHorizon(t.Context(), j.Last()); err != nil {
		t.Fatal(err)
	}
	for k := range 300 {
		row(k, "b")
	}
	if err := j.Abandon(); err != nil {
		t.Fatal(err)
	}
	j, err = open("two")
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
}
