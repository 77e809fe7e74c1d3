package disk

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	pageSize   = 4096
	sectorSize = 512 // what a disk writes wholly or not at all

	// cacheMax is the size of the write cache: what is more is written out, in the
	// order in which it came.
	cacheMax = 64 << 20
)

// page is never changed once it is in an image: images share pages.
type page = [pageSize]byte

// image is the disk at one boot of the machine.
type image struct {
	mu     sync.Mutex
	now    []*page // as the machine sees it; nil: zeros
	safe   []*page // what is durable
	cache  []write // what has been written since, in order
	cached int     // bytes in it

	frozen chan struct{} // not nil: nothing is answered until it is closed
	safety *time.Timer   // of a freeze
	stopIn int           // freeze before the so manieth write or flush from now on; 0: never
	stops  chan struct{} // closed when that has happened

	onlyFlushes bool // of stopIn: those that find something in the cache
	counts      Counts
}

type write struct {
	off  int64
	data []byte
}

// Counts is what the disk was asked for.
type Counts struct {
	Writes, Flushes int
	Bytes           int64
}

func newImage(size int64) *image {
	return &image{now: make([]*page, size/pageSize), safe: make([]*page, size/pageSize), stops: make(chan struct{})}
}

// load reads a file, whose holes cost nothing, as a disk that has been switched off.
func load(path string) (*image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	m := newImage(size)
	for off := int64(0); ; {
		if off, err = unix.Seek(int(f.Fd()), off, unix.SEEK_DATA); err != nil {
			return m, nil // no data behind this
		}
		p := new(page)
		if _, err := f.ReadAt(p[:], off/pageSize*pageSize); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		if *p != (page{}) {
			m.now[off/pageSize], m.safe[off/pageSize] = p, p
		}
		off = (off/pageSize + 1) * pageSize
	}
}

func (m *image) size() int64 { return int64(len(m.now)) * pageSize }

// request is what a disk is asked for.
type request int

const (
	reads request = iota
	writes
	flushes
)

// do runs f, once the disk is not frozen.
func (m *image) do(what request, f func()) {
	for {
		frozen := m.try(what, f)
		if frozen == nil {
			return
		}
		<-frozen
	}
}

func (m *image) try(what request, f func()) (frozen chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.frozen == nil && m.isDueLocked(what) {
		m.freezeLocked()
		close(m.stops)
	}
	if m.frozen == nil {
		f()
	}
	return m.frozen
}

// isDueLocked counts what a cut may come before, and reports that it comes now.
func (m *image) isDueLocked(what request) bool {
	if what == reads || m.stopIn == 0 || m.onlyFlushes && (what != flushes || len(m.cache) == 0) {
		return false
	}
	m.stopIn--
	return m.stopIn == 0
}

func (m *image) readAt(p []byte, off int64) {
	m.do(reads, func() {
		for len(p) > 0 {
			at := off % pageSize
			n := min(pageSize-at, int64(len(p)))
			if q := m.now[off/pageSize]; q != nil {
				copy(p[:n], q[at:])
			} else {
				clear(p[:n])
			}
			p, off = p[n:], off+n
		}
	})
}

func (m *image) writeAt(p []byte, off int64) {
	w := write{off, bytes.Clone(p)}
	m.do(writes, func() {
		m.counts.Writes++
		m.counts.Bytes += int64(len(p))
		put(m.now, w)
		m.cache = append(m.cache, w)
		m.cached += len(p)
		for m.cached > cacheMax {
			put(m.safe, m.cache[0])
			m.cached -= len(m.cache[0].data)
			m.cache = m.cache[1:]
		}
	})
}

// flush makes all that was answered durable.
func (m *image) flush() {
	m.do(flushes, func() {
		m.counts.Flushes++
		for _, w := range m.cache {
			for i := w.off / pageSize; i*pageSize < w.off+int64(len(w.data)); i++ {
				m.safe[i] = m.now[i]
			}
		}
		m.cache, m.cached = nil, 0
	})
}

// put writes w into pages.
func put(pages []*page, w write) {
	for p, off := w.data, w.off; len(p) > 0; {
		fresh := new(page)
		if old := pages[off/pageSize]; old != nil {
			*fresh = *old
		}
		n := copy(fresh[off%pageSize:], p)
		pages[off/pageSize] = fresh
		p, off = p[n:], off+int64(n)
	}
}

