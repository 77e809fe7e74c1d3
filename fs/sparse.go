package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"

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
	overtakes     = 1 << 20 // how far apart reads may be that follow each other
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
	next    int64 // where the last read ended: one that begins about there is sequential
	run     int64 // how much was read so
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

// lend returns a copy of the bytes of ref, or nil if not all of them are here.
func (f *FS) lend(ref object.Ref) (*cache.Content, error) {
	s := f.reuse(ref)
	if s == nil {
		return nil, nil
	}
	defer s.release() // a use: until then nobody takes the content over
	content := s.wholeContent()
	if content == nil {
		return nil, nil
	}
	return content.Clone(cache.Witness{State: cache.StateDead})
}

// wholeContent is the content if no byte of it is missing, else nil.
func (s *sparse) wholeContent() *cache.Content {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left > 0 || s.taken {
		return nil
	}
	return s.content
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
