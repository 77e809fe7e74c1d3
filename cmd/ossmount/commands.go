package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	profiles "net/http/pprof"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/writeback"
)

// handlers are what the daemon answers on its control socket.
func (d *daemon) handlers() http.Handler {
	mux := http.NewServeMux()
	d.views(mux)
	mux.Handle("GET /status", show(func(*http.Request) (mountStatus, error) { return d.statusWithToken() }))
	mux.Handle("POST /status", handle(func(context.Context, struct{}) (mountStatus, error) { return d.statusWithToken() }))
	mux.Handle("POST /wait", handle(d.wait))
	mux.Handle("POST /umount", handle(d.umount))
	mux.Handle("POST /recover", handle(d.desk().do))
	mux.Handle("POST /uploads", handle(d.uploads))
	mux.Handle("POST /uploads/list", handle(d.intents))
	mux.Handle("POST /uploads/parts", handle(d.parts))
	mux.Handle("POST /uploads/pause", handle(d.pause))
	mux.Handle("POST /limit", handle(d.limit))
	mux.Handle("POST /goroutines", handle(goroutines))
	if d.f.pprof { // curl --unix-socket SOCKET http://mount/debug/pprof/profile
		mux.HandleFunc("GET /debug/pprof/", profiles.Index)
		mux.HandleFunc("GET /debug/pprof/profile", profiles.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", profiles.Trace)
	}
	// Who has led a port of their machine here (ssh -L) need not fear other sites.
	return http.NewCrossOriginProtection().Handler(d.recovering(mux))
}

// goroutines tells what the daemon is doing: what hangs, and what was left behind.
func goroutines(context.Context, struct{}) (string, error) {
	var b strings.Builder
	err := pprof.Lookup("goroutine").WriteTo(&b, 1)
	return b.String(), err
}

// recovering has a request that panics fail alone.
func (d *daemon) recovering(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if what := recover(); what != nil {
				d.panics.Add(1)
				d.log.Error("an internal error has ended a command; please report it", "command", r.URL.Path, "what", fmt.Sprint(what), "stack", string(debug.Stack()))
				http.Error(w, fmt.Sprintf("internal error: %v; please report it, with what the log of the mount says", what), http.StatusInternalServerError)
			}
		}()
		h.ServeHTTP(w, r)
	})
}

func umountCommand() *cobra.Command {
	var drain time.Duration
	var force bool
	c := &cobra.Command{
		Use:   "umount MOUNTPOINT",
		Short: "Unmount, after uploading what is pending for a while",
		Long: `Unmount. What is pending is uploaded first, for --drain; the rest stays in the
journal and goes on with the next mount. While files are open for writing the
mount is busy; --force makes them interrupted.

EXAMPLES
  ossmount umount /mnt/data
  ossmount umount /mnt/data --drain=10m

EXIT STATUS
  0  unmounted, nothing is pending
  1  failed, or busy
  3  unmounted, pending work stays in the journal
  4  unmounted, something is parked`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			in := umountRequest{Force: force}
			if c.Flags().Changed("drain") {
				in.Drain = &drain
			}
			return umount(c.Context(), args[0], in)
		},
	}
	c.Flags().DurationVar(&drain, "drain", 0, "how long to upload what is pending (default: the mount's own --drain)")
	c.Flags().BoolVar(&force, "force", false, "also while files are open for writing: they become interrupted; also a mount whose daemon is dead")
	return c
}

func umount(ctx context.Context, path string, in umountRequest) error {
	abs, err := resolve(path)
	if err != nil {
		return err
	}
	if mountedOn(abs) == "" {
		return exit(exitFailed, fmt.Errorf("%s is not a mount of ossmount", path))
	}
	socket, err := controlOf(abs)
	switch {
	case errors.Is(err, context.DeadlineExceeded) && !in.Force:
		return exit(exitFailed, fmt.Errorf("the daemon of %s does not answer: --force detaches the mount, and leaves its work in the journal", path))
	case errors.Is(err, context.DeadlineExceeded):
		if err := detach(abs); err != nil {
			return fmt.Errorf("detach %s: %w", path, err)
		}
		return exit(exitPending, fmt.Errorf("%s is detached, but its daemon is there still, and does not answer: end it; what is pending stays in the journal", path))
	case err != nil: // it is dead
		return detach(abs)
	}
	var out umountAnswer
	if err := call(ctx, socket, "/umount", in, &out); err != nil {
		return err
	}
	if len(out.Busy) > 0 {
		return exit(exitFailed, fmt.Errorf("%s is busy, files are open for writing: %s (close them, or use --force)", path, strings.Join(out.Busy, ", ")))
	}
	waitForEnd(out.PID)
	if out.Code != 0 {
		return exit(out.Code, errors.New(out.Text))
	}
	return nil
}

func waitCommand() *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "wait PATH",
		Short: "Wait until a file, or everything beneath a directory, is on OSS",
		Long: `Wait until a file, or everything beneath a directory, is on OSS.

EXAMPLES
  ossmount wait /mnt/data/big.iso
  ossmount wait /mnt/data --timeout=10m

EXIT STATUS
  0  it is
  1  failed
  3  not yet, and the timeout is over, or uploads are paused
  4  something there is parked or interrupted: see ossmount status`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := os.Lstat(args[0]); err != nil {
				return err
			}
			socket, root, err := findControl(args[0])
			if err != nil {
				return err
			}
			path, err := beneath(root, args[0])
			if err != nil {
				return err
			}
			var out waitAnswer
			if err := call(c.Context(), socket, "/wait", waitRequest{Path: path, Timeout: timeout}, &out); err != nil {
				return err
			}
			return leftover(out.Left)
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait (0: for ever)")
	return c
}

