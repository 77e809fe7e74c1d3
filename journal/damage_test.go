package journal

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/object"
)

var damages = flag.Uint64("damages", 40, "how many damaged journals are opened")

// history is a journal with everything in it, and what each of its states holds.
type history struct {
	dir     string
	horizon uint64
	last    uint64
	states  map[uint64]map[string]int64 // size of each row, by state
}

func makeHistory(t *testing.T, commits int) *history {
	t.Helper()
	h := &history{dir: t.TempDir(), states: map[uint64]map[string]int64{}}
	j := open(t, h.dir, "boot1")
	now := map[string]int64{}
	for n := range commits {
		key := fmt.Sprint("key", n%200)
		seq, err := j.Update(func(tx *Tx) error {
			if n%7 == 3 {
				delete(now, key)
				return tx.DropRow(key)
			}
			now[key] = int64(n)
			if n%11 == 5 {
				u := &Upload{ID: fmt.Sprint("upload", n)}
				if err := tx.DropUpload(key); err != nil {
					return err
				}
				if err := tx.PutUpload(key, u); err != nil {
					return err
				}
				if err := tx.PutPart(u.Num, Part{Number: n + 1, ETag: "e"}); err != nil {
					return err
				}
			}
			r := &Row{Key: key, Kind: Put, Content: uint64(n + 1), Size: int64(n), Meta: object.Meta{"x": fmt.Sprintf("%1500d", n)}}
			return tx.PutRow(r)
		})
		if err != nil {
			t.Fatal(err)
		}
		h.states[seq] = maps.Clone(now)
		if n == commits*3/4 {
			if err := j.WaitHorizon(context.Background(), seq); err != nil {
				t.Fatal(err)
			}
			h.horizon = j.Horizon()
		}
	}
	h.last = j.Last()
	if err := j.Abandon(); err != nil {
		t.Fatal(err)
	}
	return h
}

// spoil damages one file of dir in a way drawn from r, and says how.
func spoil(dir string, r *rand.Rand) (how string, err error) {
	var files []string
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	slices.Sort(files)
	path := files[r.IntN(len(files))]
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	name, _ := filepath.Rel(dir, path)
	used := len(b) // logs have their blocks before they are used
	for used > 0 && b[used-1] == 0 {
		used--
	}
	at := 0
	if used > 0 {
		at = r.IntN(used)
	}
	switch k := r.IntN(7); {
	case k == 0:
		return name + " removed", os.Remove(path)
	case k == 1 || used == 0:
		return fmt.Sprintf("%s cut off at %d of %d", name, at, len(b)), os.Truncate(path, int64(at))
	case k == 2:
		for i := range 1 + r.IntN(2000) {
			if at+i < len(b) {
				b[at+i] = 0
			}
		}
		how = fmt.Sprintf("%s with zeros at %d", name, at)
	case k == 3:
		for i := range 1 + r.IntN(300) {
			if at+i < len(b) {
				b[at+i] = byte(r.IntN(256))
			}
		}
		how = fmt.Sprintf("%s with noise at %d", name, at)
	case k == 4:
		from := r.IntN(used)
		copy(b[at:], b[from:min(from+4096, len(b))])
		how = fmt.Sprintf("%s with its bytes of %d at %d", name, from, at)
	default:
		for range 1 + r.IntN(8) {
			b[r.IntN(used)] ^= 1 << r.IntN(8)
		}
		how = name + " with flipped bits"
	}
	return how, os.WriteFile(path, b, 0o600)
}

