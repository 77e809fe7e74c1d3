package journal

import (
	"fmt"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/object"
)

// What a close costs here: one row of a new file in one commit.
func BenchmarkUpdate(b *testing.B) {
	j, err := Open(b.Context(), b.TempDir(), Options{Contents: &synced{map[uint64]int{}}, BootID: "boot1", Step: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Abandon()
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		_, err := j.Update(func(tx *Tx) error {
			return tx.PutRow(&Row{Key: fmt.Sprint("dir/file", n), Kind: Put, Content: uint64(n), Size: 4096,
				Attr: object.Attr{Mode: 0o100644, Mtime: 1795239208667093293}, Known: true, SignSize: 4096, SignMtime: 1, Closed: 1, Due: 2})
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
