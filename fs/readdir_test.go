package fs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ossmount/ossmount/internal/object"
)

// smallestAnswer is the least that the kernel has room for: a page.
const smallestAnswer = 4096

// reader reads the root as a kernel does.
type reader struct {
	raw   fuse.RawFileSystem
	fh    uint64
	at    uint64
	names []string
	told  int // errors
}

func (b *testbed) reader(t *testing.T) *reader {
	t.Helper()
	raw := raw{gofs.NewNodeFS(b.fs.Root(), &gofs.Options{RootStableAttr: &gofs.StableAttr{Ino: 1, Mode: fuse.S_IFDIR}}), &b.fs.backings}
	var open fuse.OpenOut
	if s := raw.OpenDir(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: 1}}, &open); !s.Ok() {
		t.Fatal(s)
	}
	return &reader{raw: raw, fh: open.Fh}
}

// read asks once, and takes no more than most names of the answer: a signal
// makes the kernel leave the rest, and ask for it again. More is false at the end.
func (r *reader) read(plus bool, most int) (more bool) {
	ask, attributes := r.raw.ReadDir, 0
	if plus {
		ask, attributes = r.raw.ReadDirPlus, 128
	}
	out := fuse.NewDirEntryList(make([]byte, smallestAnswer), r.at)
	if s := ask(nil, &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: 1}, Fh: r.fh, Offset: r.at}, out); !s.Ok() {
		r.told++
		return true
	}
	answer := out.Bytes()
	more = len(answer) > 0
	for ; len(answer) > 0 && most > 0; most-- {
		e := answer[attributes:]
		r.at = binary.NativeEndian.Uint64(e[8:])
		n := int(binary.NativeEndian.Uint32(e[16:]))
		r.names = append(r.names, string(e[24:24+n]))
		answer = e[24+(n+7)/8*8:]
	}
	return more
}

// Whoever reads a directory on after an error, or after a signal, as libraries
// do by themselves, finds every name once.
func TestNoNameIsLostToWhoReadsOn(t *testing.T) {
	const many = 1000
	for _, c := range []struct {
		name  string
		paged bool
		fails int // which listing fails, and the next one with it
		plus  func(n int) bool
		most  func(n int) int
	}{
		{"an error at the beginning", false, 1, func(int) bool { return false }, func(int) int { return many }},
		{"an error in the middle", true, 3, func(int) bool { return false }, func(int) int { return many }},
		{"an error, with attributes", true, 2, func(int) bool { return true }, func(int) int { return many }},
		{"signals", false, 0, func(n int) bool { return n%2 == 1 }, func(n int) int { return []int{1, many}[n%2] }},
		{"more signals", true, 0, func(n int) bool { return n%3 == 1 }, func(n int) int { return []int{3, 2, many, 1}[n%4] }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newTestbed(t, t.TempDir())
			defer b.tidy()
			want := []string{".", ".."}
			for i := range 300 {
				name := fmt.Sprintf("%0*d", 4+i%20, i)
				b.object(t, name, nil)
				want = append(want, name)
			}
			slices.Sort(want[2:])
			if c.paged {
				b.fs.o.MetaTTL = 1 << 40
				b.fs.overlay.isBig("")
				b.fs.remote = &smallPages{Remote: b.fs.remote, max: 70}
			}
			asked := 0
			b.fs.remote = &hooked{b.fs.remote, func(q object.ListQuery) error {
				if q.Max == 1 { // of one name
					return nil
				}
				if asked++; c.fails > 0 && (asked == c.fails || asked == c.fails+1) {
					return &object.Error{Op: "ListObjectsV2", Kind: object.Denied, Fate: object.Answered, Status: 403, Err: errors.New("no")}
				}
				return nil
			}}
			r := b.reader(t)
			for n := 0; r.read(c.plus(n), c.most(n)); n++ {
				if n > 1000 {
					t.Fatal("it does not end")
				}
			}
			if (r.told > 0) != (c.fails > 0) || r.told > 2 {
				t.Errorf("told of %d errors", r.told)
			}
			if !slices.Equal(r.names, want) {
				t.Errorf("%d names, want %d: %q", len(r.names), len(want), r.names)
			}
		})
	}
}
