package fs

import (
	"context"
	"errors"
	"syscall"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/crash"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/writeback"
)

// change runs f, which changes the bytes, when there is a content to change and
// nothing vouches for it. With empty the bytes that there are are not wanted.
func (x *file) change(ctx context.Context, empty bool, f func() error) error {
	return x.prepared(ctx, empty, func() error {
		x.changed = true
		return f()
	})
}

// prepared is change without saying that something changes.
func (x *file) prepared(ctx context.Context, empty bool, f func() error) error {
	for {
		err := x.tryPrepared(ctx, empty, f)
		if !errors.Is(err, writeback.ErrPublishing) {
			return err
		}
		// A close or fsync waits for OSS: without a lock of the inode (H42).
		if err := x.fs.q.AwaitPublished(context.WithoutCancel(ctx), x.number()); err != nil {
			return err
		}
	}
}

func (x *file) tryPrepared(ctx context.Context, empty bool, f func() error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.lookLocked()
	if x.content == nil {
		start := x.startLocked
		if empty {
			start = x.emptyLocked
		}
		if err := start(); err != nil {
			return err
		}
	}
	if x.vouched {
		if err := x.beforeLocked(ctx); err != nil {
			return err
		}
	}
	return f()
}

// beforeLocked takes back whatever vouches for the content's bytes. It waits
// for the disk, never for the network.
func (x *file) beforeLocked(ctx context.Context) error {
	clone, err := x.fs.q.BeforeWrite(context.WithoutCancel(ctx), x.content.Number(), x.handles == 1 && x.base == nil && !x.isPassed())
	if n := x.follow.Content(); n != x.content.Number() { // whose file may be gone: an error of it says nothing
		if err := x.filledLocked(n); err != nil {
			return err
		}
		return x.beforeLocked(ctx)
	}
	if err != nil {
		return err
	}
	if clone {
		y, err := x.content.Clone(cache.Witness{Key: x.n.key(), Attr: x.attr, State: cache.StateOpen})
		if err != nil {
			return err
		}
		x.useLocked(y)
		x.origin, x.dirty = object.Ref{}, nil // the other content is about to become one
	}
	x.vouched, x.rowIsOpen = false, true
	return nil
}

// filledLocked goes on with the content n, which the engine has made of this one
// and of what was in its holes while the file was open for reading only.
func (x *file) filledLocked(n uint64) error {
	y, err := x.fs.c.Open(n)
	if err != nil {
		return err
	}
	old := x.content
	for range x.writers {
		x.fs.q.OpenForWrite(n)
		defer x.fs.q.Seal(old.Number(), x.n.key())
	}
	defer old.Close()
	x.content = y
	if x.base != nil {
		x.base.release()
	}
	x.base, x.local, x.origin, x.dirty = nil, nil, object.Ref{}, nil
	return nil
}

// startLocked gives a file a content, before its first change: what was fetched
// of it, if that is all, else an empty one with a hole over the version on OSS.
func (x *file) startLocked() error {
	origin := x.base.version()
	err := errWhole
	if !x.base.whole() {
		err = x.holeLocked(origin)
	}
	if errors.Is(err, errWhole) {
		err = x.takeLocked(origin)
	}
	if err != nil {
		return err
	}
	x.origin, x.dirty, x.since = origin, nil, nil
	return nil
}

// takeLocked makes what was fetched, which is all, the file's content.
func (x *file) takeLocked(origin object.Ref) error {
	y, err := x.base.take()
	if err != nil {
		return err
	}
	x.useLocked(y)
	x.base.release()
	x.base = nil
	x.vouched, x.named = true, true // what OSS holds, until the first change
	// By this name it is found; where that fails the first write does, too.
	_ = y.SetWitness(cache.Witness{Key: x.n.key(), Attr: x.attr, Ref: origin, State: cache.StateClean})
	return nil
}

func (x *file) holeLocked(origin object.Ref) error {
	y, err := x.fs.create(x.n.key(), x.attr, origin)
	if err != nil {
		return err
	}
	err = y.Truncate(x.size)
	if err == nil {
		follow := x.fs.q.Follow(y.Number(), nil) // until the file's own
		defer follow.Done()
		var base *sparse
		if base, err = x.base.own(y.Number(), follow); err == nil {
			x.base, x.local = base, nil
			x.useLocked(y)
			x.base.follows(x, x.follow)
			return nil
		}
	}
	y.Close()
	return errors.Join(err, x.fs.c.Drop(y.Number()))
}

// emptyLocked gives a file without a content an empty one.
func (x *file) emptyLocked() error {
	y, err := x.fs.create(x.n.key(), x.attr, object.Ref{})
	if err != nil {
		return err
	}
	x.useLocked(y)
	x.base.release()
	x.base, x.local = nil, nil
	x.size, x.sum = 0, ofNothing
	return nil
}

