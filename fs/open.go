package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/crc64"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
	"github.com/ossmount/ossmount/writeback"
)

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

func writes(flags uint32) bool { return flags&syscall.O_ACCMODE != syscall.O_RDONLY }

// handle is one open of a file.
type handle struct {
	x      *file
	writes bool
	joined bool // others had the file open
}

var (
	_ gofs.FileReader    = (*handle)(nil)
	_ gofs.FileWriter    = (*handle)(nil)
	_ gofs.FileFlusher   = (*handle)(nil)
	_ gofs.FileFsyncer   = (*handle)(nil)
	_ gofs.FileReleaser  = (*handle)(nil)
	_ gofs.FileAllocater = (*handle)(nil)
	_ gofs.FileLseeker   = (*handle)(nil)
)

// Create implements open with O_CREAT of a name that is not there. It is no
// change of the namespace until the first flush.
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*gofs.Inode, gofs.FileHandle, uint32, syscall.Errno) {
	request := ctx
	ctx, cancel := n.fs.patient(ctx)
	defer cancel()
	if err := n.fs.mayOpen(true); err != nil {
		return nil, nil, 0, n.fs.errno("create", err)
	}
	dir := n.key()
	if err := allowed(dir + name); err != nil {
		return nil, nil, 0, n.fs.errno("create", err)
	}
	known, err := n.absent(ctx, name)
	if err != nil {
		return nil, nil, 0, n.fs.errno("create", err)
	}
	e := &entry{key: dir + name, attr: object.Attr{Mode: mode&^object.TypeMask | object.TypeFile}}
	n.born(ctx, &e.attr)
	n.names.Store(e.attr.Mtime)
	content, err := n.fs.createInRoom(ctx, e.key, e.attr)
	if err != nil {
		return nil, nil, 0, n.fs.errno("create", err)
	}
	inode := n.child(ctx, name, e, out)
	c := inode.Operations().(*node)
	x := &file{n: c, fs: n.fs, content: content, attr: e.attr, sum: ofNothing, known: known, isNew: true,
		handles: 1, writers: 1} // also where the handle only reads: its close makes the name
	x.followLocked()
	n.fs.q.OpenForWrite(content.Number())
	if err := x.pass(ctx, true, true); err != nil {
		x.giveUp(true)
		return nil, nil, 0, n.fs.errno("create", err)
	}
	x.writtenBy(ctx)
	c.setFile(x)
	n.fs.backings.note(request, x.backing)
	return inode, &handle{x: x, writes: true}, 0, 0
}

// setFile makes x the open file of a new node, which no row names yet.
func (n *node) setFile(x *file) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.file = x
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	n.fs.opened[x] = struct{}{}
	n.fs.fresh[n] = struct{}{}
}

// mayOpen refuses opens when the mount is ending, or the cache disk has failed.
func (f *FS) mayOpen(write bool) error {
	f.mu.Lock()
	closed := f.closed
	f.mu.Unlock()
	switch {
	case closed:
		return fail(syscall.ESHUTDOWN)
	case write && f.o.ReadOnly:
		return fail(syscall.EROFS)
	case write && f.q.Damaged() != nil:
		return fail(syscall.EROFS)
	}
	return nil
}

// Open implements open.
func (n *node) Open(ctx context.Context, flags uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	request := ctx
	ctx, cancel := n.fs.patient(ctx)
	defer cancel()
	if err := n.fs.mayOpen(writes(flags)); err != nil {
		return nil, 0, n.fs.errno("open", err)
	}
	h, err := n.open(ctx, writes(flags), flags&syscall.O_TRUNC != 0, true)
	if err != nil && n.isGone() { // the kernel looks the path up again
		return nil, 0, syscall.ESTALE
	}
	if err != nil {
		return nil, 0, n.fs.errno("open", err)
	}
	if flags&syscall.O_TRUNC != 0 {
		h.x.dropSetID(ctx)
	}
	if h.x.isPassed() {
		if h.writes {
			h.x.writtenBy(ctx)
		}
		n.fs.backings.note(request, h.x.backing)
		return h, 0, 0
	}
	if !h.joined && h.x.isAsSeen() {
		return h, fuse.FOPEN_KEEP_CACHE, 0
	}
	if h.joined {
		// The pages that the kernel has are of this very content. To drop them it would
		// wait for those that somebody else is waiting for (H42).
		return h, fuse.FOPEN_KEEP_CACHE, 0
	}
	return h, 0, 0
}

