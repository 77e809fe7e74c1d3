package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	_ "unsafe" // for go:linkname

	"golang.org/x/sys/unix"
)

// Badger writes its logs and tables into mappings of sparse files: a store for
// which the disk has no block ends the process with SIGBUS, in goroutines that
// are not ours, at any later moment (H10). So no such mapping is made before
// the file has its blocks. Badger and ristretto have no place for that; but all
// of their mappings are made by one variable of x/sys
// (docs/decisions/0014-blocks-before-a-mapping.md).

// mmapper is the beginning of the type of unix.mapper.
type mmapper struct {
	sync.Mutex
	_    map[*byte][]byte
	mmap func(addr, length uintptr, prot, flags, fd int, offset int64) (uintptr, error)
}

//go:linkname mapper golang.org/x/sys/unix.mapper
var mapper *mmapper

// rooms are the open journals, by the directory of their database.
var rooms sync.Map

var allocateMappings = sync.OnceValue(func() error {
	inner := mapper.mmap
	mapper.mmap = func(addr, length uintptr, prot, flags, fd int, offset int64) (uintptr, error) {
		if prot&unix.PROT_WRITE != 0 && flags&unix.MAP_SHARED != 0 && fd >= 0 {
			if err := allocateMapped(fd, int64(length)); err != nil {
				return 0, err
			}
		}
		return inner(addr, length, prot, flags, fd, offset)
	}
	return isAllocating()
})

// isAllocating proves that what stands above works with this x/sys.
func isAllocating() error {
	fd, err := unix.MemfdCreate("ossmount", unix.MFD_CLOEXEC) // its path is /memfd:ossmount
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	seen := false
	probe := func(int, int64, string) error { seen = true; return unix.ENOSPC }
	rooms.Store("/", probe)
	defer rooms.Delete("/")
	if err := unix.Ftruncate(fd, 4096); err != nil {
		return err
	}
	b, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err == nil {
		_ = unix.Munmap(b)
	}
	if !seen || !errors.Is(err, unix.ENOSPC) {
		return errors.New("journal: mappings are made elsewhere in this build: use another version of golang.org/x/sys")
	}
	return nil
}

// allocateMapped gives a new file of a journal its blocks. One that has any is not
// new: it is read, or was made with them.
func allocateMapped(fd int, length int64) error {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Blocks > 0 {
		return nil
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil
	}
	path = strings.TrimSuffix(path, " (deleted)")
	if f, ok := rooms.Load(filepath.Dir(path)); ok {
		return f.(func(fd int, length int64, name string) error)(fd, length, filepath.Base(path))
	}
	return nil
}

// fallocate reserves n bytes from the offset off on, and leaves the size.
func fallocate(fd int, off, n int64) error {
	for {
		err := unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, off, n)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// isFull reports that err says there is no room.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
