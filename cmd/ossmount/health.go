package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/internal/private"
)

// /healthz asks whether a restart would help: whether requests of the kernel are
// answered, and whether the cache disk takes and gives bytes. OSS is not asked: that it
// is away is no reason to end a daemon that keeps what is pending.

// healthPatience is how long either may take.
const healthPatience = 5 * time.Second

// resultFor is how long a result of a probe is good.
const resultFor = time.Second

// probe is something that may hang. One attempt at a time is under way, and its result
// is good for a moment, so that many who ask cost no more than one.
type probe struct {
	try func() error

	mu   sync.Mutex
	last *attempt
}

type attempt struct {
	done  chan struct{} // closed at the end; then err and ended are set
	err   error
	ended time.Time
}

// ask returns what the attempt under way, or a new one, has found by the end of ctx.
func (p *probe) ask(ctx context.Context) error {
	a := p.attempt()
	select {
	case <-a.done:
		return a.err
	case <-ctx.Done():
		return errors.New("no answer")
	}
}

func (p *probe) attempt() *attempt {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.last; a != nil && !a.isOld() {
		return a
	}
	a := &attempt{done: make(chan struct{})}
	p.last = a
	go func() {
		defer close(a.done)
		a.err = p.try()
		a.ended = time.Now()
	}()
	return a
}

func (a *attempt) isOld() bool {
	select {
	case <-a.done:
		return time.Since(a.ended) >= resultFor
	default:
		return false
	}
}

// health is what /healthz looks at.
type health struct{ mount, disk probe }

// newHealth looks at a mount and its cache directory; damaged tells what the engine
// knows of the disk.
func newHealth(mount, cacheDir string, damaged func() error) *health {
	return &health{
		mount: probe{try: func() error { return askKernel(mount) }},
		disk: probe{try: func() error {
			if err := tryDisk(filepath.Join(cacheDir, healthFile)); err != nil {
				return err
			}
			return damaged()
		}},
	}
}

// check returns what is wrong. At the end of a mount that goes first, and only the disk
// is looked at.
func (h *health) check(ctx context.Context, ending bool) error {
	ctx, cancel := context.WithTimeout(ctx, healthPatience)
	defer cancel()
	if !ending {
		if err := h.mount.ask(ctx); err != nil {
			return fmt.Errorf("the mount does not serve: %w", err)
		}
	}
	if err := h.disk.ask(ctx); err != nil {
		return fmt.Errorf("the cache disk fails: %w", err)
	}
	return nil
}

func (d *daemon) healthz(w http.ResponseWriter, r *http.Request) {
	if err := d.health.check(r.Context(), d.stopping.Load()); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (d *daemon) readyz(w http.ResponseWriter, _ *http.Request) {
	if d.stopping.Load() {
		http.Error(w, "the mount is ending", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// kernelProbe is the name by which this program is a child that asks the kernel about
// a mount. The daemon does not ask itself: a call that waits for its own answer cannot
// be killed, and would keep the daemon, and the lock of its cache directory, from
// ending (H42).
const kernelProbe = "ossmount-probe"

// askKernel has a child ask the mount how much room it has, which the daemon answers
// from what it knows.
func askKernel(mount string) error {
	ctx, cancel := context.WithTimeout(context.Background(), healthPatience)
	defer cancel()
	var said bytes.Buffer
	c := exec.CommandContext(ctx, "/proc/self/exe")
	c.Args, c.Env, c.Stderr, c.Dir = []string{kernelProbe, mount}, []string{"GOMAXPROCS=1"}, &said, "/"
	c.WaitDelay = time.Second
	err := c.Run()
	if err != nil && said.Len() > 0 {
		return errors.New(string(bytes.TrimSpace(said.Bytes())))
	}
	return err
}

// runKernelProbe is that child; it returns its exit code.
func runKernelProbe(mount string, stderr io.Writer) int {
	var st unix.Statfs_t
	err := unix.Statfs(mount, &st)
	if err == nil && int64(st.Type) != unix.FUSE_SUPER_MAGIC {
		err = errors.New("nothing is mounted there")
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", mount, err)
		return exitFailed
	}
	return 0
}

// healthFile is written and read in the cache directory.
const healthFile = "health"

// tryDisk writes to a file and reads it. A full disk is not one that fails.
func tryDisk(path string) error {
	put := []byte(rand.Text())
	err := writeAt(path, put)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := private.Open(path, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	got := make([]byte, len(put))
	if _, err := f.ReadAt(got, 0); err != nil {
		return err
	}
	if !bytes.Equal(got, put) {
		return fmt.Errorf("%s does not hold what was written to it", path)
	}
	return nil
}

func writeAt(path string, b []byte) error {
	f, err := private.Open(path, os.O_WRONLY|os.O_CREATE)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	return errors.Join(err, f.Close())
}
