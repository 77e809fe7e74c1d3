package cache

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/internal/private"
)

// ErrBusy is returned by Open when another process has the cache directory.
var ErrBusy = errors.New("the cache directory is in use by another process")

// ErrNoRoom is returned when the disk or the quota has no room for more.
var ErrNoRoom = errors.New("no room left in the cache directory")

// Identity is what a cache directory belongs to.
type Identity struct {
	Format   int    `json:"format"`
	Endpoint string `json:"endpoint"`
	Bucket   string `json:"bucket"`
	Prefix   string `json:"prefix"`
}

const identityFormat = 1

func (i Identity) String() string {
	return fmt.Sprintf("oss://%s/%s at %s", i.Bucket, i.Prefix, i.Endpoint)
}

// Options for Open.
type Options struct {
	// Identity is compared with that of the directory; a new directory takes
	// it. The zero Identity takes whatever is there (status, drain).
	Identity Identity
	// Size is how much contents may hold, in bytes. 0: no limit.
	Size int64
	// MinFree is how much of the file system is left to others, in bytes.
	MinFree int64
}

// Cache is an open cache directory. All methods may be called concurrently.
type Cache struct {
	dir      string
	o        Options
	identity Identity
	isNew    bool
	lock     *os.File
	next     atomic.Uint64
	sidecars bool // no user attributes here: witnesses stand in files
	leases   bool // the kernel tells whether somebody writes (Quiet)
	coarse   bool // two changes in quick succession may leave one time

	tally tally

	mu   sync.Mutex
	dirs map[string]bool // subdirectories with entries not yet synced
}

// Subdirectories of contents: one hexadecimal byte of the number.
func (c *Cache) sub(n uint64) string {
	const hex = "0123456789abcdef"
	return c.dir + "/contents/" + string([]byte{hex[byte(n)>>4], hex[byte(n)&15]})
}

// path returns the file of content n: contents/<low byte>/<number in hex>.
// Path is where content n lies on the local disk.
func (c *Cache) Path(n uint64) string { return c.path(n) }

func (c *Cache) path(n uint64) string { return c.sub(n) + "/" + strconv.FormatUint(n, 16) }

// Open takes the cache directory dir and makes it where it is missing.
func Open(dir string, o Options) (*Cache, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cache directory: %w", err)
	}
	if err := refuseFuse(dir); err != nil {
		return nil, err
	}
	if err := private.Top(dir); err != nil {
		return nil, fmt.Errorf("cache directory: %w", err)
	}
	lock, err := takeLock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	c := &Cache{dir: dir, o: o, lock: lock, dirs: map[string]bool{}, tally: tally{open: map[uint64]*share{}}}
	if err := c.identify(); err != nil {
		lock.Close()
		return nil, err
	}
	if err := c.makeDirs(); err != nil {
		lock.Close()
		return nil, fmt.Errorf("cache directory: %w", err)
	}
	if err := c.probe(); err != nil {
		lock.Close()
		return nil, fmt.Errorf("cache directory: %w", err)
	}
	top, err := c.count()
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("cache directory: %w", err)
	}
	lost, err := c.LostAndFound()
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("cache directory: %w", err)
	}
	for _, l := range lost { // a number given out again would replace it there
		top = max(top, l.Number)
	}
	c.next.Store(top)
	return c, nil
}

// makeDirs makes the directories of contents, and refuses those, and a lost+found,
// that are not ours alone.
func (c *Cache) makeDirs() error {
	if err := private.Dir(filepath.Join(c.dir, "contents")); err != nil {
		return err
	}
	for i := range subs {
		if err := private.Dir(c.sub(uint64(i))); err != nil {
			return err
		}
	}
	if err := private.Check(c.lostDir()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// takeLock makes this process the only one with the directory, until it ends.
func takeLock(path string) (*os.File, error) {
	f, err := private.Open(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrBusy
		}
		return nil, err
	}
	return f, nil
}

// refuseFuse refuses a cache directory on a FUSE file system: inside a mount
// of ours it would wait for itself (H48).
func refuseFuse(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("cache directory %s: %w", dir, err)
	}
	if st.Type == unix.FUSE_SUPER_MAGIC {
		return fmt.Errorf("cache directory %s lies on a FUSE file system: choose --cache-dir on a local disk", dir)
	}
	return nil
}

func (c *Cache) identify() error {
	path := filepath.Join(c.dir, "identity.json")
	b, err := private.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if c.o.Identity == (Identity{}) {
			return fmt.Errorf("%s is not a cache directory of ossmount: nothing was ever mounted with it", c.dir)
		}
		c.isNew = true
		c.identity = c.o.Identity
		c.identity.Format = identityFormat
		return writeDurably(path, c.identity)
	}
	if err != nil {
		return fmt.Errorf("cache directory: %w", err)
	}
	if c.identity, err = parseIdentity(b, c.dir); err != nil {
		return err
	}
	want := c.o.Identity
	want.Format = c.identity.Format
	if c.o.Identity != (Identity{}) && want != c.identity {
		return fmt.Errorf("cache directory %s belongs to %s, not to %s: give each mount a --cache-dir of its own", c.dir, c.identity, want)
	}
	return nil
}

