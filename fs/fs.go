package fs

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/time/rate"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/writeback"
)

// Remote is what the file system needs of OSS.
type Remote interface {
	Head(ctx context.Context, key string) (object.Info, error)
	Symlink(ctx context.Context, key string) (object.Info, error)
	List(ctx context.Context, q object.ListQuery) (object.Page, error)
	Get(ctx context.Context, ref object.Ref, off, n int64) (io.ReadCloser, error)
}

// Level is how much has happened when close or fsync return.
type Level string

const (
	Journal Level = "journal" // in the journal: a crash of the daemon keeps it
	Disk    Level = "disk"    // on the local disk: a power cut keeps it
	OSS     Level = "remote"  // on OSS: the loss of the disk keeps it; an upload that fails is the call's error
)

// Options for New.
type Options struct {
	Remote Remote
	Queue  *writeback.Queue
	Cache  *cache.Cache
	Bucket string // shown in symlinks that lead out of the mount
	Prefix string // of the mount in the bucket: "" or ending in "/"

	UID, GID          uint32      // of objects without attributes, and of the root
	FileMode, DirMode os.FileMode // of objects without attributes; defaults 0644, 0755
	MetaTTL           time.Duration
	Stall             time.Duration // how long a call may wait for the network; default 30 s
	Close, Fsync      Level         // defaults Journal, Disk
	EagerSkip         []string      // patterns (path.Match) of names that are not sent while they are open
	ReadOnly          bool
	NoExec            bool   // no program on the mount can be started
	Passthrough       bool   // the kernel serves contents itself where it can
	ControlSocket     string // shown as user.ossmount.control of the root
	Log               *slog.Logger
}

