package fs

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/crc64"
	"github.com/ossmount/ossmount/internal/extent"
	"github.com/ossmount/ossmount/writeback"
)

// Passthrough: the kernel reads and writes the content of an open file itself, at
// the speed of the disk, and maps it. Truncations, fsync, close and whatever is
// done by name come here as ever; the bytes do not. So what has changed is looked up
// when somebody asks (look): size and time of the content tell. How the handles of a
// file are served is decided by the first of them, and kept to the last.
//
//	the kernel serves     new and emptied files, and local ones that are not small,
//	                      while there is ample room: it asks nobody for more (H9)
//	the daemon serves     all others: what is not wholly here, and big versions of
//	                      OSS that are changed, of which only the changes are sent
//
// The row of a file that the kernel serves says so (Row.Unseen): it is carried once
// nobody can write the content any more. Its close commits a small file with the sum
// of its bytes, by which a power cut finds out a later change; a big one is committed
// as open, and as closed when the kernel lets its last handle go.

const (
	passLeast  = 1 << 20 // smaller files that are there already are not worth it
	summedMost = 1 << 20 // bytes that are summed at a close
	ampleMost  = 16 << 30
	ampleLeast = 1 << 30
	watchEach  = 100 * time.Millisecond
)

// backings registers contents with the kernel. One that is refused leaves its file
// to the daemon; go-fuse's own registry would do so for the whole mount, or give out
// the content of before (H14).
type backings struct {
	server *fuse.Server
	on     bool // the kernel takes contents

	mu   sync.Mutex
	asks map[<-chan struct{}]int32 // of opens that are under way, by their request
}

// note has the answer to the request of ctx name the backing file id.
func (b *backings) note(ctx context.Context, id int32) {
	if c, ok := ctx.(*fuse.Context); ok && id != 0 {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.asks[c.Cancel] = id
	}
}

// answer fills in what note was given for the request.
func (b *backings) answer(cancel <-chan struct{}, out *fuse.OpenOut) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if id, ok := b.asks[cancel]; ok {
		delete(b.asks, cancel)
		out.BackingID = id
		out.OpenFlags = out.OpenFlags&^fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_PASSTHROUGH
	}
}

func (b *backings) register(fd int) (id int32, ok bool) {
	if !b.on {
		return 0, false
	}
	id, errno := b.server.RegisterBackingFd(&fuse.BackingMap{Fd: int32(fd)})
	return id, errno == 0
}

func (b *backings) unregister(id int32) {
	if id != 0 {
		b.server.UnregisterBackingFd(id)
	}
}

// probePassthrough finds out whether the kernel takes contents: it has not offered
// what it refuses then (other file systems beneath, rights).
func (f *FS) probePassthrough(server *fuse.Server) {
	f.backings.server = server
	if !f.o.Passthrough || f.o.Close == OSS || f.o.Fsync == OSS { // who waits for OSS must be able to keep writers out
		return
	}
	content, err := f.c.Create()
	if err != nil {
		return
	}
	defer func() { _ = f.c.Drop(content.Number()) }()
	defer content.Close()
	f.backings.on = true
	id, ok := f.backings.register(content.Backing())
	f.backings.on = ok
	f.backings.unregister(id)
}

// Passthrough reports that the kernel serves what it may.
func (f *FS) Passthrough() bool { return f.backings.on }

// pass has the kernel serve a file that nobody has open yet, if it may.
// fresh: what it holds is going to be written now.
func (x *file) pass(ctx context.Context, write, fresh bool) error {
	if !x.mayPass(write, fresh) {
		return nil
	}
	if err := x.expectWrites(ctx, write); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	id, ok := x.fs.backings.register(x.content.Backing())
	if !ok {
		return nil
	}
	x.backing = id
	if x.sign.Mtime == 0 {
		sign, err := x.content.Sign()
		if err != nil {
			return err
		}
		x.sign = sign
	}
	return nil
}

func (x *file) mayPass(write, fresh bool) bool {
	f := x.fs
	switch {
	case !f.backings.on, !f.c.Watches(), x.content == nil, x.base != nil, x.attr.Mode&(syscall.S_ISUID|syscall.S_ISGID) != 0:
		return false
	case !write:
		return x.size >= passLeast && (x.origin.IsZero() || f.q.SendsWhole(x.size))
	}
	return x.origin.IsZero() && (fresh || x.size >= passLeast) && f.ample()
}

// ample reports that the disk has room for more than can be written before it is
// looked at again.
func (f *FS) ample() bool {
	return f.c.Room(cache.Writer) >= max(ampleLeast, min(4*f.c.MinFree(), ampleMost))
}

