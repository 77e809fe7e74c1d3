package fs

import (
	"context"
	"maps"
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
		if err := n.setSize(ctx, h, int64(size)); err != nil {
			return n.fs.errno("truncate", err)
		}
	}
	_, own := in.GetMTime()
	err := n.alter(ctx, own, func(r *writeback.Row) error { change(&r.Attr, in); return nil })
	if err != nil {
		return n.fs.errno("setattr", err)
	}
	if own {
		n.names.Store(0)
	}
	return n.Getattr(ctx, h, out)
}

// change applies what in asks for, but for the size.
func change(a *object.Attr, in *fuse.SetAttrIn) {
	now := time.Now().UnixNano()
	if mode, ok := in.GetMode(); ok {
		a.Mode = a.Mode&object.TypeMask | mode&^object.TypeMask
		a.Ctime = now
	}
	uid, u := in.GetUID()
	gid, g := in.GetGID()
	if u {
		a.UID = uid
	}
	if g {
		a.GID = gid
	}
	if u || g {
		a.Ctime = now
		if a.Mode&object.TypeMask != object.TypeDir {
			a.Mode &^= syscall.S_ISUID
			if a.Mode&syscall.S_IXGRP != 0 {
				a.Mode &^= syscall.S_ISGID
			}
		}
	}
	if t, ok := in.GetATime(); ok {
		a.Atime, a.Ctime = nanos(t), now
		if in.Valid&fuse.FATTR_ATIME_NOW != 0 {
			a.Atime = now
		}
	}
	if t, ok := in.GetMTime(); ok {
		if a.Atime == 0 {
			a.Atime = a.Mtime
		}
		a.Mtime, a.Ctime = nanos(t), now
		if in.Valid&fuse.FATTR_MTIME_NOW != 0 {
			a.Mtime = now
		}
	}
}

// alter changes what is kept beside the bytes of n; f is given it as a row. own
// says that it sets the time of modification: that of a directory's names counts
// no more, then.
func (n *node) alter(ctx context.Context, own bool, f func(r *writeback.Row) error) error {
	ctx, cancel := n.fs.patient(ctx)
	defer cancel()
	return retried(func() error {
		x := n.openFile()
		if x != nil {
			if done, err := x.alterUnnamed(f); done {
				return err
			}
		}
		e, err := n.entry(ctx) // asked without a lock
		if err == nil && (x == nil || !x.isLocal()) {
			if err := n.fs.readable(ctx, e); err != nil {
				return err
			}
		}
		switch {
		case x != nil && (err == nil || n.fs.errno("setattr", err) == syscall.ENOENT):
			return x.alter(e, f)
		case err != nil && n.isGone():
			return n.alterGone(f)
		case err != nil:
			return err
		}
		return n.alterEntry(e, own, f)
	})
}

// alterGone changes what is shown of a name that was removed and is still held.
func (n *node) alterGone(f func(r *writeback.Row) error) error {
	n.fs.tree.Lock()
	defer n.fs.tree.Unlock()
	if n.was == nil {
		return fail(syscall.ESTALE)
	}
	r := writeback.Row{Attr: n.was.attr, Meta: n.was.meta}
	if err := f(&r); err != nil {
		return err
	}
	was := *n.was // others may be reading the one that is there
	was.attr, was.meta = r.Attr, r.Meta
	n.was = &was
	return nil
}

// alterEntry commits the change of a name that is not open.
func (n *node) alterEntry(e *entry, own bool, f func(r *writeback.Row) error) error {
	next := writeback.Row{Attr: e.attr, Meta: e.meta}
	if err := f(&next); err != nil {
		return err
	}
	if n.fs.root == n && n.fs.o.Prefix == "" {
		n.fs.mu.Lock()
		defer n.fs.mu.Unlock()
		n.fs.rootAttr = next.Attr
		return nil
	}
	if next.Attr.Published() == e.attr.Published() && maps.Equal(next.Meta, e.meta) {
		return n.fs.commit(func(c *writeback.Change) error {
			if own && n.dir {
				if err := c.ForgetNames(n.keyLocked()); err != nil {
					return err
				}
			}
			return c.Times(n.keyLocked(), next.Attr)
		})
	}
	clean := e.clean()
	if clean == nil && e.row == nil && e.dir {
		clean = &writeback.Row{Key: e.key, Known: e.known} // a directory that was but a prefix
	}
	return n.fs.commit(func(c *writeback.Change) error {
		key := n.keyLocked()
		if key != e.key {
			return errMoved
		}
		if own && n.dir {
			if err := c.ForgetNames(key); err != nil {
				return err
			}
		}
		return c.Alter(key, clean, func(r *writeback.Row) { r.Attr, r.Meta, r.Headers, r.Unlearnt = next.Attr, next.Meta, e.headers, false })
	})
}

// alter is alterEntry for an open file; e is nil where no name holds it.
func (x *file) alter(e *entry, f func(r *writeback.Row) error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.lookLocked()
	next := writeback.Row{Attr: x.attr, Meta: x.meta}
	if err := f(&next); err != nil {
		return err
	}
	return x.alterLocked(e, next)
}

// alterUnnamed is alter for a file of which no row tells yet: it asks nothing. done is
// false for others.
func (x *file) alterUnnamed(f func(r *writeback.Row) error) (done bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.named || x.content == nil {
		return false, nil
	}
	x.lookLocked()
	next := writeback.Row{Attr: x.attr, Meta: x.meta}
	if err := f(&next); err != nil {
		return true, err
	}
	return true, x.alterLocked(nil, next)
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

// setSize implements truncate, also of a file that is not open.
func (n *node) setSize(ctx context.Context, by gofs.FileHandle, size int64) error {
	ctx = context.WithoutCancel(ctx)
	if h, ok := by.(*handle); ok && h.writes {
		h.x.dropSetID(ctx)
		return h.x.truncate(ctx, size)
	}
	if err := n.fs.mayOpen(true); err != nil {
		return err
	}
	open, cancel := n.fs.patient(ctx)
	defer cancel()
	h, err := n.open(open, true, size == 0, false)
	if err != nil {
		return err
	}
	defer h.Release(ctx)
	h.x.dropSetID(ctx)
	if size > 0 {
		if err := h.x.truncate(ctx, size); err != nil {
			return err
		}
	}
	return h.x.commit(false)
}
