package fs

import (
	"context"
	"errors"
	"maps"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/writeback"
)

// file is an open inode: the one content that all of its handles share.
//
// Its bytes are in one of two places. Local: a content that is wholly there.
// Remote: a version on OSS, of which ranges are fetched as they are read; the
// first change fetches the rest and makes it local.
//
//	            flush, fsync                 first change after it
//	changed ───────────────────> committed ───────────────────────> changed
//	                              (vouched for: BeforeWrite)
type file struct {
	n  *node
	fs *FS

	mu      sync.RWMutex
	handles int
	writers int

	content *cache.Content // local bytes; nil while remote
	remote  *sparse        // remote bytes; nil when local
	size    int64
	attr    object.Attr
	headers object.Headers
	meta    object.Meta

	named     bool // the name holds these bytes for OSS or the journal
	changed   bool // bytes or size differ from what was last committed
	attrOnly  bool // only attributes do
	vouched   bool // the content was committed: BeforeWrite must precede a change
	rowIsOpen bool // the row says that the file is open (fsync)

	expected object.Ref // what OSS held under the name when it was opened
	known    bool
}

func now() int64 { return time.Now().UnixNano() }

func (x *file) fillAttr(out *fuse.Attr) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	fillAttr(out, x.attr, x.size)
	if x.content != nil {
		out.Blocks = min(out.Blocks, uint64(x.content.Blocks()))
	}
	x.n.markGone(out)
	out.Ino = x.n.StableAttr().Ino
}

func (x *file) writing() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.writers > 0
}

// unnamedEntry is what the open file says that its name key holds, while no
// row says it; nil once one has. Then the row knows better, or, when it has
// settled, the overlay.
func (x *file) unnamedEntry(key string) *entry {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.named || x.content == nil {
		return nil
	}
	return &entry{key: key, attr: x.attr, size: x.size, ref: x.expected, known: x.known, headers: x.headers, meta: x.meta, local: true}
}

// unnamedLocked returns the row for an open file whose bytes no row has yet;
// nil if a row has.
func (x *file) unnamedLocked() *writeback.Row {
	if x.named || x.content == nil {
		return nil
	}
	row, _ := x.rowLocked(true)
	return row
}

// movedLocked notes that a rename has committed a row for the bytes.
func (x *file) movedLocked() {
	x.named, x.vouched, x.rowIsOpen = true, true, true
}

// rowLocked makes the row for the file's bytes as they are now.
func (x *file) rowLocked(open bool) (*writeback.Row, error) {
	r := &writeback.Row{Size: x.size, Attr: x.attr, Headers: x.headers, Meta: x.meta,
		Expected: x.expected, Known: x.known, Open: open}
	sign, err := x.content.Sign()
	if err != nil {
		return nil, err
	}
	r.Content, r.SignSize, r.SignMtime = x.content.Number(), sign.Size, sign.Mtime
	return r, nil
}

// commit writes the row if the name has none yet or the bytes changed since it
// was written. It never returns EINTR (H42).
func (x *file) commit(open bool) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.commitLocked(open)
}

// interrupt commits a file that is being written as interrupted: kept as it is
// now, and not published until it is closed through a mount (H46).
func (x *file) interrupt() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.content == nil || x.writers == 0 {
		return nil
	}
	row, err := x.rowLocked(true)
	if err != nil {
		return err
	}
	row.Interrupted = true
	err = x.fs.commit(func(c *writeback.Change) error {
		if x.n.gone {
			return nil
		}
		row.Key = x.n.keyLocked()
		if cur, err := c.Row(row.Key); err != nil || cur == nil && x.named && !x.changed {
			return err // OSS has it as it is
		}
		return c.Put(row)
	})
	if err == nil {
		x.named, x.changed, x.attrOnly, x.vouched, x.rowIsOpen = true, false, false, true, true
		x.fs.unfresh(x.n)
	}
	return err
}

// commitChanges is commit for a handle that only reads: what others have
// written is committed, but an interrupted file stays one.
func (x *file) commitChanges() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.named && !x.changed {
		return nil
	}
	return x.commitLocked(false)
}

