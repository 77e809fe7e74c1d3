package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/spf13/cobra"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/fs"
	"github.com/ossmount/ossmount/writeback"
)

func mountCommand() *cobra.Command {
	f := &mountFlags{}
	c := &cobra.Command{
		Use:   "mount [oss://BUCKET[/PREFIX]|local:DIR MOUNTPOINT]",
		Short: "Mount a bucket, a prefix of it, or a local directory of objects",
		Long: `Mount a bucket, or a prefix of it, as a directory. Runs in the foreground and
prints "mounted ..." when the mount serves; with --background it returns then.

local:DIR mounts the built-in OSS server, which keeps its objects in DIR.

Each flag can also stand in a file (--config), in the environment (OSSMOUNT_CACHE_DIR
for --cache-dir) and among options in the form of fstab (-o), and so can both
arguments, as "source" and "mountpoint". A flag wins over -o, that over the
environment, and that over the file.

The access key comes from OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and
OSS_SESSION_TOKEN, or from what --credentials names. SIGTERM and SIGINT upload what is pending for --drain, then
unmount; a second signal unmounts at once. What is pending stays in the journal
and goes on with the next mount.

EXAMPLES
  ossmount mount oss://my-bucket/data /mnt/data --endpoint=https://oss-cn-hangzhou.aliyuncs.com --region=cn-hangzhou
  ossmount mount local:./objects /mnt/test
  ossmount mount --config=/etc/ossmount/data.yaml

EXIT STATUS
  0  unmounted, nothing is pending
  1  failed
  2  wrong usage
  3  unmounted, pending work stays in the journal
  4  unmounted, something is parked`,
		Args: usage(bothOrNone),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := whence(c.Flags(), f.check()); err != nil {
				return err
			}
			if f.source == "" || f.mountpoint == "" {
				return exit(exitUsage, fmt.Errorf("it is not said what is mounted, and where: name both, or give source and mountpoint in the file of --config: usage: %s", c.UseLine()))
			}
			if f.background {
				return inBackground(c, f)
			}
			return runMount(c, f)
		},
	}
	f.mountFlags(c)
	return c
}

// bothOrNone checks the arguments of mount.
func bothOrNone(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return cobra.ExactArgs(2)(c, args)
}

// daemon is a mount that serves.
type daemon struct {
	f      *mountFlags
	log    *slog.Logger
	e      *engine
	fs     *fs.FS
	server *fuse.Server
	mount  string // absolute
	since  time.Time

	page     *page // of --http; nil: none
	health   *health
	history  history
	stopping atomic.Bool // the mount is ending

	panics  atomic.Int64 // commands that were ended by an internal error
	ending  sync.Once
	hurry   context.Context // ends when nothing shall be waited for any more
	hurryUp context.CancelFunc
	ended   chan struct{} // closed when the mount has ended
	code    int
	text    string
}