func (o *Options) fill() {
	if o.FileMode == 0 {
		o.FileMode = 0o644
	}
	if o.DirMode == 0 {
		o.DirMode = 0o755
	}
	if o.MetaTTL == 0 {
		o.MetaTTL = 5 * time.Second
	}
	if o.Stall == 0 {
		o.Stall = 30 * time.Second
	}
	if o.Close == "" {
		o.Close = Journal
	}
	if o.Fsync == "" {
		o.Fsync = Disk
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// FS is one mount's file system.
type FS struct {
	o       Options
	q       *writeback.Queue
	c       *cache.Cache
	remote  Remote
	overlay *overlay
	work    context.Context // ends at Close: fetches end with it
	stop    context.CancelFunc
	born    time.Time
	root    *node

	tree sync.RWMutex // places of all nodes; held for reading over each commit that uses one

	birth sync.Mutex // one node is made at a time; taken before tree and mu

	mu     sync.Mutex
	inos   map[uint64]*node   // numbers in use
	fresh  map[*node]struct{} // files that no row names yet
	opened map[*file]struct{} // open files
	reads  readCache
	closed bool // no new opens

	backings backings
	measures measures

	rootAttr object.Attr // of a whole bucket's root, for the life of the mount

	panics atomic.Int64 // calls that a mistake of this program has ended

	sayFailed   rate.Sometimes // that a call failed: a program that tries on shall not fill the log
	sayArchived sync.Once      // what to do about archived objects
	sayHidden   sync.Once      // that there are keys which are not shown
}

// New makes the file system; Mount shows it.
func New(ctx context.Context, o Options) *FS {
	o.fill()
	f := &FS{o: o, q: o.Queue, c: o.Cache, remote: o.Remote, born: time.Now(),
		inos: map[uint64]*node{}, fresh: map[*node]struct{}{}, opened: map[*file]struct{}{},
		backings:  backings{asks: map[<-chan struct{}]int32{}},
		sayFailed: rate.Sometimes{First: 100, Interval: time.Second}}
	f.work, f.stop = context.WithCancel(context.WithoutCancel(ctx))
	f.overlay = newOverlay(f)
	f.root = &node{fs: f, dir: true}
	f.rootAttr = f.overlay.defaults(true, f.born)
	o.Queue.Spare(f.spare)
	o.Queue.Lend(f.lend)
	return f
}

// Root returns the root node.
func (f *FS) Root() gofs.InodeEmbedder { return f.root }

// Prime asks for the listing of the root: what is there can be worked with
// while OSS is away.
func (f *FS) Prime(ctx context.Context) error {
	_, asked, err := f.overlay.listing(ctx, f.o.Prefix)
	if errors.Is(err, errBig) {
		return nil
	}
	if err == nil {
		asked.Done()
	}
	return err
}

// mountOptions are those of go-fuse that this file system relies on.
func (f *FS) mountOptions(name string, allowOther bool) *gofs.Options {
	second := time.Second
	zero := time.Duration(0)
	return &gofs.Options{
		EntryTimeout: &second, AttrTimeout: &second, NegativeTimeout: &zero,
		// The root is an inode like the others, with a number of its own.
		RootStableAttr:  &gofs.StableAttr{Ino: 1, Mode: fuse.S_IFDIR},
		NullPermissions: true,
		MountOptions: fuse.MountOptions{
			AllowOther: allowOther, FsName: name, Name: "ossmount",
			PanicHandler: f.panicked,
			MaxWrite:     1 << 20, DirectMount: true, MaxStackDepth: 2, // a cache on overlayfs can be passed, too
			// Who waits for a read that the kernel made ahead of it waits for a page, and
			// cannot be interrupted (H42); who has made it himself can.
			SyncRead: true,
			// Open with O_TRUNC is one request: the old bytes are not wanted.
			ExtraCapabilities: fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_READDIRPLUS_AUTO | fuse.CAP_HANDLE_KILLPRIV_V2,
			Options:           f.kernelOptions(),
		},
	}
}

func (f *FS) kernelOptions() []string {
	opts := []string{"default_permissions"}
	if f.o.ReadOnly {
		opts = append(opts, "ro")
	}
	if f.o.NoExec {
		opts = append(opts, "noexec")
	}
	return opts
}

// Stop refuses new opens: the mount is about to end.
func (f *FS) Stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
}

// OpenForWriting returns the keys of the files that are open for writing
// (H46).
func (f *FS) OpenForWriting() []string { return f.openKeys((*file).writing) }

// Unfinished returns the keys of files that are interrupted if they are not closed
// before the end.
func (f *FS) Unfinished() []string { return f.openKeys((*file).isUnfinished) }

// OpenKeys returns the keys of the files that are open, for whatever.
func (f *FS) OpenKeys() []string { return f.openKeys(func(*file) bool { return true }) }

func (f *FS) openKeys(which func(x *file) bool) []string {
	var keys []string
	for _, x := range f.openFiles() {
		if which(x) {
			keys = append(keys, x.n.key())
		}
	}
	return keys
}

func (f *FS) openFiles() []*file {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]*file, 0, len(f.opened))
	for x := range f.opened {
		out = append(out, x)
	}
	return out
}

// Interrupt commits the files that are being written as interrupted.
func (f *FS) Interrupt() {
	for _, x := range f.openFiles() {
		if err := x.interrupt(); err != nil {
			f.o.Log.Warn("an open file could not be committed", "err", err)
		}
	}
}

// Close ends the fetches. Files that are still being written are interrupted,
// not lost.
func (f *FS) Close() {
	f.Stop()
	f.Interrupt()
	f.stop()
	f.overlay.close()
	f.reads.drop(f)
}

// patient returns a context for a call that waits for the network but must not
// be interrupted.
func (f *FS) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	p := newPatience(ctx, f.o.Stall)
	return p, p.end
}

// ask repeats a question to OSS while the failure is one that passes, until
// ctx ends.
func ask[T any](ctx context.Context, f func(ctx context.Context) (T, error)) (T, error) {
	return askFor(ctx, 0, f)
}

// askFor is ask that begins no further try after patience; 0: no such limit.
func askFor[T any](ctx context.Context, patience time.Duration, f func(ctx context.Context) (T, error)) (T, error) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval = 100 * time.Millisecond
	wait.MaxInterval = 2 * time.Second
	var last error
	v, err := backoff.Retry(ctx, func() (T, error) {
		v, err := f(ctx)
		if err != nil {
			last = err
			if object.KindOf(err) != object.Again {
				err = backoff.Permanent(err)
			}
		}
		return v, err
	}, backoff.WithBackOff(wait), backoff.WithMaxElapsedTime(patience))
	if err != nil && last != nil && ctx.Err() != context.Canceled {
		err = last
	}
	return v, err
}
