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

// Whoever reads a directory on after an error, as libraries do by themselves
// when a signal has interrupted them, finds every name once.
func TestNoNameIsLostBehindAnError(t *testing.T) {
	for _, paged := range []bool{false, true} {
		t.Run(fmt.Sprint("paged ", paged), func(t *testing.T) {
			b := newTestbed(t, t.TempDir())
			defer b.tidy()
			raw := gofs.NewNodeFS(b.fs.Root(), &gofs.Options{RootStableAttr: &gofs.StableAttr{Ino: 1, Mode: fuse.S_IFDIR}})
			var want []string
			for i := range 30 {
				want = append(want, fmt.Sprintf("f%02d", i))
				b.object(t, want[i], nil)
			}
			asked, fails := 0, 1
			if paged {
				b.fs.o.MetaTTL = 1 << 40
				b.fs.overlay.isBig("")
				b.fs.remote = &smallPages{Remote: b.fs.remote, max: 7}
				fails = 3
			}
			b.fs.remote = &hooked{b.fs.remote, func(object.ListQuery) error {
				if asked++; asked == fails || asked == fails+1 {
					return &object.Error{Op: "ListObjectsV2", Kind: object.Denied, Fate: object.Answered, Status: 403, Err: errors.New("no")}
				}
				return nil
			}}
			var open fuse.OpenOut
			if s := raw.OpenDir(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: 1}}, &open); !s.Ok() {
				t.Fatal(s)
			}
			var got []string
			told, at := 0, uint64(0)
			for {
				out := fuse.NewDirEntryList(make([]byte, 200), at) // has room for six names
				s := raw.ReadDir(nil, &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: 1}, Fh: open.Fh, Offset: at}, out)
				if !s.Ok() {
					if told++; told > 20 {
						t.Fatalf("told again and again: %v", s)
					}
					continue
				}
				answer := out.Bytes()
				if len(answer) == 0 {
					break
				}
				for len(answer) > 0 {
					at = binary.NativeEndian.Uint64(answer[8:])
					n := int(binary.NativeEndian.Uint32(answer[16:]))
					got = append(got, string(answer[24:24+n]))
					answer = answer[24+(n+7)/8*8:]
				}
			}
			if told != 1 {
				t.Errorf("an error that lasts was told %d times", told)
			}
			if want = append([]string{".", ".."}, want...); !slices.Equal(got, want) {
				t.Errorf("%d names: %q", len(got), got)
			}
		})
	}
}
