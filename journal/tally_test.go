package journal

import (
	"errors"
	"fmt"
	"testing"

	"github.com/ossmount/ossmount/internal/object"
)

// What is counted decides which questions the database is asked at all: it must
// follow each commit, each change that was taken back, and an Open.
func TestTally(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, "boot")
	update := func(f func(tx *Tx) error) {
		t.Helper()
		if _, err := j.Update(f); err != nil {
			t.Fatal(err)
		}
	}
	has := func(dir string, some, dirs bool) {
		t.Helper()
		err := j.View(func(tx *Tx) error {
			if none := tx.None(dir); none == some {
				return fmt.Errorf("None(%q) = %v", dir, none)
			}
			if no := tx.NoDirs(dir); no == dirs {
				return fmt.Errorf("NoDirs(%q) = %v", dir, no)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	has("", false, false)
	for _, key := range []string{"f", "a/f", "a/b/", "a/b/c/f"} {
		put(t, j, &Row{Key: key, Kind: Put})
	}
	after := func() {
		t.Helper()
		has("", true, true)
		has("a/", true, true)
		has("a/b/", true, true)
		has("a/b/c/", true, false)
		has("b/", false, false)
	}
	after()
	_, err := j.Update(func(tx *Tx) error {
		for _, key := range []string{"b/f", "b/g"} {
			if err := tx.PutRow(&Row{Key: key, Kind: Put}); err != nil {
				return err
			}
			if row, err := tx.Row(key); err != nil || row == nil {
				t.Errorf("its own change is not seen: %v", err)
			}
		}
		if err := tx.DropRow("a/f"); err != nil {
			return err
		}
		return fmt.Errorf("taken back")
	})
	if err == nil {
		t.Error("no error")
	}
	after()
	update(func(tx *Tx) error { // come and gone
		if err := tx.PutRow(&Row{Key: "b/f", Kind: Put}); err != nil {
			return err
		}
		return tx.DropRow("b/f")
	})
	put(t, j, &Row{Key: "a/f", Kind: Delete}) // another of the same key
	after()
	if err := j.Abandon(); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir, "boot")
	after()
	for _, key := range []string{"a/b/c/f", "a/b/"} {
		update(func(tx *Tx) error { return tx.DropRow(key) })
	}
	has("a/b/", false, false)
	has("a/", true, false)
	update(func(tx *Tx) error { return tx.DropRow("a/f") })
	has("a/", false, false)
	has("", true, false)
	checkNow(t, j)
}

// What is said to be nowhere is not looked for: so it must be known at once when
// there is one, also within the change that made it, when that was taken back, and
// when a batch has committed some of it.
func TestFew(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, "boot")
	base := object.Ref{Key: "b", ETag: "e", Size: 1}
	makes := func(tx *Tx) error {
		for _, key := range []string{"d/based", "d/gone"} {
			if err := tx.PutRow(&Row{Key: key, Kind: Put, Base: base, Size: 1}); err != nil {
				return err
			}
		}
		return errors.Join(tx.DropRow("d/gone"), tx.PutUpload("u", &Upload{ID: "1"}), tx.PutDoubt("u", &Doubt{}))
	}
	sees := func(what string, some bool) func(tx *Tx) error {
		return func(tx *Tx) error {
			based := 0
			for range tx.BasedOn("b") {
				based++
			}
			u, uerr := tx.Upload("u")
			d, derr := tx.Doubt("u")
			r, rerr := tx.Row("d/based")
			gone, gerr := tx.Row("d/gone")
			if based != map[bool]int{true: 1}[some] || (u != nil) != some || (d != nil) != some || (r != nil) != some || gone != nil {
				t.Errorf("%s: %d rows with a base, upload %v, doubt %v, row %v, dropped %v", what, based, u, d, r, gone)
			}
			return errors.Join(uerr, derr, rerr, gerr)
		}
	}
	look := func(what string, some bool) {
		t.Helper()
		if err := j.View(sees(what, some)); err != nil {
			t.Error(err)
		}
	}
	look("at first", false)
	for _, change := range []func(func(tx *Tx) error) (uint64, error){j.Update, j.Batch} {
		_, err := change(func(tx *Tx) error {
			return errors.Join(makes(tx), sees("within", true)(tx), errors.New("taken back"))
		})
		if err == nil {
			t.Error("it is not taken back")
		}
		look("taken back", false)
	}
	if _, err := j.Batch(func(tx *Tx) error { return errors.Join(makes(tx), sees("within a batch", true)(tx)) }); err != nil {
		t.Fatal(err)
	}
	look("committed", true)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir, "boot")
	look("opened again", true)
	if _, err := j.Update(func(tx *Tx) error {
		return errors.Join(tx.DropRow("d/based"), tx.DropUpload("u"), tx.DropDoubt("u"))
	}); err != nil {
		t.Fatal(err)
	}
	look("dropped", false)
}
