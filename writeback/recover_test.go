package writeback

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/extent"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// openFreely opens the rooms with a store that answers at once.
func openFreely(t *testing.T) (*rooms, *memStore) {
	store := newMemStore()
	store.free = true
	return openRooms(t, 0, store), store
}

// has puts an object into the store.
func (m *memStore) has(t *testing.T, key, text string) object.Ref {
	t.Helper()
	ref, err := m.Put(t.Context(), key, strings.NewReader(text), int64(len(text)), object.PutOptions{Meta: object.Meta{"color": "blue"}})
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// lose leaves text in lost+found, under a witness.
func (r *rooms) lose(t *testing.T, text string, off int64, w cache.Witness) (n uint64) {
	t.Helper()
	x, err := r.c.Create()
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if _, err := x.WriteAt([]byte(text), off); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(x.Truncate(max(w.Size, off+int64(len(text)))), x.SetWitness(w), r.c.Lose(x.Number())); err != nil {
		t.Fatal(err)
	}
	return x.Number()
}

// drained carries all that can be carried.
func (r *rooms) drained(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if left, err := r.q.Drain(ctx); err != nil || left.Pending > 0 {
		t.Fatalf("drain: %+v, %v", left, err)
	}
}

func (r *rooms) stillFound(t *testing.T, n uint64) {
	t.Helper()
	if _, err := r.c.Lost(n); err != nil {
		t.Errorf("it has gone from lost+found: %v", err)
	}
	if _, err := r.c.Stat(n); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is among the contents: %v", err)
	}
}

const foundText = "0123456789abcdefghij"

// A content that has parts of a version only becomes a file again where OSS still
// holds that version, and it is known which bytes are its own. covers H7
func TestFoundPartsOfAVersion(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(t *testing.T, r *rooms, store *memStore, w *cache.Witness)
		key    string
		force  bool
		want   string // what the store has under key then; "": it is refused
		why    string
	}{
		{name: "under another name", key: "g", want: "0123WRITE9abcdefghij"},
		{name: "over the version itself", key: "f", force: true, want: "0123WRITE9abcdefghij"},
		{name: "over the version itself, not forced", key: "f", why: "already"},
		{name: "all of it is here", key: "g", want: "\x00\x00\x00\x00WRITE\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
			before: func(_ *testing.T, _ *rooms, _ *memStore, w *cache.Witness) { w.Whole = true }},
		{name: "its bytes are not known", key: "g", why: "where they belong",
			before: func(_ *testing.T, _ *rooms, _ *memStore, w *cache.Witness) { w.Dirty = nil }},
		{name: "the version was replaced", key: "g", why: "is gone from OSS",
			before: func(t *testing.T, _ *rooms, store *memStore, _ *cache.Witness) { store.has(t, "f", "theirs") }},
		{name: "the version was removed", key: "g", why: "is gone from OSS",
			before: func(t *testing.T, _ *rooms, store *memStore, _ *cache.Witness) { store.Delete(t.Context(), "f") }},
		{name: "the version is about to be replaced", key: "g", why: "about to be changed",
			before: func(t *testing.T, r *rooms, _ *memStore, _ *cache.Witness) { r.put(t, "f", "ours") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, store := openFreely(t)
			ref := store.has(t, "f", foundText)
			w := cache.Witness{Key: "f", Base: ref, Dirty: extent.Of(4, 9), Size: 20, State: cache.StateClosed, Seq: 1,
				Attr: object.Attr{Mode: object.TypeFile | 0o600}}
			if c.before != nil {
				c.before(t, r, store, &w)
			}
			n := r.lose(t, "WRITE", 4, w)
			err := r.q.PublishFound(t.Context(), n, c.key, c.force)
			if c.why != "" {
				if err == nil || !strings.Contains(err.Error(), c.why) {
					t.Errorf("published: %v; want it refused: %s", err, c.why)
				}
				r.stillFound(t, n)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			r.drained(t)
			o, _ := store.get(c.key)
			if string(o.data) != c.want || o.meta["mode"] == "" {
				t.Errorf("the store has %q %v", o.data, o.meta)
			}
			if !w.Whole && o.meta["color"] != "blue" {
				t.Errorf("what the version carried is lost: %v", o.meta)
			}
		})
	}
}

