package writeback

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/internal/crc64"
	"github.com/ossmount/ossmount/internal/object"
)

func withoutDelay(o *Options) { o.Delay = -1 }

// eventually polls until yes, or fails.
func eventually(t *testing.T, yes func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !yes(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come")
		}
	}
}

// unseen commits a file as fs does after the kernel has written it; it is open for
// writing still.
func (r *rooms) unseen(t *testing.T, key, text string, sum bool) (content uint64, path string) {
	t.Helper()
	x, err := r.c.Create()
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	r.q.OpenForWrite(x.Number())
	if _, err := x.WriteAt([]byte(text), 0); err != nil {
		t.Fatal(err)
	}
	sign, err := x.Sign()
	if err != nil {
		t.Fatal(err)
	}
	row := &Row{Key: key, Content: x.Number(), Size: sign.Size, SignSize: sign.Size, SignMtime: sign.Mtime, Unseen: true,
		Attr: object.Attr{Mode: object.TypeFile | 0o644}, Known: true, CRC64: crc64.Update(0, []byte(text)), HasCRC: sum}
	if _, err := r.q.Change(func(c *Change) error { return c.Put(row) }); err != nil {
		t.Fatal(err)
	}
	return x.Number(), r.c.Path(x.Number())
}

// What is written after the last flush, without a word to anybody, is what OSS gets,
// and nothing before the writer has gone. covers H12
func TestUnseenChangesGetANewRow(t *testing.T) {
	for _, c := range []struct {
		name  string
		sum   bool
		write func(f *os.File, st os.FileInfo) error
		want  string
	}{
		{"appended to", true, func(f *os.File, _ os.FileInfo) error { _, err := f.WriteAt([]byte("!"), 7); return err }, "as was.!"},
		{"rewritten", false, func(f *os.File, _ os.FileInfo) error { _, err := f.WriteAt([]byte("AS WAS."), 0); return err }, "AS WAS."},
		{"truncated", true, func(f *os.File, _ os.FileInfo) error { return f.Truncate(2) }, "as"},
		{"rewritten, and its time is as it was", true, func(f *os.File, st os.FileInfo) error {
			if _, err := f.WriteAt([]byte("AS WAS."), 0); err != nil {
				return err
			}
			return os.Chtimes(f.Name(), st.ModTime(), st.ModTime())
		}, "AS WAS."},
		{"left alone", false, func(*os.File, os.FileInfo) error { return nil }, "as was."},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, m := freeRooms(t, withoutDelay)
			n, path := r.unseen(t, "f", "as was.", c.sum)
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			r.q.SealUnseen(n, "")
			st, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.write(f, st); err != nil {
				t.Fatal(err)
			}
			r.put(t, "other", "sent meanwhile")
			eventually(t, func() bool { return m.text("other") == "sent meanwhile" })
			if got := m.text("f"); got != "(absent)" {
				t.Errorf("OSS has %q while it is written", got)
			}
			f.Close()
			drained(t, r.q)
			if got := m.text("f"); got != c.want {
				t.Errorf("OSS has %q, the file %q", got, c.want)
			}
		})
	}
}

// Once it is sealed, what changes on the disk is damage: it has a sum by then.
func TestUnseenFilesAreSummedWhenTheyAreSealed(t *testing.T) {
	r, m := freeRooms(t, func(o *Options) { o.Delay = time.Hour })
	n, path := r.unseen(t, "f", "as was.", false)
	r.q.SealUnseen(n, "")
	eventually(t, func() bool { row, err := r.q.Row("f"); return err == nil && row.HasCRC })
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("as wat."), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, st.ModTime(), st.ModTime()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, _ = r.q.Drain(ctx)
	row, err := r.q.Row("f")
	if err != nil || row == nil || !strings.HasPrefix(row.Parked, damagedPrefix) {
		t.Errorf("its row: %+v, %v", row, err)
	}
	if got := m.text("f"); got != "(absent)" {
		t.Errorf("OSS has %q", got)
	}
}

// A transfer asks by itself: the programs of a daemon before know nothing of seals.
func TestTransfersWaitForWhoeverWrites(t *testing.T) {
	r, m := freeRooms(t, withoutDelay)
	n, path := r.unseen(t, "f", "as was.", true)
	fd, err := unix.Open(path, unix.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.q.Seal(n, "")
	eventually(t, func() bool {
		r.q.mu.Lock()
		defer r.q.mu.Unlock()
		return r.q.blocked["f"].why == stillWritten
	})
	if got := m.text("f"); got != "(absent)" {
		t.Errorf("OSS has %q while it is written", got)
	}
	if _, err := unix.Pwrite(fd, []byte("AS"), 0); err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	drained(t, r.q)
	if got := m.text("f"); got != "AS was." {
		t.Errorf("OSS has %q", got)
	}
}

// A file that was opened again before anybody had looked at what its last writer left is
// not said to be closed, with whatever the new writer has written by then: what that
// writes later nobody would know of after a power cut. covers H12
func TestSealLeavesAFileThatIsBeingWrittenAgain(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"truncated":   func(path string) error { return os.Truncate(path, 3) },
		"overwritten": func(path string) error { return os.WriteFile(path, []byte("AS WAS."), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			r := openRooms(t, 0, silent{})
			n, path := r.unseen(t, "f", "as was.", true)
			before, err := r.q.Row("f") // as who waits for the last writer's end has read it
			if err != nil {
				t.Fatal(err)
			}
			r.q.OpenForWrite(n)
			if _, err := r.q.BeforeWrite(t.Context(), n, false); err != nil {
				t.Fatal(err)
			}
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			if _, err := r.q.asItIs(before, true); err != nil {
				t.Fatal(err)
			}
			if row, err := r.q.Row("f"); err != nil || !row.Open || row.HasCRC {
				t.Errorf("the row is %+v, %v", row, err)
			}
			r.q.Seal(n, "")
			r.q.Seal(n, "")
		})
	}
}
