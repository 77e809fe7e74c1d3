package main

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// mountedOn returns what is mounted on path by us, "" if nothing is
// (proc_pid_mountinfo(5)).
func mountedOn(path string) (source string) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields, rest := strings.Fields(before), strings.Fields(after)
		if len(fields) > 4 && len(rest) > 1 && unescape(fields[4]) == path && rest[0] == "fuse.ossmount" {
			source = unescape(rest[1])
		}
	}
	return source
}

// unescape reads the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// detachDead takes dead mounts of ours off path: their daemon was killed, and
// every call on them fails with ENOTCONN. They may be stacked.
func detachDead(path string, log *slog.Logger) error {
	for range 16 {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); !errors.Is(err, unix.ENOTCONN) {
			return nil
		}
		if mountedOn(path) == "" {
			return fmt.Errorf("%s is a dead mount of another program: unmount it with fusermount3 -u or umount", path)
		}
		log.Warn("a dead mount was found on the mount point and detached", "mountpoint", path)
		if err := detach(path); err != nil {
			return fmt.Errorf("detach the dead mount on %s: %w", path, err)
		}
	}
	return fmt.Errorf("%s: too many dead mounts", path)
}

func detach(path string) error { return unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) }
