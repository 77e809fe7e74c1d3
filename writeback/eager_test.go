package writeback

import (
	"strings"
	"testing"

	"github.com/ossmount/ossmount/journal"
)

// A file is closed, and gets another name, just before its upload is asked for
// under the old one: nobody would take that up, or abort it.
func TestNothingIsSentAheadOfWhatIsClosed(t *testing.T) {
	store := newMemStore()
	store.free = true
	r := openRooms(t, 0, store, func(o *Options) { o.Eager, o.PartSize, o.limits.minPart = true, 4, 4 })
	n, _ := r.put(t, "renamed", strings.Repeat("four", 10))
	r.q.OpenForWrite(n)
	e, begin := r.q.grows(&Row{Key: "file", Content: n, Size: 40})
	if !begin {
		t.Fatal("it is not sent")
	}
	r.q.Seal(n, "")
	e.endLocked() // else it waits for the file to grow
	r.q.runEager(e)
	err := r.j.View(func(tx *journal.Tx) error {
		u, err := tx.Upload("file")
		if u != nil {
			t.Errorf("an upload is left: %+v", u)
		}
		return err
	})
	if err != nil || store.counts["Initiate"] != 0 {
		t.Error(err, store.counts)
	}
}

// A growing file gets another name just before its upload is asked for under the old
// one, and is sent ahead under the new one then: the first would be nobody's.
func TestNothingIsSentAheadUnderAnOldName(t *testing.T) {
	store := newMemStore()
	store.free = true
	r := openRooms(t, 0, store, func(o *Options) { o.Eager, o.PartSize, o.limits.minPart = true, 4, 4 })
	n, _ := r.put(t, "renamed", strings.Repeat("four", 10))
	r.q.OpenForWrite(n)
	for _, key := range []string{"file", "renamed"} {
		e, begin := r.q.grows(&Row{Key: key, Content: n, Size: 40})
		if !begin {
			t.Fatalf("it is not sent as %q", key)
		}
		r.q.mu.Lock()
		e.endLocked()
		r.q.mu.Unlock()
		r.q.runEager(e)
	}
	r.q.Seal(n, "")
	err := r.j.View(func(tx *journal.Tx) error {
		for key := range tx.Uploads() {
			if key != "renamed" {
				t.Errorf("an upload of %q is left", key)
			}
		}
		return nil
	})
	if err != nil || store.counts["Initiate"] != 1 {
		t.Error(err, store.counts)
	}
}

// A program that is begun closes its copies of all descriptors, and each of these
// closes commits the file: it is sent ahead all the same, until its writer closes it.
func TestCommitOfAGrowingFileDoesNotEndItsSending(t *testing.T) {
	r := openRooms(t, 0, silent{}, func(o *Options) { o.Eager, o.PartSize, o.limits.minPart = true, 4, 4 })
	n, _ := r.put(t, "file", strings.Repeat("four", 10))
	r.q.OpenForWrite(n)
	row, err := r.q.Row("file")
	if err != nil {
		t.Fatal(err)
	}
	e, _ := r.q.grows(row)
	for _, open := range []bool{true, false} {
		r.q.admit(row, 0, false, false, false)
		if _, goesOn := e.ready(); goesOn != open {
			t.Errorf("it goes on: %t, while it is open: %t", goesOn, open)
		}
		if open {
			r.q.Seal(n, "")
		}
	}
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	delete(r.q.running, "file")
	delete(r.q.eagers, n)
}
