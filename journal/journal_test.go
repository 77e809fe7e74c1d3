package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/object"
)

// synced stands for the cache: it counts which contents were made durable.
type synced struct{ numbers map[uint64]int }

func (s *synced) SyncContents(numbers []uint64) map[uint64]error {
	for _, n := range numbers {
		s.numbers[n]++
	}
	return nil
}

func open(t *testing.T, dir, boot string) *Journal {
	t.Helper()
	j, err := Open(context.Background(), dir, Options{
		Contents: &synced{map[uint64]int{}}, BootID: boot, Step: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Check(); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if !j.db.IsClosed() {
			j.Abandon()
		}
	})
	return j
}

func put(t *testing.T, j *Journal, rows ...*Row) uint64 {
	t.Helper()
	seq, err := j.Update(func(tx *Tx) error {
		for _, r := range rows {
			if err := tx.PutRow(r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

func keys(t *testing.T, j *Journal, prefix string) (out []string) {
	t.Helper()
	err := j.View(func(tx *Tx) error {
		for r, err := range tx.Rows(prefix, "") {
			if err != nil {
				return err
			}
			out = append(out, r.Key)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func checkNow(t *testing.T, j *Journal) {
	t.Helper()
	if err := j.Check(); err != nil {
		t.Fatal(err)
	}
}

// A crash of the process keeps every commit that returned. covers H1
func TestCrashKeepsWhatUpdateReturned(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, "boot1")
	seq := put(t, j, &Row{Key: "a", Kind: Put, Content: 7, Size: 3}, &Row{Key: "b", Kind: Delete})
	checkNow(t, j)
	j.Abandon()
	j = open(t, dir, "boot1")
	if got := j.Last(); got != seq {
		t.Fatalf("last is %d, want %d", got, seq)
	}
	if got := keys(t, j, ""); fmt.Sprint(got) != "[a b]" {
		t.Fatalf("rows %v", got)
	}
	if c := j.Counts(); c != (Counts{Pending: 2, Bytes: 3, Here: 3}) {
		t.Fatalf("counts %+v", c)
	}
}

// A power cut goes back to the horizon, wholly, also twice in a row, and the
// sequences that follow are far above those that were taken back. covers H1 H8
func TestPowerCutGoesBackToTheHorizon(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, "boot1")
	at := put(t, j, &Row{Key: "a", Kind: Put, Content: 1})
	if err := j.WaitHorizon(context.Background(), at); err != nil {
		t.Fatal(err)
	}
	id := j.CacheID()
	// A rename after the horizon, a changed row, and an upload with parts.
	lost := put(t, j, &Row{Key: "b", Kind: Put, Content: 1}, &Row{Key: "a", Kind: Delete})
	_, err := j.Update(func(tx *Tx) error {
		if err := tx.PutUpload("b", &Upload{ID: "u", Num: 5}); err != nil {
			return err
		}
		return tx.PutPart(5, Part{Number: 1})
	})
	if err != nil {
		t.Fatal(err)
	}
	j.Abandon()
	for _, boot := range []string{"boot2", "boot3"} {
		j = open(t, dir, boot)
		if !j.Recovered().PowerCut {
			t.Fatal("the cut was not noticed")
		}
		err := j.View(func(tx *Tx) error {
			a, err := tx.Row("a")
			if err != nil || a == nil || a.Kind != Put || a.Content != 1 || a.Seq != at {
				t.Errorf("a is %+v, %v", a, err)
			}
			if b, _ := tx.Row("b"); b != nil {
				t.Errorf("b is %+v", b)
			}
			if u, _ := tx.Upload("b"); u != nil {
				t.Errorf("upload is %+v", u)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		checkNow(t, j)
		if seq := put(t, j, &Row{Key: "z", Kind: Delete}); seq <= lost+1<<31 {
			t.Fatalf("sequence %d follows %d", seq, lost)
		}
		if j.CacheID() == id {
			t.Fatal("the cache ID was not drawn anew")
		}
		j.Abandon()
	}
}

// The horizon passes a row only after its content was synced, and after a
// crash the contents above the horizon are synced again.
func TestHorizonSyncsContentsFirst(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, "boot1")
	put(t, j, &Row{Key: "a", Kind: Put, Content: 5})
	j.Abandon()
	j = open(t, dir, "boot1")
	if err := j.WaitHorizon(context.Background(), j.Last()); err != nil {
		t.Fatal(err)
	}
	if s := j.o.Contents.(*synced); s.numbers[5] != 1 {
		t.Fatalf("synced %v", s.numbers)
	}
	if !j.Covered(j.Last()) {
		t.Fatal("not covered")
	}
}

// One torn slot leaves the other. With both damaged the newest state goes on if
// the machine has not been off, and counts as lost if it may have been.
func TestDamagedHorizon(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, "boot1")
	for range 2 {
		if err := j.WaitHorizon(context.Background(), put(t, j, &Row{Key: "a", Kind: Delete})); err != nil {
			t.Fatal(err)
		}
	}
	newest, last := j.slot, put(t, j, &Row{Key: "b", Kind: Delete})
	j.Abandon()
	path := filepath.Join(dir, "horizon")
	tear := func(gen uint64) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte("torn"), int64(gen%2)*slotSize+20); err != nil {
			t.Fatal(err)
		}
	}
	tear(newest.Gen)
	s, ok, err := readSlot(path)
	if err != nil || !ok || s.Gen != newest.Gen-1 {
		t.Fatalf("slot %+v %v %v", s, ok, err)
	}
	tear(newest.Gen + 1)
	j = open(t, dir, "boot1")
	if j.Last() != last || fmt.Sprint(keys(t, j, "")) != "[a b]" || j.CacheID() != newest.CacheID {
		t.Fatalf("state %d with %v of %s, want %d of %s", j.Last(), keys(t, j, ""), j.CacheID(), last, newest.CacheID)
	}
	if err := j.WaitHorizon(context.Background(), last); err != nil {
		t.Fatal(err)
	}
	j.Abandon()
	if s, ok, err := readSlot(path); err != nil || !ok || s.Horizon != last {
		t.Fatalf("slot %+v %v %v", s, ok, err)
	}
	tear(0)
	tear(1)
	j = open(t, dir, "boot2")
	if r := j.Recovered(); !r.New || r.Damaged == "" || len(keys(t, j, "")) != 0 {
		t.Fatalf("%+v with %v", r, keys(t, j, ""))
	}
}

// Children jumps over what lies deeper and sees files and directories.
func TestChildren(t *testing.T) {
	j := open(t, t.TempDir(), "boot1")
	put(t, j,
		&Row{Key: "d/", Kind: Put}, &Row{Key: "d/a", Kind: Put}, &Row{Key: "d/b/", Kind: Put},
		&Row{Key: "d/b/c", Kind: Put}, &Row{Key: "d/b/d/e", Kind: Put}, &Row{Key: "d/b.x", Kind: Delete},
		&Row{Key: "d/z", Kind: Put}, &Row{Key: "e", Kind: Put}, &Row{Key: "d/q/deep", Kind: Put},
		&Row{Key: "d/r/", Kind: Delete}, &Row{Key: "d/r/a", Kind: Delete}, &Row{Key: "d/r/b/c", Kind: Put},
		&Row{Key: "d/s/", Kind: Delete}, &Row{Key: "d/s/a", Kind: Delete}, &Row{Key: "d/t/a", Kind: Delete})
	got := ""
	err := j.View(func(tx *Tx) error {
		for r, err := range tx.Children("d/", "") {
			if err != nil {
				return err
			}
			got += fmt.Sprintf("%s:%s ", r.Key, r.Kind)
		}
		return nil
	})
	if want := "d/a:put d/b.x:delete d/b/:put d/q/:put d/r/:put d/s/:delete d/z:put "; err != nil || got != want {
		t.Fatalf("%q, want %q, %v", got, want, err)
	}
}

// A change that does not fit one commit is refused whole.
func TestTooBig(t *testing.T) {
	j := open(t, t.TempDir(), "boot1")
	_, err := j.Update(func(tx *Tx) error {
		for i := range 200_000 {
			if err := tx.PutRow(&Row{Key: fmt.Sprint(i), Kind: Put, Base: object.Ref{Key: "x", ETag: "e"}}); err != nil {
				return err
			}
		}
		return nil
	})
	if !errors.Is(err, ErrTooBig) {
		t.Fatalf("got %v", err)
	}
	if n := len(keys(t, j, "")); n != 0 {
		t.Fatalf("%d rows are there", n)
	}
}

// Rows may move, fold and go in any order: the indexes follow.
func TestIndexesFollow(t *testing.T) {
	j := open(t, t.TempDir(), "boot1")
	put(t, j, &Row{Key: "a", Kind: Put, Base: object.Ref{Key: "k", ETag: "e"}, Due: 5})
	put(t, j, &Row{Key: "a", Kind: Put, Content: 3, Due: 7})
	put(t, j, &Row{Key: "a", Kind: Put, Content: 4, Due: 9, Parked: "why"})
	checkNow(t, j)
	err := j.View(func(tx *Tx) error {
		if row, _, ok := tx.Named(4); !ok || row != "a" {
			t.Errorf("content 4 is named by %q", row)
		}
		if _, _, ok := tx.Named(3); ok {
			t.Error("content 3 is still named")
		}
		for k := range tx.Due(0, "", 100) {
			t.Errorf("%q is due", k)
		}
		if top := tx.MaxContent(); top != 4 {
			t.Errorf("top %d", top)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Update(func(tx *Tx) error { return tx.DropRow("a") }); err != nil {
		t.Fatal(err)
	}
	if c := j.Counts(); c != (Counts{}) {
		t.Fatalf("counts %+v", c)
	}
}

// The upload of the longest key with the most parts goes in one commit.
func TestTenThousandPartsGoAtOnce(t *testing.T) {
	j := open(t, t.TempDir(), "boot1")
	key := strings.Repeat("k", 1023)
	put(t, j, &Row{Key: key, Kind: Put, Content: 1})
	u := &Upload{ID: "u"}
	if _, err := j.Update(func(tx *Tx) error { return tx.PutUpload(key, u) }); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 10_000; n++ {
		if _, err := j.Update(func(tx *Tx) error { return tx.PutPart(u.Num, Part{Number: n, ETag: strings.Repeat("E", 32)}) }); err != nil {
			t.Fatal(err)
		}
	}
	_, err := j.Update(func(tx *Tx) error {
		if err := tx.DropRow(key); err != nil {
			return err
		}
		return tx.DropUpload(key)
	})
	if err != nil {
		t.Fatal(err)
	}
	checkNow(t, j)
}

// A crash between the creation of a memtable's log and its first byte leaves a
// file of no length, beside which Badger does not open.
func TestCrashWhileALogIsCreated(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, "boot1")
	put(t, j, &Row{Key: "a", Kind: Delete})
	j.Abandon()
	for _, name := range []string{"00002.mem", "00009.mem"} {
		if err := os.WriteFile(filepath.Join(dir, "db", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	j = open(t, dir, "boot1")
	if got := keys(t, j, ""); fmt.Sprint(got) != "[a]" {
		t.Fatalf("rows %v", got)
	}
}
