package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

// ServeEnv is the variable in which a program whose own main calls Serve finds the
// directory.
const ServeEnv = "OSSMOUNT_TEST_DISK"

// Disk is a disk of a machine that can be switched off.
type Disk struct {
	Point string // where its file system is mounted while the machine runs

	dir   string // of the server
	cmd   *exec.Cmd
	in    io.Closer
	calls *rpc.Client
	boot  int
}

// New starts the server of a disk: this very program, which must call Serve when it
// finds ServeEnv. It lies in dir, and is empty.
func New(dir string) (d *Disk, err error) {
	d = &Disk{Point: filepath.Join(dir, "disk"), dir: filepath.Join(dir, "disk-server")}
	for _, p := range []string{d.Point, d.dir} {
		if err := os.MkdirAll(p, 0o700); err != nil {
			return nil, err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	d.cmd = exec.Command(self)
	d.cmd.Env = append(os.Environ(), ServeEnv+"="+d.dir)
	d.cmd.Stderr = os.Stderr
	// Not to be ended by an interrupt from the keyboard: it has to unmount.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := d.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	d.in, d.calls = in, rpc.NewClient(pipes{out, in})
	return d, nil
}

type pipes struct {
	io.ReadCloser
	in io.WriteCloser
}

func (p pipes) Write(b []byte) (int, error) { return p.in.Write(b) }

func (p pipes) Close() error { return errors.Join(p.in.Close(), p.ReadCloser.Close()) }

// Format makes an ext4 of a size on it; the machine is off.
func (d *Disk) Format(ctx context.Context, size int64) error {
	f, err := os.CreateTemp("", "disk-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	// Nothing is left for later: the kernel would write it behind the back of the test.
	r, err := harness.Run(ctx, nil, "mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", "-J", "size=8", f.Name())
	if err != nil || r.Code != 0 {
		return fmt.Errorf("mkfs.ext4 (install e2fsprogs): %w\n%v", err, r)
	}
	return d.Load(f.Name())
}

// Load puts the bytes of a file on it; the machine is off.
func (d *Disk) Load(path string) error { return d.call("Load", path, &d.boot) }

// Keep has the disk remembered as it is; the machine is off.
func (d *Disk) Keep() (kept int, err error) { return kept, d.call("Copy", d.boot, &kept) }

// Back makes the disk again what it was when it was kept; the machine is off.
func (d *Disk) Back(kept int) error {
	if err := d.call("Forget", d.boot, nil); err != nil {
		return err
	}
	return d.call("Copy", kept, &d.boot)
}

func (d *Disk) call(what string, args, answer any) error {
	if err := d.calls.Call("Disk."+what, args, answer); err != nil {
		return fmt.Errorf("disk: %s: %w", what, err)
	}
	return nil
}

// On attaches the disk and mounts what is on it, which replays the file system's
// journal.
func (d *Disk) On() error {
	f, err := os.OpenFile(filepath.Join(d.dir, strconv.Itoa(d.boot)), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	loop, err := attach(f)
	if err != nil {
		return fmt.Errorf("attach a loop device: %w", err)
	}
	defer loop.Close() // the mount keeps it; it is given back when that is gone
	if err := unix.Mount(loop.Name(), d.Point, "ext4", unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mount %s: %w", loop.Name(), err)
	}
	return nil
}

// attach makes f a block device, which is given back when nobody has it open.
func attach(f *os.File) (*os.File, error) {
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w (load the kernel module loop, and run this as root)", err)
	}
	defer ctl.Close()
	for {
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, err
		}
		loop, err := os.OpenFile(fmt.Sprint("/dev/loop", n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		c := unix.LoopConfig{Fd: uint32(f.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO}}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &c)
		if err == nil {
			return loop, nil
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) { // somebody else was faster
			return nil, err
		}
	}
}

// Freeze stops the disk: nothing that is asked of it is answered any more.
func (d *Disk) Freeze() error { return d.call("Freeze", d.boot, nil) }

// When is the moment of a cut: before the N-th request to the disk from now on, a write
// or a flush; with Flushes, before the N-th flush that finds something in the cache. But
// after Within at the latest.
type When struct {
	N       int // 0: after Within
	Flushes bool
	Within  time.Duration
}

// FreezeAt stops the disk, and returns when that has happened.
func (d *Disk) FreezeAt(w When) error { return d.call("Stop", StopArgs{Boot: d.boot, When: w}, nil) }

// Cut takes the power from a disk that is frozen, given that all that used it has been
// killed: what is on the disk then is drawn from seed. The machine is off.
func (d *Disk) Cut(ctx context.Context, seed uint64) (CutInfo, error) {
	var a CutAnswer
	if err := d.call("Cut", CutArgs{Boot: d.boot, Seed: seed}, &a); err != nil {
		return a.Info, err
	}
	old := d.boot
	if err := d.call("Thaw", old, nil); err != nil {
		return a.Info, err
	}
	if err := d.Off(ctx); err != nil {
		return a.Info, err
	}
	d.boot = a.Boot
	return a.Info, d.call("Forget", old, nil)
}

// Off unmounts the file system, and returns when nothing has the disk open.
func (d *Disk) Off(ctx context.Context) error {
	return harness.Poll(ctx, "unmount "+d.Point, func() (bool, error) {
		err := unix.Unmount(d.Point, unix.UMOUNT_NOFOLLOW)
		switch {
		case errors.Is(err, unix.EBUSY): // those that were killed are not gone yet
			return false, nil
		case errors.Is(err, unix.EINVAL):
			return true, nil // not mounted
		}
		return err == nil, err
	})
}

// Destroy ends all that belongs to the disk.
func (d *Disk) Destroy() error {
	d.call("Thaw", d.boot, nil)
	err := harness.Detach(d.Point)
	d.in.Close()
	done := make(chan error, 1)
	go func() { done <- d.cmd.Wait() }()
	select {
	case werr := <-done:
		err = errors.Join(err, werr)
	case <-time.After(30 * time.Second):
		d.cmd.Process.Kill()
		err = errors.Join(err, errors.New("the server of a disk had to be killed"))
	}
	return errors.Join(err, harness.Detach(d.dir))
}
