package harness

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// Spoil damages one file beneath dir in a way drawn from r, and says how: it is
// removed, cut off, overwritten with zeros, noise or its own bytes of another
// place, or some of its bits are flipped.
func Spoil(dir string, r *rand.Rand) (how string, err error) {
	var files []string
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		return "", fmt.Errorf("nothing to spoil in %s: %w", dir, err)
	}
	slices.Sort(files)
	path := files[r.IntN(len(files))]
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	name, err := filepath.Rel(dir, path)
	if err != nil {
		return "", err
	}
	used := len(b) // logs have their blocks before they are used
	for used > 0 && b[used-1] == 0 {
		used--
	}
	kind := r.IntN(8)
	switch {
	case kind == 0:
		return name + " removed", os.Remove(path)
	case used == 0:
		return name + " emptied", os.Truncate(path, 0)
	}
	at := r.IntN(used)
	switch kind {
	case 1:
		return fmt.Sprintf("%s cut off at %d of %d", name, at, len(b)), os.Truncate(path, int64(at))
	case 2:
		clear(b[at:min(at+1+r.IntN(2000), len(b))])
		how = fmt.Sprintf("%s with zeros at %d", name, at)
	case 3:
		for i := at; i < min(at+1+r.IntN(300), len(b)); i++ {
			b[i] = byte(r.Uint32())
		}
		how = fmt.Sprintf("%s with noise at %d", name, at)
	case 4:
		from := r.IntN(used)
		copy(b[at:], b[from:min(from+4096, len(b))])
		how = fmt.Sprintf("%s with its bytes of %d at %d", name, from, at)
	default:
		n := 1 + r.IntN(8)
		for range n {
			b[r.IntN(used)] ^= 1 << r.IntN(8)
		}
		how = fmt.Sprintf("%s with %d flipped bits", name, n)
	}
	return how, os.WriteFile(path, b, 0o600)
}
