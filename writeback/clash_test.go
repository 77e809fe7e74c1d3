package writeback

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

func freeRooms(t *testing.T, with ...func(o *Options)) (*rooms, *memStore) {
	m := newMemStore()
	m.free = true
	return openRooms(t, 0, m, with...), m
}

func (m *memStore) foreign(key, text string, meta object.Meta) object.Ref {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.set(key, []byte(text), etagOf([]byte(text)), meta)
}

func (m *memStore) text(key string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[key]
	if !ok {
		return "(absent)"
	}
	return string(o.data)
}

func drained(t *testing.T, q *Queue) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if left, err := q.Drain(ctx); err != nil || left.Pending > 0 {
		t.Errorf("drain: %+v, %v", left, err)
	}
}

// A file that was made and removed while OSS did not answer is no reason to
// delete what somebody else has put there. covers H24
func TestDeleteOfWhatWasNeverSeen(t *testing.T) {
	r, m := freeRooms(t)
	m.foreign("f", "somebody else's", nil)
	change := func(f func(c *Change) error) {
		if _, err := r.q.Change(f); err != nil {
			t.Fatal(err)
		}
	}
	change(func(c *Change) error {
		return c.Put(&Row{Key: "f", Text: "", Attr: object.Attr{Mode: object.TypeFile | 0o644}, Known: false})
	})
	change(func(c *Change) error { return c.Delete("f", object.Ref{}, false) })
	drained(t, r.q)
	if got := m.text("f"); got != "somebody else's" {
		t.Errorf("OSS holds %q", got)
	}
}

// The same for what was seen in an old listing only. covers H24
func TestDeleteByAnOldListing(t *testing.T) {
	r, m := freeRooms(t)
	old := m.foreign("f", "as listed", nil)
	m.foreign("f", "somebody's newer one", nil)
	if _, err := r.q.Change(func(c *Change) error { return c.Delete("f", old, false) }); err != nil {
		t.Fatal(err)
	}
	drained(t, r.q)
	if got := m.text("f"); got != "somebody's newer one" {
		t.Errorf("OSS holds %q", got)
	}
}

// Theirs is newer than our close: it is not overwritten. covers H24
func TestOverwriteByAnOldListing(t *testing.T) {
	r, m := freeRooms(t)
	old := m.foreign("f", "as listed", nil)
	m.foreign("f", "somebody's newer one", nil)
	if _, err := r.q.Change(func(c *Change) error {
		return c.Put(&Row{Key: "f", Text: "ours", Size: 4, Attr: object.Attr{Mode: object.TypeFile | 0o644},
			Expected: old, Known: false, Closed: time.Now().Add(-time.Hour).UnixNano()})
	}); err != nil {
		t.Fatal(err)
	}
	drained(t, r.q)
	if got := m.text("f"); got != "somebody's newer one" {
		t.Errorf("OSS holds %q under f", got)
	}
}

// A client that keeps user metadata (ossfs 1.x does) rewrites our object: our
// tag on it does not make it ours. covers H24
func TestForeignRewriteThatKeepsOurTag(t *testing.T) {
	r, m := freeRooms(t)
	r.put(t, "f", "ours")
	drained(t, r.q)
	m.mu.Lock()
	meta := m.objects["f"].meta
	ours := m.objects["f"].ref("f")
	m.mu.Unlock()
	m.foreign("f", "theirs", meta)
	if _, err := r.q.Change(func(c *Change) error { return c.Delete("f", ours, true) }); err != nil {
		t.Fatal(err)
	}
	drained(t, r.q)
	if got := m.text("f"); got != "theirs" {
		t.Errorf("OSS holds %q", got)
	}
}