// Whatever becomes of the files of a journal, opening it ends in a state that
// once was, not older than the horizon, or says that it is damaged. Never does
// it end the process, and never is something left out without a word.
// covers H7
func TestDamagedJournalIsNeverTakenForWhole(t *testing.T) {
	h := makeHistory(t, 9000)
	whole, older, lost := 0, 0, 0
	for seed := range *damages {
		r := rand.New(rand.NewPCG(seed, 6))
		dir := filepath.Join(t.TempDir(), "journal")
		if err := os.CopyFS(dir, os.DirFS(h.dir)); err != nil {
			t.Fatal(err)
		}
		how, err := spoil(dir, r)
		if err != nil {
			t.Fatal(err)
		}
		boot, least := "boot1", h.horizon
		if seed%4 == 0 {
			boot = "boot2"
		}
		j, err := Open(context.Background(), dir, Options{Contents: &synced{map[uint64]int{}}, BootID: boot, Step: time.Hour})
		if err != nil {
			t.Errorf("seed %d, %s: %v", seed, how, err)
			continue
		}
		rec := j.Recovered()
		at := rec.Last
		if rec.PowerCut {
			at = rec.Horizon
		}
		got := map[string]int64{}
		err = j.View(func(tx *Tx) error {
			for r, err := range tx.Rows("", "") {
				if err != nil {
					return err
				}
				got[r.Key] = r.Size
			}
			return nil
		})
		switch {
		case err != nil:
			t.Errorf("seed %d, %s: %v", seed, how, err)
		case rec.Damaged != "":
			lost++
			if _, err := os.Stat(rec.Aside); err != nil || !rec.New || len(got) != 0 {
				t.Errorf("seed %d, %s: %+v with %d rows, %v", seed, how, rec, len(got), err)
			}
		case at < least || !maps.Equal(got, h.states[at]):
			t.Errorf("seed %d, %s: taken for the state %d (horizon %d, last %d), which it is not", seed, how, at, h.horizon, h.last)
		case at == h.last:
			whole++
		default:
			older++
		}
		if err := j.Check(); err != nil {
			t.Errorf("seed %d, %s: %v", seed, how, err)
		}
		if err := j.Close(); err != nil {
			t.Errorf("seed %d, %s: close: %v", seed, how, err)
		}
		os.RemoveAll(filepath.Dir(dir))
	}
	t.Logf("horizon %d, last %d: %d times whole, %d times an older state, %d times damaged", h.horizon, h.last, whole, older, lost)
	if whole == 0 || older == 0 || lost == 0 {
		t.Error("one of the three never happened: the damages are too mild, or too wild")
	}
}

// A journal that is gone, or was never taken up, is new, and goes on above all
// that is known from elsewhere.
func TestNewJournalGoesOnAboveWhatIsKnown(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	o := Options{Contents: &synced{map[uint64]int{}}, BootID: "boot1", Step: time.Hour, After: func() (uint64, error) { return 500, nil }}
	for range 2 { // a crash before it was taken up: it is new again
		j, err := Open(t.Context(), dir, o)
		if err != nil {
			t.Fatal(err)
		}
		if !j.Recovered().New || j.Last() <= 500 {
			t.Fatalf("%+v, last %d", j.Recovered(), j.Last())
		}
		if err := j.Abandon(); err != nil {
			t.Fatal(err)
		}
	}
	j, err := Open(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Batch(func(tx *Tx) error { tx.TakenUp(); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := j.Abandon(); err != nil {
		t.Fatal(err)
	}
	if j, err = Open(t.Context(), dir, o); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if j.Recovered().New {
		t.Fatal("new, although it was taken up")
	}
}

// What a newer version has written is refused, and nothing is touched.
func TestNewerFormatsAreRefused(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, "boot1")
	put(t, j, &Row{Key: "a", Kind: Delete})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	s, _, err := readSlot(filepath.Join(dir, "horizon"))
	if err != nil {
		t.Fatal(err)
	}
	j = open(t, dir, "boot1")
	txn := j.db.NewTransactionAt(maxTs, true)
	defer txn.Discard()
	if err := txn.Set([]byte("rb"), []byte{codecVersion + 1, '{', '}'}); err != nil {
		t.Fatal(err)
	}
	if err := txn.CommitAt(s.Horizon+1, nil); err != nil {
		t.Fatal(err)
	}
	j.Abandon()
	_, err = Open(t.Context(), dir, Options{Contents: &synced{}, BootID: "boot1"})
	if err == nil || !errors.Is(err, ErrNewer) {
		t.Fatalf("opened, or: %v", err)
	}
	if aside, _ := filepath.Glob(dir + ".damaged*"); len(aside) != 0 {
		t.Fatalf("moved aside to %v", aside)
	}
}

// Files in which nothing of ours stands are no loss.
func TestFilesWithoutRowsAreNoLoss(t *testing.T) {
	for _, name := range []string{"KEYREGISTRY", "DISCARD", "000001.vlog"} {
		t.Run(name, func(t *testing.T) {
			h := makeHistory(t, 50)
			path := filepath.Join(h.dir, "db", name)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := range min(len(b), 64) {
				b[i] ^= 0x55
			}
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			j := open(t, h.dir, "boot1")
			if r := j.Recovered(); r.Damaged != "" || r.Last != h.last {
				t.Fatalf("%+v, want the state %d", r, h.last)
			}
		})
	}
}
