package fs

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ossmount/ossmount/internal/crc64"
	"github.com/ossmount/ossmount/writeback"
)

// summed is a file of a testbed, opened and closed as programs do it.
type summed struct {
	*testing.T
	b    *testbed
	n    *node
	h    *handle
	text []byte
}

func newSummed(t *testing.T) *summed {
	b := newTestbed(t, t.TempDir())
	t.Cleanup(b.tidy)
	gofs.NewNodeFS(b.fs.Root(), &gofs.Options{})
	return &summed{T: t, b: b}
}

func (s *summed) ok(errno syscall.Errno) {
	s.Helper()
	if errno != 0 {
		s.Fatal(errno)
	}
}

func (s *summed) create() {
	inode, h, _, errno := s.b.fs.root.Create(s.Context(), "f", syscall.O_RDWR, 0o644, &fuse.EntryOut{})
	s.ok(errno)
	s.n, s.h, s.text = inode.Operations().(*node), h.(*handle), nil
}

func (s *summed) open(flags uint32) {
	h, _, errno := s.n.Open(s.Context(), syscall.O_RDWR|flags)
	s.ok(errno)
	if s.h = h.(*handle); flags&syscall.O_TRUNC != 0 {
		s.text = nil
	}
}

func (s *summed) close() {
	s.ok(s.h.Flush(s.Context()))
	s.h.Release(s.Context())
}

func (s *summed) resize(n int) {
	s.text = append(s.text, make([]byte, max(0, n-len(s.text)))...)[:n]
}

func (s *summed) write(off int, text string) {
	s.resize(max(len(s.text), off+len(text)))
	copy(s.text[off:], text)
	_, errno := s.h.Write(s.Context(), []byte(text), int64(off))
	s.ok(errno)
}

func (s *summed) truncate(n int) {
	s.resize(n)
	if err := s.h.x.truncate(s.Context(), int64(n)); err != nil {
		s.Fatal(err)
	}
}

func (s *summed) allocate(off, n int, mode uint32) {
	if mode&fallocKeepSize == 0 {
		s.resize(max(len(s.text), off+n))
	}
	if mode&(fallocPunch|fallocZero) != 0 {
		clear(s.text[min(off, len(s.text)):min(off+n, len(s.text))])
	}
	s.ok(s.h.Allocate(s.Context(), uint64(off), uint64(n), mode))
}

func (s *summed) settle() {
	if left, err := s.b.fs.q.Drain(s.Context()); err != nil || left.Pending > 0 {
		s.Fatalf("drain: %+v %v", left, err)
	}
}

func (s *summed) row() (r *writeback.Row) {
	r, err := s.b.fs.q.Row("f")
	if err != nil {
		s.Fatal(err)
	}
	return r
}

