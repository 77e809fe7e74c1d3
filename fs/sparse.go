package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/writeback"
)

var (
	// errTaken says that the bytes have become a file's own content.
	errTaken = errors.New("the bytes have been taken over")
	// errWhole says that no byte of a version is missing any more.
	errWhole = errors.New("all bytes have come")
)

const (
	smallestBlock = 16 << 10  // what a read by chance fetches too much of, at each end
	fetchPiece    = 256 << 10 // is read at once, and given out
	mostBlocks    = 1 << 16
	firstWindow   = 1 << 20
	lastWindow    = 16 << 20
	fillPiece     = 32 << 20
	fillers       = 4
)

type blockState uint8

const (
	missing blockState = iota
	fetching
	present
)

// sparse is a version on OSS of which ranges are fetched as they are read,
// into a content. All who read that version share it; a block is fetched once
// for all who wait for it, and never for longer than a while after the last
// one has gone.
type sparse struct {
	fs    *FS
	block int64

	mu      sync.Mutex
	size    int64          // what lies beyond is not read here any more
	ref     object.Ref     // the version; its successor when we have replaced it by the same bytes
	content *cache.Content // nil: there was no room for one
	blocks  []blockState
	left    int               // blocks that are not present
	came    int               // grows as bytes come
	reach   int64             // blocks of the whole object that have come, though perhaps damaged
	of      uint64            // the content whose holes are read here; 0: none's, and others may share it
	owner   *file             // whose content that is, once it is told
	follow  *writeback.Follow // of that content
	err     error             // the version is gone for good
	failed  error             // the last fetch failed; the next one clears it
	changed chan struct{}     // closed and replaced at each progress or failure
	refs    int
	hold    *writeback.Hold
	taken   bool
	next    int64 // where the last read ended: one that begins there is sequential
	window  int64 // how much is fetched ahead
}

// readCache keeps what was read of versions that no handle reads any more.
type readCache struct {
	byRef map[object.Ref]*sparse
	idle  []*sparse // longest idle first
}

const maxIdle = 128 // versions that are kept for the next open

// sparse returns the shared bytes of ref, size bytes long.
func (f *FS) sparse(ref object.Ref, size int64) (*sparse, error) {
	if ref.IsZero() {
		return nil, fail(syscall.ESTALE)
	}
	if s := f.reuse(ref); s != nil {
		return s, nil
	}
	s, err := f.newSparse(ref, size, 0, nil)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reads.byRef == nil {
		f.reads.byRef = map[object.Ref]*sparse{}
	}
	if f.reads.byRef[ref] == nil {
		f.reads.byRef[ref] = s
	}
	return s, nil
}

func (f *FS) newSparse(ref object.Ref, size int64, of uint64, follow *writeback.Follow) (*sparse, error) {
	content, err := f.createClean(ref)
	if err != nil && !isNoRoom(err) {
		return nil, err
	}
	block := max(int64(smallestBlock), (size+mostBlocks-1)/mostBlocks)
	n := int((size + block - 1) / block)
	s := &sparse{fs: f, ref: ref, size: size, block: block, content: content, blocks: make([]blockState, n), left: n,
		changed: make(chan struct{}), refs: 1, window: firstWindow, of: of, follow: follow}
	s.hold = f.q.Hold(ref, of, s.yield)
	if n == 0 {
		s.hold.Release()
	}
	return s, nil
}

// own returns the bytes of s for the holes of content of, which nobody else
// shares: what the content is published as takes their place. It ends this use
// of s, which is the one that is returned if it was the only one. errWhole says
// that all bytes are here by now: nothing keeps the version in place for the holes
// of anybody, and this use of s goes on.
func (s *sparse) own(of uint64, follow *writeback.Follow) (*sparse, error) {
	ref, size := s.extent()
	hold := s.fs.q.Hold(ref, of, nil) // before the look, and until the one that stays
	defer hold.Release()
	if s.whole() {
		return nil, errWhole
	}
	if s.isOnly(of, follow) {
		return s, nil
	}
	mine, err := s.fs.newSparse(ref, size, of, follow)
	if err == nil {
		s.release()
	}
	return mine, err
}