// Found bytes get a name, and nothing that is there goes for them unless that is
// asked for.
func TestNamesOfFoundBytes(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(t *testing.T, r *rooms, store *memStore)
		key    string
		force  bool
		why    string // "": it is published
	}{
		{name: "the name is free", key: "d/sub/f"},
		{name: "an object is there", key: "d/f", why: "already", before: func(t *testing.T, _ *rooms, s *memStore) { s.has(t, "d/f", "old") }},
		{name: "an object is replaced", key: "d/f", force: true, before: func(t *testing.T, _ *rooms, s *memStore) { s.has(t, "d/f", "old") }},
		{name: "a pending file is there", key: "d/f", why: "already", before: func(t *testing.T, r *rooms, _ *memStore) { r.put(t, "d/f", "pending") }},
		{name: "a pending file is replaced", key: "d/f", force: true, before: func(t *testing.T, r *rooms, _ *memStore) { r.put(t, "d/f", "pending") }},
		{name: "a pending file is open for writing", key: "d/f", force: true, why: "open", before: func(t *testing.T, r *rooms, _ *memStore) {
			n, _ := r.put(t, "d/f", "pending")
			r.q.OpenForWrite(n)
		}},
		{name: "an object is about to be deleted", key: "d/f", before: func(t *testing.T, r *rooms, s *memStore) {
			ref := s.has(t, "d/f", "old")
			if _, err := r.q.Change(func(c *Change) error { return c.Delete("d/f", ref, true) }); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "a directory is there on OSS", key: "d", force: true, why: "a directory", before: func(t *testing.T, _ *rooms, s *memStore) { s.has(t, "d/x", "old") }},
		{name: "a directory is there in the journal", key: "d", force: true, why: "a directory", before: func(t *testing.T, r *rooms, _ *memStore) { r.put(t, "d/x", "pending") }},
		{name: "a file on OSS is in the place of a directory", key: "d/sub/f", force: true, why: "no directory", before: func(t *testing.T, _ *rooms, s *memStore) { s.has(t, "d", "old") }},
		{name: "a pending file is in the place of a directory", key: "d/sub/f", force: true, why: "no directory", before: func(t *testing.T, r *rooms, _ *memStore) { r.put(t, "d/sub", "pending") }},
		{name: "no path has that name", key: "d//f", why: "is no name"},
		{name: "the name is the engine's own", key: ".ossmount/f", why: "is no name"},
		{name: "the name is too long", key: strings.Repeat("n", 256), why: "is no name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, store := openFreely(t)
			if c.before != nil {
				c.before(t, r, store)
			}
			n := r.lose(t, foundText, 0, cache.Witness{Key: "f", Size: 20, State: cache.StateOpen})
			err := r.q.PublishFound(t.Context(), n, c.key, c.force)
			if c.why != "" {
				if err == nil || !strings.Contains(err.Error(), c.why) {
					t.Errorf("published: %v; want it refused: %s", err, c.why)
				}
				r.stillFound(t, n)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.c.Lost(n); !IsNotFound(err) {
				t.Errorf("it is in lost+found still: %v", err)
			}
			r.drained(t)
			if o, _ := store.get(c.key); string(o.data) != foundText {
				t.Errorf("the store has %q", o.data)
			}
		})
	}
}

// What comes to a name while OSS is asked about it is not overwritten.
func TestNameThatIsTakenWhileFoundBytesGetIt(t *testing.T) {
	store := &meanwhile{memStore: newMemStore()}
	store.free = true
	r := openRooms(t, 0, store)
	n := r.lose(t, foundText, 0, cache.Witness{Key: "f", Size: 20, State: cache.StateOpen})
	store.do = func() { r.put(t, "f", "a new file") }
	if err := r.q.PublishFound(t.Context(), n, "f", true); err == nil || !strings.Contains(err.Error(), "meanwhile") {
		t.Errorf("published: %v", err)
	}
	r.stillFound(t, n)
	r.drained(t)
	if o, _ := store.get("f"); string(o.data) != "a new file" {
		t.Errorf("the store has %q", o.data)
	}
}

