package writeback

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// The rooms without virtual time, for what is about a single row.
type rooms struct {
	c *cache.Cache
	j *journal.Journal
	q *Queue
}

// badDisk is a cache whose disk fails to sync one content (EIO).
type badDisk struct {
	*cache.Cache
	bad uint64
}

func (b *badDisk) SyncContents(numbers []uint64) map[uint64]error {
	failed := b.Cache.SyncContents(numbers)
	for _, n := range numbers {
		if n == b.bad {
			failed[n] = errors.New("input/output error")
		}
	}
	return failed
}

// silent is a store that gives no answer to anything.
type silent struct{ Remote }

func (silent) refuse(op, key string) error {
	return &object.Error{Op: op, Key: key, Kind: object.Again, Fate: object.NotSent, Err: errors.New("connection refused")}
}

func (s silent) Put(_ context.Context, key string, _ io.Reader, _ int64, _ object.PutOptions) (object.Ref, error) {
	return object.Ref{}, s.refuse("PutObject", key)
}

func openRooms(t *testing.T, bad uint64, remote Remote, with ...func(o *Options)) *rooms {
	t.Helper()
	dir := t.TempDir()
	r := &rooms{}
	var err error
	if r.c, err = cache.Open(dir, cache.Options{Identity: cache.Identity{Bucket: "b"}}); err != nil {
		t.Fatal(err)
	}
	r.j, err = journal.Open(t.Context(), filepath.Join(dir, "journal"), journal.Options{
		Contents: &badDisk{r.c, bad}, Step: time.Hour,
		SyncFailed: func(n uint64, err error) { r.q.SyncFailed(n, err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Remote: remote, Journal: r.j, Cache: r.c, Delay: time.Hour}
	for _, f := range with {
		f(&o)
	}
	if r.q, err = Open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.q.Close(time.Second)
		if err := r.j.Check(); err != nil {
			t.Error(err)
		}
		if err := errors.Join(r.j.Close(), r.c.Close()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// put commits a file as a flush does.
func (r *rooms) put(t *testing.T, key, text string) (content, seq uint64) {
	t.Helper()
	x, err := r.c.Create()
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if _, err := x.WriteAt([]byte(text), 0); err != nil {
		t.Fatal(err)
	}
	sign, err := x.Sign()
	if err != nil {
		t.Fatal(err)
	}
	seq, err = r.q.Change(func(c *Change) error {
		return c.Put(&Row{Key: key, Content: x.Number(), Size: sign.Size, SignSize: sign.Size, SignMtime: sign.Mtime,
			Attr: object.Attr{Mode: object.TypeFile | 0o644}, Known: true})
	})
	if err != nil {
		t.Fatal(err)
	}
	return x.Number(), seq
}

// A content that could not be synced parks its row for good: Linux marks the
// pages clean, and a second try would succeed without them. Nothing is opened
// for writing any more; other files go on. covers H11
func TestFailedSyncIsFinal(t *testing.T) {
	r := openRooms(t, 1, silent{})
	bad, _ := r.put(t, "bad", "lost on the way to the disk")
	if bad != 1 {
		t.Fatalf("the first content has number %d", bad)
	}
	_, seq := r.put(t, "good", "fine")
	if err := r.j.WaitHorizon(t.Context(), seq); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"bad": "parked: damaged", "good": "pending"} {
		if state, err := r.q.State(key); err != nil || !strings.HasPrefix(state, want) {
			t.Errorf("%s is %q, %v; want %q", key, state, err, want)
		}
	}
	if _, err := r.q.BeforeWrite(t.Context(), bad, false); err == nil {
		t.Error("a file may be written although the disk has failed")
	}
	// Another name does not heal it.
	if _, err := r.q.Change(func(c *Change) error { return c.Move("bad", "renamed", nil, object.Ref{}, true) }); err != nil {
		t.Fatal(err)
	}
	if state, _ := r.q.State("renamed"); !strings.HasPrefix(state, "parked: damaged") {
		t.Errorf("after a rename it is %q", state)
	}
	left, err := r.q.Wait(t.Context(), "renamed")
	if err != nil || left.Stuck != 1 || left.Pending != 0 {
		t.Errorf("wait says %+v, %v", left, err)
	}
}

// A drain or a wait ends when only parked and interrupted rows remain.
// covers H45
func TestWaitEndsWithWhatIsStuck(t *testing.T) {
	r := openRooms(t, 0, silent{})
	if _, err := r.q.Change(func(c *Change) error {
		return c.Put(&Row{Key: "d/interrupted", Text: "x", Interrupted: true, Known: true})
	}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"", "d/", "d/interrupted"} {
		left, err := r.q.Wait(t.Context(), key)
		if err != nil || left != (Left{Stuck: 1, Why: left.Why}) {
			t.Errorf("wait %q: %+v, %v", key, left, err)
		}
	}
	if left, err := r.q.Drain(t.Context()); err != nil || left.Stuck != 1 || left.Pending != 0 {
		t.Errorf("drain: %+v, %v", left, err)
	}
	r.put(t, "d/pending", "x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if left, err := r.q.Wait(ctx, "d/"); err != nil || left.Pending == 0 {
		t.Errorf("wait for a pending file: %+v, %v", left, err)
	}
	if left, err := r.q.Wait(t.Context(), "elsewhere/"); err != nil || left != (Left{}) {
		t.Errorf("wait elsewhere: %+v, %v", left, err)
	}
}

// Pending work lives in the journal, not in memory: the engine knows of no more
// than a window of rows, also while none of them succeeds. covers H47
func TestPendingRowsCostNoMemory(t *testing.T) {
	const rows = 100_000
	r := openRooms(t, 0, silent{})
	for i := 0; i < rows; i += 100 {
		_, err := r.q.Change(func(c *Change) error {
			for k := i; k < i+100; k++ {
				if err := c.Put(&Row{Key: fmt.Sprintf("dir%d/file%d", k/1000, k), Text: "x", Size: 1, Known: true}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	r.q.setDraining(true) // all of them are due
	defer r.q.setDraining(false)
	for r.q.Stats().Retries == 0 {
		runtime.Gosched()
	}
	if n := r.q.inMemory(); n > 2*windowSize {
		t.Errorf("the engine knows of %d rows", n)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 128<<20 {
		t.Errorf("the heap has %d MiB with %d rows", m.HeapAlloc>>20, rows)
	}
	if n := r.j.Counts().Pending; n != rows {
		t.Errorf("%d rows are pending", n)
	}
	// One that is stuck is named all the same.
	if _, err := r.q.Change(func(c *Change) error {
		return c.Put(&Row{Key: "z/stuck", Text: "x", Interrupted: true, Known: true})
	}); err != nil {
		t.Fatal(err)
	}
	s, err := r.q.Status()
	if err != nil || len(s.Waiting) > listed || len(s.Kept) != 1 || s.Kept[0].Key != "z/stuck" || s.Oldest == 0 {
		t.Errorf("status lists %d rows, %+v, %v", len(s.Waiting), s.Kept, err)
	}
}

func (q *Queue) inMemory() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.window) + len(q.running) + len(q.blocked) + len(q.retries)
}

// Contents that nothing names are sorted out at the next start: what the
// journal has passed is garbage, what was never committed is lost+found.
func TestContentsWithoutAName(t *testing.T) {
	dir := t.TempDir()
	c, err := cache.Open(dir, cache.Options{Identity: cache.Identity{Bucket: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	j, err := journal.Open(t.Context(), filepath.Join(dir, "journal"), journal.Options{Contents: c})
	if err != nil {
		t.Fatal(err)
	}
	q, err := Open(t.Context(), Options{Remote: silent{}, Journal: j, Cache: c}) // from now on the journal is known to be whole
	if err != nil {
		t.Fatal(err)
	}
	q.Close(time.Second)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	make := func(text string, w *cache.Witness) uint64 {
		x, err := c.Create()
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		if _, err := x.WriteAt([]byte(text), 0); err != nil {
			t.Fatal(err)
		}
		if w != nil {
			if err := x.SetWitness(*w); err != nil {
				t.Fatal(err)
			}
		}
		return x.Number()
	}
	lost := map[uint64]string{
		make("never closed", nil): "never closed",
		make("written after", &cache.Witness{Seq: 1, State: cache.StateOpen}):            "written after its last flush",
		make("ahead", &cache.Witness{Seq: 1 << 40, State: cache.StateClosed}):            "ahead of the journal",
		make("of another", &cache.Witness{State: cache.StateClosed, CacheID: "another"}): "of another journal",
	}
	garbage := []uint64{
		make("", nil),
		make("replaced", &cache.Witness{Seq: 0, State: cache.StateClosed, CacheID: j.CacheID()}),
		make("a copy", &cache.Witness{State: cache.StateClean}),
		make("dropped", &cache.Witness{State: cache.StateDead}),
	}
	j, err = journal.Open(t.Context(), filepath.Join(dir, "journal"), journal.Options{Contents: c})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	q, err = Open(t.Context(), Options{Remote: silent{}, Journal: j, Cache: c})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close(time.Second)
	for _, n := range garbage {
		if _, err := c.Stat(n); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("content %d is still there: %v", n, err)
		}
	}
	found, err := c.LostAndFound()
	if err != nil || len(found) != len(lost) {
		t.Errorf("found %+v, %v", found, err)
	}
	for _, f := range found {
		if lost[f.Number] == "" {
			t.Errorf("content %d was found", f.Number)
		}
	}
}

// A file is renamed, that becomes durable, and then it is removed: until that is
// durable too, a power cut brings its name back, and its bytes must be there.
// covers H2
func TestRenamedAndRemovedBytesOutliveTheHorizon(t *testing.T) {
	r, _ := freeRooms(t)
	n, _ := r.put(t, "t", "text")
	seq, err := r.q.Change(func(c *Change) error { return c.Move("t", "b", nil, object.Ref{}, true) })
	if err == nil {
		err = r.j.WaitHorizon(t.Context(), seq)
	}
	if err == nil {
		_, err = r.q.Change(func(c *Change) error { return c.Delete("b", object.Ref{}, true) })
	}
	if err != nil {
		t.Fatal(err)
	}
	r.q.sweep()
	if _, err := r.c.Stat(n); err != nil {
		t.Errorf("the state at the horizon names bytes that are gone: %v", err)
	}
	if err := r.j.WaitHorizon(t.Context(), r.j.Last()); err != nil {
		t.Fatal(err)
	}
	r.q.sweep()
	if _, err := r.c.Stat(n); err == nil {
		t.Error("bytes that nothing names stay")
	}
}

// A content has lost its last name in a commit that nobody has taken note of yet, and
// was given up before under another name: it stays while a power cut could go back to
// where it is named. covers H2
func TestContentsStayUntilTheHorizonHasPassedTheirLastName(t *testing.T) {
	r := openRooms(t, 0, silent{})
	n, _ := r.put(t, "a", "text")
	if _, err := r.q.Change(func(c *Change) error { return c.Move("a", "b", nil, object.Ref{}, true) }); err != nil {
		t.Fatal(err)
	}
	if err := r.j.WaitHorizon(t.Context(), r.j.Last()); err != nil {
		t.Fatal(err)
	}
	last, err := r.j.Update(func(tx *journal.Tx) error { return tx.DropRow("b") })
	if err != nil {
		t.Fatal(err)
	}
	r.q.sweep()
	if _, err := r.c.Stat(n); err != nil {
		t.Fatalf("the horizon names it, and it is gone: %v", err)
	}
	if err := r.j.WaitHorizon(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	r.q.sweep()
	if _, err := r.c.Stat(n); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing needs it, and it is there: %v", err)
	}
}
