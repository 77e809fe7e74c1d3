package cache

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Lost is bytes that no file names, kept until somebody decides.
type Lost struct {
	Number  uint64  `json:"number"`
	Size    int64   `json:"size"`
	Mtime   int64   `json:"mtime"` // Unix nanoseconds
	Witness Witness `json:"witness"`
	Path    string  `json:"path"` // on the local disk
}

func (c *Cache) lostDir() string { return filepath.Join(c.dir, "lost+found") }

// Lose moves contents to lost+found/<number in hex> under the cache directory
// and returns when they are there on the disk: a power cut that brought them
// back would have the next start take them for garbage. Their numbers are not
// given out again.
func (c *Cache) Lose(numbers ...uint64) error {
	if len(numbers) == 0 {
		return nil
	}
	if err := os.MkdirAll(c.lostDir(), 0o700); err != nil {
		return err
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

func (c *Cache) lose(n uint64) error {
	to := filepath.Join(c.lostDir(), strconv.FormatUint(n, 16))
	if err := os.Rename(c.path(n), to); err != nil {
		return fmt.Errorf("lost+found: %w", err)
	}
	if err := os.Rename(c.sidecar(n), to+sidecarSuffix); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("lost+found: %w", err)
	}
	return nil
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
		if err != nil {
			continue // a witness beside its content
		}
		l := Lost{Number: n, Path: filepath.Join(c.lostDir(), e.Name())}
		if st, err := e.Info(); err == nil {
			l.Size, l.Mtime = st.Size(), st.ModTime().UnixNano()
		}
		l.Witness, _, _ = c.witnessAt(n, l.Path)
		out = append(out, l)
	}
	return out, nil
}
