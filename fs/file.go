package fs

import (
	"context"
	"maps"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/extent"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/writeback"
)

// file is an open inode: the one content that all of its handles share.
//
// Its bytes are in a content, in a version on OSS, or in both: then the content
// has what was written (local), and the holes between are read from the version
// (base), of which ranges are fetched as they are needed. Nothing is fetched in
// order to write.
//
//	            flush, fsync                 first change after it
//	changed ───────────────────> committed ───────────────────────> changed
//	                              (vouched for: BeforeWrite)
//
// What may differ from a version on OSS (origin) is kept as dirty: only that is
// sent. When the bytes of a commit have become a version of their own, that is
// the origin, and dirty what was written since (Follow).
type file struct {
	n  *node
	fs *FS

	mu      sync.RWMutex
	handles int
	writers int

	content *cache.Content // nil: no byte was written yet, all are those of base
	base    *sparse        // nil: the content has all bytes
	local   extent.Set     // what the content has, where there is a base
	size    int64

	origin object.Ref // zero: none
	dirty  extent.Set // what may differ from it
	since  extent.Set // written since the last commit
	follow *writeback.Follow
	seq    uint64 // of the row that was committed last

	scattered int   // so many ranges may be dirty before they are gathered; 0: the usual number
	front     int64 // all bytes before are written, one after another
	tellAfter int64 // size from which the queue is told that it grows; 0: never

	sum sum // of all size bytes

	backing int32      // by which the kernel serves the content (passthrough.go); 0: it does not
	unseen  bool       // it may have written it, then or earlier
	sign    cache.Sign // of the content as it was last looked at
	writer  *uint32    // the group of who may write it through the kernel, without privileges; nil: nobody

	attr    object.Attr
	headers object.Headers
	meta    object.Meta

	isNew     bool // its first commit makes the name
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
	x.look()
	x.mu.RLock()
	defer x.mu.RUnlock()
	fillAttr(out, x.attr, x.size)
	if x.content != nil && x.base == nil && x.size > int64(out.Blksize) { // holes: those of a small file are not worth telling
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
	x.look()
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
	x.lookLocked()
	row, _ := x.rowLocked(true)
	return row
}

// committedLocked notes that the row with the sequence seq has the bytes as they
// are now; open: it says that the file is open.
func (x *file) committedLocked(seq uint64, open bool) {
	x.isNew, x.named, x.changed, x.attrOnly, x.vouched, x.rowIsOpen = false, true, false, false, true, open
	x.seq, x.since = seq, nil
}

// rowLocked makes the row for the file's bytes as they are now.
func (x *file) rowLocked(open bool) (*writeback.Row, error) {
	r := &writeback.Row{Size: x.size, Attr: x.attr, Headers: x.headers, Meta: x.meta,
		Expected: x.expected, Known: x.known, Open: open, Unseen: x.unseen}
	sign := x.sign // as the size is
	if !x.isPassed() {
		var err error
		if sign, err = x.content.Sign(); err != nil {
			return nil, err
		}
	}
	r.Content, r.SignSize, r.SignMtime = x.content.Number(), sign.Size, sign.Mtime
	r.CRC64, r.HasCRC = x.sum.crc, x.sum.known
	x.rootLocked(r)
	return r, nil
}

// rootLocked says in the row what its bytes were made from. Where that matters it
// is called under the journal's lock, so that nothing is published meanwhile.
func (x *file) rootLocked(r *writeback.Row) {
	x.adoptLocked()
	r.Rootless()
	if !x.origin.IsZero() && (x.base != nil || !x.dirty.Covers(0, x.size)) {
		r.Base, r.Dirty, r.Whole = x.origin, x.dirty, x.base == nil
	}
}

// adoptLocked takes what the bytes were published as for their origin.
func (x *file) adoptLocked() {
	ref, seq, ok := x.follow.Published()
	switch {
	case !ok || ref.Same(x.origin):
	case seq == x.seq && seq != 0:
		x.origin, x.dirty = ref, x.since
	case !x.origin.IsZero(): // some of what differed from the one before
		x.origin = ref
	}
}

// useLocked, together with the base, makes y the file's content.
func (x *file) useLocked(y *cache.Content) {
	old := x.content
	for range x.writers {
		x.fs.q.OpenForWrite(y.Number())
	}
	x.content, x.named, x.vouched, x.sign = y, false, false, cache.Sign{}
	x.followLocked()
	if old == nil {
		return
	}
	for range x.writers {
		x.fs.q.Seal(old.Number(), x.n.key())
	}
	old.Close()
}

func (x *file) followLocked() {
	x.follow.Done()
	x.follow, x.seq = x.fs.q.Follow(x.content.Number(), x.moved), 0
	if x.tellAfter = 0; x.size == 0 && x.fs.growsEagerly(x.n.nameNow()) {
		x.tellAfter = 1 // the queue says from when on
	}
}

// moved reads holes from now on where their bytes are.
func (x *file) moved(ref object.Ref) {
	if base := x.holes(); base != nil {
		base.succeed(ref)
	}
}

func (x *file) holes() *sparse {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.content == nil {
		return nil
	}
	return x.base
}

// commit writes the row if the name has none yet or the bytes changed since it
// was written. It never returns EINTR (H42).
func (x *file) commit(open bool) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.commitLocked(open)
}