// runMount opens the rooms in order, serves until the mount ends, and closes
// them in reverse.
func runMount(c *cobra.Command, f *mountFlags) error {
	log, err := f.logger()
	if err != nil {
		return err
	}
	setSlack(log)
	boundMemory()
	p, err := parseSource(f.source)
	if err != nil {
		return err
	}
	o, err := f.fsOptions()
	if err != nil {
		return err
	}
	mountpoint, err := checkMountpoint(f, p, log)
	if err != nil {
		return err
	}
	ctx := c.Context()
	e, err := openEngine(ctx, f, p, log)
	if err != nil {
		return err
	}
	defer e.Close()
	socket, err := cache.ControlSocket(e.cache.Dir())
	if err != nil {
		return err
	}
	o.Remote, o.Queue, o.Cache, o.Bucket, o.Prefix, o.ControlSocket, o.Log = e.remote, e.q, e.cache, p.bucket, p.prefix, socket, log
	page, err := listenHTTP(f, e.cache.Dir(), log)
	if err != nil {
		return err
	}
	defer page.close()
	d := &daemon{f: f, log: log, e: e, fs: fs.New(ctx, o), mount: mountpoint, since: time.Now(), ended: make(chan struct{}),
		page: page, health: newHealth(mountpoint, e.cache.Dir(), e.q.Damaged)}
	d.hurry, d.hurryUp = context.WithCancel(ctx)
	defer d.hurryUp()
	if err := d.fs.Prime(boundedContext(ctx, 5*time.Second)); err != nil && e.cache.IsNew() {
		return err
	}
	d.server, err = d.fs.Mount(mountpoint, p.String(), f.allowOther)
	if err != nil {
		return fmt.Errorf("mount on %s: %w (is /dev/fuse there, and is this root or is fusermount3 installed?)", mountpoint, err)
	}
	control, err := listenControl(socket, d.handlers(), log)
	if err != nil {
		d.end(0, false)
		return err
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	go d.onSignals(signals)
	go d.onUnmount()
	go d.keepHistory()
	page.serve(d)
	defer os.Remove(filepath.Join(e.cache.Dir(), healthFile))
	log.Info("mounted", "source", p.String(), "mountpoint", mountpoint, "cache_dir", e.cache.Dir(), "version", version())
	fmt.Fprintf(c.OutOrStdout(), "mounted %s on %s\n", p, mountpoint)
	d.notifier().ready(p.String(), mountpoint)
	watched, unwatch := context.WithCancel(ctx)
	defer unwatch()
	go d.notifier().watchdog(watched, d.alive)
	<-d.ended
	_ = control.Shutdown(boundedContext(ctx, 5*time.Second)) // the one who asked for the end gets an answer
	os.Remove(socket)
	if d.code != 0 {
		return exit(d.code, errors.New(d.text))
	}
	log.Info("unmounted: nothing is pending", "mountpoint", mountpoint)
	return nil
}

// boundedContext ends after d; whoever is given it need not end it earlier.
func boundedContext(ctx context.Context, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(ctx, d)
	context.AfterFunc(ctx, cancel)
	return ctx
}

func (d *daemon) onSignals(signals <-chan os.Signal) {
	for n := 0; ; n++ {
		select {
		case <-d.ended:
			return
		case s := <-signals:
			if n > 0 {
				d.log.Warn("second signal: nothing is waited for any more", "signal", s)
				d.hurryUp()
				continue
			}
			d.log.Info("ending", "signal", s, "drain", d.f.drain)
			go d.end(d.f.drain, false)
		}
	}
}

// onUnmount notices that somebody else has unmounted: the daemon drains and
// ends (H46).
func (d *daemon) onUnmount() {
	d.server.Wait()
	if !d.stopping.Load() {
		d.log.Info("somebody else has unmounted; what is pending is uploaded first", "drain", d.f.drain)
	}
	d.end(d.f.drain, false)
}

// detachAfter is how long the end waits for the kernel to let go of the mount.
const detachAfter = 5 * time.Second

// end drains for as long as given, commits what open files hold, unmounts, and
// says what is left. Only the first call does; all return when it is done.
func (d *daemon) end(drain time.Duration, force bool) {
	d.ending.Do(func() {
		defer close(d.ended)
		d.stopping.Store(true)
		d.notifier().stopping(drain)
		d.fs.Stop()
		open := d.fs.Unfinished()
		if force {
			d.fs.Interrupt() // nobody waits for them to be closed
		}
		ctx, cancel := context.WithTimeout(d.hurry, drain)
		defer cancel()
		if drain > 0 {
			if _, err := d.e.q.Drain(ctx); err != nil {
				d.log.Warn("drain", "err", err)
			}
		}
		if !force {
			open = d.fs.Unfinished() // some may have been closed meanwhile
		}
		d.unmount()
		d.fs.Close()
		d.code, d.text = d.verdict(open)
	})
	<-d.ended
}

func (d *daemon) verdict(open []string) (int, string) {
	left, err := d.e.q.Wait(boundedContext(context.Background(), 0), "")
	switch {
	case err != nil:
		return exitFailed, err.Error()
	case len(open) > 0:
		return exitPending, fmt.Sprintf("unmounted with files open for writing, which are interrupted now: %s; %d changes stay in the journal", strings.Join(open, ", "), left.Pending)
	case left.Paused > 0:
		return exitPending, fmt.Sprintf("unmounted while uploads were paused; %d changes stay in the journal: mount again, or finish with: ossmount drain --cache-dir=%s", left.Pending, d.e.cache.Dir())
	case left.Pending > 0:
		return exitPending, fmt.Sprintf("unmounted; %d changes stay in the journal: mount again, or finish with: ossmount drain --cache-dir=%s", left.Pending, d.e.cache.Dir())
	case left.Stuck > 0:
		return exitParked, fmt.Sprintf("unmounted; %d changes are parked or interrupted: see ossmount status --cache-dir=%s", left.Stuck, d.e.cache.Dir())
	}
	return 0, ""
}

// unmount takes the mount away; while somebody is in it, it is detached.
func (d *daemon) unmount() {
	done := make(chan struct{})
	go func() { d.server.Wait(); close(done) }()
	if err := d.server.Unmount(); err != nil {
		d.log.Warn("the mount is busy: detached", "err", err)
		if err := detach(d.mount); err != nil {
			d.log.Error("detach", "err", err)
		}
	}
	select {
	case <-done:
	case <-time.After(detachAfter):
		d.log.Warn("some process still has the mount; it will see errors")
	}
}

// desk is where what waits for somebody is acted on.
func (d *daemon) desk() *desk {
	return &desk{q: d.e.q, c: d.e.cache, prefix: d.e.place.prefix, mount: d.mount, open: d.fs.OpenKeys}
}

func (d *daemon) status() (mountStatus, error) {
	s, err := d.e.status()
	s.Mountpoint, s.PID, s.Since, s.Ending = d.mount, os.Getpid(), d.since.Unix(), d.stopping.Load()
	s.Passthrough = d.fs.Passthrough()
	s.OpenFiles = append(s.OpenFiles, d.fs.OpenForWriting()...)
	if d.page != nil {
		s.HTTP = &httpStatus{Address: d.page.status.Address}
	}
	s.Goroutines, s.InternalErrors = runtime.NumGoroutine(), s.Queue.Stats.InternalErrors+d.fs.Panics()+d.panics.Load()
	return s, err
}

// statusWithToken is status for those who may act.
func (d *daemon) statusWithToken() (mountStatus, error) {
	s, err := d.status()
	if d.page != nil {
		s.HTTP = &d.page.status
	}
	return s, err
}

// wait waits until what lies at a path beneath the mount is on OSS.
func (d *daemon) wait(ctx context.Context, in waitRequest) (waitAnswer, error) {
	if in.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, in.Timeout)
		defer cancel()
	}
	var left writeback.Left
	var err error
	key := d.e.place.prefix + strings.TrimPrefix(in.Path, "/")
	if in.Path == "" {
		left, err = d.e.q.Wait(ctx, "")
		return waitAnswer{Left: left}, err
	}
	for _, k := range []string{key, strings.TrimSuffix(key, "/") + "/"} {
		l, err := d.e.q.Wait(ctx, k)
		if err != nil {
			return waitAnswer{}, err
		}
		left.Pending += l.Pending
		left.Paused += l.Paused
		left.Stuck += l.Stuck
		left.Why += l.Why
	}
	return waitAnswer{Left: left}, nil
}

