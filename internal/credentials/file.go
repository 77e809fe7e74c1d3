package credentials

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/ossmount/ossmount/internal/remote"
)

// file is a file that only its user can read. It is looked at whenever it is asked,
// and read when it is another one than before.
//
// A link is followed, unlike elsewhere: a Secret of Kubernetes is nothing else. What
// it leads to must be the user's own.
type file struct {
	path string

	mu   sync.Mutex // one reads at a time
	seen stamp      // of what was read; zero: nothing was, or it may still change unseen
	key  remote.Key
}

// stamp changes when a file does.
type stamp struct {
	dev, ino          uint64
	size              int64
	modified, changed syscall.Timespec
}

// still is how long a file must have been as it is before its stamp is believed: the
// clock of the file system has steps, and in the same step it can be written twice.
const still = 2 * time.Second

func newFile(path string) (remote.Credentials, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f := &file{path: abs}
	_, err = f.Get(context.Background())
	return f, err
}

func (f *file) Get(context.Context) (remote.Key, error) {
	k, err := f.read()
	if err == nil && !k.Expires.IsZero() && !time.Now().Before(k.Expires) {
		err = fmt.Errorf("the key in %s has expired at %s: write a new one there", f.path, k.Expires.UTC().Format(time.RFC3339))
	}
	if err != nil {
		return remote.Key{}, err
	}
	k.Expires = time.Time{} // it is looked at each time: nobody need ask ahead of its end
	return k, nil
}

func (f *file) read() (remote.Key, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	st, err := f.check(os.Stat(f.path))
	if err != nil {
		return remote.Key{}, err
	}
	if f.seen == st {
		return f.key, nil
	}
	in, err := os.Open(f.path)
	if err != nil {
		return remote.Key{}, f.unreadable(err)
	}
	defer in.Close()
	if st, err = f.check(in.Stat()); err != nil {
		return remote.Key{}, err
	}
	text, err := io.ReadAll(io.LimitReader(in, maxAnswer))
	if err != nil {
		return remote.Key{}, f.unreadable(err)
	}
	k, err := f.parse(text)
	if err != nil {
		return remote.Key{}, err
	}
	f.key, f.seen = k, stamp{}
	if time.Since(time.Unix(st.changed.Unix())) > still {
		f.seen = st
	}
	return k, nil
}

func (f *file) parse(text []byte) (k remote.Key, err error) {
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		k, err = parseJSON(text)
	} else {
		k, err = parseLines(string(text))
	}
	if err != nil {
		return k, fmt.Errorf("the credentials file %s cannot be used: %w: write %s=... and %s=... into it, each on a line", f.path, err, envNames.id, envNames.secret)
	}
	k.Remedy = "write a key that is valid into " + f.path + "; it is read again by itself"
	return k, nil
}

// check refuses a file that others could read, or could have written.
func (f *file) check(info fs.FileInfo, err error) (stamp, error) {
	if err != nil {
		return stamp{}, f.unreadable(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return stamp{}, fmt.Errorf("the credentials file %s is not a regular file: name one that holds a key", f.path)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return stamp{}, fmt.Errorf("the credentials file %s belongs to user %d, and this is user %d: chown it", f.path, st.Uid, os.Geteuid())
	case info.Mode().Perm()&0o077 != 0:
		return stamp{}, fmt.Errorf("the credentials file %s is open to others (mode %04o): chmod 600 it", f.path, info.Mode().Perm())
	}
	return stamp{uint64(st.Dev), st.Ino, st.Size, st.Mtim, st.Ctim}, nil
}

func (f *file) unreadable(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the credentials file %s does not exist: make it, with the lines %s=... and %s=... and mode 0600", f.path, envNames.id, envNames.secret)
	}
	return fmt.Errorf("the credentials file %s cannot be read: %w: see that it is readable to this user", f.path, err)
}
