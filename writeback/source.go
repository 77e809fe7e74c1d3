package writeback

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"
	"sync"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/extent"
	"github.com/ossmount/ossmount/internal/object"
)

// source gives the bytes of a row: those of its content or text, and where that
// has holes those of its base, which are fetched as they are needed.
type source struct {
	t    *transfer
	x    io.ReaderAt
	here extent.Set // what x has
	base object.Ref // of the rest

	close func()

	mu   sync.Mutex
	lost error // why a range of the base could not be had, or what is here is not right
}

// source opens the bytes of the row and makes sure that those are there that
// should be.
func (t *transfer) source() (*source, error) {
	row := t.row
	s := &source{t: t, here: row.Here(), base: row.Base, close: func() {}}
	if !row.HasHoles() {
		s.here = extent.Of(0, math.MaxInt64) // the file may grow
	}
	switch {
	case row.IsHole():
		return s, nil
	case row.Content == 0:
		s.x = strings.NewReader(row.Text)
		return s, nil
	}
	x, err := t.q.c.Open(row.Content)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", errLocal, err)
	}
	if err != nil { // of the disk, or of too many open files: it may go
		return nil, err
	}
	sign, err := x.Sign()
	if err == nil && sign.Size < row.Size {
		err = fmt.Errorf("%w: content %d has %d bytes of %d", errLocal, row.Content, sign.Size, row.Size)
	}
	if err != nil {
		x.Close()
		if t.isStopped() || t.changed() {
			err = errSuperseded // it was truncated by its owner, whose row follows
		}
		return nil, err
	}
	s.x, s.close = x, func() { x.Close() }
	return s, nil
}

// why returns err, or, where a body failed because the base could not be read or
// the bytes here are not what they should be, what was the matter with that.
func (s *source) why(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil || s.lost == nil {
		return err
	}
	lost := s.lost
	s.lost = nil
	if errors.Is(lost, errLocal) {
		return lost
	}
	return &object.Error{Op: "GetObject", Key: s.base.Key, Kind: object.KindOf(lost), Fate: object.NotSent, Err: lost}
}

func (s *source) fails(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && err != io.EOF {
		s.lost = err
	}
	return err
}

// isLocal reports that no byte from off up to end must be fetched.
func (s *source) isLocal(off, end int64) bool { return s.here.Covers(off, end) }

// body reads n bytes from off, for as long as the transfer is not stopped.
func (s *source) body(off, n int64) *body { return &body{s: s, off: off, end: off + n} }

type body struct {
	s        *source
	off, end int64
	r        io.ReadCloser // of the base, from off on
	rEnd     int64
}

func (b *body) Read(p []byte) (int, error) {
	if b.off >= b.end {
		return 0, io.EOF
	}
	if b.r == nil {
		for r := range b.s.here.Within(b.off, b.end) {
			if r.Off == b.off {
				return b.readHere(p[:min(int64(len(p)), r.Len())])
			}
			break
		}
	}
	return b.readBase(p)
}

// readHere reads what no writer may change meanwhile.
func (b *body) readHere(p []byte) (int, error) {
	t := b.s.t
	t.reading.RLock()
	defer t.reading.RUnlock()
	if t.stopped {
		return 0, errStopped
	}
	n, err := b.s.x.ReadAt(p, b.off)
	if b.off += int64(n); n > 0 {
		err = nil
	} else if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (b *body) readBase(p []byte) (int, error) {
	if b.s.t.isStopped() {
		return 0, errStopped
	}
	if b.r == nil {
		b.rEnd = b.end
		for g := range b.s.here.Gaps(b.off, b.end) {
			b.rEnd = g.End
			break
		}
		r, err := b.s.t.q.remote.Get(b.s.t.q.send, b.s.base, b.off, b.rEnd-b.off)
		if err != nil {
			return 0, b.s.fails(err)
		}
		b.r = r
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.rEnd-b.off)])
	b.off += int64(n)
	if err == io.EOF && b.off < b.rEnd {
		err = io.ErrUnexpectedEOF
	}
	if b.off == b.rEnd && (err == nil || err == io.EOF) {
		err = b.Close()
	}
	return n, b.s.fails(err)
}

// Close ends the fetch under way; what was read of it stays read.
func (b *body) Close() error {
	if b.r == nil {
		return nil
	}
	err := b.r.Close()
	b.r = nil
	return err
}

var _ io.ReaderAt = (*cache.Content)(nil)
