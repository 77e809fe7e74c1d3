package writeback

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/crc64"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// desk is a cache directory that is opened again and again.
type desk struct {
	t   *testing.T
	dir string
	m   *memStore
	*rooms
}

func newDesk(t *testing.T) *desk {
	d := &desk{t: t, dir: t.TempDir(), m: newMemStore()}
	d.m.free = true
	d.open("boot1")
	t.Cleanup(func() { d.close() })
	return d
}

func (d *desk) journalDir() string { return filepath.Join(d.dir, "journal") }

// open opens the rooms; nothing is carried but by drain.
func (d *desk) open(boot string) {
	d.t.Helper()
	r := &rooms{}
	var err error
	if r.c, err = cache.Open(d.dir, cache.Options{Identity: cache.Identity{Bucket: "b"}}); err != nil {
		d.t.Fatal(err)
	}
	r.j, err = journal.Open(d.t.Context(), d.journalDir(), journal.Options{Contents: r.c, Step: time.Hour, BootID: boot, After: r.c.TopSequence})
	if err != nil {
		d.t.Fatal(err)
	}
	if r.q, err = Open(d.t.Context(), Options{Remote: d.m, Journal: r.j, Cache: r.c, Delay: time.Hour}); err != nil {
		d.t.Fatal(err)
	}
	d.rooms = r
}

// close ends them as a kill does: the horizon stays where it is.
func (d *desk) close() {
	d.t.Helper()
	if d.rooms == nil {
		return
	}
	if err := d.j.Check(); err != nil {
		d.t.Error(err)
	}
	abandoned := d.j.Abandon() // first: nothing is swept or made durable on the way out
	d.q.Close(time.Second)
	if err := errors.Join(abandoned, d.c.Close()); err != nil {
		d.t.Error(err)
	}
	d.rooms = nil
}

func (d *desk) loseJournal() {
	d.t.Helper()
	d.close()
	if err := os.RemoveAll(d.journalDir()); err != nil {
		d.t.Fatal(err)
	}
}

