package journal

import (
	"fmt"
	"testing"
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
