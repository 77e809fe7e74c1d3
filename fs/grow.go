package fs

import (
	"cmp"
	"context"
	"path"
	"slices"

	"github.com/ossmount/ossmount/internal/extent"
	"github.com/ossmount/ossmount/internal/object"
)

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
	if err != nil || x.n.isGone() || !row.Base.IsZero() { // what it was is on OSS by now: the rest is a change of that
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

// A file that was written to at very many places would make its rows long: the
// gaps between them are closed, the shortest first. Those that no part can have
// for itself are sent with what is around them anyway. While OSS does not answer
// nothing can be fetched for that, and a row may have some more of them: writers
// wait in vain once for each doubling, not each time.
const (
	maxScattered  = 8192
	mostScattered = 1 << 16 // a row of some 500 KB: a commit takes 1 MB
)

func (x *file) isScattered() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.dirty) > max(maxScattered, x.scattered)
}

// mayScatter lets the file have twice as many ranges as it has.
func (x *file) mayScatter() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.scattered = min(2*len(x.dirty), mostScattered)
}

func (x *file) gather(ctx context.Context) {
	ctx, cancel := x.fs.patient(ctx)
	defer cancel()
	gaps, base := x.shortest()
	for _, g := range gaps {
		if base != nil && base.need(ctx, g.Off, g.Len(), g.Len()) != nil {
			x.mayScatter() // later, then: it is no matter of correctness
			return
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

// absorb takes the bytes of its base, all of which are here, into the content. No
// row says yet that it has holes over the base, and the first one that did would
// find it gone. Where a row says so the rows wait for each other (R2).
func (x *file) absorb(base *sparse) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.content == nil || x.base != base {
		return nil
	}
	if x.seq == 0 {
		if err := x.absorbLocked(); err != nil {
			return err
		}
	}
	base.letGo()
	return nil
}

const absorbPiece = 1 << 20

func (x *file) absorbLocked() error {
	p := make([]byte, absorbPiece)
	for g := range x.local.Gaps(0, x.size) {
		for off := g.Off; off < g.End; off += absorbPiece {
			piece := p[:min(absorbPiece, g.End-off)]
			ok, err := x.base.present(piece, off)
			if err == nil && !ok {
				err = errTaken
			}
			if err != nil {
				return err
			}
			if _, err := x.content.WriteAt(piece, off); err != nil {
				return err
			}
		}
	}
	x.base.release()
	x.base, x.local, x.origin, x.dirty = nil, nil, object.Ref{}, nil
	x.changed = true
	return nil
}

// letGo has changes of the version wait no more.
func (s *sparse) letGo() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold.Release()
}
