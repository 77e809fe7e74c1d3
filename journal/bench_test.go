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

// What a start costs here: it adds up 100,000 rows of changed files.
func BenchmarkOpen(b *testing.B) {
	dir, o := b.TempDir(), Options{Contents: &synced{map[uint64]int{}}, BootID: "boot1", Step: time.Hour}
	j, err := Open(b.Context(), dir, o)
	if err != nil {
		b.Fatal(err)
	}
	_, err = j.Batch(func(tx *Tx) error {
		for n := range 100_000 {
			r := changedRow()
			r.Seq, r.Key, r.Content = 0, fmt.Sprintf("project/dir%03d/file%05d.txt", n%300, n), uint64(n+1)
			if err := tx.PutRow(r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := j.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		j, err := Open(b.Context(), dir, o)
		if err != nil || j.Counts().Pending != 100_000 {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := j.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// changedRow is the row of a file that OSS holds and that was changed.
func changedRow() *Row {
	ref := object.Ref{Key: "project/directory/a file.txt", ETag: "5B3C1A2E053D763E1B002CC607C5A0FE", Size: 344606, CRC64: 1<<63 + 12345678901, HasCRC: true}
	return &Row{
		Seq: 40, Kind: Put, Content: 17, Size: 4096, CRC64: 1<<63 + 9876543210, HasCRC: true,
		Attr:    object.Attr{Mode: 0o100644, UID: 1000, GID: 1000, Mtime: 1795239208667093293, Ctime: 1795239208667093293},
		Headers: object.Headers{"Content-Type": "application/octet-stream", object.HeaderClass: "Standard"}, Expected: ref, Known: true,
		SignSize: 4096, SignMtime: 1795239208667093293, Closed: 1795239209123456789, Due: 1795239214123456789,
	}
}

// What a rename of a directory costs here: two rows for each of 10,000 objects, of which
// nothing was learnt.
func BenchmarkBatch(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		j, err := Open(b.Context(), b.TempDir(), Options{Contents: &synced{map[uint64]int{}}, BootID: "boot1", Step: time.Hour})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		_, err = j.Batch(func(tx *Tx) error {
			for i := range 10_000 {
				was := object.Ref{Key: fmt.Sprintf("from/object-%05d", i), ETag: "0123456789ABCDEF0123456789ABCDEF", Size: 5}
				to := fmt.Sprintf("to/object-%05d", i)
				for _, key := range []string{was.Key, to} {
					if _, err := tx.Attrs(key); err != nil {
						return err
					}
				}
				if err := tx.PutRow(&Row{Key: to, Kind: Put, Size: 5, Base: was}); err != nil {
					return err
				}
				if err := tx.PutRow(&Row{Key: was.Key, Kind: Delete, Known: true, Expected: was}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		j.Abandon()
		b.StartTimer()
	}
}
