package cache

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/internal/codec"
	"github.com/ossmount/ossmount/internal/crash"
	"github.com/ossmount/ossmount/internal/extent"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/internal/private"
)

// State of a content as its witness has it.
type State string

const (
	StateOpen   State = "open"   // written to since its row was committed, or never committed
	StateClosed State = "closed" // as the row with its sequence has it
	StateClean  State = "clean"  // equal to the version Ref on OSS
	StateDead   State = "dead"   // about to be dropped
)

// Witness is what a content says of itself (H7). It is never an order.
type Witness struct {
	Format  int         `json:"v"`
	CacheID string      `json:"id"`
	Number  uint64      `json:"n"`
	Key     string      `json:"k,omitempty"`
	Seq     uint64      `json:"s,omitempty"`
	Size    int64       `json:"z"`
	Attr    object.Attr `json:"a,omitzero"`
	Boot    string      `json:"bo,omitempty"` // boot of the machine that it was written in

	CRC64  uint64 `json:"cr,omitempty"` // of the bytes as they were written, if known
	HasCRC bool   `json:"hc,omitempty"`

	Headers object.Headers `json:"h,omitempty"` // beside the bytes, as in the row
	Meta    object.Meta    `json:"m,omitempty"`

	Expected object.Ref `json:"e,omitzero"`
	Known    bool       `json:"ek,omitempty"`
	Ref      object.Ref `json:"r,omitzero"`   // of a clean one
	Base     object.Ref `json:"b,omitzero"`   // of one made from a version on OSS, with
	Dirty    extent.Set `json:"w,omitempty"`  // what of it may differ, and
	Whole    bool       `json:"wh,omitempty"` // whether the rest is here too (journal.Row)
	State    State      `json:"st"`

	// Needed: another name was still to get the bytes of the object that this content
	// takes the place of. Only the journal knew which, and without it this must not
	// happen.
	Needed bool `json:"nd,omitempty"`

	// Beside, in the attribute: the witness was too long for it and stands in
	// the file beside the content.
	Beside bool `json:"x,omitempty"`
}

// Fields is how the witness is written and read by hand.
func (w *Witness) Fields(c *codec.Coder) {
	c.One('{')
	codec.Number(c, "v", codec.Always, &w.Format)
	c.Text("id", codec.Always, &w.CacheID)
	codec.Number(c, "n", codec.Always, &w.Number)
	c.Text("k", codec.IfSet, &w.Key)
	codec.Number(c, "s", codec.IfSet, &w.Seq)
	codec.Number(c, "z", codec.Always, &w.Size)
	c.Attr("a", &w.Attr)
	c.Text("bo", codec.IfSet, &w.Boot)
	codec.Number(c, "cr", codec.IfSet, &w.CRC64)
	c.Flag("hc", codec.IfSet, &w.HasCRC)
	codec.Texts(c, "h", &w.Headers)
	codec.Texts(c, "m", &w.Meta)
	c.Ref("e", codec.IfSet, &w.Expected)
	c.Flag("ek", codec.IfSet, &w.Known)
	c.Ref("r", codec.IfSet, &w.Ref)
	c.Ref("b", codec.IfSet, &w.Base)
	c.Ranges("w", &w.Dirty)
	c.Flag("wh", codec.IfSet, &w.Whole)
	c.Text("st", codec.Always, (*string)(&w.State))
	c.Flag("nd", codec.IfSet, &w.Needed)
	c.Flag("x", codec.IfSet, &w.Beside)
	c.One('}')
}

func (w *Witness) encode() ([]byte, error) {
	if b, ok := codec.Write(make([]byte, 0, 512), w); ok { // most are smaller
		return b, nil
	}
	return json.Marshal(w)
}

const (
	witnessName   = "user.ossmount.witness"
	witnessFormat = 1
	witnessMax    = 2 << 10 // bytes in an attribute; a longer one stands in a file
)

// ErrNewer is what a newer program has written: nothing of it is touched.
var ErrNewer = errors.New("use the newer ossmount that wrote it")

const sidecarSuffix = ".x"

func (c *Cache) sidecar(n uint64) string { return c.path(n) + sidecarSuffix }

// SetWitness writes w for its content. It is durable after SyncContents.
func (x *Content) SetWitness(w Witness) error {
	w.Number = x.number
	return x.c.setWitnessAt(attrOf(x.f), x.c.path(x.number), w)
}

