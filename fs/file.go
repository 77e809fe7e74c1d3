package fs

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"path"
	"slices"
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

	front     int64 // all bytes before are written, one after another
	tellAfter int64 // size from which the queue is told that it grows; 0: never

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
	x.mu.RLock()
	defer x.mu.RUnlock()
	fillAttr(out, x.attr, x.size)
	if x.content != nil && x.base == nil {
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

// committedLocked notes that the row with the sequence seq has the bytes as they
// are now; open: it says that the file is open.
func (x *file) committedLocked(seq uint64, open bool) {
	x.isNew, x.named, x.changed, x.attrOnly, x.vouched, x.rowIsOpen = false, true, false, false, true, open
	x.seq, x.since = seq, nil
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
	x.content, x.named, x.vouched = y, false, false
	x.followLocked()
	if old == nil {
		return
	}
	for range x.writers {
		x.fs.q.Seal(old.Number())
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
	var seq uint64
	err = x.fs.commit(func(c *writeback.Change) error {
		if x.n.gone {
			return nil
		}
		x.rootLocked(row)
		seq = c.Seq()
		row.Key = x.n.keyLocked()
		if cur, err := c.Row(row.Key); err != nil || cur == nil && x.named && !x.changed {
			return err // OSS has it as it is
		}
		return c.Put(row)
	})
	if err == nil {
		x.committedLocked(seq, true)
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

// change runs f, which changes the bytes, when there is a content to change and
// nothing vouches for it. With empty the bytes that there are are not wanted.
func (x *file) change(ctx context.Context, empty bool, f func() error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
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
	x.changed = true
	return f()
}

// beforeLocked takes back whatever vouches for the content's bytes. It waits
// for the disk, never for the network.
func (x *file) beforeLocked(ctx context.Context) error {
	n := x.content.Number()
	clone, err := x.fs.q.BeforeWrite(context.WithoutCancel(ctx), n, x.handles == 1 && x.base == nil)
	if err != nil {
		return err
	}
	if clone {
		y, err := x.content.Clone()
		if err != nil {
			return err
		}
		x.useLocked(y)
		x.origin, x.dirty = object.Ref{}, nil // the other content is about to become one
	}
	x.vouched, x.rowIsOpen = false, true
	return nil
}

// startLocked gives a file a content, before its first change: what was fetched
// of it, if that is all, else an empty one with a hole over the version on OSS.
func (x *file) startLocked() error {
	origin := x.base.version()
	if x.base.whole() {
		y, err := x.base.take()
		if err != nil {
			return err
		}
		x.useLocked(y)
		x.base.release()
		x.base = nil
		x.vouched, x.named = true, true // what OSS holds, until the first change
	} else if err := x.holeLocked(origin); err != nil {
		return err
	}
	x.origin, x.dirty, x.since = origin, nil, nil
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
			x.base.follows(x.follow)
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
	x.size = 0
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

// write implements write at any offset.
func (x *file) write(ctx context.Context, p []byte, off int64) (n int, err error) {
	err = x.change(ctx, false, func() error {
		n, err = x.content.WriteAt(p, off)
		if end := off + int64(n); n > 0 {
			x.markLocked(off, end)
			x.growLocked(end)
			if off <= x.front {
				x.front = max(x.front, end)
			}
		}
		x.attr.Modified(now())
		return err
	})
	if err == nil && x.isScattered() {
		x.gather(context.WithoutCancel(ctx))
	}
	if err == nil && x.isGrowing() {
		x.tellGrowth()
	}
	return n, err
}

func (x *file) isGrowing() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.tellAfter > 0 && x.front >= x.tellAfter && x.base == nil && x.origin.IsZero()
}

// tellGrowth has what was written sent while the file is still open.
func (x *file) tellGrowth() {
	x.mu.Lock()
	defer x.mu.Unlock()
	row, err := x.rowLocked(true)
	if err != nil || x.n.isGone() {
		x.tellAfter = 0
		return
	}
	row.Key, row.Size = x.n.key(), x.front
	x.tellAfter = x.fs.q.Grown(row)
}

// growsEagerly reports whether a file of that name may be sent while it is open:
// an upload is bound to its name, and some names are there for a while only.
func (f *FS) growsEagerly(name string) bool {
	for _, pattern := range f.o.EagerSkip {
		if ok, err := path.Match(pattern, name); ok || err != nil {
			return false
		}
	}
	return true
}

// truncate sets the size.
func (x *file) truncate(ctx context.Context, size int64) error {
	return x.change(ctx, size == 0, func() error {
		if err := x.content.Truncate(size); err != nil {
			return err
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
	return x.change(ctx, false, func() error {
		if err := x.content.Allocate(mode, off, n); err != nil {
			return err
		}
		if mode&fallocKeepSize == 0 {
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

// read implements read.
func (x *file) read(ctx context.Context, p []byte, off int64) (int, error) {
	window := x.ahead(off, int64(len(p)))
	for {
		n, missing, base, err := x.tryRead(p, off)
		if base == nil {
			return n, err
		}
		// Bytes must be fetched: without a lock of the inode (H42).
		for _, m := range missing {
			if err = base.need(ctx, m.Off, m.Len(), window); err != nil {
				break
			}
		}
		if err != nil && !errors.Is(err, errTaken) {
			return 0, err
		}
	}
}

// ahead returns how much of the base to fetch for a read, if anything is missing.
func (x *file) ahead(off, n int64) int64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.base == nil || off >= x.size {
		return 0
	}
	return x.base.ahead(off, min(n, x.size-off))
}

// tryRead reads if all bytes are here; else it returns which are missing, and
// where they are.
func (x *file) tryRead(p []byte, off int64) (n int, missing extent.Set, base *sparse, err error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if off >= x.size {
		return 0, nil, nil, nil
	}
	p = p[:min(int64(len(p)), x.size-off)]
	end := off + int64(len(p))
	if x.base != nil {
		for g := range x.localLocked().Gaps(off, end) {
			ok, err := x.base.present(p[g.Off-off:g.End-off], g.Off)
			if err != nil {
				return 0, nil, nil, err
			}
			if !ok {
				missing = append(missing, g)
			}
		}
		if len(missing) > 0 {
			return 0, missing, x.base, nil
		}
	}
	for r := range x.localLocked().Within(off, end) {
		part := p[r.Off-off : r.End-off]
		n, err := x.content.ReadAt(part, r.Off)
		if err != nil && !isEOF(err) {
			return 0, nil, nil, err
		}
		clear(part[n:]) // size was extended by fallocate beyond what is written
	}
	return len(p), nil, nil, nil
}

// localLocked is what the content has.
func (x *file) localLocked() extent.Set {
	switch {
	case x.content == nil:
		return nil
	case x.base == nil:
		return extent.Of(0, x.size)
	}
	return x.local
}

// A file that was written to at very many places would make its rows long: the
// gaps between them are closed, the shortest first. Those that no part can have
// for itself are sent with what is around them anyway.
const maxScattered = 8192

func (x *file) isScattered() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.dirty) > maxScattered
}

func (x *file) gather(ctx context.Context) {
	ctx, cancel := x.fs.patient(ctx)
	defer cancel()
	gaps, base := x.shortest()
	for _, g := range gaps {
		if base != nil && base.need(ctx, g.Off, g.Len(), g.Len()) != nil {
			return // later, then: it is no matter of correctness
		}
		if x.close(g) != nil {
			return
		}
	}
}

// shortest returns the shorter half of the gaps.
func (x *file) shortest() ([]extent.Range, *sparse) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if len(x.dirty) == 0 {
		return nil, nil
	}
	gaps := slices.Collect(x.dirty.Gaps(x.dirty[0].Off, x.dirty[len(x.dirty)-1].End))
	slices.SortFunc(gaps, func(a, b extent.Range) int { return cmp.Compare(a.Len(), b.Len()) })
	return gaps[:len(gaps)/2], x.base
}

// close writes what a gap holds into it, so that it is none any more.
func (x *file) close(gap extent.Range) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.content == nil || x.vouched || gap.End > x.size {
		return nil
	}
	if x.base != nil {
		for g := range x.local.Gaps(gap.Off, gap.End) {
			p := make([]byte, g.Len())
			if ok, err := x.base.present(p, g.Off); err != nil || !ok {
				return err
			}
			if _, err := x.content.WriteAt(p, g.Off); err != nil {
				return err
			}
		}
	}
	x.markLocked(gap.Off, gap.End)
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
			if x.n.gone {
				return nil
			}
			if cur, err := c.Row(x.n.keyLocked()); err == nil && cur != nil && cur.Seq == x.seq {
				x.seq = c.Seq() // the same bytes
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
