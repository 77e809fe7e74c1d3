package fs

import (
	"context"
	"hash/fnv"
	"slices"
	"sync"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ossmount/ossmount/internal/object"
)

// dirHandle is an open directory. Its offsets count the names that were given
// out, "." and ".." first. A seek goes back to any of them: of each a hash is
// kept (8 bytes), and of one in a block its place, from where the listing is
// taken up again; what was given out between there and the offset is left out
// then, so that names which stay are shown once, whatever comes or goes.
//
// Every read begins with a seek (raw.go), mostly to what comes next anyway. What
// the read before gave out is kept: the kernel may have taken only some of it.
type dirHandle struct {
	n *node

	mu     sync.Mutex
	s      *dirStream
	at     int             // offset of what the stream yields next
	sent   []fuse.DirEntry // what was given out last, up to there
	again  int             // so many of them come once more
	given  []uint64        // hashes of the places of what was given out, from offset 2 on
	places []string        // where the blocks begin: after this place
	skip   map[uint64]struct{}
}

// block is how many names lie between two places that are kept.
const block = 512

var (
	_ gofs.FileReaddirenter = (*dirHandle)(nil)
	_ gofs.FileLookuper     = (*dirHandle)(nil)
	_ gofs.FileSeekdirer    = (*dirHandle)(nil)
	_ gofs.FileReleasedirer = (*dirHandle)(nil)
	_ gofs.FileFsyncdirer   = (*dirHandle)(nil)
)

// OpendirHandle implements opendir.
func (n *node) OpendirHandle(context.Context, uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	return &dirHandle{n: n}, 0, 0
}

// Readdirent implements readdir.
func (d *dirHandle) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	ctx, cancel := context.WithTimeout(ctx, d.n.fs.o.Stall)
	defer cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.again == 0 {
		e, ok, err := d.moreLocked(ctx)
		if err != nil || !ok {
			return nil, d.n.fs.errno("readdir", err)
		}
		d.at++
		e.Off = uint64(d.at)
		d.sent, d.again = append(d.sent, e), 1
	}
	e := d.sent[len(d.sent)-d.again]
	d.again--
	return &e, 0
}

// Lookup resolves the name that Readdirent has just given out, by the listing
// that it stands in.
func (d *dirHandle) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n.lookupIn(ctx, name, d.s, out)
}

// moreLocked takes the next name: ".", "..", then the directory's.
func (d *dirHandle) moreLocked(ctx context.Context) (e fuse.DirEntry, ok bool, err error) {
	switch d.at {
	case 0:
		return fuse.DirEntry{Name: ".", Mode: object.TypeDir, Ino: d.n.StableAttr().Ino}, true, nil
	case 1:
		ino := d.n.StableAttr().Ino
		if _, parent := d.n.Parent(); parent != nil {
			ino = parent.StableAttr().Ino
		}
		return fuse.DirEntry{Name: "..", Mode: object.TypeDir, Ino: ino}, true, nil
	}
	i, ok, err := d.nextLocked(ctx)
	if err != nil || !ok {
		return e, false, err
	}
	n := d.at - 2 // how many names came before
	d.given = setAt(d.given, n, hash(i.order()))
	if n++; n%block == 0 {
		d.places = setAt(d.places, n/block, i.order())
	}
	return fuse.DirEntry{Name: i.name, Mode: i.shown(), Ino: d.n.fs.inoOf(d.n, i)}, true, nil
}

// nextLocked takes the next name from the stream, and that from another stream
// if the directory has moved meanwhile: the rows of its names are elsewhere now.
func (d *dirHandle) nextLocked(ctx context.Context) (i item, ok bool, err error) {
	err = d.n.here(func(key string) (err error) {
		if d.s != nil && d.s.key != key {
			d.resumeLocked()
		}
		if d.s == nil {
			after := ""
			if n := d.at - 2; n > 0 {
				after = d.places[n/block]
			}
			if d.s, err = d.n.fs.overlay.stream(ctx, key, d.n.fs.freshIn(key), after); err != nil {
				return err
			}
			if len(d.places) == 0 {
				d.places = append(d.places, "")
			}
		}
		for {
			i, ok, err = d.s.next(ctx)
			if _, again := d.skip[hash(i.order())]; err != nil || !ok || !again {
				return err
			}
		}
	})
	return i, ok, err
}

// setAt sets the element n of s, which is there or is the next.
func setAt[T any](s []T, n int, v T) []T {
	if n == len(s) {
		return append(s, v)
	}
	s[n] = v
	return s
}

func hash(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()
}

// Seekdir implements seekdir and rewinddir.
func (d *dirHandle) Seekdir(_ context.Context, off uint64) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	to := int(off &^ sought)
	switch back := d.at - to; {
	case to == 0 && d.at > 0:
		d.closeLocked()
		d.given, d.places, d.at = nil, nil, 0
	case 0 <= back && back <= len(d.sent):
		d.sent, d.again = slices.Delete(d.sent, 0, len(d.sent)-back), back
	case to > len(d.given)+2:
		return syscall.EINVAL
	default:
		d.closeLocked()
		d.at = to
		d.resumeLocked()
	}
	return 0
}

// resumeLocked has the listing taken up at d.at by another stream: what was
// given out since its block began is left out.
func (d *dirHandle) resumeLocked() {
	d.endLocked()
	d.skip = map[uint64]struct{}{}
	for n := max(d.at-2, 0) / block * block; n < d.at-2; n++ {
		d.skip[d.given[n]] = struct{}{}
	}
}

func (d *dirHandle) closeLocked() {
	d.endLocked()
	d.skip, d.sent, d.again = nil, nil, 0
}

func (d *dirHandle) endLocked() {
	if d.s != nil {
		d.s.close()
		d.s = nil
	}
}

// Releasedir implements closedir.
func (d *dirHandle) Releasedir(context.Context, uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closeLocked()
}

// Fsyncdir makes the names of the directory durable: one step of the horizon
// (H49).
func (d *dirHandle) Fsyncdir(ctx context.Context, _ uint32) syscall.Errno { return d.n.fs.sync(ctx) }

// Fsync of what has no open file here: a directory on some kernels.
func (n *node) Fsync(ctx context.Context, h gofs.FileHandle, _ uint32) syscall.Errno {
	if x, ok := h.(*handle); ok {
		return x.Fsync(ctx, 0)
	}
	return n.fs.sync(ctx)
}

func (f *FS) sync(ctx context.Context) syscall.Errno {
	if f.o.Fsync == Journal {
		return 0
	}
	return f.errno("fsync", f.q.WaitDurable(context.WithoutCancel(ctx), f.q.Newest()))
}
