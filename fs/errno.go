package fs

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"syscall"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
	"github.com/ossmount/ossmount/writeback"
)

// errnoError is an error that has its number already.
type errnoError struct{ syscall.Errno }

func fail(e syscall.Errno) error { return errnoError{e} }

// errno turns an error into the number that the application sees. What is not
// known is EIO, and logged: it is the only place that does.
func (f *FS) errno(op string, err error) syscall.Errno {
	var e errnoError
	var sys syscall.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.Errno
	case errors.Is(err, cache.ErrGone), errors.Is(err, journal.ErrGone):
		return syscall.EIO // the journal says so, once
	case writeback.IsFull(err), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return syscall.ENOSPC
	case errors.Is(err, journal.ErrReadOnly), errors.Is(err, syscall.EROFS):
		return syscall.EROFS // the same
	case errors.Is(err, writeback.ErrNoRow), errors.Is(err, os.ErrNotExist):
		return syscall.ENOENT
	case errors.Is(err, writeback.ErrTooBig):
		return syscall.EXDEV
	case errors.Is(err, context.Canceled):
		return syscall.EINTR
	}
	f.sayFailed.Do(func() {
		f.o.Log.Log(context.Background(), slog.LevelWarn, "a call failed", "call", op, "err", err)
	})
	var oe *object.Error
	if errors.As(err, &oe) {
		switch oe.Kind {
		case object.Absent:
			return syscall.ENOENT
		case object.Conflict:
			return syscall.ESTALE
		case object.Denied:
			return syscall.EACCES
		}
		if oe.Code == "InvalidObjectState" { // archived, or so again
			return syscall.EPERM
		}
		return syscall.EIO
	}
	if errors.As(err, &sys) && sys != syscall.EINTR {
		return sys
	}
	return syscall.EIO
}