func (s *sparse) isOnly(of uint64, follow *writeback.Follow) bool {
	s.fs.mu.Lock()
	defer s.fs.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refs != 1 || s.taken || s.err != nil {
		return false
	}
	if s.fs.reads.byRef[s.ref] == s {
		delete(s.fs.reads.byRef, s.ref)
	}
	s.of, s.follow = of, follow
	s.holdLocked()
	return true
}

// holdLocked keeps the version in place for what is missing of it, without a moment
// in between in which a change could go.
func (s *sparse) holdLocked() {
	defer s.hold.Release()
	if s.isNeededLocked() {
		s.hold = s.fs.q.Hold(s.ref, s.of, s.yield)
	}
}

// isNeededLocked reports that the version must stay: some of it is not here, or
// what is here fills the holes of a content, whose rows say that they are those of
// the version.
func (s *sparse) isNeededLocked() bool { return s.left > 0 || s.of != 0 && s.size > 0 }

func (f *FS) reuse(ref object.Ref) *sparse {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.reads.byRef[ref]
	if s == nil || !s.again() {
		return nil
	}
	for i, idle := range f.reads.idle {
		if idle == s {
			f.reads.idle = append(f.reads.idle[:i], f.reads.idle[i+1:]...)
			break
		}
	}
	return s
}

func (s *sparse) again() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken || s.err != nil {
		return false
	}
	s.refs++
	if s.refs == 1 && s.isNeededLocked() {
		s.hold = s.fs.q.Hold(s.ref, s.of, s.yield)
	}
	return true
}

// release ends one use. The bytes stay for the next open, for a while.
func (s *sparse) release() {
	if !s.less() {
		return
	}
	for _, old := range s.fs.retire(s) {
		old.drop()
	}
}

func (s *sparse) less() (last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refs--; s.refs > 0 {
		return false
	}
	s.hold.Release()
	return true
}

// retire puts s among the idle ones and returns those that must go.
func (f *FS) retire(s *sparse) (gone []*sparse) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if kept := f.reads.byRef[s.firstRef()] == s; !kept || s.isDone() {
		if kept {
			delete(f.reads.byRef, s.firstRef())
		}
		return []*sparse{s}
	}
	f.reads.idle = append(f.reads.idle, s)
	for len(f.reads.idle) > maxIdle {
		old := f.reads.idle[0]
		f.reads.idle = f.reads.idle[1:]
		delete(f.reads.byRef, old.firstRef())
		gone = append(gone, old)
	}
	return gone
}

func (s *sparse) isDone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken || s.err != nil || s.content == nil
}

// firstRef is the version under which s is kept.
func (s *sparse) firstRef() object.Ref { return s.version() }

func (s *sparse) version() object.Ref {
	ref, _ := s.extent()
	return ref
}

// extent is the version, and how much of it is read here.
func (s *sparse) extent() (ref object.Ref, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ref, s.size
}

// drop gives the content up, unless a file has taken it over.
func (s *sparse) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken {
		return
	}
	s.taken = true
	if s.content == nil {
		return
	}
	s.content.Close()
	s.fs.q.Unneeded(s.content.Number())
}

func (c *readCache) drop(f *FS) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range c.byRef {
		s.drop()
	}
	clear(c.byRef)
	c.idle = nil
}

// whole reports that every byte is here.
func (s *sparse) whole() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left == 0
}

// present reads what lies at off if all of it is here.
func (s *sparse) present(p []byte, off int64) (ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken {
		return false, nil
	}
	if off+int64(len(p)) > s.size {
		return false, fmt.Errorf("read %q: byte %d of %d: %w", s.ref.Key, off+int64(len(p)), s.size, syscall.EIO)
	}
	for i := off / s.block; i <= (off+int64(len(p))-1)/s.block; i++ {
		if s.blocks[i] != present {
			return false, nil
		}
	}
	_, err = s.content.ReadAt(p, off)
	return true, err
}

