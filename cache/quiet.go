package cache

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/internal/private"
)

// A content that the kernel serves itself (passthrough) is written without this
// program's seeing it: also by a mapping, after the last descriptor was closed,
// and by programs of a daemon that was killed (H12). Two things tell:
//
//	Quiet   the kernel grants a lease for reading only while nobody has the file
//	        open for writing, or mapped so
//	Sign    size and time change with each write, where the file system's clock
//	        is fine enough

// Quiet reports that nobody can write content n: who wants to must open it first.
// What has it open for writing in this process counts as well (Content.Rest).
func (c *Cache) Quiet(n uint64) (bool, error) {
	f, err := private.Open(c.path(n), os.O_RDONLY)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return isQuiet(f)
}

// Quiet reports the same of an open content.
func (x *Content) Quiet() (bool, error) { return isQuiet(x.f) }

// isQuiet takes the lease and gives it back at once: one that is kept blocks who
// opens the file next.
func isQuiet(f *os.File) (bool, error) {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if errors.Is(err, unix.EAGAIN) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	return true, err
}

// Watches reports whether it can be told that a content is written by others: it
// has leases, and a witness for each content.
func (c *Cache) Watches() bool { return c.leases }

// coarseTime is how long a change may go without a time of its own where the file
// system keeps whole seconds.
const coarseTime = 2 * time.Second

// MayDiffer reports that a content with the sign s can have been changed since without a
// trace: its clock has not moved on yet.
func (c *Cache) MayDiffer(s Sign) bool {
	return c.coarse && time.Since(time.Unix(0, s.Mtime)) < coarseTime
}

// hasLeases reports whether a lease on the file at path, which is open for writing,
// is refused as it should be.
func hasLeases(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	quiet, err := isQuiet(f)
	return err == nil && !quiet
}

// isCoarse reports that writes to f in quick succession get the same time, or that
// this cannot be told.
func isCoarse(f *os.File) bool {
	var was unix.Stat_t
	for range 4 {
		var st unix.Stat_t
		if _, err := f.WriteAt([]byte("x"), 0); err != nil || unix.Fstat(int(f.Fd()), &st) != nil || st.Mtim == was.Mtim {
			return true
		}
		was = st
	}
	return false
}