func leftover(left writeback.Left) error {
	switch {
	case left.Paused > 0 && left.Paused == left.Pending:
		return exit(exitPending, errors.New("not everything is on OSS: uploads are paused (ossmount uploads resume)"))
	case left.Pending > 0:
		return exit(exitPending, errors.New("not everything is on OSS yet"))
	case left.Stuck > 0:
		why := ""
		if left.Why != "" {
			why = ": " + left.Why
		}
		return exit(exitParked, fmt.Errorf("%d changes are parked or interrupted%s", left.Stuck, why))
	}
	return nil
}

// beneath returns path as seen from the root of its mount.
func beneath(root, path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
		abs = filepath.Join(dir, filepath.Base(abs))
	}
	rel, err := filepath.Rel(root, abs)
	if rel == "." {
		rel = ""
	}
	return rel, err
}

func drainCommand() *cobra.Command {
	f := &mountFlags{}
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "drain --cache-dir=DIR",
		Short: "Finish the journal of a cache directory without mounting it",
		Long: `Carry out everything that the journal of a cache directory holds, without a
mount. Bucket and endpoint are those that the directory belongs to.

EXAMPLES
  ossmount drain --cache-dir=/var/cache/data

EXIT STATUS
  0  nothing is pending any more
  1  failed
  3  work is left, and the timeout is over
  4  what is left is parked or interrupted`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if f.cacheDir == "" {
				return exit(exitUsage, errors.New("--cache-dir is missing: name the cache directory of the mount"))
			}
			if err := whence(c.Flags(), f.checkEngine()); err != nil {
				return err
			}
			return drain(c.Context(), f, timeout)
		},
	}
	f.engineFlags(c)
	c.Flags().DurationVar(&timeout, "timeout", 0, "how long to work (0: until done)")
	return c
}

func drain(ctx context.Context, f *mountFlags, timeout time.Duration) error {
	log, err := f.logger()
	if err != nil {
		return err
	}
	id, err := cache.ReadIdentity(f.cacheDir)
	if err != nil {
		return err
	}
	p := place{bucket: id.Bucket, prefix: id.Prefix}
	if dir, ok := strings.CutPrefix(id.Endpoint, "local:"); ok {
		p.local = dir
	} else {
		f.endpoint = id.Endpoint
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	e, err := openEngine(context.WithoutCancel(ctx), f, p, log)
	if errors.Is(err, cache.ErrBusy) { // the daemon of the mount carries it
		var out waitAnswer
		socket, err := cache.ControlSocket(f.cacheDir)
		if err != nil {
			return err
		}
		if err := call(ctx, socket, "/wait", waitRequest{Timeout: timeout}, &out); err != nil {
			return err
		}
		return leftover(out.Left)
	}
	if err != nil {
		return err
	}
	defer e.Close()
	left, err := e.q.Drain(ctx)
	if err != nil {
		return err
	}
	return leftover(left)
}

func statusCommand() *cobra.Command {
	var cacheDir string
	var asJSON bool
	var every time.Duration
	c := &cobra.Command{
		Use:   "status [MOUNTPOINT]",
		Short: "Show what is pending, uploading, parked and found",
		Long: `Show what is pending, uploading, parked and found: of a mount, or, with
--cache-dir, of a cache directory that is not mounted.

With --watch it is shown again and again, with a bar, the rate and the time that is
left of each upload, until Ctrl-C or q; where stdout is no terminal, as a line each
time. Colours are for terminals only, and not where NO_COLOR is set.

EXAMPLES
  ossmount status /mnt/data
  ossmount status --cache-dir=/var/cache/data --json
  ossmount status /mnt/data --watch
  ossmount status /mnt/data --watch=10s >>uploads.log`,
		Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if (len(args) == 1) == (cacheDir != "") {
				return exit(exitUsage, errors.New("name a mount point, or --cache-dir"))
			}
			look := func(ctx context.Context) (mountStatus, error) { return statusOf(ctx, args, cacheDir) }
			if c.Flags().Changed("watch") {
				if every < leastInterval {
					return exit(exitUsage, fmt.Errorf("--watch=%s: use an interval of %s or more", every, leastInterval))
				}
				return watch(c, every, asJSON, look)
			}
			if asJSON {
				s, err := look(c.Context())
				if err != nil {
					return err
				}
				return indented(c.OutOrStdout(), s)
			}
			return showStatus(c, look)
		},
	}
	c.Flags().StringVar(&cacheDir, "cache-dir", "", "a cache directory, mounted or not")
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	c.Flags().DurationVar(&every, "watch", 0, "show it again and again, at this interval, until Ctrl-C")
	c.Flags().Lookup("watch").NoOptDefVal = "1s"
	return c
}

func statusOf(ctx context.Context, args []string, cacheDir string) (s mountStatus, err error) {
	if len(args) == 1 {
		socket, _, err := findControl(args[0])
		if err != nil {
			return s, err
		}
		return s, call(ctx, socket, "/status", struct{}{}, &s)
	}
	if s, err = inspect(ctx, cacheDir); !errors.Is(err, cache.ErrBusy) {
		return s, err
	}
	socket, err := cache.ControlSocket(cacheDir)
	if err != nil {
		return s, err
	}
	return s, call(ctx, socket, "/status", struct{}{}, &s)
}