// open opens the file once more; kernel: for the kernel, which may serve it itself.
func (n *node) open(ctx context.Context, write, trunc, kernel bool) (*handle, error) {
	for {
		h, ends := n.share(write)
		if h != nil {
			if h.x.isPassed() {
				if err := h.x.expectWrites(ctx, write); err != nil {
					h.Release(ctx)
					return nil, err
				}
			}
			if trunc {
				if err := h.x.truncate(ctx, 0); err != nil { // that very content (H14)
					h.Release(ctx)
					return nil, err
				}
			}
			return h, nil
		}
		x, err := n.prepare(ctx, write, trunc)
		if err != nil {
			return nil, err
		}
		if kernel {
			if err := x.pass(ctx, write, trunc); err != nil {
				x.giveUp(write)
				return nil, err
			}
		}
		if n.install(x, ends) {
			return &handle{x: x, writes: write}, nil
		}
		x.giveUp(write) // somebody else was faster
	}
}

// giveUp ends a file that nobody got a handle of.
func (x *file) giveUp(write bool) {
	x.handles, x.writers = 0, 0
	x.end(write)
}

// share opens the node's file once more, if it is open; else it returns how often
// it has been until now.
func (n *node) share(write bool) (h *handle, ends int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	x := n.file
	if x == nil || !x.again(write) {
		return nil, n.ends
	}
	return &handle{x: x, writes: write, joined: true}, n.ends
}

// again counts one more handle; false: the last one has just gone.
func (x *file) again(write bool) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.handles == 0 {
		return false
	}
	x.handles++
	if write {
		x.writers++
		if x.content != nil {
			x.fs.q.OpenForWrite(x.content.Number())
		}
	}
	return true
}

// install makes x the node's file, unless the node has another by now or had one
// since it was looked what x shall be: what was found may not be so any more.
func (n *node) install(x *file, ends int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.file != nil || n.ends != ends {
		return false
	}
	n.file = x
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	n.fs.opened[x] = struct{}{}
	return true
}

// prepare finds the bytes of a file that is not open. A content that has just
// been dropped means that the row has moved on meanwhile.
func (n *node) prepare(ctx context.Context, write, trunc bool) (x *file, err error) {
	for range 10 {
		x, err = n.tryPrepare(ctx, write, trunc)
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, errSettled) && !errors.Is(err, errMissing) {
			break
		}
	}
	return x, err
}

func (n *node) tryPrepare(ctx context.Context, write, trunc bool) (*file, error) {
	e, err := n.entry(ctx)
	was := n.entryGone()
	if was != nil {
		e, err = was, nil // it was replaced between lookup and open: what it was is opened
	}
	if err != nil {
		return nil, err
	}
	if e.dir {
		return nil, fail(syscall.EISDIR)
	}
	x := &file{n: n, fs: n.fs, size: e.size, attr: e.attr, headers: e.headers, meta: e.meta,
		expected: e.ref, known: e.known, named: true, vouched: true, handles: 1}
	if write {
		x.writers = 1
	}
	if trunc {
		y, err := n.fs.createInRoom(ctx, e.key, e.attr)
		if err != nil {
			return nil, err
		}
		x.content, x.size, x.named, x.vouched, x.changed = y, 0, false, false, true
		x.sum = ofNothing
		x.attr.Modified(now())
	} else if err := n.fs.readable(ctx, e); err != nil {
		return nil, err
	} else if err := x.find(ctx, e); err != nil {
		return nil, err
	}
	if x.content != nil {
		seq := x.seq
		x.followLocked()
		x.seq = seq
		if x.base != nil {
			x.base.follows(x, x.follow)
		}
		if err := x.isCurrent(); err != nil && was == nil {
			x.letGo()
			return nil, err
		}
	}
	if x.content == nil && e.row != nil && was == nil {
		if err := n.fs.isStill(e.row); err != nil { // what it was made from may be going
			x.letGo()
			return nil, err
		}
	}
	if write && x.content != nil {
		n.fs.q.OpenForWrite(x.content.Number())
	}
	return x, nil
}

// isStill makes sure that row was still there when its base began to be held: else
// that may be on its way out already.
func (f *FS) isStill(row *writeback.Row) error {
	return f.q.View(func(tx *journal.Tx) error {
		cur, err := tx.Row(row.Key)
		if err == nil && (cur == nil || cur.Seq != row.Seq || !cur.Base.Same(row.Base)) {
			return errSettled
		}
		return err
	})
}

