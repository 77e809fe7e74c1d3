package writeback

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

func freeRooms(t *testing.T) (*rooms, *memStore) {
	m := newMemStore()
	m.free = true
	return openRooms(t, 0, m), m
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
	if _, err := r.q.Change(func(c *Change) error {
		return c.Put(&Row{Key: "f", Text: "ours", Size: 4, Attr: object.Attr{Mode: object.TypeFile | 0o644},
			Expected: old, Known: false, Closed: time.Now().Add(-time.Hour).UnixNano()})
	}); err != nil {
		t.Fatal(err)
	}
	m.foreign("f", "somebody's newer one", nil)
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
