package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/credentials"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/internal/ossemu"
	"github.com/ossmount/ossmount/internal/remote"
	"github.com/ossmount/ossmount/journal"
	"github.com/ossmount/ossmount/writeback"
)

// engine is everything behind a mount: the cache directory, the journal, the
// client of OSS and the queue. Close closes them in reverse.
type engine struct {
	place  place
	cache  *cache.Cache
	remote *remote.Client
	j      *journal.Journal
	q      *writeback.Queue
	log    *slog.Logger
	undo   []func()
}

func (e *engine) Close() {
	for i := len(e.undo) - 1; i >= 0; i-- {
		e.undo[i]()
	}
	e.undo = nil
}

func (e *engine) later(f func()) { e.undo = append(e.undo, f) }

// answerGrace is how long the end waits for answers to what was sent whole.
const answerGrace = 3 * time.Second

// openEngine opens the rooms in order. A refusal by OSS is an error; that it
// does not answer is one only on a cache directory that was never mounted.
func openEngine(ctx context.Context, f *mountFlags, p place, log *slog.Logger) (e *engine, err error) {
	e = &engine{place: p, log: log}
	defer func() {
		if err != nil {
			e.Close()
		}
	}()
	o := f.remoteOptions(p, log)
	if p.local != "" {
		if err := e.serveLocal(ctx, f, &o); err != nil {
			return e, err
		}
	}
	if e.remote, err = f.connect(o); err != nil {
		return e, exit(exitUsage, err)
	}
	e.later(e.remote.Close)
	if err := e.openCache(ctx, f, p, o.Endpoint); err != nil {
		return e, err
	}
	away, err := e.checkRemote(ctx, p)
	if err != nil {
		return e, err
	}
	versioned := false
	if away == nil {
		if versioned, err = e.checkBucket(ctx, p); err != nil {
			return e, err
		}
	}
	if err := e.openQueue(ctx, f, p, versioned); err != nil {
		return e, err
	}
	if away != nil {
		e.q.Heard(away)
	}
	return e, nil
}

func (e *engine) openCache(ctx context.Context, f *mountFlags, p place, endpoint string) error {
	dir, err := f.cacheDirOf(p)
	if err != nil {
		return err
	}
	total := int64(0)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cache directory: %w", err)
	}
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) == nil {
		total = int64(st.Blocks) * st.Bsize
	}
	if p.local != "" {
		endpoint = "local:" + p.local
	}
	id := cache.Identity{Endpoint: endpoint, Bucket: p.bucket, Prefix: p.prefix}
	if e.cache, err = openCacheSoon(ctx, dir, f.cacheOptions(id, total), e.log); err != nil {
		return err
	}
	e.later(func() { e.cache.Close() })
	return nil
}

