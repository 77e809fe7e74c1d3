package writeback

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/extent"
	"github.com/ossmount/ossmount/internal/object"
)

// lossy is a store that does something when the first part has come, and loses
// the answer to the first Complete.
type lossy struct {
	*memStore
	sent, lost func()
	once       [2]sync.Once
}

func (s *lossy) UploadPart(ctx context.Context, key, id string, number int, body io.Reader, size int64) (object.Part, error) {
	p, err := s.memStore.UploadPart(ctx, key, id, number, body, size)
	s.once[0].Do(s.sent)
	return p, err
}

func (s *lossy) Complete(ctx context.Context, key, id string, parts []object.Part, o object.PutOptions) (ref object.Ref, err error) {
	ref, err = s.memStore.Complete(ctx, key, id, parts, o)
	s.once[1].Do(func() {
		s.lost()
		ref, err = object.Ref{}, &object.Error{Op: opComplete, Key: key, Kind: object.Again, Fate: object.Unknown, Err: errors.New("connection reset")}
	})
	return ref, err
}

// The answer to a Complete is lost, and the upload does not fit its row any more:
// it begins anew, and the object is found to be there already. Then the new upload
// is aborted, and what has been changed since the first began is published. covers
// H21 covers H26
func TestUploadThatBeginsAnewBesideItsObject(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, r *rooms, s *lossy) error{
		"the hole was filled": func(t *testing.T, r *rooms, _ *lossy) error {
			_, err := r.q.Fill(t.Context(), "new")
			return err
		},
		"the base has landed twice": func(t *testing.T, r *rooms, s *lossy) error {
			s.mu.Lock()
			s.set("old", s.objects["old"].data, "twice", nil)
			s.mu.Unlock()
			row, err := r.q.Row("new")
			if err == nil {
				_, err = r.q.rebase(t.Context(), row)
			}
			return err
		},
	} {
		for _, mode := range []uint32{0o644, 0o600} {
			t.Run(fmt.Sprintf("%s, %o", name, mode), func(t *testing.T) {
				s := &lossy{memStore: newMemStore()}
				s.free = true
				r := openRooms(t, 0, s, func(o *Options) { o.Threshold, o.PartSize, o.limits.minPart, o.Doubt = 8, 4, 4, time.Millisecond })
				attr := object.Attr{Mode: object.TypeFile | 0o644}
				s.sent = func() {
					if mode == 0o644 {
						return
					}
					attr.Mode = object.TypeFile | mode
					if _, err := r.q.Change(func(c *Change) error { return c.SetAttr("new", attr, nil) }); err != nil {
						t.Error(err)
					}
				}
				s.lost = func() {
					if err := change(t, r, s); err != nil {
						t.Error(err)
					}
				}
				x, err := r.c.Create()
				if err != nil {
					t.Fatal(err)
				}
				defer x.Close()
				if _, err := x.WriteAt([]byte("more"), 20); err != nil {
					t.Fatal(err)
				}
				sign, err := x.Sign()
				if err != nil {
					t.Fatal(err)
				}
				row := &Row{Key: "new", Content: x.Number(), Size: 24, SignSize: sign.Size, SignMtime: sign.Mtime, Attr: attr, Known: true,
					Base: s.has(t, "old", "twenty bytes of base"), Dirty: extent.Of(20, 24)}
				if _, err := r.q.Change(func(c *Change) error { return c.Put(row) }); err != nil {
					t.Fatal(err)
				}
				r.drained(t)
				if got := s.text("new"); got != "twenty bytes of basemore" {
					t.Errorf("the store has %q", got)
				}
				if s.counts["Initiate"] != 2 {
					t.Errorf("%d uploads were begun", s.counts["Initiate"])
				}
				if o, _ := s.get("new"); object.ReadAttr(o.meta, attr).Mode != attr.Mode {
					t.Errorf("the store has the mode %o, want %o", object.ReadAttr(o.meta, attr).Mode, attr.Mode)
				}
				for end := time.Now().Add(10 * time.Second); len(s.open()) > 0 && time.Now().Before(end); {
					time.Sleep(time.Millisecond)
				}
				if left := s.open(); len(left) > 0 {
					t.Errorf("uploads are left: %q", left)
				}
			})
		}
	}
}