// create makes a new content for the file at key. Its witness says so from the
// start: what was never closed is found by its name.
// With a base it will have holes over that.
func (f *FS) create(key string, attr object.Attr, base object.Ref) (*cache.Content, error) {
	if err := f.q.Damaged(); err != nil {
		return nil, fail(syscall.EROFS)
	}
	y, err := f.c.Create()
	if err != nil {
		return nil, err
	}
	if err := y.SetWitness(cache.Witness{Key: key, Attr: attr, Base: base, State: cache.StateOpen}); err != nil {
		y.Close()
		return nil, errors.Join(err, f.c.Drop(y.Number()))
	}
	crash.At("content made")
	return y, nil
}

// markLocked notes that the bytes from off up to end were written.
func (x *file) markLocked(off, end int64) {
	x.since = x.since.Add(off, end)
	if x.base != nil {
		x.local = x.local.Add(off, end)
	}
	if !x.origin.IsZero() {
		x.dirty = x.dirty.Add(off, end)
	}
}

// growLocked notes that the file has size bytes at least: what is new is zeros,
// and not of the base.
func (x *file) growLocked(size int64) {
	if size > x.size {
		x.markLocked(x.size, size)
		x.size = size
	}
}

// write implements write at any offset. The end of ctx ends the wait for room.
func (x *file) write(ctx context.Context, p []byte, off int64) (n int, err error) {
	err = x.withRoom(ctx, x.takes(off, int64(len(p))), func() error {
		m, err := x.tryWrite(context.WithoutCancel(ctx), p[n:], off+int64(n))
		n += m
		return err
	})
	if n > 0 && (writeback.IsFull(err) || errors.Is(err, context.Canceled)) {
		err = nil // the rest is the next call's
	}
	if err == nil && x.isScattered() {
		x.gather(context.WithoutCancel(ctx))
	}
	if err == nil && x.isGrowing() {
		x.tellGrowth()
	}
	return n, err
}

func (x *file) tryWrite(ctx context.Context, p []byte, off int64) (n int, err error) {
	err = x.change(ctx, false, func() error {
		n, err = x.content.WriteAt(p, off)
		if end := off + int64(n); n > 0 {
			x.addLocked(p[:n], off)
			x.markLocked(off, end)
			x.growLocked(end)
			if off <= x.front {
				x.front = max(x.front, end)
			}
		}
		x.attr.Modified(now())
		crash.At("written")
		return err
	})
	return n, err
}

// truncate sets the size.
func (x *file) truncate(ctx context.Context, size int64) error {
	return x.withRoom(context.WithoutCancel(ctx), 0, func() error { return x.tryTruncate(ctx, size) })
}

func (x *file) tryTruncate(ctx context.Context, size int64) error {
	return x.change(ctx, size == 0, func() error {
		if err := x.content.Truncate(size); err != nil {
			return err
		}
		crash.At("truncated")
		switch {
		case size == 0:
			x.sum = ofNothing
		case size != x.size:
			x.sum = sum{}
		}
		if x.isPassed() && size > x.size { // what is there is not written yet, and none is seen to be
			x.tellAfter = 0
		}
		x.growLocked(size)
		x.size = size
		x.local, x.dirty, x.since = x.local.Clip(size), x.dirty.Clip(size), x.since.Clip(size)
		x.front = min(x.front, size)
		x.attr.Modified(now())
		return nil
	})
}

// allocate implements fallocate with the modes that a content can do.
func (x *file) allocate(ctx context.Context, off, n int64, mode uint32) error {
	if mode&^(fallocKeepSize|fallocPunch|fallocZero) != 0 {
		return fail(syscall.EOPNOTSUPP)
	}
	takes := n
	if mode&fallocPunch != 0 {
		takes = 0
	}
	return x.withRoom(ctx, takes, func() error { return x.tryAllocate(context.WithoutCancel(ctx), off, n, mode) })
}

func (x *file) tryAllocate(ctx context.Context, off, n int64, mode uint32) error {
	return x.change(ctx, false, func() error {
		if err := x.content.Allocate(mode, off, n); err != nil {
			return err
		}
		if mode&(fallocPunch|fallocZero) != 0 || mode&fallocKeepSize == 0 && off+n > x.size {
			x.sum = sum{}
		}
		if mode&fallocKeepSize == 0 {
			if x.isPassed() {
				x.tellAfter = 0
			}
			x.growLocked(off + n)
		}
		if mode&(fallocPunch|fallocZero) != 0 {
			x.markLocked(off, min(off+n, x.size))
		}
		x.attr.Modified(now())
		return nil
	})
}

// Modes of fallocate(2).
const (
	fallocKeepSize = 0x01
	fallocPunch    = 0x02
	fallocZero     = 0x10
)
