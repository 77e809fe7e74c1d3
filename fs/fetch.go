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
)

// How the blocks of a version on OSS (sparse.go) come: when they are needed, and
// before, to who reads one after the other.

// ahead returns how much to fetch for a read of n bytes at off: twice as much
// each time reads follow each other, only what is asked for where they don't. Those
// of one reader may overtake each other a little, as the kernel reads ahead, too.
func (s *sparse) ahead(off, n int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := off + n
	switch apart := off - s.next; {
	case apart == 0:
		s.window = max(fetchPiece, min(2*s.window, lastWindow))
		s.run += n
	case max(apart, -apart) <= overtakes && s.run > overtakes:
		end = max(end, s.next)
	case off != 0:
		s.window, s.run = 0, n
	}
	s.next = end
	s.hurryLocked(end)
	return max(n, s.window)
}

// hurryLocked begins to fetch what comes next before a reader who has come to off
// has to wait for it, and never more than was read in one go until then.
func (s *sparse) hurryLocked(off int64) {
	window := min(s.window, s.run)
	if s.taken || s.err != nil || s.failed != nil || window < fetchPiece {
		return
	}
	first, near := off/s.block, min(off+window/2, s.size)/s.block
	for first < near && s.blocks[first] != missing {
		first++
	}
	if first > off/s.block && first < near {
		s.startLocked(first, (min(first*s.block+window, s.size)-1)/s.block)
	}
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
	s.startLocked(first, min(off+max(n, window)-1, s.size-1)/s.block)
	return false, s.came, s.changed, nil
}

// startLocked begins to fetch what is missing of the blocks from first to last.
func (s *sparse) startLocked(first, last int64) {
	for i := first; i <= last; i++ {
		if s.blocks[i] != missing {
			continue
		}
		k := i
		for k <= last && s.blocks[k] == missing {
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

// pieces are buffers for what comes from OSS, or is summed. They are used again: memory
// that is touched for the first time costs more than to sum a small file.
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