// parseIdentity reads identity.json of the cache directory dir.
func parseIdentity(b []byte, dir string) (id Identity, err error) {
	var head struct { // a newer one may have other fields
		Format int `json:"format"`
	}
	if json.Unmarshal(b, &head) == nil && head.Format > identityFormat {
		return id, fmt.Errorf("cache directory %s has format %d, this program knows %d: %w", dir, head.Format, identityFormat, ErrNewer)
	}
	if err := json.Unmarshal(b, &id); err != nil {
		return id, fmt.Errorf("cache directory %s: identity.json cannot be read: %w: what it belongs to is not known; keep it aside, and use another --cache-dir", dir, err)
	}
	if id.Format < 1 || id.Bucket == "" {
		return id, fmt.Errorf("cache directory %s: identity.json names no bucket: keep the directory aside, and use another --cache-dir", dir)
	}
	return id, nil
}

// writeDurably replaces path: temporary file, write, sync, rename, sync of the
// directory.
func writeDurably(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // in vain after the rename
	defer f.Close()
	if _, err := f.Write(append(b, '\n')); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// probe finds out what the file system can do.
func (c *Cache) probe() error {
	f, err := os.CreateTemp(c.dir, ".probe-*")
	if err != nil {
		return err
	}
	defer f.Close()
	defer os.Remove(f.Name())
	err = unix.Fsetxattr(int(f.Fd()), witnessName, []byte("probe"), 0)
	c.sidecars = errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPERM)
	c.coarse, c.leases = isCoarse(f), hasLeases(f.Name())
	return nil
}

// Dir returns the cache directory, absolute.
func (c *Cache) Dir() string { return c.dir }

// Identity returns what the directory belongs to.
func (c *Cache) Identity() Identity { return c.identity }

// IsNew reports that Open made the directory: it was never mounted before.
func (c *Cache) IsNew() bool { return c.isNew }

// Reserve makes sure that numbers up to n are never given out: the journal may
// know higher ones than the disk (H8).
func (c *Cache) Reserve(n uint64) {
	for {
		old := c.next.Load()
		if old >= n || c.next.CompareAndSwap(old, n) {
			return
		}
	}
}

// Numbers returns the numbers of all contents on the disk, in their order.
func (c *Cache) Numbers() []uint64 {
	var numbers [subs][]uint64
	_ = eachSub(func(i int) error { // one that cannot be read has none
		names, err := os.ReadDir(c.sub(uint64(i)))
		for _, e := range names {
			if n, ok := numberOf(e); ok {
				numbers[i] = append(numbers[i], n)
			}
		}
		return err
	})
	all := slices.Concat(numbers[:]...)
	slices.Sort(all)
	return all
}

// subs is how many directories the contents are spread over.
const subs = 256

// eachSub calls f for each of them, on all processors, and returns the first error.
func eachSub(f func(i int) error) error {
	var g errgroup.Group
	for from := range runtime.GOMAXPROCS(0) {
		g.Go(func() (err error) {
			for i := from; i < subs; i += runtime.GOMAXPROCS(0) {
				err = cmp.Or(err, f(i))
			}
			return err
		})
	}
	return g.Wait()
}

// numberOf returns the number of the content that a directory entry is.
func numberOf(e fs.DirEntry) (n uint64, ok bool) {
	n, err := strconv.ParseUint(e.Name(), 16, 64)
	return n, err == nil && e.Type().IsRegular()
}

// Close gives the directory up.
func (c *Cache) Close() error { return c.lock.Close() }

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Mounted reports that a journal or a content lies in the directory: it was
// mounted before.
func (c *Cache) Mounted() bool {
	if len(c.Numbers()) > 0 {
		return true
	}
	_, err := os.Lstat(filepath.Join(c.dir, "journal"))
	return err == nil
}

// TopSequence returns the highest sequence that any content says it was
// committed with.
func (c *Cache) TopSequence() (top uint64, err error) {
	for _, n := range c.Numbers() {
		w, _, err := c.Witness(n)
		if err != nil {
			return 0, err
		}
		top = max(top, w.Seq)
	}
	lost, err := c.LostAndFound()
	for _, l := range lost {
		top = max(top, l.Witness.Seq)
	}
	return top, err
}

// Forget takes back that the directory belongs to anything: its first mount
// has failed.
func (c *Cache) Forget() { os.Remove(filepath.Join(c.dir, "identity.json")) }

// ReadIdentity tells what the cache directory dir belongs to, without taking
// it.
func ReadIdentity(dir string) (Identity, error) {
	var id Identity
	b, err := private.ReadFile(filepath.Join(dir, "identity.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return id, fmt.Errorf("%s is not a cache directory of ossmount: nothing was ever mounted with it", dir)
	}
	if err != nil {
		return id, err
	}
	return parseIdentity(b, dir)
}