// The sum of a file is known as long as it is written from its beginning to its
// end, or at the end of what has one, and never another than that of its bytes.
func TestSumOfWhatIsWritten(t *testing.T) {
	for _, c := range []struct {
		name  string
		story func(s *summed)
		known bool
	}{
		{"one write after another", func(s *summed) { s.write(0, "one "); s.write(4, "two") }, true},
		{"nothing", func(s *summed) {}, true},
		{"an append after a close", func(s *summed) { s.write(0, "one "); s.close(); s.open(0); s.write(4, "two") }, true},
		{"an append to what was uploaded", func(s *summed) { s.write(0, "one "); s.close(); s.settle(); s.open(0); s.write(4, "two") }, true},
		{"an append to what only OSS has", func(s *summed) {
			s.close()
			s.settle()
			s.text = []byte(strings.Repeat("0123456789abcdef", 1<<16))
			s.b.object(s, "f", s.text)
			s.open(0)
			s.write(len(s.text), "more")
		}, true},
		{"emptied and written anew", func(s *summed) { s.write(0, "one"); s.write(1, "x"); s.truncate(0); s.write(0, "two") }, true},
		{"opened with O_TRUNC", func(s *summed) { s.write(3, "one"); s.close(); s.open(syscall.O_TRUNC); s.write(0, "two") }, true},
		{"truncated to the size it has, and room made for more", func(s *summed) {
			s.write(0, "one")
			s.truncate(3)
			s.allocate(0, 1000, fallocKeepSize)
			s.write(3, "two")
		}, true},
		{"a chmod between", func(s *summed) {
			s.write(0, "one")
			s.close()
			s.ok(s.n.Setattr(s.Context(), nil, &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{Valid: fuse.FATTR_MODE, Mode: 0o600}}, &fuse.AttrOut{}))
			s.open(0)
			s.write(3, "two")
		}, true},
		{"written over", func(s *summed) { s.write(0, "one"); s.write(0, "two") }, false},
		{"written over after a close", func(s *summed) { s.write(0, "one"); s.close(); s.open(0); s.write(0, "t"); s.write(3, "more") }, false},
		{"a hole", func(s *summed) { s.write(0, "one"); s.write(10, "two") }, false},
		{"backwards", func(s *summed) { s.write(3, "one"); s.write(0, "two") }, false},
		{"shortened", func(s *summed) { s.write(0, "one"); s.truncate(2) }, false},
		{"made longer", func(s *summed) { s.write(0, "one"); s.truncate(5) }, false},
		{"made longer by fallocate", func(s *summed) { s.write(0, "one"); s.allocate(0, 10, 0) }, false},
		{"punched", func(s *summed) { s.write(0, "one"); s.allocate(0, 2, fallocPunch|fallocKeepSize) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSummed(t)
			s.create()
			c.story(s)
			s.close()
			r := s.row()
			if r.HasCRC != c.known || c.known && r.CRC64 != crc64.Update(0, s.text) {
				t.Errorf("known %t, %x; want %t, %x", r.HasCRC, r.CRC64, c.known, crc64.Update(0, s.text))
			}
			if s.settle(); s.b.text("f") != string(s.text) {
				t.Errorf("OSS has %.100q, want %.100q", s.b.text("f"), s.text)
			}
		})
	}
}

// Whatever programs do, a sum that is known is that of the bytes.
func TestNoSumIsWrong(t *testing.T) {
	s := newSummed(t)
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	s.create()
	known := 0
	for i := range 400 {
		text := strings.Repeat(fmt.Sprint(i, " "), 1+r.IntN(100))
		switch r.IntN(12) {
		case 0, 1, 2, 3, 4:
			s.write(len(s.text), text)
		case 5:
			s.write(r.IntN(len(s.text)+1), text)
		case 6:
			s.truncate([]int{0, len(s.text), r.IntN(len(s.text) + 10)}[r.IntN(3)])
		case 7:
			s.allocate(r.IntN(len(s.text)+1), 1+r.IntN(200), []uint32{0, fallocKeepSize, fallocPunch | fallocKeepSize, fallocZero}[r.IntN(4)])
		case 8, 9:
			s.close()
			if row := s.row(); row != nil && row.HasCRC {
				if known++; row.CRC64 != crc64.Update(0, s.text) {
					t.Fatalf("seed %d: after %d steps the sum of %d bytes is wrong", seed, i, len(s.text))
				}
			}
			s.open([]uint32{0, syscall.O_TRUNC}[r.IntN(2)])
		case 10:
			s.close()
			s.settle()
			s.open(0)
		case 11:
			p := make([]byte, len(s.text)+1)
			if n, err := s.h.x.read(t.Context(), p, 0); err != nil && err != io.EOF || string(p[:n]) != string(s.text) {
				t.Fatalf("seed %d: after %d steps %d bytes are read, want %d (%v)", seed, i, n, len(s.text), err)
			}
		}
	}
	s.close()
	if s.settle(); s.b.text("f") != string(s.text) {
		t.Errorf("seed %d: OSS has %d bytes, want %d", seed, len(s.b.text("f")), len(s.text))
	}
	if known == 0 {
		t.Errorf("seed %d: no sum was ever known", seed)
	}
}
