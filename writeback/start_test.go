package writeback

import (
	"context"
	"errors"
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

// A start that is killed leaves the next one what it found: bytes that no row names
// are in lost+found in the end, and never garbage. covers H7
func TestStartThatIsKilledLosesNothing(t *testing.T) {
	dir := t.TempDir()
	var r *rooms
	open := func(boot string) {
		t.Helper()
		r = &rooms{}
		var err error
		if r.c, err = cache.Open(dir, cache.Options{Identity: cache.Identity{Bucket: "b"}}); err != nil {
			t.Fatal(err)
		}
		r.j, err = journal.Open(t.Context(), filepath.Join(dir, "journal"), journal.Options{Contents: r.c, Step: time.Hour, BootID: boot, After: r.c.TopSequence})
		if err != nil {
			t.Fatal(err)
		}
	}
	start := func(ctx context.Context) (err error) {
		r.q, err = Open(ctx, Options{Remote: silent{}, Journal: r.j, Cache: r.c, Delay: time.Hour, AtRest: true})
		return err
	}
	kill := func() {
		t.Helper()
		if err := errors.Join(r.j.Abandon(), r.c.Close()); err != nil {
			t.Fatal(err)
		}
	}
	killed, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name  string
		story func() (n uint64)
	}{
		{"a close was cut off, and the start has something to mend", func() uint64 {
			open("1")
			if err := start(t.Context()); err != nil {
				t.Fatal(err)
			}
			m, seq := r.put(t, "mend", "was being written")
			n, _ := r.put(t, "cut off", "the only copy")
			_, err := r.j.Update(func(tx *journal.Tx) error { return tx.DropRow("cut off") })
			if err != nil {
				t.Fatal(err)
			}
			for content, w := range map[uint64]cache.Witness{m: {Key: "mend", Seq: seq, State: cache.StateOpen},
				n: {Key: "cut off", Seq: r.j.Last() + 1, State: cache.StateClosed}} {
				w.CacheID, w.Boot = r.j.CacheID(), r.j.BootID()
				if err := r.c.SetWitness(content, w); err != nil {
					t.Fatal(err)
				}
			}
			kill()
			open("1")
			_ = start(killed) // no matter how far it comes
			kill()
			open("1")
			return n
		}},
		{"a power cut took the row back", func() uint64 {
			open("1")
			if err := start(t.Context()); err != nil {
				t.Fatal(err)
			}
			n, _ := r.put(t, "undone", "the only copy") // and nothing moves the horizon
			kill()
			open("2")
			if rec := r.j.Recovered(); !rec.PowerCut || rec.Undone == 0 {
				t.Fatalf("nothing was undone: %+v", rec)
			}
			kill()
			open("2")
			return n
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir = t.TempDir()
			n := c.story()
			if err := start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if l, err := r.c.Lost(n); err != nil || l.Size != int64(len("the only copy")) {
				t.Errorf("it is not in lost+found: %+v, %v", l, err)
			}
			r.q.Close(0)
			kill()
		})
	}
}
