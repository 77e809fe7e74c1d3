package harness

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Entry is what a tree has under one name.
type Entry struct {
	Mode   fs.FileMode // type and permissions
	Size   int64       // of files and symlinks
	Mtime  int64       // Unix nanoseconds
	Sum    string      // SHA-256 of a file
	Target string      // of a symlink
}

// Snapshot reads a tree; the root itself is "." and counts by its name only.
func Snapshot(root string) (map[string]Entry, error) {
	tree := map[string]Entry{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil || rel == "." {
			return err
		}
		e, err := look(path)
		if err != nil {
			return err
		}
		if d.Type() != e.Mode.Type() {
			return fmt.Errorf("%q: readdir says %v, lstat %v", rel, d.Type(), e.Mode.Type())
		}
		tree[rel] = e
		return nil
	})
	return tree, err
}

func look(path string) (e Entry, err error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return e, err
	}
	e.Mode, e.Mtime = fi.Mode(), fi.ModTime().UnixNano()
	switch {
	case e.Mode&fs.ModeSymlink != 0:
		e.Size = fi.Size()
		e.Target, err = os.Readlink(path)
	case e.Mode.IsRegular():
		e.Size = fi.Size()
		e.Sum, err = SumFile(path)
	}
	return e, err
}

// SumFile is the SHA-256 of a file.
func SumFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return Sum(f)
}

// Sum is the SHA-256 of what r gives.
func Sum(r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.CopyBuffer(h, r, make([]byte, 1<<20)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// DiffTrees compares two trees: names, types, modes, sizes, bytes, symlinks
// and modification times to the nanosecond. It returns a line for each
// difference.
func DiffTrees(want, got string) ([]string, error) {
	a, err := Snapshot(want)
	if err != nil {
		return nil, err
	}
	b, err := Snapshot(got)
	if err != nil {
		return nil, err
	}
	return Diff(a, b), nil
}

// Diff compares two snapshots.
func Diff(want, got map[string]Entry) (lines []string) {
	for name, w := range want {
		g, ok := got[name]
		switch {
		case !ok:
			lines = append(lines, fmt.Sprintf("%q is missing", name))
		case w.Mode != g.Mode:
			lines = append(lines, fmt.Sprintf("%q: mode %v, want %v", name, g.Mode, w.Mode))
		case w.Size != g.Size || w.Sum != g.Sum:
			lines = append(lines, fmt.Sprintf("%q: %d bytes %.12s, want %d bytes %.12s", name, g.Size, g.Sum, w.Size, w.Sum))
		case w.Target != g.Target:
			lines = append(lines, fmt.Sprintf("%q -> %q, want %q", name, g.Target, w.Target))
		case w.Mtime != g.Mtime:
			lines = append(lines, fmt.Sprintf("%q: mtime %v, want %v", name, stamp(g.Mtime), stamp(w.Mtime)))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			lines = append(lines, fmt.Sprintf("%q should not be there", name))
		}
	}
	slices.Sort(lines)
	return lines
}

func stamp(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }

// Random returns a stream of n bytes that depends on seed only.
func Random(seed, n uint64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return io.LimitReader(rand.NewChaCha8(key), int64(n))
}

// WriteFile writes n bytes that depend on seed to a new or emptied file.
func WriteFile(path string, seed, n uint64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := io.CopyBuffer(onlyWriter{f}, Random(seed, n), make([]byte, 1<<20)); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// onlyWriter hides ReadFrom, so that the buffer given is used.
type onlyWriter struct{ io.Writer }

// OddNames are file names that break careless programs.
var OddNames = []string{
	"with space", " leading and trailing ", "-rf", "--help", "a+b=c&d?e#f%41", "100%", `back\slash`, "it's \"quoted\"",
	"new\nline", "tab\there", "\x01\x1f\x7f", "ümläut-日本語-🚚", "e\u0301 is not \u00e9", "<xml>&amp;", "...", "..hidden", "~", "*", "$HOME `id`", ";",
	"semi:colon,comma", "UPPER", "upper", strings.Repeat("long-", 50), "CON", "a.tmp", ".rsync.XyZ123", "x.part", "trailing.", "uploads", "delete", "#", "?acl",
}

// Generate makes a tree of about n files in nested directories, with odd
// names, symlinks, empty files, empty directories, several modes and
// modification times to the nanosecond.
func Generate(root string, seed uint64, n int) error {
	r := rand.New(rand.NewPCG(seed, 1))
	dirs := []string{root}
	var all []string
	for i := range max(4, n/12) {
		d := filepath.Join(dirs[r.IntN(len(dirs))], name(r, i, "dir"))
		if strings.Count(d, "/")-strings.Count(root, "/") > 6 {
			d = filepath.Join(root, fmt.Sprint("dir-", i))
		}
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
		dirs = append(dirs, d)
		all = append(all, d)
	}
	for i := range n {
		path := filepath.Join(dirs[r.IntN(len(dirs))], name(r, i, "file"))
		if _, err := os.Lstat(path); err == nil {
			path += fmt.Sprint("-", i)
		}
		if err := generateFile(r, path, i, all); err != nil {
			return err
		}
		all = append(all, path)
	}
	// Times last, deepest first: making a name changes its directory.
	slices.SortFunc(all, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	for _, path := range all {
		t := time.Unix(1_000_000_000+r.Int64N(700_000_000), r.Int64N(1_000_000_000))
		if err := SetMtime(path, t); err != nil {
			return err
		}
	}
	return nil
}

func generateFile(r *rand.Rand, path string, i int, all []string) error {
	switch {
	case i%17 == 3:
		target, err := filepath.Rel(filepath.Dir(path), all[r.IntN(len(all))])
		if err != nil {
			return err
		}
		return os.Symlink(target, path)
	case i%40 == 9:
		return os.Symlink("nowhere/ü/"+fmt.Sprint(i), path)
	}
	size := []uint64{0, 1, 100, 4096, 4097, 30_000, 200_000}[r.IntN(7)]
	if err := WriteFile(path, hash(path), size); err != nil {
		return err
	}
	return os.Chmod(path, []fs.FileMode{0o644, 0o600, 0o755, 0o444, 0o640}[r.IntN(5)])
}

func name(r *rand.Rand, i int, kind string) string {
	if i < len(OddNames) {
		return OddNames[i]
	}
	return fmt.Sprintf("%s-%03d-%x", kind, i, r.Uint32())
}

func hash(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()
}

// SetMtime sets the modification time of a file, directory or symlink.
func SetMtime(path string, t time.Time) error {
	ts, err := unix.TimeToTimespec(t)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}
