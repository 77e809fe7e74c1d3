package cache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone is returned when the cache directory is not where it was.
var ErrGone = errors.New("the cache directory is gone: bring it back, and start the mount again")

// Who takes room. The reserve (Options.MinFree) is left to others by writers and
// readers; the engine may use half of it, so that what is pending can be carried
// when writers may not go on, and the journal all of it.
type Who int

const (
	Writer Who = iota // programs that write
	Reader            // copies of what OSS has: they leave an eighth to writers
	Engine            // fills and merges
)

// Usage is what the disk under the cache has, and what of it contents take.
type Usage struct {
	Total, Free int64 // bytes; Free is what writers may still take
	Whole       int64 // bytes of the disk
	Used        int64 // bytes of contents
	Found       int64 // of these, in lost+found
	Size        int64 // what they may take; 0: no limit
	MinFree     int64 // what of the disk is left to others
	Disk        int64 // bytes that the disk has left
	Files       uint64
	FilesFree   uint64
}

// tally is what contents take: a sum that is kept up, never counted again. Who
// has a content open shares its share.
type tally struct {
	used, found atomic.Int64

	mu     sync.Mutex
	open   map[uint64]*share
	asked  time.Time // when the disk was asked last
	disk   int64     // what it had left
	usedAt int64     // what contents took then
}

// share is what one content takes, while it is open.
type share struct {
	handles int
	bytes   atomic.Int64
	gone    atomic.Bool // dropped, and counted no more
}

// count adds up what lies in the directory, removes what a crash has left beside
// contents, and returns the highest number.
func (c *Cache) count() (top uint64, err error) {
	var tops [subs]uint64
	err = eachSub(func(i int) error {
		names, err := os.ReadDir(c.sub(uint64(i)))
		if err != nil {
			return err
		}
		for _, e := range names {
			if n, ok := numberOf(e); ok {
				tops[i] = max(tops[i], n)
				c.tally.used.Add(taken(c.path(n)))
			}
		}
		return dropStrays(c.sub(uint64(i)), names)
	})
	if err != nil {
		return 0, err
	}
	top = slices.Max(tops[:])
	names, err := os.ReadDir(c.lostDir())
	if errors.Is(err, fs.ErrNotExist) {
		return top, nil
	}
	for _, e := range names {
		if _, err := strconv.ParseUint(e.Name(), 16, 64); err == nil {
			n := taken(filepath.Join(c.lostDir(), e.Name()))
			c.tally.used.Add(n)
			c.tally.found.Add(n)
		}
	}
	return top, err
}

func taken(path string) int64 {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return 0
	}
	return st.Blocks * 512
}

// share returns that of content n, for one more handle.
func (t *tally) share(n uint64, f *os.File) *share {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.open[n]
	if s == nil {
		s = &share{}
		var st unix.Stat_t
		if unix.Fstat(int(f.Fd()), &st) == nil {
			s.bytes.Store(st.Blocks * 512)
		}
		t.open[n] = s
	}
	s.handles++
	return s
}

func (t *tally) unshare(n uint64, s *share) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.handles--; s.handles == 0 && t.open[n] == s {
		delete(t.open, n)
	}
}

// drop takes content n out of the sum before its file goes.
func (t *tally) drop(n uint64, path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.open[n]; s != nil {
		if !s.gone.Swap(true) {
			t.used.Add(-s.bytes.Load())
		}
		return
	}
	t.used.Add(-taken(path))
}

// Grown looks what the content takes now.
func (x *Content) Grown() {
	var st unix.Stat_t
	if x.share.gone.Load() || unix.Fstat(int(x.f.Fd()), &st) != nil {
		return
	}
	now := st.Blocks * 512
	x.c.tally.used.Add(now - x.share.bytes.Swap(now))
}

// diskFor is how long the disk's answer is believed, but for what we take.
const diskFor = 50 * time.Millisecond

// left is what the disk has, about.
func (c *Cache) left() int64 {
	t := &c.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); now.Sub(t.asked) > diskFor {
		var st unix.Statfs_t
		if unix.Statfs(c.dir, &st) == nil {
			t.disk = int64(st.Bavail) * st.Bsize
		}
		t.asked, t.usedAt = now, t.used.Load()
	}
	return t.disk - max(0, t.used.Load()-t.usedAt)
}

// Room returns how many bytes who may still take.
func (c *Cache) Room(who Who) int64 {
	minFree, size := c.o.MinFree, c.o.Size
	if who == Engine {
		minFree, size = minFree/2, size+size/8
	}
	room := c.left() - minFree
	if c.o.Size > 0 {
		room = min(room, size-c.tally.used.Load())
	}
	if who == Reader { // writers do not wait for what readers keep open
		room -= c.o.Size / 8
	}
	return max(0, room)
}

// MinFree is how many bytes of the disk are left to others.
func (c *Cache) MinFree() int64 { return c.o.MinFree }

// Usage asks the file system.
func (c *Cache) Usage() (Usage, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(c.dir, &st); err != nil {
		return Usage{}, err
	}
	u := Usage{
		Total: int64(st.Blocks) * st.Bsize, Whole: int64(st.Blocks) * st.Bsize,
		Disk: int64(st.Bavail) * st.Bsize,
		Used: c.tally.used.Load(), Found: c.tally.found.Load(),
		Size: c.o.Size, MinFree: c.o.MinFree,
		Files: st.Files, FilesFree: st.Ffree,
	}
	u.Free = max(0, u.Disk-c.o.MinFree)
	if c.o.Size > 0 {
		u.Total = min(u.Total, c.o.Size)
		u.Free = max(0, min(u.Free, c.o.Size-u.Used))
	}
	return u, nil
}

// gone returns ErrGone in place of err if that is because the directory is not
// there any more.
func (c *Cache) gone(err error) error {
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return err
	}
	var at, held unix.Stat_t
	if unix.Stat(filepath.Join(c.dir, "contents"), &at) != nil || unix.Stat(c.lock.Name(), &at) != nil ||
		unix.Fstat(int(c.lock.Fd()), &held) != nil || at.Dev != held.Dev || at.Ino != held.Ino {
		return ErrGone
	}
	return err
}