func (d *daemon) umount(_ context.Context, in umountRequest) (umountAnswer, error) {
	if busy := d.fs.OpenForWriting(); len(busy) > 0 && !in.Force {
		return umountAnswer{Code: exitFailed, Busy: busy}, nil
	}
	drain := d.f.drain
	if in.Drain != nil {
		drain = *in.Drain
	}
	d.end(drain, in.Force)
	return umountAnswer{Code: d.code, Text: d.text, PID: os.Getpid()}, nil
}

// checkMountpoint detaches a dead mount of ours from the path, and refuses
// what cannot be mounted on (H46, H48).
func checkMountpoint(f *mountFlags, p place, log *slog.Logger) (string, error) {
	abs, err := filepath.Abs(f.mountpoint)
	if err != nil {
		return "", err
	}
	if err := detachDead(abs, log); err != nil {
		return "", err
	}
	st, err := os.Stat(abs)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("mount point %s does not exist: make the directory first", abs)
	case err != nil:
		return "", fmt.Errorf("mount point: %w", err)
	case !st.IsDir():
		return "", fmt.Errorf("mount point %s is not a directory", abs)
	}
	for what, dir := range map[string]string{"cache directory": f.cacheDir, "object directory": p.local} {
		if in, err := filepath.Abs(dir); dir != "" && err == nil && (in == abs || strings.HasPrefix(in, abs+"/")) {
			return "", fmt.Errorf("the %s %s lies inside the mount point: choose another", what, in)
		}
	}
	return abs, nil
}
