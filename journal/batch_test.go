package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/object"
)

const inBatch = 40

// openParts opens a journal whose batches take several commits.
func openParts(t *testing.T, dir, boot string) *Journal {
	t.Helper()
	j, err := Open(context.Background(), dir, Options{
		Contents: &synced{map[uint64]int{}}, BootID: boot, Step: time.Hour, BatchPart: 7,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !j.db.IsClosed() {
			if err := j.Check(); err != nil {
				t.Error(err)
			}
			j.Abandon()
		}
	})
	return j
}

// moveAll moves the rows of the directory from to the directory to, and calls
// at after each of them.
func moveAll(j *Journal, from, to string, at func(tx *Tx, i int) error) error {
	_, err := j.Batch(func(tx *Tx) error {
		for i := range inBatch {
			old, err := tx.Row(fmt.Sprintf("%s%03d", from, i))
			if err != nil {
				return err
			}
			next := *old
			next.Key, next.Seq = fmt.Sprintf("%s%03d", to, i), 0
			next.Base = object.Ref{Key: old.Key, ETag: "E", Size: 1}
			if err := tx.PutRow(&next); err != nil {
				return err
			}
			if err := tx.DropRow(old.Key); err != nil {
				return err
			}
			if err := at(tx, i); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

func fillDir(t *testing.T, j *Journal, dir string) {
	t.Helper()
	var rows []*Row
	for i := range inBatch {
		rows = append(rows, &Row{Key: fmt.Sprintf("%s%03d", dir, i), Kind: Put, Content: uint64(i + 1), Size: 1})
	}
	put(t, j, rows...)
}

func wantOnly(t *testing.T, j *Journal, dir, not string) {
	t.Helper()
	if n, m := len(keys(t, j, dir)), len(keys(t, j, not)); n != inBatch || m != 0 {
		t.Fatalf("%d rows in %s, %d in %s; want all %d there", n, dir, m, not, inBatch)
	}
	checkNow(t, j)
}

// A crash at any moment of a batch leaves the state before it or the one after
// it, also a crash while that is mended. covers H31
func TestCrashWithinABatch(t *testing.T) {
	dir := t.TempDir()
	j := openParts(t, dir, "boot1")
	fillDir(t, j, "a/")
	copies := map[int]string{}
	err := moveAll(j, "a/", "b/", func(tx *Tx, i int) error {
		if err := tx.landed(); err != nil {
			return err
		}
		if n := len(keys(t, j, "a/")); n != inBatch {
			return fmt.Errorf("after %d moves a reader sees %d of the old names", i, n)
		}
		copies[i] = t.TempDir() + "/copy"
		return os.CopyFS(copies[i], os.DirFS(dir)) // what a kill would leave
	})
	if err != nil {
		t.Fatal(err)
	}
	wantOnly(t, j, "b/", "a/")
	j.Abandon()
	undone := 0
	for i, dir := range copies {
		for _, boot := range []string{"boot1", "boot1", "boot2"} {
			j := openParts(t, dir, boot)
			undone += j.Recovered().Torn
			if boot == "boot2" {
				if n := len(keys(t, j, "")); n != 0 {
					t.Fatalf("copy %d: %d rows after a power cut with the horizon at 0", i, n)
				}
			} else {
				wantOnly(t, j, "a/", "b/")
			}
			j.Abandon()
		}
	}
	if undone == 0 {
		t.Error("no batch was found torn: the test does not test")
	}
	j = openParts(t, dir, "boot1")
	wantOnly(t, j, "b/", "a/")
	if j.Recovered().Torn != 0 {
		t.Error("a whole batch was taken for a torn one")
	}
}

// A crash between two commits of the undoing repeats it.
func TestCrashWhileATornBatchIsUndone(t *testing.T) {
	dir := t.TempDir()
	j := openParts(t, dir, "boot1")
	fillDir(t, j, "a/")
	torn := t.TempDir() + "/copy"
	if err := moveAll(j, "a/", "b/", func(tx *Tx, i int) error {
		if i != inBatch-1 {
			return nil
		}
		if err := tx.landed(); err != nil {
			return err
		}
		return os.CopyFS(torn, os.DirFS(dir))
	}); err != nil {
		t.Fatal(err)
	}
	j.Abandon()
	// Open without mending, and undo the first half of the keys only.
	db, err := Open(context.Background(), torn, Options{Contents: &synced{map[uint64]int{}}, BootID: "boot1", Step: time.Hour, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	wantOnly(t, db, "a/", "b/")
	at, err := db.tornBatch()
	if err != nil || at == 0 {
		t.Fatalf("torn batch %d, %v", at, err)
	}
	changed, err := db.changedSince(at - 1)
	if err != nil {
		t.Fatal(err)
	}
	then := db.db.NewTransactionAt(at-1, false)
	if _, err := db.setBack(then, changed[:len(changed)/2], at+1<<32); err != nil {
		t.Fatal(err)
	}
	then.Discard()
	db.Abandon()
	j = openParts(t, torn, "boot1")
	wantOnly(t, j, "a/", "b/")
	if j.Recovered().Torn == 0 {
		t.Error("the undoing was not repeated")
	}
}

// A batch that fails half-way has not happened, and the journal goes on.
func TestBatchThatFails(t *testing.T) {
	j := openParts(t, t.TempDir(), "boot1")
	fillDir(t, j, "a/")
	no := errors.New("no")
	err := moveAll(j, "a/", "b/", func(_ *Tx, i int) error {
		if i == inBatch-2 {
			return no
		}
		return nil
	})
	if !errors.Is(err, no) {
		t.Fatalf("the batch returned %v", err)
	}
	wantOnly(t, j, "a/", "b/")
	if err := moveAll(j, "a/", "b/", func(*Tx, int) error { return nil }); err != nil {
		t.Fatal(err)
	}
	wantOnly(t, j, "b/", "a/")
}

// A commit that fails while the batch goes on fails the batch, whatever that has done
// since.
func TestBatchOfWhichACommitFails(t *testing.T) {
	j := openParts(t, t.TempDir(), "boot1")
	fillDir(t, j, "a/")
	no := errors.New("no")
	for _, last := range []bool{false, true} {
		failed := 0
		err := moveAll(j, "a/", "b/", func(tx *Tx, i int) error {
			if tx.flying == nil || failed > 0 || last && i < inBatch-1 {
				return nil
			}
			failed++
			if err := <-tx.flying.done; err != nil {
				return err
			}
			tx.flying.done <- no
			return nil
		})
		if failed == 0 || !errors.Is(err, no) {
			t.Fatalf("%d commits failed, the batch returned %v", failed, err)
		}
		wantOnly(t, j, "a/", "b/")
	}
	if err := moveAll(j, "a/", "b/", func(*Tx, int) error { return nil }); err != nil {
		t.Fatal(err)
	}
	wantOnly(t, j, "b/", "a/")
}

// A batch finds what it has put, also what Badger is just writing: a key and a range.
func TestBatchReadsWhatItHasPut(t *testing.T) {
	j := openParts(t, t.TempDir(), "boot1")
	_, err := j.Batch(func(tx *Tx) error {
		for i := range 3000 {
			if err := tx.PutRow(&Row{Key: fmt.Sprintf("d/%04d", i), Kind: Put}); err != nil {
				return err
			}
			if i%50 == 0 {
				n := 0
				for range tx.Rows("d/", "") {
					n++
				}
				if n != i+1 {
					return fmt.Errorf("%d rows are found of %d", n, i+1)
				}
			}
			for n := max(0, i-9); n <= i; n++ {
				if r, err := tx.Row(fmt.Sprintf("d/%04d", n)); err != nil || r == nil {
					return fmt.Errorf("row %d after %d were put: %v, %v", n, i+1, r, err)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Whoever reads a range waits for what Badger is just writing.
func TestRangesOfABatchAreWhole(t *testing.T) {
	j := openParts(t, t.TempDir(), "boot1")
	fillDir(t, j, "a/")
	reads := map[string]func(tx *Tx){
		"Rows":       func(tx *Tx) { tx.Rows("a/", "")(func(*Row, error) bool { return false }) },
		"Children":   func(tx *Tx) { tx.Children("a/", "")(func(*Row, error) bool { return false }) },
		"ChildNames": func(tx *Tx) { tx.ChildNames("a/")(func(string, bool) bool { return false }) },
		"AttrsIn":    func(tx *Tx) { tx.AttrsIn("a/")(func(string, *Attrs) bool { return false }) },
		"Contents":   func(tx *Tx) { tx.Contents()(func(uint64) bool { return false }) },
		"MaxContent": func(tx *Tx) { tx.MaxContent() },
		"EachTime":   func(tx *Tx) { _ = tx.EachTime("a/", func(string, int64) error { return nil }) },
		"Stuck":      func(tx *Tx) { tx.Stuck()(func(string) bool { return false }) },
	}
	for name, read := range reads {
		_, err := j.Batch(func(tx *Tx) error {
			for i := 0; tx.flying == nil; i++ {
				if err := tx.PutRow(&Row{Key: fmt.Sprintf("b/%s%d", name, i), Kind: Put}); err != nil {
					return err
				}
			}
			if read(tx); tx.flying != nil {
				t.Errorf("%s has not waited", name)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// What was learnt of a name is found in a batch: before it, in it, and of a directory.
func TestBatchFindsWhatWasLearnt(t *testing.T) {
	j := openParts(t, t.TempDir(), "boot1")
	if _, err := j.Update(func(tx *Tx) error {
		return errors.Join(tx.PutAttrs(&Attrs{Key: "a/b/", Ctime: 1}), tx.PutAttrs(&Attrs{Key: "a/b/f", Ctime: 2}), tx.PutAttrs(&Attrs{Key: "e/", Ctime: 4}))
	}); err != nil {
		t.Fatal(err)
	}
	want := func(tx *Tx, key string, ctime int64) {
		t.Helper()
		a, err := tx.Attrs(key)
		if err != nil || (a == nil) != (ctime == 0) || a != nil && a.Ctime != ctime {
			t.Errorf("%s: %+v, %v, want %d", key, a, err, ctime)
		}
	}
	_, err := j.Batch(func(tx *Tx) error {
		for range 2 {
			want(tx, "a/b/", 1)
			want(tx, "a/b/f", 2)
			want(tx, "a/b/g", 0)
			want(tx, "e/", 4) // and nothing in it
			want(tx, "c/f", 0)
			want(tx, "c/", 0)
			want(tx, "f", 0)
		}
		if err := tx.PutAttrs(&Attrs{Key: "c/f", Ctime: 3}); err != nil {
			return err
		}
		want(tx, "c/f", 3)
		want(tx, "c/g", 0)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Badger's own limit counts, too: 20,000 rows are one state.
func TestBigBatch(t *testing.T) {
	j := open(t, t.TempDir(), "boot1")
	before := j.Last()
	seq, err := j.Batch(func(tx *Tx) error {
		for i := range 20_000 {
			r := &Row{Key: fmt.Sprintf("d/%d", i), Kind: Put, Base: object.Ref{Key: fmt.Sprintf("old/%d", i), ETag: "E"}}
			if err := tx.PutRow(r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || seq != before+1 || j.Last() != seq {
		t.Fatalf("sequence %d after %d, %v", seq, before, err)
	}
	if c := j.Counts(); c.Pending != 20_000 {
		t.Fatalf("counts %+v", c)
	}
}

// The code that makes a batch may panic, and the daemon goes on: nothing of it is
// left, and the next change is one of its own. covers H31
func TestPanicWithinABatch(t *testing.T) {
	j := openParts(t, t.TempDir(), "boot")
	fillDir(t, j, "from/")
	func() {
		defer func() {
			if recover() == nil {
				t.Error("it did not panic")
			}
		}()
		_ = moveAll(j, "from/", "to/", func(_ *Tx, i int) error {
			if i == inBatch-1 {
				panic("as asked for")
			}
			return nil
		})
	}()
	wantOnly(t, j, "from/", "to/")
	if err := moveAll(j, "from/", "to/", func(*Tx, int) error { return nil }); err != nil {
		t.Fatal(err)
	}
	wantOnly(t, j, "to/", "from/")
}
