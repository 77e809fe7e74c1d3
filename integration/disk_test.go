package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ossmount/ossmount/integration/harness/disk"
)

// The disk that power cuts are tried on is one: what a file system on it has synced
// outlives each cut, and what it has not may be gone, so a test that asks for no sync
// finds it out.
func TestDiskKeepsWhatWasSyncedOverCuts(t *testing.T) {
	t.Parallel()
	e := &env{T: t, dir: t.TempDir()}
	d, err := disk.New(e.dir)
	e.ok(err)
	t.Cleanup(func() { e.check(d.Destroy()) })
	e.ok(d.Format(e.soon(), 64<<20))
	kept := 0
	const rounds = 12
	for i := range rounds {
		e.ok(d.On())
		for k := range i {
			e.reads(filepath.Join(d.Point, fmt.Sprint("synced-", k)), fmt.Sprint("synced ", k))
			if _, err := os.Stat(filepath.Join(d.Point, fmt.Sprint("left-", k))); err == nil {
				kept++
			}
		}
		f := e.open(filepath.Join(d.Point, fmt.Sprint("synced-", i)), os.O_CREATE|os.O_WRONLY)
		_, err := fmt.Fprint(f, "synced ", i)
		e.ok(err)
		e.ok(f.Sync())
		e.ok(f.Close())
		e.write(filepath.Join(d.Point, fmt.Sprint("left-", i)), "not synced")
		e.ok(d.Freeze())
		info, err := d.Cut(e.soon(), uint64(i))
		e.ok(err)
		t.Logf("%+v", info)
	}
	if kept == rounds*(rounds-1)/2 {
		t.Error("no file was ever lost that had not been synced: the disk has no cache, or its cuts take nothing")
	}
}
