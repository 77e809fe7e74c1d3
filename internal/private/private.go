package private

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNotOurs is what each refusal is, beside what it says.
var ErrNotOurs = errors.New("not a file of this user alone")

// refusal says what is wrong with path, and what to do.
type refusal struct{ path, what string }

func (r *refusal) Error() string        { return r.path + " " + r.what }
func (r *refusal) Is(target error) bool { return target == ErrNotOurs }

func refuse(path, what string, args ...any) error {
	return &refusal{path, fmt.Sprintf(what, args...)}
}

const aLink = "is a symbolic link, and none is followed here: see who has made it, and remove it"

// Umask has everything that this process makes be for its user alone, whatever the
// umask was: libraries make files of their own.
func Umask() { unix.Umask(0o077) }

// Dir makes the directory path, 0700, if it is missing, and refuses it if it is not
// for this user alone to change. Its parent must be there.
func Dir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return Check(path)
}

// Check is Dir for a directory that must be there.
func Check(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	return checkDir(path, &st)
}

// Top is Check for the directory that all others lie in, which its user may have
// named by a link of their own.
func Top(path string) error {
	var link, st unix.Stat_t
	if err := unix.Lstat(path, &link); err != nil {
		return &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	if link.Mode&unix.S_IFMT != unix.S_IFLNK {
		return checkDir(path, &link)
	}
	if link.Uid != 0 && int(link.Uid) != os.Geteuid() {
		return refuse(path, "is a symbolic link of user %d, who could lead it elsewhere: name the directory itself", link.Uid)
	}
	if err := unix.Stat(path, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return checkDir(path, &st)
}

func checkDir(path string, st *unix.Stat_t) error {
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return refuse(path, aLink)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return refuse(path, "is not a directory: remove it")
	case int(st.Uid) != os.Geteuid():
		return refuse(path, "belongs to user %d, and this is user %d: use a directory of your own", st.Uid, os.Geteuid())
	case st.Mode&0o022 != 0:
		return refuse(path, "can be written by others (mode %04o): chmod go-w it, or use another directory", st.Mode&0o7777)
	}
	return nil
}

// File refuses what stands at path and is not a regular file of this user; nothing
// need be there.
func File(path string) error {
	_, err := look(path)
	return err
}

// look is File, and reports whether something is there.
func look(path string) (there bool, err error) {
	var st unix.Stat_t
	err = unix.Lstat(path, &st)
	switch {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case err != nil:
		return false, &fs.PathError{Op: "lstat", Path: path, Err: err}
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return true, refuse(path, aLink)
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return true, refuse(path, "is not a regular file: remove it")
	case int(st.Uid) != os.Geteuid():
		return true, refuse(path, "belongs to user %d, and this is user %d: see who has made it, and remove it", st.Uid, os.Geteuid())
	}
	return true, nil
}

// Open opens a regular file, as os.OpenFile does; one that is made is 0600.
func Open(path string, flag int) (*os.File, error) {
	// The look comes first: to open a FIFO would wait for somebody.
	switch there, err := look(path); {
	case err != nil:
		return nil, err
	case !there && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: path, Err: unix.ENOENT}
	}
	return open(path, flag)
}

// Create makes a file, 0600, where nothing is yet, and opens it.
func Create(path string, flag int) (*os.File, error) {
	return open(path, flag|os.O_CREATE|os.O_EXCL)
}

// open opens what is no FIFO. os.OpenFile would try whether it can be polled, which a
// regular file never can: five system calls more.
func open(path string, flag int) (*os.File, error) {
	for {
		fd, err := unix.Open(path, flag|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ELOOP):
			return nil, refuse(path, aLink)
		case err != nil:
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		return os.NewFile(uintptr(fd), path), nil
	}
}

// ReadFile is os.ReadFile of a regular file.
func ReadFile(path string) ([]byte, error) {
	f, err := Open(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}
