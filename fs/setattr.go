package fs

import (
	"context"
	"math"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/writeback"
)

// Setattr implements chmod, chown, utimens and truncate. Times of access are
// not kept.
func (n *node) Setattr(ctx context.Context, h gofs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if n.fs.o.ReadOnly {
		return syscall.EROFS
	}
	if size, ok := in.GetSize(); ok {
		if err := n.setSize(ctx, int64(size)); err != nil {
			return n.fs.errno("truncate", err)
		}
	}
	set := func(a *object.Attr) { change(a, in) }
	ctx, cancel := n.fs.patient(ctx)
	defer cancel()
	if x := n.openFile(); x != nil {
		if err := x.setAttr(ctx, set); err != nil {
			return n.fs.errno("setattr", err)
		}
		x.fillAttr(&out.Attr)
		return 0
	}
	err := retried(func() error {
		e, err := n.entry(ctx)
		if err != nil {
			return err
		}
		if err := n.setEntry(e, set); err != nil {
			return err
		}
		n.fill(e, &out.Attr)
		return nil
	})
	return n.fs.errno("setattr", err)
}

// change applies what in asks for, but for the size.
func change(a *object.Attr, in *fuse.SetAttrIn) {
	if mode, ok := in.GetMode(); ok {
		a.Mode = a.Mode&object.TypeMask | mode&^object.TypeMask
	}
	if uid, ok := in.GetUID(); ok {
		a.UID = uid
	}
	if gid, ok := in.GetGID(); ok {
		a.GID = gid
	}
	if t, ok := in.GetMTime(); ok {
		a.Mtime = nanos(t)
		if in.Valid&fuse.FATTR_MTIME_NOW != 0 {
			a.Mtime = time.Now().UnixNano()
		}
	}
}

// nanos is t in Unix nanoseconds, as near as 64 bits reach (1678 to 2262).
func nanos(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}

// setEntry commits new attributes of a name that is not open.
func (n *node) setEntry(e *entry, set func(a *object.Attr)) error {
	old := e.attr
	set(&e.attr)
	if e.attr == old || n.fs.root == n && n.fs.o.Prefix == "" {
		return nil // the root of a bucket has no object to keep them
	}
	clean := e.clean()
	if clean == nil && e.row == nil && e.dir {
		clean = &writeback.Row{Key: e.key, Attr: e.attr, Known: e.known} // a directory that was but a prefix
	}
	return n.fs.commit(func(c *writeback.Change) error {
		key := n.keyLocked()
		if clean != nil {
			clean.Key = key
		}
		return c.SetAttr(key, e.attr, clean)
	})
}

// setSize implements truncate, also of a file that is not open.
func (n *node) setSize(ctx context.Context, size int64) error {
	ctx = context.WithoutCancel(ctx)
	if x := n.openFile(); x != nil && x.writing() {
		return x.truncate(ctx, size)
	}
	if err := n.fs.mayOpen(true); err != nil {
		return err
	}
	open, cancel := n.fs.patient(ctx)
	defer cancel()
	h, err := n.open(open, true, size == 0)
	if err != nil {
		return err
	}
	defer h.Release(ctx)
	if size > 0 {
		if err := h.x.truncate(ctx, size); err != nil {
			return err
		}
	}
	return h.x.commit(false)
}