// attrOf sets the attribute of an open file.
func attrOf(f *os.File) func(b []byte) error {
	return func(b []byte) error { return unix.Fsetxattr(int(f.Fd()), witnessName, b, 0) }
}

// setWitnessAt writes w for the content at path; set sets its attribute. The block
// that this may take is counted when the content is closed, or looked at.
func (c *Cache) setWitnessAt(set func(b []byte) error, path string, w Witness) error {
	w.Format, w.Beside = witnessFormat, false // it may be one that was read from there
	b, err := w.encode()
	if err != nil {
		return err
	}
	if c.sidecars {
		return c.setSidecar(path, b)
	}
	if len(b) > witnessMax {
		if err := c.setSidecar(path, b); err != nil {
			return err
		}
		beside := Witness{Format: witnessFormat, Number: w.Number, Beside: true}
		if b, err = beside.encode(); err != nil {
			return err
		}
	}
	if err := set(b); err != nil {
		return fmt.Errorf("witness of content %d: %w", w.Number, room(err))
	}
	return nil
}

// SetWitness writes w for content n, which need not be open.
func (c *Cache) SetWitness(n uint64, w Witness) error {
	w.Number = n
	path := c.path(n)
	return c.setWitnessAt(func(b []byte) error {
		err := unix.Lsetxattr(path, witnessName, b, 0)
		if errors.Is(err, os.ErrNotExist) {
			err = c.gone(err)
		}
		return err
	}, path, w)
}

// setSidecar writes the witness b beside the content at path.
func (c *Cache) setSidecar(path string, b []byte) error {
	to := path + sidecarSuffix
	tmp := to + "~"
	if err := writeSynced(tmp, b); err != nil {
		return room(err)
	}
	c.touch(filepath.Dir(path))
	crash.At("sidecar written, not in place")
	return os.Rename(tmp, to)
}

// Witness reads what content n says of itself. ok is false when it says
// nothing readable.
func (c *Cache) Witness(n uint64) (w Witness, ok bool, err error) { return c.witnessAt(n, c.path(n)) }

func (c *Cache) witnessAt(n uint64, path string) (w Witness, ok bool, err error) {
	buf := make([]byte, witnessMax)
	size, err := unix.Lgetxattr(path, witnessName, buf)
	switch {
	case errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP):
		if !c.sidecars {
			return Witness{}, false, nil
		}
		w.Beside = true
	case err != nil:
		return Witness{}, false, fmt.Errorf("witness of content %d: %w", n, err)
	default:
		if w, ok, err = parseWitness(buf[:size], n); err != nil || !ok {
			return Witness{}, false, err
		}
	}
	if !w.Beside {
		return w, true, nil
	}
	b, err := private.ReadFile(path + sidecarSuffix)
	if err != nil {
		return Witness{}, false, nil
	}
	return parseWitness(b, n)
}

// parseWitness reads what stands in the attribute of content n, or beside it; ok is
// false for what this program has not written about that content.
func parseWitness(b []byte, n uint64) (w Witness, ok bool, err error) {
	// A newer one may have other fields, or fields of another kind: the format is read
	// all the same.
	if !codec.Read(b, &w) {
		w = Witness{}
		err = json.Unmarshal(b, &w)
	}
	if w.Format > witnessFormat {
		return Witness{}, false, fmt.Errorf("content %d has a witness of format %d, this program knows %d: %w", n, w.Format, witnessFormat, ErrNewer)
	}
	if err != nil {
		return Witness{}, false, nil
	}
	if w.Format != witnessFormat || w.Number != n {
		return Witness{}, false, nil
	}
	return w, true, nil
}

// writeSynced writes a file whose bytes are on the disk before it may be
// renamed over a good one.
func writeSynced(path string, b []byte) error {
	f, err := private.Open(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return err
	}
	return unix.Fdatasync(int(f.Fd()))
}

// dropStrays removes, of the names in a directory of contents, what a crash leaves of a
// witness beside its content: one whose content was dropped, and one that was being
// written.
func dropStrays(dir string, names []os.DirEntry) error {
	content := "" // the last one, which its witness follows
	for _, e := range names {
		of, isSidecar := strings.CutSuffix(strings.TrimSuffix(e.Name(), "~"), sidecarSuffix)
		switch {
		case !isSidecar:
			content = e.Name()
			continue
		case of == content && !strings.HasSuffix(e.Name(), "~"):
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