func (m *image) freeze() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.freezeLocked()
}

func (m *image) freezeLocked() {
	if m.frozen == nil {
		m.frozen = make(chan struct{})
		m.safety = time.AfterFunc(longestFreeze, m.thaw)
	}
}

// longestFreeze is when a frozen disk goes on by itself: who has frozen it may be one
// of those that wait for it, and could not even be killed.
const longestFreeze = 2 * time.Minute

// thaw lets it go on, and be frozen by no request that was named before.
func (m *image) thaw() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopIn = 0
	if m.frozen != nil {
		close(m.frozen)
		m.safety.Stop()
		m.frozen = nil
	}
}

// stopBefore freezes the disk before the n-th request from now on.
func (m *image) stopBefore(n int, onlyFlushes bool) chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopIn, m.onlyFlushes = n, onlyFlushes
	return m.stops
}

// copy is the disk as it was when it was last switched off.
func (m *image) copy() *image {
	m.mu.Lock()
	defer m.mu.Unlock()
	other := newImage(m.size())
	copy(other.safe, m.safe)
	copy(other.now, m.safe)
	return other
}

// CutInfo is what a cut found in the cache, and what of it has reached the medium.
type CutInfo struct {
	How            string
	Writes         int // in the cache
	Sectors, Kept  int // the same in sectors, and what of them is kept
	Counts         Counts
	StoppedByCount bool // the disk had frozen before a request that was named
}

// ways of what a cut keeps of the cache. Disks write out what is in it in any order;
// the first three are what real ones do most of the time.
var ways = []struct {
	name string
	keep func(r *rand.Rand, all []write) []write
}{
	{"none", func(*rand.Rand, []write) []write { return nil }},
	{"all", func(_ *rand.Rand, all []write) []write { return all }},
	{"a beginning, the last write of it torn", func(r *rand.Rand, all []write) []write {
		n := r.IntN(len(all) + 1)
		kept := all[:n:n]
		if n < len(all) {
			kept = append(kept, torn(r, all[n]))
		}
		return kept
	}},
	{"some writes", func(r *rand.Rand, all []write) []write { return some(r, all, 1<<30) }},
	{"some pages", func(r *rand.Rand, all []write) []write { return some(r, all, pageSize) }},
	{"some sectors", func(r *rand.Rand, all []write) []write { return some(r, all, sectorSize) }},
}

// torn is the beginning of a write.
func torn(r *rand.Rand, w write) write {
	n := r.IntN(len(w.data)/sectorSize+1) * sectorSize
	if w.off+int64(n) < superblock {
		n = 0
	}
	return write{w.off, w.data[:n]}
}

// superblock is the end of what is never torn: ext4 writes its superblock in place, in
// two sectors with one checksum, and relies on it that both are written or none.
const superblock = pageSize

// some draws from the writes, taken apart in pieces of a size.
func some(r *rand.Rand, all []write, size int) (kept []write) {
	likely := []float64{0.02, 0.3, 0.5, 0.8, 0.98}[r.IntN(5)]
	for _, w := range all {
		for p, off := w.data, w.off; len(p) > 0; {
			n := min(len(p), size)
			if off < superblock {
				n = min(len(p), int(superblock-off))
			}
			if r.Float64() < likely {
				kept = append(kept, write{off, p[:n]})
			}
			p, off = p[n:], off+int64(n)
		}
	}
	return kept
}

// cut is the disk that the next boot finds. What is kept of the cache is put down in
// the order in which it came, so a sector holds any one of its versions.
func (m *image) cut(r *rand.Rand) (*image, CutInfo) {
	m.mu.Lock()
	defer m.mu.Unlock()
	way := ways[r.IntN(len(ways))]
	next := newImage(m.size())
	copy(next.safe, m.safe)
	info := CutInfo{How: way.name, Writes: len(m.cache), Sectors: sectors(m.cache), Counts: m.counts}
	kept := way.keep(r, m.cache)
	for _, w := range kept {
		put(next.safe, w)
	}
	info.Kept = sectors(kept)
	copy(next.now, next.safe)
	select {
	case <-m.stops:
		info.StoppedByCount = true
	default:
	}
	return next, info
}

func sectors(all []write) (n int) {
	for _, w := range all {
		n += len(w.data) / sectorSize
	}
	return n
}