// A rename resolved the name, then the file was written and uploaded, then the
// rename commits.
func TestRenameOfWhatHasSettledAnew(t *testing.T) {
	r, m := freeRooms(t)
	r.put(t, "f", "first")
	drained(t, r.q)
	m.mu.Lock()
	v1 := m.objects["f"].ref("f")
	m.mu.Unlock()
	asOf := r.q.Newest()
	r.put(t, "f", "second")
	drained(t, r.q)
	clean := &Row{AsOf: asOf, Key: "f", Base: v1, Size: v1.Size, Attr: object.Attr{Mode: object.TypeFile | 0o644}, Expected: v1, Known: true}
	_, err := r.q.Change(func(c *Change) error { return c.Move("f", "g", clean, object.Ref{}, true) })
	if !errors.Is(err, ErrNoRow) {
		t.Errorf("a stale look was believed: %v", err)
	}
	drained(t, r.q)
	state, _ := r.q.State("g")
	if f, g := m.text("f"), m.text("g"); f != "second" && g != "second" {
		t.Errorf("f %q, g %q (%s): the second version is lost", f, g, state)
	}
}

// A HEAD that was asked before a settle and is stored after it does not make
// our own version somebody else's. covers H20
func TestLateHeadMakesNoConflict(t *testing.T) {
	r, m := freeRooms(t)
	r.put(t, "f", "first")
	drained(t, r.q)
	asOf := r.q.Newest()
	late, err := m.Head(direct, "f")
	if err != nil {
		t.Fatal(err)
	}
	r.put(t, "f", "second")
	drained(t, r.q)
	if err := r.q.Learn(&journal.Attrs{Key: "f", Ref: late.Ref, LastModified: late.LastModified, Meta: late.Meta}, asOf); err != nil {
		t.Fatal(err)
	}
	if _, err := r.q.Change(func(c *Change) error { return c.Delete("f", object.Ref{}, false) }); err != nil {
		t.Fatal(err)
	}
	drained(t, r.q)
	if got := m.text("f"); got != "(absent)" {
		t.Errorf("f was deleted, OSS holds %q; %d conflicts", got, r.q.Stats().Conflicts)
	}
}

// What we publish while an older request of the key is in doubt is looked at
// once more when that must have landed. If somebody else has replaced it by
// then, the bytes here are not those of their version, also where they have kept
// our tag. covers H24
func TestReplacedByOthersWhileInDoubt(t *testing.T) {
	for _, c := range []struct {
		name string
		gone bool // ours is a Delete
		kept bool // theirs carries our tag
	}{
		{name: "a file"},
		{name: "a file, and they have kept its metadata", kept: true},
		{name: "a Delete", gone: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, m := freeRooms(t, func(o *Options) { o.Doubt, o.Delay = time.Second, time.Nanosecond })
			before := m.foreign("f", "before", nil)
			if _, err := r.j.Update(func(tx *journal.Tx) error {
				return tx.PutDoubt("f", &journal.Doubt{Tags: []string{"an older request"}, Since: time.Now()})
			}); err != nil {
				t.Fatal(err)
			}
			if c.gone {
				if _, err := r.q.Change(func(x *Change) error { return x.Delete("f", before, true) }); err != nil {
					t.Fatal(err)
				}
			} else {
				r.put(t, "f", "ours")
			}
			answered(t, r.q, "f")
			var meta object.Meta
			if c.kept {
				m.mu.Lock()
				meta = m.objects["f"].meta
				m.mu.Unlock()
			}
			theirs := m.foreign("f", "theirs, which is longer", meta)
			drained(t, r.q)
			if row, err := r.q.Row("f"); err != nil || row != nil {
				t.Errorf("the row is still there: %+v, %v", row, err)
			}
			if n, err := r.q.CleanCopy(theirs); err != nil || n != 0 {
				t.Errorf("content %d counts as a copy of theirs, %v", n, err)
			}
			var known *journal.Attrs
			if err := r.j.View(func(tx *journal.Tx) (err error) { known, err = tx.Attrs("f"); return err }); err != nil {
				t.Fatal(err)
			}
			if known != nil && (!known.Ref.Same(theirs) || known.Settled != 0) {
				t.Errorf("their version is remembered as %+v", known)
			}
			if got := m.text("f"); got != "theirs, which is longer" {
				t.Errorf("OSS holds %q", got)
			}
		})
	}
}

// answered returns when OSS has answered the request of key's row, which waits
// for the end of a doubt.
func answered(t *testing.T, q *Queue, key string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		if row, err := q.Row(key); err != nil {
			t.Fatal(err)
		} else if row != nil && row.Note != nil && row.Note.Answered {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%q was not published in time", key)
		case <-time.After(time.Millisecond):
		}
	}
}
