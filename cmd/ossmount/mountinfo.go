package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mountedOn returns what is mounted on path by us, "" if nothing is.
func mountedOn(path string) (source string) {
	for _, m := range mountTable() {
		if m.point == path {
			source = m.source
		}
	}
	return source
}

// mounted is one mount of ours.
type mounted struct{ point, source string }

// mountTable reads the mounts of ours (proc_pid_mountinfo(5)).
func mountTable() (all []mounted) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields, rest := strings.Fields(before), strings.Fields(after)
		if len(fields) > 4 && len(rest) > 1 && rest[0] == "fuse.ossmount" {
			all = append(all, mounted{unescape(fields[4]), unescape(rest[1])})
		}
	}
	return all
}

// ourMounts returns the mount points of ours whose daemon is there.
func ourMounts() (all []string) {
	for _, m := range mountTable() {
		if !slices.Contains(all, m.point) && answers(m.point) {
			all = append(all, m.point)
		}
	}
	return all
}

// unescape reads the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// detachDead takes dead mounts of ours off path: their daemon was killed, and
// every call on them fails with ENOTCONN. They may be stacked. A daemon that
// has just been killed takes a moment to be gone, in which its mount looks
// alive but does not answer.
func detachDead(path string, log *slog.Logger) error {
	deadline := time.Now().Add(5 * time.Second)
	for time.Now().Before(deadline) {
		var st unix.Stat_t
		err := unix.Stat(path, &st)
		source := mountedOn(path)
		switch {
		case errors.Is(err, unix.ENOTCONN) && source == "":
			return fmt.Errorf("%s is a dead mount of another program: unmount it with fusermount3 -u or umount", path)
		case errors.Is(err, unix.ENOTCONN):
			log.Warn("a dead mount was found on the mount point and detached", "mountpoint", path)
			if err := detach(path); err != nil {
				return fmt.Errorf("detach the dead mount on %s: %w", path, err)
			}
		case source == "":
			return nil
		case answers(path):
			return fmt.Errorf("%s is mounted already (%s): unmount it first", path, source)
		default:
			time.Sleep(50 * time.Millisecond)
		}
	}
	return fmt.Errorf("%s is mounted, but its daemon does not answer: end it, then mount again", path)
}

// answers reports whether the daemon of the mount on path is there.
func answers(path string) bool {
	socket, root, err := findControl(path)
	if err != nil || root != path {
		return false
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// hung is how long a daemon may take to say where its control socket is.
const hung = 10 * time.Second

// controlOf asks the mount on path for its control socket. The daemon may be hung, and
// then the call is, too; it ends with this process.
func controlOf(path string) (socket string, err error) {
	type answer struct {
		socket string
		err    error
	}
	answers := make(chan answer, 1)
	go func() {
		buf := make([]byte, 4096)
		n, err := unix.Getxattr(path, controlAttr, buf)
		answers <- answer{string(buf[:max(n, 0)]), err}
	}()
	select {
	case a := <-answers:
		return a.socket, a.err
	case <-time.After(hung):
		return "", context.DeadlineExceeded
	}
}

// resolve is the path without links, found without asking what may be mounted on it.
func resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	for range 40 {
		dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
		if err != nil {
			return "", err
		}
		abs = filepath.Join(dir, filepath.Base(abs))
		to, err := os.Readlink(abs)
		if err != nil {
			return abs, nil
		}
		if abs = to; !filepath.IsAbs(to) {
			abs = filepath.Join(dir, to)
		}
	}
	return "", fmt.Errorf("%s: too many links", path)
}

func detach(path string) error { return unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) }