// errMissing says that a row names bytes that are not there, or are not any more: then
// it has become another meanwhile.
var errMissing = fmt.Errorf("the bytes are not in the cache directory: %w", syscall.EIO)

// errSettled says that the row that told of the bytes has been carried since.
var errSettled = errors.New("the row has settled meanwhile")

// isCurrent makes sure that the row or the clean copy by which the bytes were found was
// still there, with the base that it had, when they began to be followed: from then on
// they are not dropped.
func (x *file) isCurrent() error {
	if x.seq == 0 && !x.vouched { // a new content
		return nil
	}
	return x.fs.q.View(func(tx *journal.Tx) error {
		name, _, named := tx.Named(x.content.Number())
		if x.seq == 0 && !named {
			return errSettled
		}
		if x.seq == 0 {
			return nil
		}
		r, err := tx.Row(name)
		if err == nil && (r == nil || r.Seq != x.seq || !r.Base.Same(x.origin)) {
			return errSettled
		}
		return err
	})
}

// find sets where the file's bytes are.
func (x *file) find(ctx context.Context, e *entry) (err error) {
	ref := e.ref
	if e.row != nil {
		x.rowIsOpen = e.row.Open
		switch {
		case e.row.Content != 0:
			return x.fromRow(e.row)
		case e.row.Base.IsZero():
			return x.fromText(e.row)
		}
		ref = e.row.Base
	}
	x.sum = sumOf(ref, e.size)
	n, err := x.fs.q.CleanCopy(ref)
	if err != nil {
		return err
	}
	if n != 0 {
		if x.content, err = x.fs.c.Open(n); err == nil {
			if sign, err := x.content.Sign(); err == nil && sign.Size == ref.Size {
				x.origin = ref
				return nil
			}
			x.content.Close()
			x.content = nil
			return errors.Join(errSettled, x.fs.q.NoCopy(ref, n)) // or it has become another file's
		}
	}
	x.base, err = x.fs.sparse(ref, e.size)
	return err
}

// fromRow finds the bytes of a row that has a content.
func (x *file) fromRow(r *writeback.Row) (err error) {
	if x.content, err = x.fs.c.Open(r.Content); errors.Is(err, os.ErrNotExist) && !errors.Is(err, cache.ErrGone) {
		return fmt.Errorf("%w: content %d of %q", errMissing, r.Content, r.Key)
	} else if err != nil {
		return err
	}
	x.seq, x.origin, x.dirty, x.sum = r.Seq, r.Base, r.Dirty, sumIn(r)
	if x.unseen = r.Unseen; x.unseen {
		if err := x.asItIs(r); err != nil {
			x.content.Close()
			return err
		}
	}
	if !r.HasHoles() {
		return nil
	}
	x.local = r.Dirty
	if x.base, err = x.fs.newSparse(r.Base, r.Base.Size, r.Content, nil); err != nil {
		x.content.Close()
	}
	return err
}

// fromText gives an empty special or regular file, whose bytes stand in its
// row, a content.
func (x *file) fromText(r *writeback.Row) error {
	y, err := x.fs.create(r.Key, r.Attr, object.Ref{})
	if err != nil {
		return err
	}
	if _, err := y.WriteAt([]byte(r.Text), 0); err != nil {
		return err
	}
	x.content, x.vouched = y, false
	x.sum = sum{crc: crc64.Update(0, []byte(r.Text)), known: true}
	return nil
}

// Read implements read.
func (h *handle) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n, err := h.x.read(ctx, dest, off)
	if err != nil {
		return nil, h.x.fs.errno("read", err)
	}
	return fuse.ReadResultData(dest[:n]), 0
}

// Write implements write.
func (h *handle) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	h.x.dropSetID(ctx)
	n, err := h.x.write(ctx, data, off)
	return uint32(n), h.x.fs.errno("write", err)
}

// Flush is each close of each descriptor: the row is there before it returns,
// and an error reaches the application.
func (h *handle) Flush(ctx context.Context) syscall.Errno {
	commit := h.x.commitChanges
	if h.writes {
		commit = func() error { return h.x.commit(false) }
	}
	if err := h.x.fs.inRoom(ctx, h.x.n.key, commit); err != nil {
		return h.x.fs.errno("close", err)
	}
	switch {
	case !h.writes:
	case h.x.fs.o.Close == OSS:
		return h.x.fs.errno("close", h.x.publish(ctx))
	case h.x.fs.o.Close == Disk:
		return h.x.fs.errno("close", h.x.fs.q.WaitDurable(context.WithoutCancel(ctx), h.x.fs.q.Newest()))
	}
	return 0
}

