package fs

import (
	"context"
	"errors"

	"github.com/ossmount/ossmount/internal/extent"
)

// read implements read.
func (x *file) read(ctx context.Context, p []byte, off int64) (int, error) {
	x.look()
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
		if isNoRoom(err) {
			return x.readPast(ctx, p, off)
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

// small reads the bytes of a small file, such as a symlink's target.
func (f *FS) small(ctx context.Context, e *entry) ([]byte, error) {
	x := &file{fs: f, size: e.size}
	if err := x.find(ctx, e); err != nil {
		return nil, err
	}
	defer x.letGo()
	b := make([]byte, e.size)
	n, err := x.read(ctx, b, 0)
	return b[:n], err
}

func (x *file) letGo() {
	x.follow.Done()
	if x.base != nil {
		x.base.release()
	}
	if x.content != nil {
		x.content.Close()
	}
}
