package ossemu

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// segmentPath spreads segments over 256 directories by the low byte of their
// number.
func (st *store) segmentPath(id uint64) string {
	name := []byte(st.dir + "/data/00/0000000000000000")
	hex := strconv.AppendUint(nil, id, 16)
	copy(name[len(name)-len(hex):], hex)
	low := name[len(name)-19:]
	copy(low[:2], low[17:]) // the directory
	return string(name)
}

func (st *store) segmentDir(id uint64) string { return filepath.Dir(st.segmentPath(id)) }

// createSegment makes the file of a new segment. Until a record names it, it
// belongs to the caller, who removes it with discard.
func (st *store) createSegment() (*os.File, uint64, error) {
	id := st.next.Add(1) - 1
	f, err := os.OpenFile(st.segmentPath(id), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	return f, id, err
}

// discard removes segments that nothing uses.
func (st *store) discard(ids []uint64) {
	for _, id := range ids {
		if err := os.Remove(st.segmentPath(id)); err != nil {
			// It stays as rubbish until the sweep at the next Open.
			st.log.Warn("segment not removed", "segment", id, "error", err)
		}
	}
}

// reserve keeps numbers up to used from being given out again.
func (st *store) reserve(used uint64) {
	if isPack(used) {
		st.packs.next = max(st.packs.next, used+1)
	} else if st.next.Load() <= used {
		st.next.Store(used + 1)
	}
}

func (st *store) retainLocked(segments []segment) {
	for _, s := range segments {
		st.refs[s.id]++
		st.packs.use(s, 1)
	}
}

// releaseLocked gives up one use of each segment and appends those that have
// no other to dead.
func (st *store) releaseLocked(dead []uint64, segments []segment) []uint64 {
	for _, s := range segments {
		st.packs.use(s, -1)
		if st.refs[s.id]--; st.refs[s.id] > 0 {
			continue
		}
		delete(st.refs, s.id)
		st.packs.forget(s.id)
		dead = append(dead, s.id)
	}
	return dead
}

// pin uses segments for somebody who is no record: a reader, or a body that is
// about to get its record.
func (st *store) pin(segments []segment) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.retainLocked(segments)
}

// unpin ends a use that was begun by pin or retainLocked.
func (st *store) unpin(segments []segment) {
	if len(segments) > 0 {
		st.discard(st.released(segments))
	}
}

func (st *store) released(segments []segment) (dead []uint64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.releaseLocked(nil, segments)
}

// sweepLocked makes the segment directories and removes the segments that no
// record names: those of bodies that were being received at the crash, and
// those whose removal did not happen.
func (st *store) sweepLocked() error {
	for id := range st.refs {
		st.reserve(id)
	}
	st.packs.measure(st.segmentPath)
	swept := 0
	for i := range 256 {
		dir := st.path("data", fmt.Sprintf("%02x", i))
		if err := os.Mkdir(dir, 0o700); err == nil {
			continue
		} else if !os.IsExist(err) {
			return err
		}
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		names, err := d.Readdirnames(-1)
		d.Close()
		if err != nil {
			return err
		}
		for _, name := range names {
			id, err := strconv.ParseUint(name, 16, 64)
			if err != nil || st.refs[id] > 0 {
				continue
			}
			if err := os.Remove(st.segmentPath(id)); err != nil {
				return err
			}
			swept++
		}
	}
	if swept > 0 {
		st.log.Info("removed segments that no object names", "dir", st.dir, "segments", swept)
	}
	return nil
}

// cut gives the segments of the length bytes from off on.
func cut(segments []segment, off, length int64) []segment {
	var out []segment
	for _, s := range segments {
		if length <= 0 {
			break
		}
		if off >= s.size {
			off -= s.size
			continue
		}
		n := min(s.size-off, length)
		out = append(out, segment{id: s.id, off: s.off + off, size: n})
		off, length = 0, length-n
	}
	return out
}

// segmentReader reads segments one after the other. It holds them (pinned by
// its maker) until Close, so the object may be deleted or overwritten meanwhile.
type segmentReader struct {
	st     *store
	pinned []segment
	rest   []segment
	file   *os.File // the first of rest, at the right offset
}

func (r *segmentReader) Read(p []byte) (int, error) {
	for len(r.rest) > 0 && r.rest[0].size == 0 {
		r.rest = r.rest[1:]
		r.closeFile()
	}
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	s := &r.rest[0]
	if r.file == nil {
		f, err := os.Open(r.st.segmentPath(s.id))
		if err != nil {
			return 0, err
		}
		r.file = f
	}
	n, err := r.file.ReadAt(p[:min(int64(len(p)), s.size)], s.off)
	s.off, s.size = s.off+int64(n), s.size-int64(n)
	if err == io.EOF {
		err = nil
		if n == 0 {
			err = io.ErrUnexpectedEOF // the file is shorter than its record
		}
	}
	return n, err
}

func (r *segmentReader) closeFile() {
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
}

func (r *segmentReader) Close() error {
	r.closeFile()
	r.st.unpin(r.pinned)
	r.pinned, r.rest = nil, nil
	return nil
}

// openLocked pins the given segments and returns a reader of them.
func (st *store) openLocked(segments []segment) *segmentReader {
	st.retainLocked(segments)
	return &segmentReader{st: st, pinned: segments, rest: append([]segment(nil), segments...)}
}
