package writeback

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// Rows with as much metadata as OSS takes can be taken up, too.
func TestTakeUpOfBigRows(t *testing.T) {
	dir := t.TempDir()
	c, err := cache.Open(dir, cache.Options{Identity: cache.Identity{Bucket: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	j, err := journal.Open(t.Context(), filepath.Join(dir, "journal"), journal.Options{Contents: c, Step: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for k := range 300 {
		if _, err := j.Update(func(tx *journal.Tx) error {
			return tx.PutRow(&Row{Key: fmt.Sprintf("f%d", k), Kind: journal.Put, Note: &journal.Note{Tag: "t"}, Meta: object.Meta{"xattr": strings.Repeat("a", 7000)}})
		}); err != nil {
			t.Fatal(err)
		}
	}
	q, err := Open(t.Context(), Options{Remote: silent{}, Journal: j, Cache: c, Delay: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	q.Close(time.Second)
}
