package fs

import (
	"context"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/writeback"
)

// successor returns the version that has the bytes of ref now, as far as they are
// read here.
func (s *sparse) successor(ctx context.Context, ref object.Ref) (next object.Ref, ok bool) {
	of, follow := s.following()
	if next, _, ok = follow.Published(); ok && !next.Same(ref) {
		return next, true
	}
	next, ok = s.fs.q.Successor(ctx, ref, of)
	return next, ok && !next.Same(ref)
}

// follows has f tell, in place of another that is about to end: that of the content
// of x, whose holes are read here.
func (s *sparse) follows(x *file, f *writeback.Follow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owner, s.follow = x, f
	s.holdLocked() // a change that waits already had nobody to ask
}

// following returns the content whose holes are read here, and what tells of it.
func (s *sparse) following() (of uint64, follow *writeback.Follow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of, s.follow
}

func (s *sparse) succeed(next object.Ref) {
	s.fs.mu.Lock()
	defer s.fs.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refs > 0 && s.of != 0 {
		defer s.holdLocked()
		s.size = min(s.size, next.Size) // no hole lies beyond
		s.cutLocked()
		s.announceLocked()
	}
	if s.fs.reads.byRef[s.ref] == s {
		delete(s.fs.reads.byRef, s.ref)
		s.fs.reads.byRef[next] = s
	}
	s.ref = next
}

// cutLocked ends the wait for blocks beyond the size.
func (s *sparse) cutLocked() {
	for i := (s.size + s.block - 1) / s.block; i < int64(len(s.blocks)); i++ {
		if s.blocks[i] == missing {
			s.blocks[i] = present
			s.left--
		}
	}
	if !s.isNeededLocked() {
		s.hold.Release()
	}
}