func (x *file) isUnfinished() bool {
	x.look()
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.isUnfinishedLocked()
}

// isUnfinishedLocked reports that a writer has the file open, and none whose close
// waits until just these bytes are on OSS.
func (x *file) isUnfinishedLocked() bool {
	if x.content == nil || x.writers == 0 {
		return false
	}
	return !x.named || x.changed || x.attrOnly || x.rowIsOpen || !x.fs.q.IsUrgent(x.content.Number())
}

// interrupt commits a file that is being written as interrupted: kept as it is
// now, and not published until it is closed through a mount (H46).
func (x *file) interrupt() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.lookLocked(); !x.isUnfinishedLocked() {
		return nil
	}
	row, err := x.rowLocked(true)
	if err != nil {
		return err
	}
	row.Interrupted = true
	var seq uint64
	is := false // from now on
	err = x.fs.commit(func(c *writeback.Change) error {
		if x.n.gone {
			return nil
		}
		x.rootLocked(row)
		seq = c.Seq()
		row.Key = x.n.keyLocked()
		cur, err := c.Row(row.Key)
		if err != nil || cur == nil && x.named && !x.changed {
			return err // OSS has it as it is
		}
		is = cur == nil || !cur.Interrupted
		return c.Put(row)
	})
	if err == nil {
		x.committedLocked(seq, true)
		x.fs.unfresh(x.n)
		if is {
			x.fs.o.Log.Warn("interrupted: the file is open for writing while the mount ends; the bytes are kept", "key", row.Key)
		}
	}
	return err
}

// commitChanges is commit for a handle that only reads: what others have
// written is committed, but an interrupted file stays one.
func (x *file) commitChanges() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.lookLocked(); x.named && !x.changed {
		return nil
	}
	return x.commitLocked(false)
}

func (x *file) commitLocked(open bool) error {
	x.lookLocked()
	open = (open || !x.mayCloseLocked()) && x.writers > 0
	if x.content == nil || x.named && !x.changed && !x.attrOnly && (!x.rowIsOpen || open) {
		return nil
	}
	if x.n.isGone() {
		return nil
	}
	x.sumLocked()
	row, err := x.rowLocked(open)
	if err != nil {
		return err
	}
	gone, seq := false, uint64(0)
	err = x.fs.commit(func(c *writeback.Change) error {
		if gone = x.n.gone; gone {
			return nil
		}
		x.rootLocked(row)
		row.Key, seq = x.n.keyLocked(), c.Seq()
		if x.isNew {
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
	x.committedLocked(seq, open)
	x.fs.unfresh(x.n)
	return nil
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
			key := x.n.keyLocked()
			switch {
			case x.n.gone:
				return nil
			case key != e.key:
				return errMoved
			}
			if cur, err := c.Row(key); err == nil && cur != nil && cur.Seq == x.seq {
				x.seq = c.Seq() // the same bytes
			}
			return c.Alter(key, e.clean(), func(r *writeback.Row) { r.Attr, r.Meta, r.Headers, r.Unlearnt = next.Attr, next.Meta, x.headers, false })
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
	if gid, ok := unprivileged(ctx); ok {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.dropSetIDLocked(gid)
	}
}

func (x *file) dropSetIDLocked(gid uint32) {
	if mode := withoutSetID(x.attr, gid); mode != x.attr.Mode {
		x.attr.Mode, x.attrOnly = mode, true
	}
}

// unprivileged returns the group of who asks; false: who asks may keep set-id bits.
func unprivileged(ctx context.Context) (gid uint32, ok bool) {
	c, ok := fuse.FromContext(ctx)
	if !ok || c.Uid == 0 {
		return 0, false
	}
	return c.Gid, true
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
