package journal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/object"
)

// Rows with as much metadata as OSS takes can be set back, too.
func TestBigRowsAreUndone(t *testing.T) {
	dir := t.TempDir()
	open := func(boot string) (*Journal, error) {
		return Open(t.Context(), dir, Options{Contents: &synced{map[uint64]int{}}, BootID: boot, Step: time.Hour})
	}
	j, err := open("one")
	if err != nil {
		t.Fatal(err)
	}
	row := func(k int, v string) {
		if _, err := j.Update(func(tx *Tx) error {
			return tx.PutRow(&Row{Key: fmt.Sprintf("f%04d", k), Kind: Put, Meta: object.Meta{"xattr": strings.Repeat(v, 7000)}})
		}); err != nil {
			t.Fatal(err)
		}
	}
	for k := range 300 {
		row(k, "a")
	}
	if err := j.WaitHorizon(t.Context(), j.Last()); err != nil {
		t.Fatal(err)
	}
	for k := range 300 {
		row(k, "b")
	}
	if err := j.Abandon(); err != nil {
		t.Fatal(err)
	}
	j, err = open("two")
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
}

// A cut in the middle of an undo leaves some keys set back and others not: the next
// start undoes that, too.
func TestPowerCutInTheMiddleOfAnUndo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	j := open(t, dir, "boot1")
	for k := range 20 {
		put(t, j, &Row{Key: fmt.Sprint("kept", k), Kind: Delete}, &Row{Key: fmt.Sprint("moved", k), Kind: Delete})
	}
	if err := j.WaitHorizon(context.Background(), j.Last()); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint(keys(t, j, ""))
	horizon := j.Horizon()
	for k := range 20 {
		if _, err := j.Update(func(tx *Tx) error {
			if err := tx.DropRow(fmt.Sprint("moved", k)); err != nil {
				return err
			}
			return tx.PutRow(&Row{Key: fmt.Sprint("to", k), Kind: Delete})
		}); err != nil {
			t.Fatal(err)
		}
	}
	changed, err := j.changedSince(horizon)
	if err != nil || len(changed) < 40 {
		t.Fatalf("%d keys to set back, %v", len(changed), err)
	}
	j.Abandon()
	for n := 1; n <= len(changed); n += 9 {
		again := filepath.Join(t.TempDir(), "journal")
		if err := os.CopyFS(again, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		j = open(t, again, "boot1")
		then := j.begin(horizon, false)
		for k, at := range []uint64{j.last + 1<<32, j.last + 2<<32} { // two that were cut short, one after the other
			if _, err := j.setBack(then.db(), changed[:min(len(changed), n+4*k)], at); err != nil {
				t.Fatal(err)
			}
		}
		then.discard()
		j.Abandon()
		j = open(t, again, "boot2")
		if r := j.Recovered(); !r.PowerCut || r.Damaged != "" || r.Horizon != horizon || fmt.Sprint(keys(t, j, "")) != want {
			t.Fatalf("%d of %d keys had been set back: %+v\n%v, want\n%v", n, len(changed), r, keys(t, j, ""), want)
		}
		checkNow(t, j)
		j.Abandon()
	}
}

// A cut while the very first horizon is written leaves a journal in which nothing was
// ever promised: it begins again, and is not taken for damaged.
func TestPowerCutWhileTheFirstHorizonIsWritten(t *testing.T) {
	for what, leave := range map[string]func(horizon string) error{
		"no file":      os.Remove,
		"no bytes":     func(horizon string) error { return os.Truncate(horizon, 0) },
		"a torn slot":  func(horizon string) error { return os.Truncate(horizon, slotSize+20) },
		"a whole slot": func(string) error { return nil },
	} {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "journal")
			open(t, dir, "boot1").Abandon()
			if err := leave(filepath.Join(dir, "horizon")); err != nil {
				t.Fatal(err)
			}
			j := open(t, dir, "boot2")
			if r := j.Recovered(); !r.New || r.Damaged != "" || r.Aside != "" {
				t.Fatalf("%+v", r)
			}
			if err := j.WaitHorizon(context.Background(), put(t, j, &Row{Key: "a", Kind: Delete})); err != nil {
				t.Fatal(err)
			}
			j.Abandon()
			if j = open(t, dir, "boot3"); fmt.Sprint(keys(t, j, "")) != "[a]" {
				t.Fatal(keys(t, j, ""))
			}
		})
	}
}

// Badger appends to its manifest before it gives up a log or a table, and syncs it. A
// cut in between may leave the end of the last entry and not its beginning, since it
// may lie in two sectors: that entry never was, and nothing else is amiss.
func TestPowerCutTearsTheEndOfTheManifest(t *testing.T) {
	for what, tail := range map[string][]byte{
		"zeros":                       make([]byte, 40),
		"zeros and the rest of it":    append(make([]byte, 21), "\x20\x01\x30\x04 of an entry"...),
		"a header and nothing behind": {0, 0, 0, 30, 1, 2, 3, 4},
		"a header and other bytes":    append([]byte{0, 0, 0, 12, 1, 2, 3, 4}, make([]byte, 12)...),
	} {
		t.Run(what, func(t *testing.T) {
			h := makeHistory(t, 600)
			f, err := os.OpenFile(filepath.Join(h.dir, "db", "MANIFEST"), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write(tail); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			j := open(t, h.dir, "boot2")
			if r := j.Recovered(); r.Damaged != "" || r.Horizon != h.horizon {
				t.Fatalf("%+v, the horizon was %d", r, h.horizon)
			}
			checkNow(t, j)
		})
	}
}