// meanwhile is a store that lets something happen before its first answer to HEAD.
type meanwhile struct {
	*memStore
	do func()
}

func (m *meanwhile) Head(ctx context.Context, key string) (object.Info, error) {
	info, err := m.memStore.Head(ctx, key)
	if do := m.do; do != nil {
		m.do = nil
		do()
	}
	return info, err
}

// An interrupted file is published as the disk has it.
func TestInterruptedFileIsPublishedAsItIs(t *testing.T) {
	r, store := openFreely(t)
	n, _ := r.put(t, "f", "as it was closed")
	r.q.OpenForWrite(n)
	if _, err := r.q.BeforeWrite(t.Context(), n, false); err != nil {
		t.Fatal(err)
	}
	x, err := r.c.Open(n)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.WriteAt([]byte("AS IT IS, AND LONGER"), 0); err != nil {
		t.Fatal(err)
	}
	x.Close()
	r.interrupt(t, "f")
	if _, err := r.q.PublishHeld("f", false); !errors.Is(err, ErrOpen) {
		t.Errorf("published while it is open for writing: %v", err)
	}
	r.q.Seal(n, "")
	r.drained(t)
	if _, ok := store.get("f"); ok {
		t.Error("it was published by itself")
	}
	if w, err := r.q.PublishHeld("f", false); err != nil || w.Size != 20 {
		t.Errorf("%+v, %v", w, err)
	}
	if _, err := r.q.PublishHeld("f", false); err == nil {
		t.Error("what is pending is published once more")
	}
	r.drained(t)
	if o, _ := store.get("f"); string(o.data) != "AS IT IS, AND LONGER" {
		t.Errorf("the store has %q", o.data)
	}
}

// interrupt makes the row of key what a start makes of one that was being written.
func (r *rooms) interrupt(t *testing.T, key string) {
	t.Helper()
	r.alter(t, key, func(row *Row) { row.Interrupted, row.Open = true, true })
}