// expectWrites takes back whatever vouches for the bytes of a file that the kernel
// may write from now on.
func (x *file) expectWrites(ctx context.Context, write bool) error {
	if !write {
		return nil
	}
	x.setUnseen()
	return x.prepared(ctx, false, func() error { return nil })
}

func (x *file) setUnseen() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.unseen = true
}

// isPassed reports that the kernel serves the file.
func (x *file) isPassed() bool { return x.backing != 0 }

// writtenBy notes who opens a file that the kernel serves for writing: of their
// writes nothing is heard, and by look they may have cost the set-id bits.
func (x *file) writtenBy(ctx context.Context) {
	if gid, ok := unprivileged(ctx); ok {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.writer = &gid
	}
}

// look takes note of what the kernel has written.
func (x *file) look() {
	if !x.isPassed() {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.lookLocked()
}

func (x *file) lookLocked() {
	if !x.isPassed() || x.content == nil {
		return
	}
	sign, err := x.content.Sign()
	if err != nil || sign == x.sign && !(x.writers > 0 && x.fs.c.MayDiffer(sign)) {
		return
	}
	x.content.Grown()
	if sign.Mtime != x.sign.Mtime {
		x.attr.Modified(sign.Mtime)
	}
	if sign != x.sign && x.writer != nil {
		x.dropSetIDLocked(*x.writer)
	}
	x.sign, x.size, x.changed, x.sum = sign, sign.Size, true, sum{}
	x.since = extent.Of(0, x.size)
	if !x.origin.IsZero() {
		x.dirty = extent.Of(0, x.size)
	}
}

// asItIs takes a file as it is whose row r is of before its last change.
func (x *file) asItIs(r *writeback.Row) error {
	sign, err := x.content.Sign()
	if err != nil {
		return err
	}
	x.sign = sign
	if sign != (cache.Sign{Size: r.SignSize, Mtime: r.SignMtime}) {
		x.size, x.changed, x.sum = sign.Size, !r.Interrupted, sum{} // to read an interrupted one does not publish it
		x.attr.Modified(sign.Mtime)
	}
	return nil
}

// sumLocked sums a file that the kernel has written, if that is quick or must be.
func (x *file) sumLocked() {
	if !x.isPassed() || x.sum.known || x.size > summedMost && x.fs.o.Close == Journal {
		return
	}
	if crc, err := x.crc(); err == nil {
		x.sum = sum{crc: crc, known: true}
	}
}

// crc sums the bytes of the content.
func (x *file) crc() (crc uint64, err error) {
	buf := pieces.Get().(*[]byte)
	defer pieces.Put(buf)
	p := *buf
	for off := int64(0); off < x.size; {
		n, err := x.content.ReadAt(p[:min(x.size-off, fetchPiece)], off)
		if n == 0 {
			return 0, errors.Join(err, io.ErrUnexpectedEOF)
		}
		crc = crc64.Update(crc, p[:n])
		off += int64(n)
	}
	return crc, nil
}

// mayCloseLocked reports that a row can say that the file is closed while writers
// have it open: what they write later is seen, or found out by the sum.
func (x *file) mayCloseLocked() bool {
	return !x.isPassed() || !x.unseen || x.size <= summedMost || x.fs.o.Close != Journal
}

// closePassed commits a big file as closed when its last writer has gone.
func (x *file) closePassed() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.lookLocked(); x.content == nil || x.writers > 0 || !x.rowIsOpen && !x.changed && x.named {
		return nil
	}
	return x.commitLocked(false)
}

// isFinalLocked reports that nobody can write the content any more, and that it is
// what was committed: SealUnseen would find nothing.
func (x *file) isFinalLocked() bool {
	if !x.isPassed() || !x.unseen || !x.sum.known || x.size > summedMost {
		return false
	}
	if quiet, err := x.content.Quiet(); err != nil || !quiet {
		return false
	}
	sign, err := x.content.Sign()
	if err != nil || sign != x.sign {
		return false
	}
	crc, err := x.crc()
	return err == nil && crc == x.sum.crc
}

// watch looks at what the kernel writes, for the sake of the room that it takes, and
// of files that are sent while they grow. It ends with the file system.
func (f *FS) watch() {
	tick := time.NewTicker(watchEach)
	defer tick.Stop()
	for {
		select {
		case <-f.work.Done():
			return
		case <-tick.C:
		}
		for _, x := range f.openFiles() {
			if x.isPassed() && x.writing() {
				x.watch()
			}
		}
	}
}

func (x *file) watch() {
	if x.grown() {
		x.tellGrowth()
	}
}

// grown reports that there is more to send ahead of the close. That the bytes are
// written one after another is a guess: what is sent is compared with what there is
// in the end.
func (x *file) grown() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.lookLocked()
	x.front = x.size
	return x.tellAfter > 0 && x.front >= x.tellAfter && x.base == nil && x.origin.IsZero()
}
