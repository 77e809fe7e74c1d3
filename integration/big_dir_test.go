package integration

import (
	"fmt"
	"io"
	"os"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"
	"strings"
)

// A directory that is too big to be kept in memory is listed page by page: its
// first names are there after its first pages, each name once, in any number of
// turns, and from any place that was told. With -full it has a million names.
func TestABigDirectoryIsListedAsItComes(t *testing.T) {
	e := setup(t)
	n := 25_000
	if *full {
		n = 1_000_000
	}
	b := e.bucket()
	var g errgroup.Group
	g.SetLimit(32)
	for i := range n {
		g.Go(func() error { return b.PutObject(fmt.Sprintf("big/%07d", i), strings.NewReader("")) })
	}
	e.ok(g.Wait())
	m := e.mount("cache")
	// Whether a directory is big shows when it is listed for the first time.
	first, err := os.Open(m.in("big"))
	e.ok(err)
	_, err = first.Readdirnames(1)
	e.ok(err)
	e.ok(first.Close())
	e.ok(e.server.Reset())
	d, err := os.Open(m.in("big"))
	e.ok(err)
	defer d.Close()
	some, err := d.Readdirnames(100)
	e.ok(err)
	if c := e.counts(); c.Ops["ListObjectsV2"].Requests > 3 {
		t.Errorf("the first names did not come with the first pages of %d: %v", n/1000, c)
	}
	for {
		more, err := d.Readdirnames(1000)
		some = append(some, more...)
		if err == io.EOF {
			break
		}
		e.ok(err)
	}
	slices.Sort(some)
	if len(some) != n || len(slices.Compact(some)) != n {
		t.Errorf("%d names were given out, %d different ones, of %d", len(some), len(slices.Compact(some)), n)
	}
	if c := e.counts(); c.Ops["ListObjectsV2"].Requests > int64(n/1000+10) {
		t.Errorf("the listing cost too much: %v", c)
	}
	// From the beginning again, on the same handle.
	_, err = d.Seek(0, io.SeekStart)
	e.ok(err)
	again, err := d.Readdirnames(-1)
	e.ok(err)
	if len(again) != n {
		t.Errorf("after a rewind %d names of %d", len(again), n)
	}
	_, peak, err := m.Memory()
	e.ok(err)
	if t.Logf("peak of the daemon's memory: %d MiB", peak>>20); peak > 250<<20 {
		t.Errorf("the daemon took %d MiB", peak>>20)
	}
}
