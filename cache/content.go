package cache

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/internal/crash"
	"github.com/ossmount/ossmount/internal/private"
)

// Content is an open content: a file under a number. It is open for reading; for
// writing it is opened at its first change and until Rest, for as long as somebody
// has it open so the kernel grants no lease on it (Quiet).
type Content struct {
	c      *Cache
	f      *os.File
	number uint64
	share  *share

	mu sync.Mutex
	w  *os.File // for writing
}

// Sign is what tells whether a content changed: size and mtime of its file,
// read before our own attribute is set, never ctime (H25).
type Sign struct {
	Size  int64
	Mtime int64 // Unix nanoseconds
}

// Create makes a new, empty content. Its directory entry is durable only after
// SyncContents.
func (c *Cache) Create() (*Content, error) {
	for {
		n := c.next.Add(1)
		f, err := private.Create(c.path(n), os.O_RDONLY)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return nil, room(c.gone(err))
		}
		c.touch(c.sub(n))
		return &Content{c: c, f: f, number: n, share: c.tally.share(n, f)}, nil
	}
}

func (c *Cache) touch(dir string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dirs[dir] = true
}

// Open opens content n for reading and writing.
func (c *Cache) Open(n uint64) (*Content, error) {
	f, err := private.Open(c.path(n), os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("content %d: %w", n, c.gone(err))
	}
	return &Content{c: c, f: f, number: n, share: c.tally.share(n, f)}, nil
}

// Drop removes content n and its witness; it need not be there.
func (c *Cache) Drop(n uint64) error {
	c.tally.drop(n, c.path(n))
	err := os.Remove(c.path(n))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	crash.At("content gone, its sidecar not")
	if serr := os.Remove(c.sidecar(n)); serr != nil && !errors.Is(serr, os.ErrNotExist) {
		err = errors.Join(err, serr)
	}
	return err
}

// Stat returns the sign of content n.
func (c *Cache) Stat(n uint64) (Sign, error) {
	var st unix.Stat_t
	if err := unix.Lstat(c.path(n), &st); err != nil {
		return Sign{}, fmt.Errorf("content %d: %w", n, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG { // whoever has put it there: the bytes are gone
		return Sign{}, fmt.Errorf("content %d: %w: something else stands in its place", n, os.ErrNotExist)
	}
	return Sign{Size: st.Size, Mtime: st.Mtim.Nano()}, nil
}

// Number returns the content's number.
func (x *Content) Number() uint64 { return x.number }

// ReadAt implements io.ReaderAt.
func (x *Content) ReadAt(p []byte, off int64) (int, error) { return x.f.ReadAt(p, off) }

// writable returns the file as it is open for writing. What was removed since has
// no name any more, but a descriptor.
func (x *Content) writable() (*os.File, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.w != nil {
		return x.w, nil
	}
	w, err := private.Open(x.c.path(x.number), os.O_RDWR)
	if errors.Is(err, os.ErrNotExist) {
		w, err = os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", x.f.Fd()), os.O_RDWR, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("content %d: %w", x.number, x.c.gone(err))
	}
	x.w = w
	return w, nil
}

// Rest closes what the content was opened for writing with: nothing is going to
// be written for now.
func (x *Content) Rest() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.w != nil {
		x.w.Close()
		x.w = nil
	}
}

// Backing is the descriptor by which the kernel may serve the content itself: one
// that is open for reading only, so that it never counts as a writer.
func (x *Content) Backing() int { return int(x.f.Fd()) }

// WriteAt implements io.WriterAt. ErrNoRoom: the disk is full.
func (x *Content) WriteAt(p []byte, off int64) (int, error) {
	w, err := x.writable()
	if err != nil {
		return 0, err
	}
	defer x.Grown()
	n, err := w.WriteAt(p, off)
	return n, room(err)
}

// Truncate sets the size in bytes.
func (x *Content) Truncate(size int64) error {
	w, err := x.writable()
	if err != nil {
		return err
	}
	defer x.Grown()
	return room(w.Truncate(size))
}

// Allocate is fallocate(2) with the given mode.
func (x *Content) Allocate(mode uint32, off, n int64) error {
	w, err := x.writable()
	if err != nil {
		return err
	}
	defer x.Grown()
	return room(unix.Fallocate(int(w.Fd()), mode, off, n))
}

// Seek finds data or a hole from off on (lseek(2), SEEK_DATA or SEEK_HOLE).
func (x *Content) Seek(off int64, whence int) (int64, error) {
	return unix.Seek(int(x.f.Fd()), off, whence)
}

// Sign returns size and mtime.
func (x *Content) Sign() (Sign, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(x.f.Fd()), &st); err != nil {
		return Sign{}, err
	}
	return Sign{Size: st.Size, Mtime: st.Mtim.Nano()}, nil
}