func (r *rooms) alter(t *testing.T, key string, f func(row *Row)) {
	t.Helper()
	_, err := r.j.Update(func(tx *journal.Tx) error {
		row, err := tx.Row(key)
		if err != nil {
			return err
		}
		f(row)
		return tx.PutRow(row)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What is discarded is the row and its bytes, and nothing else: what OSS holds
// stays, an upload is aborted, and a request that may still land stays in doubt.
func TestDiscard(t *testing.T) {
	for _, c := range []struct {
		name  string
		story func(t *testing.T, r *rooms, store *memStore)
	}{
		{"an interrupted file", func(t *testing.T, r *rooms, store *memStore) {
			store.has(t, "f", "theirs")
			n, _ := r.put(t, "f", "ours")
			other, _ := r.put(t, "g", "another")
			r.interrupt(t, "f")
			if w, _, err := r.q.DiscardHeld("f"); err != nil || w.State != "interrupted" {
				t.Fatalf("%+v, %v", w, err)
			}
			if _, err := r.c.Stat(n); err != nil {
				t.Errorf("its bytes have gone before the horizon has moved: %v", err)
			}
			r.swept(t)
			if _, err := r.c.Stat(n); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("its bytes are there still: %v", err)
			}
			if _, err := r.c.Stat(other); err != nil {
				t.Errorf("another file's are not: %v", err)
			}
			if o, _ := store.get("f"); string(o.data) != "theirs" {
				t.Errorf("the store has %q", o.data)
			}
		}},
		{"a pending file is not", func(t *testing.T, r *rooms, _ *memStore) {
			r.put(t, "f", "ours")
			if _, _, err := r.q.DiscardHeld("f"); err == nil {
				t.Error("it is gone")
			}
			if _, _, err := r.q.DiscardHeld("g"); !errors.Is(err, ErrNoRow) {
				t.Errorf("what is not there: %v", err)
			}
		}},
		{"a file that is open", func(t *testing.T, r *rooms, _ *memStore) {
			n, _ := r.put(t, "f", "ours")
			r.interrupt(t, "f")
			follow := r.q.Follow(n, nil)
			if _, _, err := r.q.DiscardHeld("f"); !errors.Is(err, ErrOpen) {
				t.Errorf("somebody reads it: %v", err)
			}
			follow.Done()
		}},
		{"a parked delete", func(t *testing.T, r *rooms, store *memStore) {
			ref := store.has(t, "f", "theirs")
			if _, err := r.q.Change(func(c *Change) error { return c.Delete("f", ref, true) }); err != nil {
				t.Fatal(err)
			}
			r.alter(t, "f", func(row *Row) { row.Parked = "FileImmutable" })
			if w, _, err := r.q.DiscardHeld("f"); err != nil || w.Kind != "delete" {
				t.Fatalf("%+v, %v", w, err)
			}
			r.drained(t)
			if o, _ := store.get("f"); string(o.data) != "theirs" {
				t.Errorf("the store has %q", o.data)
			}
		}},
		{"a rename, whose old name is not deleted then", func(t *testing.T, r *rooms, store *memStore) {
			ref := store.has(t, "old", "the only copy")
			clean := &Row{Key: "old", Base: ref, Size: ref.Size, Expected: ref, Known: true}
			if _, err := r.q.Change(func(c *Change) error { return c.Move("old", "new", clean, object.Ref{}, true) }); err != nil {
				t.Fatal(err)
			}
			r.alter(t, "new", func(row *Row) { row.Parked = "FileImmutable" })
			w, back, err := r.q.DiscardHeld("new")
			if err != nil || w.Key != "new" || back != "old" {
				t.Errorf("%+v, %q, %v", w, back, err)
			}
			r.drained(t)
			if o, _ := store.get("old"); string(o.data) != "the only copy" {
				t.Errorf("under the old name the store has %q", o.data)
			}
			if _, there := store.get("new"); there {
				t.Error("it is there under the new name")
			}
		}},
		{"with an upload, and a request without an answer", func(t *testing.T, r *rooms, store *memStore) {
			n, _ := r.put(t, "f", "ours")
			id, err := store.Initiate(t.Context(), "f", object.PutOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.j.Update(func(tx *journal.Tx) error {
				return tx.PutUpload("f", &journal.Upload{ID: id, Content: n, Asked: time.Now().UnixNano()})
			}); err != nil {
				t.Fatal(err)
			}
			r.alter(t, "f", func(row *Row) {
				row.Parked, row.Note = "never", &journal.Note{Tag: "tag", Lost: time.Now().UnixNano()}
			})
			if _, _, err := r.q.DiscardHeld("f"); err != nil {
				t.Fatal(err)
			}
			err = r.j.View(func(tx *journal.Tx) error {
				if d, err := tx.Doubt("f"); err != nil || d == nil || !contains(d.Tags, "tag") {
					t.Errorf("in doubt is %+v, %v", d, err)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			r.drained(t)
			if _, there := store.uploads[id]; there {
				t.Error("its upload is not aborted")
			}
		}},
		{"found bytes", func(t *testing.T, r *rooms, _ *memStore) {
			n := r.lose(t, foundText, 0, cache.Witness{Key: "f"})
			other := r.lose(t, "others", 0, cache.Witness{Key: "f"})
			if l, err := r.q.DiscardFound(n); err != nil || l.Size != 20 {
				t.Errorf("%+v, %v", l, err)
			}
			if _, err := r.q.DiscardFound(n); !IsNotFound(err) {
				t.Errorf("once more: %v", err)
			}
			r.stillFound(t, other)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, store := openFreely(t)
			c.story(t, r, store)
		})
	}
}

// swept drops what the horizon lets go.
func (r *rooms) swept(t *testing.T) {
	t.Helper()
	if err := r.j.WaitHorizon(t.Context(), r.j.Last()); err != nil {
		t.Fatal(err)
	}
	r.q.sweep()
}

// A parked row is tried again when that is asked for; one whose bytes may be
// damaged is not, but can be published as it is.
func TestRetry(t *testing.T) {
	r, store := openFreely(t)
	r.put(t, "parked", "ours")
	r.alter(t, "parked", func(row *Row) { row.Parked = "FileImmutable" })
	r.put(t, "damaged", "perhaps ours")
	r.alter(t, "damaged", func(row *Row) { row.Parked, row.CRC64, row.HasCRC = damagedPrefix+"the disk", 1, true })
	r.drained(t)
	if w, err := r.q.Retry("parked"); err != nil || w.State != "parked" {
		t.Errorf("%+v, %v", w, err)
	}
	if _, err := r.q.Retry("damaged"); err == nil || !strings.Contains(err.Error(), "recover export") {
		t.Errorf("damaged: %v", err)
	}
	if _, err := r.q.PublishHeld("damaged", false); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("damaged: %v", err)
	}
	if _, err := r.q.PublishHeld("damaged", true); err != nil {
		t.Errorf("damaged: %v", err)
	}
	r.drained(t)
	for key, want := range map[string]string{"parked": "ours", "damaged": "perhaps ours"} {
		if o, _ := store.get(key); string(o.data) != want {
			t.Errorf("the store has %q under %s", o.data, key)
		}
	}
}

// Whatever waits for somebody says what they can do: each remedy names a command.
func TestWhatIsStuckNamesItsRemedy(t *testing.T) {
	for _, row := range []*Row{
		{Kind: journal.Put, Interrupted: true},
		{Kind: journal.Put, Parked: damagedPrefix + missing},
		{Kind: journal.Put, Parked: damagedPrefix + "the disk"},
		{Kind: journal.Put, Parked: "CopyObject f: " + goneBase + ": it is gone"},
		{Kind: journal.Put, Parked: "FileImmutable"},
		{Kind: journal.Delete, Parked: "FileImmutable"},
	} {
		w := waitingOf(row)
		if w.Reason == "" || !strings.Contains(w.Remedy, "`ossmount ") || !strings.Contains(w.Remedy, "recover discard") {
			t.Errorf("%+v: %+v", row, w)
		}
	}
}

// A queue at rest takes the journal up and commits, and carries nothing; the next
// that is not carries it.
func TestChangesAtRestAreCarriedLater(t *testing.T) {
	dir := t.TempDir()
	store := newMemStore()
	store.free = true
	open := func(atRest bool) (*rooms, func()) {
		r := &rooms{}
		var err error
		if r.c, err = cache.Open(dir, cache.Options{Identity: cache.Identity{Bucket: "b"}}); err != nil {
			t.Fatal(err)
		}
		if r.j, err = journal.Open(t.Context(), filepath.Join(dir, "journal"), journal.Options{Contents: r.c}); err != nil {
			t.Fatal(err)
		}
		if r.q, err = Open(t.Context(), Options{Remote: store, Journal: r.j, Cache: r.c, AtRest: atRest}); err != nil {
			t.Fatal(err)
		}
		return r, func() {
			r.q.Close(time.Second)
			if err := errors.Join(r.j.Check(), r.j.Close(), r.c.Close()); err != nil {
				t.Error(err)
			}
		}
	}
	r, end := open(true)
	n, _ := r.put(t, "f", "as the disk has it")
	if err := r.c.SetWitness(n, cache.Witness{Key: "f", State: cache.StateOpen}); err != nil {
		t.Fatal(err)
	}
	end()
	r, end = open(true) // finds that it was being written
	if _, err := r.q.PublishHeld("f", false); err != nil {
		t.Error(err)
	}
	end()
	if len(store.counts) > 0 {
		t.Errorf("OSS was asked: %v", store.counts)
	}
	r, end = open(false)
	r.drained(t)
	end()
	if o, _ := store.get("f"); string(o.data) != "as the disk has it" {
		t.Errorf("the store has %q", o.data)
	}
}