// Fsync writes the row and, by default, waits until a power cut keeps it.
func (h *handle) Fsync(ctx context.Context, _ uint32) syscall.Errno {
	if err := h.x.fs.inRoom(ctx, h.x.n.key, func() error { return h.x.commit(true) }); err != nil {
		return h.x.fs.errno("fsync", err)
	}
	if h.x.fs.o.Fsync == OSS {
		return h.x.fs.errno("fsync", h.x.publish(ctx))
	}
	return h.x.fs.sync(ctx)
}

// publish returns when the bytes that were committed are on OSS (H40).
func (x *file) publish(ctx context.Context) error {
	n := x.number()
	if n == 0 || x.n.isGone() {
		return nil
	}
	return x.fs.q.Publish(context.WithoutCancel(ctx), n, x.fs.o.Stall)
}

// number is that of the content, 0 if there is none.
func (x *file) number() uint64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.content == nil {
		return 0
	}
	return x.content.Number()
}

// Release ends the handle; the last writer's seals the content.
func (h *handle) Release(context.Context) syscall.Errno {
	h.x.release(h.writes)
	return 0
}

func (x *file) release(write bool) {
	last := x.less(write)
	if write && x.isPassed() {
		if err := x.fs.inRoom(context.Background(), x.n.key, x.closePassed); err != nil {
			x.fs.o.Log.Error("a file that was closed could not be committed as closed; it is interrupted at the next start", "key", x.n.key(), "err", err)
		}
		if !last {
			x.fs.q.SealUnseen(x.number(), x.n.key())
		}
	}
	if !last {
		return
	}
	// A close that failed, or never came, has left bytes without a row: once
	// more, and if that fails they stay for the next start's lost+found.
	err := x.commitChanges()
	x.n.clearFile(x)
	if err != nil {
		x.fs.o.Log.Error("an open file could not be committed; its bytes are kept aside", "key", x.n.key(), "err", err)
		return
	}
	x.end(write)
}

func (n *node) clearFile(x *file) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.file == x {
		n.file = nil
		n.ends++
		n.seen = x.bytes()
	}
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	delete(n.fs.opened, x)
}

// less counts a handle off and reports whether it was the last.
func (x *file) less(write bool) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.handles--
	if write {
		x.writers--
		if x.writers == 0 && x.content != nil {
			x.content.Rest()
		}
		if x.handles > 0 && x.content != nil && !x.isPassed() { // those come when the row is right (release)
			x.fs.q.Seal(x.content.Number(), x.n.key())
		}
	}
	return x.handles == 0
}

// end lets the bytes go when the last handle has.
func (x *file) end(write bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.follow.Done()
	if x.base != nil {
		x.base.release()
		x.base = nil
	}
	if x.content == nil {
		return
	}
	n, key := x.content.Number(), x.n.key()
	x.fs.backings.unregister(x.backing)
	final := x.isFinalLocked()
	x.content.Close()
	if !write { // as a writer would: a content that nothing names is given up
		x.fs.q.OpenForWrite(n)
	}
	switch {
	case final:
		x.fs.q.SealFinal(n, key)
	case x.unseen:
		x.fs.q.SealUnseen(n, key)
	default:
		x.fs.q.Seal(n, key)
	}
}

// Allocate implements fallocate.
func (h *handle) Allocate(ctx context.Context, off, size uint64, mode uint32) syscall.Errno {
	return h.x.fs.errno("fallocate", h.x.allocate(ctx, int64(off), int64(size), mode))
}

// Lseek implements SEEK_DATA and SEEK_HOLE: what is remote is all data.
func (h *handle) Lseek(_ context.Context, off uint64, whence uint32) (uint64, syscall.Errno) {
	x := h.x
	x.look()
	x.mu.RLock()
	defer x.mu.RUnlock()
	const seekData, seekHole = 3, 4
	if int64(off) >= x.size {
		return 0, syscall.ENXIO
	}
	if x.base != nil {
		if whence == seekHole {
			return uint64(x.size), 0
		}
		return off, 0
	}
	at, err := x.content.Seek(int64(off), int(whence))
	return uint64(at), x.fs.errno("lseek", err)
}
