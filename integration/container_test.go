package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const containerEnv = "OSSMOUNT_TEST_CONTAINER"

// Container is a process as a container runtime starts it: in a mount namespace of its
// own, with volumes at their places, with the user and the rights that it is given.
type Container struct {
	Name         string
	Args, Env    []string
	Node         string // directory whose mounts are those of the node, and shared
	Strange      string // directory of which nothing but Node shall be seen as a mount
	Volumes      []Volume
	ReadOnlyRoot bool
	Privileged   bool // else it has no capability, and gets none
	UID, GID     int
}

// Volume is a directory that stands somewhere else in a container.
type Volume struct{ From, To, Propagation string }

// containerMain is the child: it becomes the container's process.
func containerMain(spec string) {
	var c Container
	err := json.Unmarshal([]byte(spec), &c)
	if err == nil {
		err = c.become()
	}
	fmt.Fprintf(os.Stderr, "container %s: %v\n", c.Name, err)
	os.Exit(125)
}

func (c *Container) become() error {
	runtime.LockOSThread() // the namespace and the rights are this thread's until exec
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := c.arrange(); err != nil {
		return err
	}
	for _, v := range c.Env {
		if name, value, _ := strings.Cut(v, "="); name == "PATH" {
			os.Setenv(name, value)
		}
	}
	path, err := exec.LookPath(c.Args[0])
	if err != nil {
		return err
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	if err := c.confine(); err != nil {
		return err
	}
	return fmt.Errorf("exec %s: %w", path, syscall.Exec(path, c.Args, c.Env))
}

// arrange makes the mounts of the container.
func (c *Container) arrange() error {
	mounts, err := mountPoints()
	if err != nil {
		return err
	}
	for _, at := range mounts {
		if isBeneath(at, c.Node) { // stays a peer of the node's
			continue
		}
		if err := unix.Mount("", at, "", unix.MS_SLAVE, ""); err != nil && err != unix.EINVAL { // it is private
			return fmt.Errorf("make %s a slave: %w", at, err)
		}
	}
	// What others have mounted must not live on here when they unmount it.
	slices.Reverse(mounts)
	for _, at := range mounts {
		if isBeneath(at, c.Strange) && !isBeneath(at, c.Node) {
			_ = unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
	}
	// By descriptors: one volume may hide where another comes from.
	from := make([]int, len(c.Volumes))
	for i, v := range c.Volumes {
		if from[i], err = unix.Open(v.From, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("volume %s: %w", v.From, err)
		}
	}
	for i, v := range c.Volumes {
		if err := v.bind(from[i]); err != nil {
			return fmt.Errorf("volume %s on %s: %w", v.From, v.To, err)
		}
	}
	if c.ReadOnlyRoot {
		if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("make the root read-only: %w", err)
		}
	}
	return nil
}

// bind mounts the directory that is open as from.
func (v Volume) bind(from int) error {
	if _, err := os.Stat(v.To); err != nil { // an image would have it
		if err := unix.Mount("tmpfs", filepath.Dir(v.To), "tmpfs", 0, "mode=755"); err != nil {
			return err
		}
		if err := os.Mkdir(v.To, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount(fmt.Sprintf("/proc/thread-self/fd/%d", from), v.To, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	kind := map[string]uintptr{"Bidirectional": unix.MS_SHARED, "HostToContainer": unix.MS_SLAVE, "": unix.MS_PRIVATE, "None": unix.MS_PRIVATE}[v.Propagation]
	if kind == 0 {
		return fmt.Errorf("what is the propagation %q?", v.Propagation)
	}
	return unix.Mount("", v.To, "", kind|unix.MS_REC, "")
}

// confine takes the rights away that the container shall not have.
func (c *Container) confine() error {
	if c.Privileged {
		return nil
	}
	for n := uintptr(0); n <= unix.CAP_LAST_CAP; n++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, n, 0, 0, 0); err != nil && err != unix.EINVAL { // newer than the kernel
			return fmt.Errorf("drop capability %d: %w", n, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	// Of this thread, which is the one that goes on.
	if _, _, err := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); err != 0 {
		return fmt.Errorf("setgroups: %w", err)
	}
	if _, _, err := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(c.GID), uintptr(c.GID), uintptr(c.GID)); err != 0 {
		return fmt.Errorf("setresgid: %w", err)
	}
	if _, _, err := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(c.UID), uintptr(c.UID), uintptr(c.UID)); err != 0 {
		return fmt.Errorf("setresuid: %w", err)
	}
	return nil
}

// mountPoints of this thread, in the order in which they were mounted.
func mountPoints() (all []string, err error) {
	f, err := os.Open("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 4 {
			all = append(all, strings.ReplaceAll(fields[4], `\040`, " "))
		}
	}
	return all, nil
}

func isBeneath(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, dir+"/")
}