// Blocks returns how many 512-byte blocks the content takes.
func (x *Content) Blocks() int64 {
	var st unix.Stat_t
	if err := unix.Fstat(int(x.f.Fd()), &st); err != nil {
		return 0
	}
	return st.Blocks
}

// Close closes the file; the content stays.
func (x *Content) Close() error {
	x.Grown() // the file system may have written it in another way
	x.c.tally.unshare(x.number, x.share)
	x.Rest()
	return x.f.Close()
}

// Clone copies the content to a new number, by reflink where the file system
// can, else byte by byte. w is what the copy says of itself before it has its
// first byte: a crash leaves no bytes of which nobody knows what they are.
func (x *Content) Clone(w Witness) (*Content, error) {
	y, err := x.c.Create()
	if err != nil {
		return nil, err
	}
	if err := y.SetWitness(w); err != nil {
		y.Close()
		return nil, errors.Join(err, x.c.Drop(y.number))
	}
	defer y.Rest()
	to, err := y.writable()
	if err == nil && unix.IoctlFileClone(int(to.Fd()), int(x.f.Fd())) != nil {
		_, err = io.Copy(to, io.NewSectionReader(x.f, 0, 1<<62))
	}
	y.Grown()
	if err != nil {
		y.Close()
		return nil, errors.Join(room(err), x.c.Drop(y.number))
	}
	return y, nil
}

// room turns a full disk into ErrNoRoom.
func room(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoRoom, err)
	}
	return err
}

// manyContents is from when on one syncfs is cheaper than a sync for each.
const manyContents = 64

// SyncContents makes the bytes and directory entries of contents durable. It
// returns the error of each that could not be synced; a content that is gone
// needs no sync.
func (c *Cache) SyncContents(numbers []uint64) map[uint64]error {
	failed := map[uint64]error{}
	if len(numbers) >= manyContents {
		if err := c.syncFS(); err != nil {
			for _, n := range numbers {
				failed[n] = err
			}
		}
		return failed
	}
	for _, n := range numbers {
		if err := c.syncOne(n); err != nil {
			failed[n] = err
		}
	}
	for _, dir := range c.takeDirs() {
		if err := syncDir(dir); err != nil {
			for _, n := range numbers {
				if c.sub(n) == dir {
					failed[n] = err
				}
			}
		}
	}
	return failed
}

func (c *Cache) takeDirs() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	dirs := make([]string, 0, len(c.dirs))
	for d := range c.dirs {
		dirs = append(dirs, d)
	}
	clear(c.dirs)
	return dirs
}

func (c *Cache) syncOne(n uint64) error {
	for _, path := range []string{c.path(n), c.sidecar(n)} {
		f, err := private.Open(path, os.O_RDONLY)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, private.ErrNotOurs) {
			continue // gone: no failure of the disk, which would be final (H11)
		}
		if err != nil {
			return err
		}
		err = f.Sync()
		f.Close()
		if err != nil {
			return fmt.Errorf("sync %s: %w", filepath.Base(path), err)
		}
	}
	return nil
}

func (c *Cache) syncFS() error {
	c.takeDirs()
	d, err := os.Open(c.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}
