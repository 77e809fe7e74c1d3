package cache

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/internal/crash"
	"github.com/ossmount/ossmount/internal/extent"
	"github.com/ossmount/ossmount/internal/private"
)

// Lost is bytes that no file names, kept until somebody decides.
type Lost struct {
	Number  uint64  `json:"number"`
	Size    int64   `json:"size"`
	Disk    int64   `json:"disk"`  // bytes that it takes on the disk
	Mtime   int64   `json:"mtime"` // Unix nanoseconds
	Witness Witness `json:"witness"`
	Path    string  `json:"path"` // on the local disk
}

// Key is the name that the bytes had, as far as they say so.
func (l *Lost) Key() string {
	if l.Witness.Key == "" {
		return l.Witness.Ref.Key // they were fetched, and then written to
	}
	return l.Witness.Key
}

// HasHoles reports that bytes are those of a version on OSS, and not here.
func (l *Lost) HasHoles() bool { return !l.Witness.Base.IsZero() && !l.Witness.Whole }

func (c *Cache) lostDir() string { return filepath.Join(c.dir, "lost+found") }

func (c *Cache) lostPath(n uint64) string {
	return filepath.Join(c.lostDir(), strconv.FormatUint(n, 16))
}

// Lose moves contents to lost+found/<number in hex> under the cache directory
// and returns when they are there on the disk: a power cut that brought them
// back would have the next start take them for garbage. Their numbers are not
// given out again.
func (c *Cache) Lose(numbers ...uint64) error {
	if len(numbers) == 0 {
		return nil
	}
	if err := private.Dir(c.lostDir()); err != nil {
		return fmt.Errorf("lost+found: %w", err)
	}
	dirs := map[string]bool{c.dir: true, c.lostDir(): true}
	for _, n := range numbers {
		if err := c.lose(n); err != nil {
			return err
		}
		dirs[c.sub(n)] = true
	}
	for dir := range dirs {
		if err := syncDir(dir); err != nil {
			return fmt.Errorf("lost+found: %w", err)
		}
	}
	return nil
}

// lose moves what stands beside a content first: a crash within leaves it in
// contents, to be moved again.
func (c *Cache) lose(n uint64) error {
	to := c.lostPath(n)
	if err := os.Rename(c.sidecar(n), to+sidecarSuffix); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("lost+found: %w", err)
	}
	crash.At("sidecar moved to lost+found, its content not")
	if err := os.Rename(c.path(n), to); err != nil {
		return fmt.Errorf("lost+found: %w", err)
	}
	crash.At("moved to lost+found")
	c.tally.found.Add(taken(to))
	return nil
}

// Reclaim moves a content from lost+found back to the others, for a row that is
// about to name it. Its witness says from then on that it is open: whatever it
// said before, a start that finds it without a row moves it to lost+found again.
// Until a row names it, nothing else keeps it.
func (c *Cache) Reclaim(n uint64) error {
	l, err := c.Lost(n)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(l.Path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("lost+found: %w", err)
	}
	defer f.Close()
	w := l.Witness
	w.Number, w.State = n, StateOpen
	if err := c.setWitnessAt(attrOf(f), l.Path, w); err != nil {
		return err
	}
	if err := f.Sync(); err != nil { // before it can be found under its number
		return fmt.Errorf("lost+found: %w", err)
	}
	if err := syncDir(c.lostDir()); err != nil { // with what stands beside it
		return fmt.Errorf("lost+found: %w", err)
	}
	crash.At("found marked, not moved")
	if err := os.Rename(l.Path, c.path(n)); err != nil {
		return fmt.Errorf("lost+found: %w", err)
	}
	c.tally.found.Add(-taken(c.path(n)))
	c.touch(c.sub(n))
	crash.At("found moved, its witness not")
	if err := os.Rename(l.Path+sidecarSuffix, c.sidecar(n)); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("lost+found: %w", err)
	}
	return nil
}

// DropLost removes a content of lost+found, and what stands beside it.
func (c *Cache) DropLost(n uint64) error {
	path := c.lostPath(n)
	was := taken(path)
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("lost+found: %w", err)
	}
	c.tally.used.Add(-was)
	c.tally.found.Add(-was)
	if err := os.Remove(path + sidecarSuffix); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("lost+found: %w", err)
	}
	return nil
}

// Lost returns the content n of lost+found; os.ErrNotExist: it has none.
func (c *Cache) Lost(n uint64) (Lost, error) {
	l := Lost{Number: n, Path: c.lostPath(n)}
	var st unix.Stat_t
	if err := unix.Lstat(l.Path, &st); err != nil {
		return l, fmt.Errorf("lost+found: content %x: %w", n, err)
	}
	l.Size, l.Disk, l.Mtime = st.Size, st.Blocks*512, st.Mtim.Nano()
	l.Witness, _, _ = c.witnessAt(n, l.Path)
	return l, nil
}

// LostAndFound lists what was found without a name.
func (c *Cache) LostAndFound() ([]Lost, error) {
	names, err := os.ReadDir(c.lostDir())
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Lost
	for _, e := range names {
		n, err := strconv.ParseUint(e.Name(), 16, 64)
		if err != nil || !e.Type().IsRegular() {
			continue // a witness beside its content
		}
		l, err := c.Lost(n)
		if errors.Is(err, os.ErrNotExist) {
			continue // somebody has acted on it meanwhile
		}
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// Written tells which bytes of a content of lost+found are on the disk, by whole
// blocks of its file system: all that was ever written to it, and no hole.
func (l *Lost) Written() (s extent.Set, err error) {
	f, err := os.Open(l.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for at := int64(0); ; {
		off, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, syscall.ENXIO) { // nothing more
			return s, nil
		}
		if err != nil {
			return nil, err
		}
		if at, err = f.Seek(off, unix.SEEK_HOLE); errors.Is(err, syscall.ENXIO) {
			at, err = f.Seek(0, io.SeekEnd)
		}
		if err != nil {
			return nil, err
		}
		s = s.Add(off, at)
	}
}