// change commits new bytes for an object that is there.
func (d *desk) change(key, text string, was object.Ref) (content uint64) {
	d.t.Helper()
	n, _ := d.put(d.t, key, text)
	_, err := d.q.Change(func(c *Change) error {
		r, err := c.Row(key)
		if err != nil {
			return err
		}
		r.Expected, r.Known = was, true
		if err := c.tx.PutRow(r); err != nil {
			return err
		}
		return d.q.witness(c.tx, r, cache.StateClosed)
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

func (d *desk) holds(want map[string]string) {
	d.t.Helper()
	for key, text := range want {
		if got := d.m.text(key); got != text {
			d.t.Errorf("OSS holds %q under %q, want %q", got, key, text)
		}
	}
}

// found is what lost+found has, as key=text.
func (d *desk) found(want ...string) {
	d.t.Helper()
	// A row that is taken back is gone before its bytes are there.
	var got map[string]bool
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		lost, err := d.c.LostAndFound()
		if err != nil {
			d.t.Fatal(err)
		}
		got = map[string]bool{}
		for _, l := range lost {
			b, err := os.ReadFile(l.Path)
			if err != nil {
				d.t.Fatal(err)
			}
			got[l.Witness.Key+"="+string(b)] = true
		}
		if len(got) >= len(want) || time.Now().After(deadline) {
			break
		}
	}
	for _, w := range want {
		if !got[w] {
			d.t.Errorf("lost+found has %v, and not %q", got, w)
		}
	}
	if len(got) != len(want) {
		d.t.Errorf("lost+found has %v, want %q", got, want)
	}
}

// The journal is gone: what was closed arrives, what OSS holds in another
// version than it was made from does not. covers H7
func TestPendingFilesArriveWithoutTheirJournal(t *testing.T) {
	d := newDesk(t)
	same, other, gone := d.m.foreign("same", "was", nil), d.m.foreign("other", "was", nil), d.m.foreign("gone", "was", nil)
	d.put(t, "new", "new text")
	d.put(t, "empty", "")
	d.put(t, "taken", "ours")
	d.put(t, "there already", "the very bytes")
	d.change("same", "changed", same)
	d.change("other", "changed", other)
	d.change("gone", "changed", gone)
	d.loseJournal()
	d.m.foreign("taken", "somebody else's", nil)
	d.m.foreign("other", "theirs", nil)
	d.m.foreign("there already", "the very bytes", nil)
	delete(d.m.objects, "gone")

	d.open("boot1")
	if b := d.q.Rebuilt(); b == nil || b.Files != 7 || b.Lost != 0 || b.Why != "it was gone" {
		t.Errorf("told: %+v", b)
	}
	if r, err := d.q.Row("new"); err != nil || r == nil || r.Size != 8 {
		t.Errorf("before anything is asked the mount shows %+v, %v", r, err)
	}
	puts := d.m.counts["Put"]
	drained(t, d.q)
	d.holds(map[string]string{"new": "new text", "empty": "", "taken": "somebody else's", "same": "changed", "other": "theirs",
		"there already": "the very bytes", "gone": "(absent)"})
	d.found("taken=ours", "other=changed", "gone=changed")
	if n := d.m.counts["Put"] - puts; n != 3 {
		t.Errorf("%d objects were sent, want 3", n)
	}
}

// Of several contents that were closed under one key the newest arrives, and
// what was being written goes to lost+found. covers H7
func TestNewestContentOfAKeyArrives(t *testing.T) {
	d := newDesk(t)
	d.put(t, "f", "first")
	d.put(t, "f", "second")
	d.put(t, "g", "closed")
	n, _ := d.put(t, "g", "opened again")
	if _, err := d.q.BeforeWrite(t.Context(), n, false); err != nil {
		t.Fatal(err)
	}
	d.put(t, "h", "before its move")
	if _, err := d.q.Change(func(c *Change) error { return c.Move("h", "i", nil, object.Ref{}, true) }); err != nil {
		t.Fatal(err)
	}
	d.loseJournal()
	d.open("boot1")
	drained(t, d.q)
	d.holds(map[string]string{"f": "second", "g": "(absent)", "h": "(absent)", "i": "before its move"})
	d.found("f=first", "g=closed", "g=opened again")
}

// After a power cut without a journal nobody knows which bytes had reached the
// disk: none is published. With the horizon of a damaged one that is known.
// covers H7
func TestUnsureBytesAreNotPublished(t *testing.T) {
	d := newDesk(t)
	d.put(t, "f", "text")
	d.loseJournal()
	d.open("boot2")
	drained(t, d.q)
	d.holds(map[string]string{"f": "(absent)"})
	d.found("f=text")

	d = newDesk(t)
	for key, text := range map[string]string{"proved": "text", "torn": "te\x00\x00"} { // by the sum that they were written with
		n, _ := d.put(t, key, text)
		w, _, err := d.c.Witness(n)
		if err != nil {
			t.Fatal(err)
		}
		w.CRC64, w.HasCRC = crc64.Update(0, []byte("text")), true
		if err := d.c.SetWitness(n, w); err != nil {
			t.Fatal(err)
		}
	}
	d.loseJournal()
	d.open("boot2")
	drained(t, d.q)
	d.holds(map[string]string{"proved": "text", "torn": "(absent)"})
	d.found("torn=te\x00\x00")

	d = newDesk(t)
	_, seq := d.put(t, "synced", "text")
	if err := d.j.WaitHorizon(t.Context(), seq); err != nil {
		t.Fatal(err)
	}
	d.put(t, "not synced", "text")
	d.close()
	if err := os.Truncate(filepath.Join(d.journalDir(), "db", "MANIFEST"), 3); err != nil {
		t.Fatal(err)
	}
	d.open("boot2")
	if b := d.q.Rebuilt(); b == nil || b.Aside == "" || !strings.Contains(b.Why, "damaged") {
		t.Errorf("told: %+v", b)
	}
	drained(t, d.q)
	d.holds(map[string]string{"synced": "text", "not synced": "(absent)"})
	d.found("not synced=text")
}

// A journal that ends before what the contents say has lost its newest states:
// they are taken up from there. covers H7
func TestJournalThatHasLostItsEnd(t *testing.T) {
	d := newDesk(t)
	d.put(t, "old", "first")
	n, _ := d.put(t, "a", "renamed later")
	d.close()
	before := filepath.Join(t.TempDir(), "journal")
	if err := os.CopyFS(before, os.DirFS(d.journalDir())); err != nil {
		t.Fatal(err)
	}
	d.open("boot1")
	d.put(t, "x", "this one may be of a close that was cut off")
	d.put(t, "old", "second")
	if _, err := d.q.Change(func(c *Change) error { return c.Move("a", "b", nil, object.Ref{}, true) }); err != nil {
		t.Fatal(err)
	}
	d.put(t, "new", "text")
	d.loseJournal()
	if err := os.CopyFS(d.journalDir(), os.DirFS(before)); err != nil {
		t.Fatal(err)
	}
	d.open("boot1")
	if b := d.q.Rebuilt(); b == nil || b.Files != 3 {
		t.Errorf("told: %+v", b)
	}
	if row, _, _ := name(t, d.q, n); row != "b" {
		t.Errorf("the renamed content belongs to %q", row)
	}
	drained(t, d.q)
	d.holds(map[string]string{"old": "second", "a": "(absent)", "b": "renamed later", "new": "text", "x": "(absent)"})
	d.found("x=this one may be of a close that was cut off")
}

func name(t *testing.T, q *Queue, n uint64) (row, clean string, ok bool) {
	t.Helper()
	if err := q.View(func(tx *journal.Tx) error { row, clean, ok = tx.Named(n); return nil }); err != nil {
		t.Fatal(err)
	}
	return row, clean, ok
}

// A sound journal is rebuilt from nothing, also not after a close that was cut
// off between witness and commit.
func TestSoundJournalIsNotRebuilt(t *testing.T) {
	d := newDesk(t)
	d.put(t, "f", "text")
	n, _ := d.put(t, "g", "text")
	w, _, err := d.c.Witness(n)
	if err != nil {
		t.Fatal(err)
	}
	w.Seq++
	if err := d.c.SetWitness(n, w); err != nil {
		t.Fatal(err)
	}
	d.close()
	d.open("boot1")
	if b := d.q.Rebuilt(); b != nil {
		t.Errorf("told: %+v", b)
	}
	drained(t, d.q)
	d.holds(map[string]string{"f": "text", "g": "text"})
	d.found()
}

// The journal is gone while one name still waits for the bytes of an object that
// another content is about to replace: nobody knows that any more, and so the object
// stays. covers H7
func TestWhatAnotherNameNeedsStaysWithoutTheJournal(t *testing.T) {
	clean := func(ref object.Ref) *Row {
		return &Row{Key: ref.Key, Base: ref, Size: ref.Size, Attr: object.Attr{Mode: object.TypeFile | 0o644}, Expected: ref, Known: true}
	}
	for _, c := range []struct {
		name  string
		story func(d *desk, one, two object.Ref) error
		found string
	}{
		{"a log is rotated", func(d *desk, one, _ object.Ref) error {
			_, err := d.q.Change(func(c *Change) error { return c.Move("f", "f.1", clean(one), object.Ref{}, true) })
			d.change("f", "new", one)
			return err
		}, "f=new"},
		{"two names are exchanged", func(d *desk, one, two object.Ref) error {
			_, err := d.q.Change(func(c *Change) error { return c.Swap("f", "g", clean(one), clean(two)) })
			if err == nil {
				_, err = d.q.Fill(d.t.Context(), "g")
			}
			return err
		}, "g=one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			one, two := d.m.foreign("f", "one", nil), d.m.foreign("g", "two", nil)
			if err := c.story(d, one, two); err != nil {
				t.Fatal(err)
			}
			d.loseJournal()
			d.open("boot1")
			drained(t, d.q)
			d.holds(map[string]string{"f": "one", "g": "two"})
			d.found(c.found)
		})
	}
}

// A power cut comes before the horizon of a new journal has moved: what it takes back
// is not published in part, also if the first start after it gets no further than to
// take it back. covers H1
func TestCutOfANewJournalPublishesNoHalf(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprint("and a crash ", again), func(t *testing.T) { cutOfANewJournal(t, again) })
	}
}

