package fs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"pgregory.net/rapid"

	"github.com/ossmount/ossmount/internal/object"
)

// dirent is a name in an answer to READDIR or READDIRPLUS.
type dirent struct {
	name string
	off  uint64
}

func dirents(b []byte, plus bool) (out []dirent) {
	skip := 0
	if plus {
		skip = 128 // struct fuse_entry_out
	}
	for len(b) > 0 {
		d := b[skip:]
		n := int(binary.NativeEndian.Uint32(d[16:]))
		out = append(out, dirent{string(d[24 : 24+n]), binary.NativeEndian.Uint64(d[8:])})
		b = d[(24+n+7)&^7:]
	}
	return out
}

// The kernel takes only the first names of an answer when a signal is pending,
// and asks for the rest again, with another room and in either form; and a page
// that cannot be had is asked for again by whoever reads on. Each name is given
// out once.
func TestAnswersThatAreTakenInPart(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	fail := false
	b.fs.remote = &hooked{&smallPages{Remote: b.fs.remote, max: 7}, func(q object.ListQuery) error {
		if fail && q.Token != "" {
			fail = false
			return &object.Error{Op: "ListObjectsV2", Kind: object.Denied, Fate: object.Answered, Status: 403, Err: errors.New("no")}
		}
		return nil
	}}
	b.fs.overlay.big[""] = time.Now().Add(time.Hour)
	raw := raw{gofs.NewNodeFS(b.fs.root, &gofs.Options{RootStableAttr: &gofs.StableAttr{Ino: 1, Mode: fuse.S_IFDIR}}), &b.fs.backings}
	want := []string{".", ".."}
	for i := range 40 {
		want = append(want, fmt.Sprintf("f%02d", i))
		b.object(t, want[i+2], nil)
	}
	rapid.Check(t, func(t *rapid.T) {
		var opened fuse.OpenOut
		raw.OpenDir(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: 1}}, &opened)
		defer raw.ReleaseDir(&fuse.ReleaseIn{InHeader: fuse.InHeader{NodeId: 1}, Fh: opened.Fh})
		var got []string
		for off := uint64(0); ; {
			in := fuse.ReadIn{InHeader: fuse.InHeader{NodeId: 1}, Fh: opened.Fh, Offset: off}
			out := fuse.NewDirEntryList(make([]byte, rapid.IntRange(160, 4096).Draw(t, "room")), off)
			plus, read := rapid.Bool().Draw(t, "plus"), raw.ReadDir
			if plus {
				read = raw.ReadDirPlus
			}
			fail = rapid.IntRange(0, 3).Draw(t, "a page fails") == 0
			if s := read(nil, &in, out); s != fuse.OK {
				continue
			}
			all := dirents(out.Bytes(), plus)
			if len(all) == 0 {
				break
			}
			for _, d := range all[:rapid.IntRange(1, len(all)).Draw(t, "taken")] {
				got, off = append(got, d.name), d.off
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("listed %q", got)
		}
	})
}