// take hands the bytes over to a file that changes them: this very content if
// nobody else reads it, else a copy.
func (s *sparse) take() (*cache.Content, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.content == nil { // of no bytes
		return s.fs.createClean(s.ref)
	}
	if s.refs > 1 || s.taken {
		return s.content.Clone(cache.Witness{Ref: s.ref, State: cache.StateClean})
	}
	s.taken = true
	return s.content, nil
}

// readAt reads what lies at off, and fetches it first where it is missing.
func (s *sparse) readAt(ctx context.Context, p []byte, off int64) (int, error) {
	_, size := s.extent()
	if off >= size {
		return 0, nil
	}
	p = p[:min(int64(len(p)), size-off)]
	if err := s.need(ctx, off, int64(len(p)), s.ahead(off, int64(len(p)))); err != nil {
		return 0, err
	}
	n, err := s.content.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// ahead returns how much to fetch for a read of n bytes at off: twice as much
// each time reads follow each other, only what is asked for where they don't.
func (s *sparse) ahead(off, n int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if off == s.next {
		s.window = max(fetchPiece, min(2*s.window, lastWindow))
	} else if off != 0 {
		s.window = 0
	}
	s.next = off + n
	return max(n, s.window)
}

// need returns when the n bytes at off are here. It waits as long as there is
// progress, and Options.Stall without any.
func (s *sparse) need(ctx context.Context, off, n, window int64) error {
	stall := time.NewTimer(s.fs.o.Stall)
	defer stall.Stop()
	came := -1
	for first := true; ; first = false {
		ready, now, changed, err := s.missing(off, n, window, first)
		if ready || err != nil {
			return err
		}
		if now != came {
			came = now
			stall.Reset(s.fs.o.Stall)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-stall.C:
			return fmt.Errorf("read %q: OSS has sent nothing for %s: %w", s.version().Key, s.fs.o.Stall, syscall.EIO)
		}
	}
}

// missing starts the fetch of what is missing from the n bytes at off, and of
// the window behind. Only the first look of a reader starts one after a
// failure; others learn of it.
func (s *sparse) missing(off, n, window int64, look bool) (ready bool, came int, changed chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken {
		return false, 0, nil, errTaken
	}
	first, last := off/s.block, (off+n-1)/s.block
	ready = true
	for i := first; i <= last; i++ {
		ready = ready && s.blocks[i] == present
	}
	if ready {
		return true, s.came, nil, nil
	}
	if s.err != nil {
		return false, 0, nil, s.err
	}
	if s.failed != nil && !look {
		return false, 0, nil, s.failed
	}
	s.failed = nil
	end := min(off+max(n, window)-1, s.size-1) / s.block
	for i := first; i <= end; i++ {
		if s.blocks[i] != missing {
			continue
		}
		k := i
		for k <= end && s.blocks[k] == missing {
			s.blocks[k] = fetching
			k++
		}
		first, past := i, k
		go func() {
			if err := s.fs.guard(func() { s.fetch(first, past) }); err != nil {
				s.fetched(first, past, err)
			}
		}()
		i = k
	}
	return false, s.came, s.changed, nil
}

// fetch fetches the blocks from first up to end, and tries again while the
// failure is one that passes.
func (s *sparse) fetch(first, end int64) {
	at := first
	ctx, cancel := context.WithTimeout(s.fs.work, 10*s.fs.o.Stall)
	defer cancel()
	_, err := ask(ctx, func(ctx context.Context) (struct{}, error) {
		ref, size := s.extent()
		was := at
		err := s.fetchOnce(ctx, ref, size, &at, end)
		for ; object.KindOf(err) == object.Again && err != nil && at > was; was = at { // some of it came
			err = s.fetchOnce(ctx, ref, size, &at, end)
		}
		err = s.moving(ctx, ref, err)
		if isNoRoom(err) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	})
	s.fetched(at, end, err)
}

// moving takes the version that has the place of ref by our own doing, where err
// says that ref is not there any more: it is asked for again.
func (s *sparse) moving(ctx context.Context, ref object.Ref, err error) error {
	if k := object.KindOf(err); err == nil || k != object.Conflict && k != object.Absent {
		return err
	}
	next, ok := s.successor(ctx, ref)
	if !ok {
		return &object.Error{Op: "GetObject", Key: ref.Key, Kind: object.Conflict, Fate: object.Answered,
			Err: errors.New("somebody else has replaced or removed the version that is open")}
	}
	s.succeed(next)
	return &object.Error{Op: "GetObject", Key: ref.Key, Kind: object.Again, Err: err}
}

// fetchOnce fetches the blocks from at up to end of the first size bytes of ref.
func (s *sparse) fetchOnce(ctx context.Context, ref object.Ref, size int64, at *int64, end int64) error {
	end = min(end, (size+s.block-1)/s.block)
	if *at >= end {
		return nil
	}
	off := *at * s.block
	if s.content == nil || !s.fs.q.ReaderRoom(min(end*s.block, size)-off) {
		return cache.ErrNoRoom
	}
	r, err := s.fs.remote.Get(ctx, ref, off, min(end*s.block, size)-off)
	if err != nil {
		return err
	}
	defer r.Close()
	// The checksum of a whole object is compared at its end: nobody is given
	// anything of it before. One that comes in pieces has none.
	whole := off == 0 && min(end*s.block, size) == ref.Size
	buf := pieces.Get().(*[]byte)
	defer pieces.Put(buf)
	step := max(1, fetchPiece/s.block)
	for i := *at; i < end; i += step {
		next := min(i+step, end)
		off := i * s.block
		n := min(next*s.block, size) - off
		came, err := io.CopyBuffer(io.NewOffsetWriter(s.content, off), io.LimitReader(r, n), *buf)
		if err == nil && came < n {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if next == end {
			if _, err := io.Copy(io.Discard, r); err != nil {
				return err
			}
		}
		switch {
		case !whole:
			*at = s.arrived(i, next)
		case next == end:
			*at = s.arrived(0, end)
		default:
			s.goesOn(next - 1)
		}
	}
	return nil
}

// pieces are buffers for what comes from OSS.
var pieces = sync.Pool{New: func() any { b := make([]byte, fetchPiece); return &b }}

// goesOn notes that block i of a whole object has come, which nobody is given yet:
// that is progress the first time only, for it may come damaged again and again.
func (s *sparse) goesOn(i int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i >= s.reach {
		s.reach = i + 1
		s.came++
		s.announceLocked()
	}
}

// arrived notes that the blocks from first up to end are here, and returns end.
func (s *sparse) arrived(first, end int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := first; i < end; i++ {
		s.blocks[i] = present
		s.left--
	}
	if !s.isNeededLocked() {
		s.hold.Release()
	}
	s.came++
	s.announceLocked()
	return end
}

// fetched takes back the blocks from at up to end that were not fetched.
func (s *sparse) fetched(at, end int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := at; i < end; i++ {
		s.blocks[i] = missing
	}
	s.cutLocked()
	if object.KindOf(err) == object.Conflict && err != nil {
		s.err = err
	}
	s.failed = err
	s.announceLocked()
}

func (s *sparse) announceLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// fill fetches everything, several pieces at once.
func (s *sparse) fill(ctx context.Context) error {
	_, size := s.extent()
	for off := int64(0); off < size; off += fillPiece {
		n := min(int64(fillPiece), size-off)
		if err := s.need(ctx, off, n, min(fillers*fillPiece, size-off)); err != nil {
			if errors.Is(err, errTaken) {
				return nil
			}
			return err
		}
	}
	return nil
}

// yield fetches the rest because a change waits for us to be done with the version
// (H13), and has the file do without it.
func (s *sparse) yield() {
	if _, size := s.extent(); size <= 64<<20 {
		_ = s.fill(s.fs.work)
	}
	if x := s.ownedBy(); x != nil && s.whole() {
		if err := x.absorb(s); err != nil {
			s.fs.o.Log.Warn("an open file still needs the object that another change replaces or removes", "key", x.n.key(), "err", err)
		}
	}
}

func (s *sparse) ownedBy() *file {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owner
}
