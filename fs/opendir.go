package fs

import (
	"context"
	"sync"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ossmount/ossmount/internal/object"
)

// dirHandle is an open directory. Its offsets are the places of names in the
// order in which they were given out, and count from 1; a seek to 0 begins
// anew, one to an earlier place goes back among the names that were seen.
type dirHandle struct {
	n *node

	mu   sync.Mutex
	s    *dirStream
	seen []fuse.DirEntry
	at   int
}

var (
	_ gofs.FileReaddirenter = (*dirHandle)(nil)
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
	for d.at >= len(d.seen) {
		e, ok, err := d.moreLocked(ctx)
		if err != nil {
			return nil, d.n.fs.errno("readdir", err)
		}
		if !ok {
			return nil, 0
		}
		e.Off = uint64(len(d.seen) + 1)
		d.seen = append(d.seen, e)
	}
	e := d.seen[d.at]
	d.at++
	return &e, 0
}

// moreLocked takes the next name: ".", "..", then the directory's.
func (d *dirHandle) moreLocked(ctx context.Context) (e fuse.DirEntry, ok bool, err error) {
	switch len(d.seen) {
	case 0:
		return fuse.DirEntry{Name: ".", Mode: object.TypeDir, Ino: d.n.StableAttr().Ino}, true, nil
	case 1:
		ino := d.n.StableAttr().Ino
		if _, parent := d.n.Parent(); parent != nil {
			ino = parent.StableAttr().Ino
		}
		return fuse.DirEntry{Name: "..", Mode: object.TypeDir, Ino: ino}, true, nil
	}
	if d.s == nil {
		key := d.n.key()
		if d.s, err = d.n.fs.overlay.stream(ctx, key, d.n.fs.freshIn(key)); err != nil {
			return e, false, err
		}
	}
	n, ok, err := d.s.next(ctx)
	return fuse.DirEntry{Name: n.name, Mode: n.shown()}, ok, err
}

// Seekdir implements seekdir and rewinddir.
func (d *dirHandle) Seekdir(_ context.Context, off uint64) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off == 0 {
		d.closeLocked()
		d.seen = nil
	}
	if off > uint64(len(d.seen)) {
		return syscall.EINVAL
	}
	d.at = int(off)
	return 0
}

func (d *dirHandle) closeLocked() {
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
