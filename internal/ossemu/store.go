package ossemu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/ossmount/ossmount/internal/md5lanes"
)

// store is everything that is kept: the index of all buckets in memory, the
// log behind it, and the segment files.
type store struct {
	dir  string
	sync bool
	log  *slog.Logger
	lock *os.File      // flock, held from Open to Close
	next atomic.Uint64 // number of the next segment

	hashes md5lanes.Group // of the bodies that come in

	mu      sync.Mutex // owns all below
	buckets map[string]*bucket
	refs    map[uint64]int32 // uses of each segment by objects, parts, readers and bodies that just came
	packs   packs            // the segments that small bodies share
	file    *os.File         // the log
	length  int64            // of the log
	records int              // in the log
	frame   []byte           // scratch of writeLocked
	broken  error            // why the log cannot be written any more

	compactAt int64 // length of the log
}

// bucket is one bucket; store.mu owns it.
type bucket struct {
	bucketInfo
	objects *index[string, *object]
	uploads *index[uploadKey, *upload]
	parts   int
	bytes   int64 // of all objects
}

func compareUploads(a, b uploadKey) int {
	return cmp.Or(strings.Compare(a.key, b.key), strings.Compare(a.id, b.id))
}

func newStore(dir string, sync bool, log *slog.Logger) *store {
	st := &store{
		dir: dir, sync: sync, log: log, buckets: map[string]*bucket{},
		refs: map[uint64]int32{}, packs: newPacks(), compactAt: normalCompactAt,
	}
	st.next.Store(1)
	return st
}

// openStore takes the lock, reads the log and removes what it does not name.
func openStore(ctx context.Context, dir string, sync bool, log *slog.Logger) (_ *store, err error) {
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o700); err != nil {
		return nil, err
	}
	st := newStore(dir, sync, log)
	defer func() {
		if err != nil {
			st.close()
		}
	}()
	if st.lock, err = lockDir(st.path("lock")); err != nil {
		return nil, err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := st.loadLocked(ctx); err != nil {
		return nil, err
	}
	if err := st.sweepLocked(); err != nil {
		return nil, err
	}
	dead, err := st.compactLocked()
	st.discard(dead)
	return st, err
}

func lockDir(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s is in use by another server", filepath.Dir(path))
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

func (st *store) path(elem ...string) string {
	return filepath.Join(st.dir, filepath.Join(elem...))
}

// loadLocked rebuilds the index from the log and cuts a torn tail off.
func (st *store) loadLocked(ctx context.Context) error {
	f, err := os.OpenFile(st.path("log"), os.O_RDWR|os.O_APPEND, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return st.rewriteLocked()
	}
	if err != nil {
		return err
	}
	st.file = f
	old := false
	st.length, err = readLog(ctx, f, func(r record) error {
		st.records++
		old = old || r.kind == recHead && r.format < formatVersion
		_, err := st.applyLocked(r)
		return err
	})
	if err != nil {
		return err
	}
	if info, err := f.Stat(); err != nil {
		return err
	} else if info.Size() > st.length {
		st.log.Info("cut off a torn record at the end of the log", "dir", st.dir, "bytes", info.Size()-st.length)
	}
	if st.records == 0 || old {
		return st.rewriteLocked()
	}
	return f.Truncate(st.length)
}

// change makes one change. prepare looks at the state and says what to write;
// it runs under the lock, so what it checked still holds when it is written.
// Segments that nothing uses any more are removed afterwards, outside the lock.
func (st *store) change(prepare func() (record, error)) error {
	dead, err := st.changeUnderLock(prepare)
	st.discard(dead)
	return err
}

func (st *store) changeUnderLock(prepare func() (record, error)) ([]uint64, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	r, err := prepare()
	if err != nil {
		return nil, err
	}
	if err := st.writeLocked(r); err != nil {
		return nil, err
	}
	dead, err := st.applyLocked(r)
	if err != nil {
		return nil, err
	}
	more, err := st.compactLocked()
	if err != nil {
		// The change itself is safe in the old log.
		st.log.Error("directory not compacted", "dir", st.dir, "error", err)
	}
	return append(dead, more...), nil
}

// view runs look under the lock.
func (st *store) view(look func() error) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return look()
}

// aliveLocked is the number of records in a log that was just rewritten.
func (st *store) aliveLocked() int {
	n := 1
	for _, b := range st.buckets {
		n += 1 + b.objects.size + b.uploads.size + b.parts
	}
	return n
}

// bucketLocked finds a bucket or answers NoSuchBucket.
func (st *store) bucketLocked(name string) (*bucket, error) {
	if b := st.buckets[name]; b != nil {
		return b, nil
	}
	return nil, noSuchBucket(name)
}

// objectLocked finds an object or answers NoSuchBucket or NoSuchKey.
func (st *store) objectLocked(bucket, key string) (*object, error) {
	b, err := st.bucketLocked(bucket)
	if err != nil {
		return nil, err
	}
	if o, ok := b.objects.get(key); ok {
		return o, nil
	}
	return nil, noSuchKey(key)
}

// uploadLocked finds an upload or answers NoSuchBucket or NoSuchUpload.
func (st *store) uploadLocked(bucket string, id uploadKey) (*upload, error) {
	b, err := st.bucketLocked(bucket)
	if err != nil {
		return nil, err
	}
	if u, ok := b.uploads.get(id); ok {
		return u, nil
	}
	return nil, noSuchUpload(id.id)
}

// errNothing is what a change returns that has nothing to write.
var (
	errClosed  = errors.New("server is closed")
	errNothing = errors.New("nothing to change")
)

func (st *store) close() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	var err error
	if st.file != nil {
		err = errors.Join(st.file.Sync(), st.file.Close())
		st.file = nil
	}
	st.broken = errClosed
	if st.packs.file != nil {
		st.packs.full()
	}
	if st.lock != nil {
		err = errors.Join(err, st.lock.Close())
		st.lock = nil
	}
	return err
}