// openCacheSoon opens the cache directory; where another process has it, that
// may be a daemon which is about to end (H46): it is waited for while it says so.
func openCacheSoon(ctx context.Context, dir string, o cache.Options, log *slog.Logger) (*cache.Cache, error) {
	const grace = 5 * time.Second
	deadline := time.Now().Add(grace)
	said := ""
	for {
		c, err := cache.Open(dir, o)
		who := "another process has the cache directory; waiting for it to end"
		if errors.Is(err, cache.ErrBusy) && isEnding(ctx, dir) {
			who = "a daemon that is about to end has the cache directory; waiting for it"
			deadline = time.Now().Add(grace)
		}
		if !errors.Is(err, cache.ErrBusy) || time.Now().After(deadline) {
			if errors.Is(err, cache.ErrBusy) {
				err = fmt.Errorf("%w: unmount the other one first, or give this mount a --cache-dir of its own", err)
			}
			return c, err
		}
		if who != said {
			log.Info(who, "dir", dir)
			said = who
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// isEnding reports that the daemon which has the cache directory is about to end.
func isEnding(ctx context.Context, dir string) bool {
	socket, err := cache.ControlSocket(dir)
	if err != nil {
		return false
	}
	var s mountStatus
	return call(boundedContext(ctx, time.Second), socket, "/status", struct{}{}, &s) == nil && s.Ending
}

// cacheDirOf returns --cache-dir, or the one that belongs to what is mounted.
func (f *mountFlags) cacheDirOf(p place) (string, error) {
	if f.cacheDir != "" {
		return f.cacheDir, nil
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", exit(exitUsage, fmt.Errorf("--cache-dir is missing, and there is no default for it: %w", err))
	}
	name := p.String() // one for each bucket and prefix of an endpoint, however it is spelled
	if p.local == "" {
		name = strings.TrimRight(strings.ToLower(f.endpoint), "/") + "\n" + name
	}
	return filepath.Join(base, "ossmount", hashName(name)), nil
}

// checkRemote asks OSS for what is mounted. away is that it does not answer,
// where the mount can do without for a while.
func (e *engine) checkRemote(ctx context.Context, p place) (away, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err = e.remote.Check(ctx, p.prefix)
	if err == nil {
		return nil, nil
	}
	noAnswer := object.KindOf(err) == object.Again || errors.Is(err, credentials.ErrNoAnswer)
	if noAnswer && !e.cache.IsNew() && e.cache.Mounted() {
		e.log.Warn("OSS, or who gives out the key for it, does not answer; the mount serves what is here, and goes on when both do", "err", err)
		return err, nil
	}
	if e.cache.IsNew() {
		e.cache.Forget() // nothing has been mounted with it yet
	}
	return nil, err
}

// checkBucket asks what kind of bucket it is: one that cannot be mounted is
// refused, and of a versioned one a warning is given. Whoever may not ask that
// may still mount.
func (e *engine) checkBucket(ctx context.Context, p place) (versioned bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	b, err := e.remote.BucketInfo(ctx)
	switch {
	case err != nil:
		e.log.Debug("what kind of bucket it is could not be asked", "err", err)
		return false, nil
	case b.Hierarchical:
		if e.cache.IsNew() {
			e.cache.Forget()
		}
		return false, fmt.Errorf("bucket %q has a hierarchical namespace, which ossmount does not support yet: use a bucket without", p.bucket)
	case b.Versioned:
		e.log.Warn("the bucket is versioned: what is deleted or overwritten here stays there as an old version, and is paid for, until a lifecycle rule of the bucket removes it", "bucket", p.bucket)
	}
	return b.Versioned, nil
}

// ballast is what is kept for the journal on a full disk: four of its logs, less on
// a small disk.
func (e *engine) ballast() int64 {
	u, err := e.cache.Usage()
	if err != nil {
		return 0
	}
	return min(32<<20, u.Whole/32)
}

func (e *engine) openQueue(ctx context.Context, f *mountFlags, p place, versioned bool) (err error) {
	var q *writeback.Queue
	e.j, err = journal.Open(ctx, filepath.Join(e.cache.Dir(), "journal"), journal.Options{
		Contents: e.cache, Log: e.log, Ballast: e.ballast(), After: e.cache.TopSequence,
		SyncFailed: func(n uint64, err error) {
			if q != nil {
				q.SyncFailed(n, err)
			}
		},
	})
	if err != nil {
		return err
	}
	e.later(func() {
		if err := e.j.Close(); err != nil {
			e.log.Error("the journal could not be closed cleanly; it will be replayed", "err", err)
		}
	})
	if r := e.j.Recovered(); r.PowerCut {
		e.log.Warn("the machine was off since the last mount: went on from the last state that was on the disk", "undone", r.Undone)
	}
	o := f.queueOptions(p, e.log)
	o.Journal, o.Cache, o.Remote, o.Versioned = e.j, e.cache, e.remote, versioned
	if q, err = writeback.Open(ctx, o); err != nil {
		return err
	}
	e.q = q
	e.later(func() { q.Close(answerGrace) })
	return nil
}

// serveLocal runs the built-in server over loopback for local:DIR.
func (e *engine) serveLocal(ctx context.Context, f *mountFlags, o *remote.Options) error {
	key, err := newLocalKey()
	if err != nil {
		return err
	}
	s, err := ossemu.Open(ctx, e.place.local, ossemu.Options{Keys: map[string]string{key.id: key.secret}, Log: e.log})
	if err != nil {
		return err
	}
	e.later(func() { s.Close() })
	if err := s.CreateBucket(localBucket); err != nil {
		return err
	}
	srv, err := serveOn("127.0.0.1:0", s)
	if err != nil {
		return err
	}
	e.later(func() { srv.Close() })
	o.Endpoint, o.Region, o.Credentials = "http://"+srv.Addr, "local", key
	return nil
}

func (e *engine) status() (mountStatus, error) {
	s := mountStatus{Source: e.place.String(), Bucket: e.place.bucket, Prefix: e.place.prefix,
		Endpoint: e.cache.Identity().Endpoint, CacheDir: e.cache.Dir(), Version: version(), OpenFiles: []string{}}
	s.UploadLimit = e.remote.UploadLimit()
	var err error
	if s.Queue, err = e.q.Status(); err != nil {
		return s, err
	}
	if u, err := e.cache.Usage(); err == nil {
		s.Cache = cacheStatus{Used: u.Used, Free: u.Free, Total: u.Total}
	}
	if s.Room, err = e.q.Room(); err != nil {
		return s, err
	}
	return s, s.addLost(e.cache)
}