func (x *file) commitLocked(open bool) error {
	if x.content == nil || x.named && !x.changed && !x.attrOnly && (!x.rowIsOpen || open) {
		return nil
	}
	if x.n.isGone() {
		return nil
	}
	open = open && x.writers > 0
	row, err := x.rowLocked(open)
	if err != nil {
		return err
	}
	gone := false
	err = x.fs.commit(func(c *writeback.Change) error {
		if gone = x.n.gone; gone {
			return nil
		}
		row.Key = x.n.keyLocked()
		if !x.named {
			if err := c.Names(x.n.parent.keyLocked()); err != nil {
				return err
			}
		}
		if x.named && !x.changed {
			// Only the row's mark or the attributes: a row that has settled
			// meanwhile needs none.
			if cur, err := c.Row(row.Key); err != nil || cur == nil && !x.attrOnly {
				return err
			}
		}
		return c.Put(row)
	})
	if err != nil || gone {
		return err
	}
	x.named, x.changed, x.attrOnly, x.vouched, x.rowIsOpen = true, false, false, true, open
	x.fs.unfresh(x.n)
	return nil
}

// change runs f, which changes the bytes, with the content local, all there
// unless all is false, and nothing vouching for it.
func (x *file) change(ctx context.Context, all bool, f func() error) error {
	for {
		err := x.tryChange(ctx, all, f)
		if !errors.Is(err, errNotLocal) {
			return err
		}
		if err := x.fetchAll(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
}

// errNotLocal says that bytes must be fetched first, without a lock.
var errNotLocal = errors.New("not all bytes are here")

func (x *file) tryChange(ctx context.Context, all bool, f func() error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.content == nil {
		if all {
			if !x.remote.whole() {
				return errNotLocal
			}
			if err := x.localLocked(); err != nil {
				return err
			}
		} else if err := x.emptyLocked(); err != nil {
			return err
		}
	}
	if x.vouched {
		if err := x.beforeLocked(ctx); err != nil {
			return err
		}
	}
	x.changed = true
	return f()
}

// beforeLocked takes back whatever vouches for the content's bytes. It waits
// for the disk, never for the network.
func (x *file) beforeLocked(ctx context.Context) error {
	n := x.content.Number()
	clone, err := x.fs.q.BeforeWrite(context.WithoutCancel(ctx), n, x.handles == 1)
	if err != nil {
		return err
	}
	if clone {
		y, err := x.content.Clone()
		if err != nil {
			return err
		}
		x.useLocked(y)
	}
	x.vouched, x.rowIsOpen = false, true
	return nil
}

// useLocked makes y the file's content.
func (x *file) useLocked(y *cache.Content) {
	old := x.content
	for range x.writers {
		x.fs.q.OpenForWrite(y.Number())
	}
	x.content, x.named, x.vouched = y, false, false
	if old == nil {
		return
	}
	for range x.writers {
		x.fs.q.Seal(old.Number())
	}
	old.Close()
}

// localLocked takes the fetched bytes over as the file's content.
func (x *file) localLocked() error {
	y, err := x.remote.take()
	if err != nil {
		return err
	}
	x.useLocked(y)
	x.remote.release()
	x.remote = nil
	x.vouched, x.named = true, true // what OSS holds, until the first change
	return nil
}

// emptyLocked gives a remote file a new, empty content in place of its bytes.
func (x *file) emptyLocked() error {
	y, err := x.fs.create(x.n.key(), x.attr)
	if err != nil {
		return err
	}
	x.useLocked(y)
	if x.remote != nil {
		x.remote.release()
		x.remote = nil
	}
	x.size = 0
	return nil
}

// create makes a new content for the file at key. Its witness says so from the
// start: what was never closed is found by its name.
func (f *FS) create(key string, attr object.Attr) (*cache.Content, error) {
	if err := f.q.Damaged(); err != nil {
		return nil, fail(syscall.EROFS)
	}
	y, err := f.c.Create()
	if err != nil {
		return nil, err
	}
	if err := y.SetWitness(cache.Witness{Key: key, Attr: attr, State: cache.StateOpen}); err != nil {
		y.Close()
		return nil, errors.Join(err, f.c.Drop(y.Number()))
	}
	return y, nil
}

// write implements write at any offset.
func (x *file) write(ctx context.Context, p []byte, off int64) (n int, err error) {
	err = x.change(ctx, true, func() error {
		n, err = x.content.WriteAt(p, off)
		x.size = max(x.size, off+int64(n))
		x.attr.Modified(now())
		return err
	})
	return n, err
}

// truncate sets the size.
func (x *file) truncate(ctx context.Context, size int64) error {
	return x.change(ctx, size > 0, func() error {
		if err := x.content.Truncate(size); err != nil {
			return err
		}
		x.size = size
		x.attr.Modified(now())
		return nil
	})
}

// allocate implements fallocate with the modes that a content can do.
func (x *file) allocate(ctx context.Context, off, n int64, mode uint32) error {
	return x.change(ctx, true, func() error {
		if err := x.content.Allocate(mode, off, n); err != nil {
			return err
		}
		if mode&fallocKeepSize == 0 {
			x.size = max(x.size, off+n)
		}
		x.attr.Modified(now())
		return nil
	})
}

const fallocKeepSize = 1

// fetchAll fetches what is missing, before the first change.
func (x *file) fetchAll(ctx context.Context) error {
	x.mu.RLock()
	s := x.remote
	x.mu.RUnlock()
	if s == nil {
		return nil
	}
	return s.fill(ctx)
}

// read implements read.
func (x *file) read(ctx context.Context, p []byte, off int64) (int, error) {
	for {
		n, s, err := x.tryRead(p, off)
		if s == nil {
			return n, err
		}
		// Bytes must be fetched: without a lock of the inode (H42).
		n, err = s.readAt(ctx, p, off)
		if !errors.Is(err, errTaken) {
			return n, err
		}
	}
}

func (x *file) tryRead(p []byte, off int64) (n int, s *sparse, err error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if off >= x.size {
		return 0, nil, nil
	}
	p = p[:min(int64(len(p)), x.size-off)]
	if x.content == nil {
		return 0, x.remote, nil
	}
	n, err = x.content.ReadAt(p, off)
	if n < len(p) && (err == nil || isEOF(err)) {
		clear(p[n:]) // size was extended by fallocate beyond what is written
		n, err = len(p), nil
	}
	return n, nil, err
}

// alterLocked changes what is published beside the bytes, given what the name
// was found to hold.
func (x *file) alterLocked(e *entry, next writeback.Row) (err error) {
	switch {
	case !x.named && x.content != nil || x.n.isGone() || e == nil:
		x.attrOnly = true
	case next.Attr.Published() == x.attr.Published() && maps.Equal(next.Meta, x.meta):
		err = x.fs.commit(func(c *writeback.Change) error { return c.Times(x.n.keyLocked(), next.Attr) })
	default:
		err = x.fs.commit(func(c *writeback.Change) error {
			if x.n.gone {
				return nil
			}
			return c.Alter(x.n.keyLocked(), e.clean(), func(r *writeback.Row) { r.Attr, r.Meta, r.Headers, r.Unlearnt = next.Attr, next.Meta, x.headers, false })
		})
	}
	if err == nil {
		x.attr, x.meta = next.Attr, next.Meta
	}
	return err
}

// dropSetID clears the set-id bits when somebody changes the bytes who may not
// keep them: it is ours to do (CAP_HANDLE_KILLPRIV_V2).
func (x *file) dropSetID(ctx context.Context) {
	c, ok := fuse.FromContext(ctx)
	if !ok || c.Uid == 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if mode := withoutSetID(x.attr, c.Gid); mode != x.attr.Mode {
		x.attr.Mode, x.attrOnly = mode, true
	}
}

// withoutSetID is the mode of a after a change by somebody of the group gid:
// the set-group bit stays where it is no more than a mark (no execution by the
// group) and the group is theirs.
func withoutSetID(a object.Attr, gid uint32) uint32 {
	mode := a.Mode
	if mode&object.TypeMask != object.TypeFile {
		return mode
	}
	mode &^= syscall.S_ISUID
	if mode&syscall.S_IXGRP != 0 || gid != a.GID {
		mode &^= syscall.S_ISGID
	}
	return mode
}
