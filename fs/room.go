package fs

import (
	"context"
	"errors"
	"io"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/extent"
	"github.com/ossmount/ossmount/internal/object"
)

// withRoom runs f, which takes n bytes of the cache disk, when there is room. No
// lock is held while it waits, and so other files can be used.
func (x *file) withRoom(ctx context.Context, n int64, f func() error) error {
	return x.fs.q.WithRoom(ctx, x.n.key, n, f)
}

// takes is how many of n bytes written at off the disk has to find room for: none
// where the content has them all already.
func (x *file) takes(off, n int64) int64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.content != nil && x.base == nil && off+n <= x.size && x.content.Blocks()*512 >= x.size {
		return 0
	}
	return n
}

// inRoom is withRoom for what may not be interrupted and takes little: a new name,
// a row.
func (f *FS) inRoom(ctx context.Context, key func() string, try func() error) error {
	return f.q.WithRoom(context.WithoutCancel(ctx), key, 0, try)
}

// createInRoom is create, when there is room for a file more.
func (f *FS) createInRoom(ctx context.Context, key string, attr object.Attr) (y *cache.Content, err error) {
	err = f.inRoom(ctx, func() string { return key }, func() (err error) { y, err = f.create(key, attr, object.Ref{}); return err })
	return y, err
}

// createClean makes a content for copies of what OSS has.
func (f *FS) createClean(ref object.Ref) (*cache.Content, error) {
	content, err := f.c.Create()
	if err != nil {
		return nil, err
	}
	if err := content.SetWitness(cache.Witness{Ref: ref, State: cache.StateClean}); err != nil {
		content.Close()
		return nil, errors.Join(err, f.c.Drop(content.Number()))
	}
	return content, nil
}

// spare gives up what was read of versions that nobody reads any more.
func (f *FS) spare() {
	for _, s := range f.takeIdle() {
		s.drop()
	}
}

func (f *FS) takeIdle() []*sparse {
	f.mu.Lock()
	defer f.mu.Unlock()
	idle := f.reads.idle
	for _, s := range idle {
		delete(f.reads.byRef, s.firstRef())
	}
	f.reads.idle = nil
	return idle
}

// readPast reads without room in the cache: what is not here comes from OSS and is
// not kept.
func (x *file) readPast(ctx context.Context, p []byte, off int64) (int, error) {
	gaps, base, n := x.gapsOf(off, int64(len(p)))
	for _, g := range gaps {
		if err := base.fetchInto(ctx, p[g.Off-off:g.End-off], g.Off); err != nil {
			return 0, err
		}
	}
	return n, x.readHere(p[:n], off)
}

// gapsOf returns which of the n bytes at off must come from the base, and how many
// there are.
func (x *file) gapsOf(off, n int64) (gaps extent.Set, base *sparse, have int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if off >= x.size || x.base == nil {
		return nil, nil, int(max(0, min(n, x.size-off)))
	}
	n = min(n, x.size-off)
	for g := range x.localLocked().Gaps(off, off+n) {
		gaps = append(gaps, g)
	}
	return gaps, x.base, int(n)
}

// readHere reads over p what the content has of it by now.
func (x *file) readHere(p []byte, off int64) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for r := range x.localLocked().Within(off, off+int64(len(p))) {
		part := p[r.Off-off : r.End-off]
		n, err := x.content.ReadAt(part, r.Off)
		if err != nil && !isEOF(err) {
			return err
		}
		clear(part[n:])
	}
	return nil
}

// fetchInto reads what lies at off from OSS, or from here where it is.
func (s *sparse) fetchInto(ctx context.Context, p []byte, off int64) error {
	if ok, err := s.present(p, off); ok || err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.fs.o.Stall)
	defer cancel()
	_, err := ask(ctx, func(ctx context.Context) (struct{}, error) {
		ref := s.version()
		return struct{}{}, s.moving(ctx, ref, s.getOnce(ctx, ref, p, off))
	})
	return err
}

func (s *sparse) getOnce(ctx context.Context, ref object.Ref, p []byte, off int64) error {
	r, err := s.fs.remote.Get(ctx, ref, off, int64(len(p)))
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.ReadFull(r, p)
	return err
}

func isNoRoom(err error) bool { return errors.Is(err, cache.ErrNoRoom) }