func cutOfANewJournal(t *testing.T, again bool) {
	d := newDesk(t)
	one, two := d.m.foreign("f", "one", nil), d.m.foreign("g", "two", nil)
	text := crc64.Update(0, []byte("text"))
	n, _ := d.put(t, "new", "text")
	_, err := d.q.Change(func(c *Change) error {
		r, err := c.Row("new")
		if err != nil {
			return err
		}
		r.CRC64, r.HasCRC = text, true
		return c.Put(r)
	})
	if err != nil {
		t.Fatal(n, err)
	}
	_, err = d.q.Change(func(c *Change) error {
		clean := func(ref object.Ref) *Row {
			return &Row{Key: ref.Key, Base: ref, Size: ref.Size, Attr: object.Attr{Mode: object.TypeFile | 0o644}, Expected: ref, Known: true}
		}
		return c.Swap("f", "g", clean(one), clean(two))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"f", "g"} {
		if _, err := d.q.Fill(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if d.j.Horizon() > 2 {
		t.Fatalf("the horizon is at %d", d.j.Horizon())
	}
	d.close()
	if again {
		j, err := journal.Open(t.Context(), d.journalDir(), journal.Options{Contents: silentContents{}, Step: time.Hour, BootID: "boot2"})
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Abandon(); err != nil {
			t.Fatal(err)
		}
	}
	d.open("boot2")
	if r := d.j.Recovered(); r.PowerCut == again || !r.New {
		t.Fatalf("recovered: %+v", r)
	}
	drained(t, d.q)
	d.holds(map[string]string{"f": "one", "g": "two", "new": "(absent)"})
	d.found("f=two", "g=one", "new=text")
}

// silentContents syncs nothing.
type silentContents struct{}

func (silentContents) SyncContents([]uint64) map[uint64]error { return nil }
