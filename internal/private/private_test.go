package private

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What may stand in the place of a file or directory of ours, and what is said of
// it.
func TestWhatIsNotOursIsRefused(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(os.WriteFile(at("file"), []byte("text"), 0o600))
	ok(os.Mkdir(at("dir"), 0o700))
	ok(os.Mkdir(at("open"), 0o700))
	ok(os.Chmod(at("open"), 0o770))
	ok(os.Mkdir(at("theirs"), 0o700))
	ok(os.Symlink("dir", at("linked dir")))
	ok(os.Symlink("file", at("linked file")))
	ok(os.Symlink("nowhere", at("dangling")))
	ok(unix.Mkfifo(at("fifo"), 0o600))
	ok(os.WriteFile(at("their file"), nil, 0o600))
	ok(os.Symlink("dir", at("their link")))
	root := os.Geteuid() == 0
	if root { // nobody else can give something away
		ok(os.Lchown(at("theirs"), 4711, 4711))
		ok(os.Lchown(at("their file"), 4711, 4711))
		ok(os.Lchown(at("their link"), 4711, 4711))
	}
	file := func(flag int) func(string) error {
		return func(path string) error {
			f, err := Open(path, flag)
			if err == nil {
				f.Close()
			}
			return err
		}
	}
	for _, c := range []struct {
		what, name string
		try        func(string) error
		says       string // "": it is taken
	}{
		{"dir", "dir", Dir, ""},
		{"dir", "a new one", Dir, ""},
		{"dir", "linked dir", Dir, "symbolic link"},
		{"dir", "dangling", Dir, "symbolic link"},
		{"dir", "file", Dir, "not a directory"},
		{"dir", "open", Dir, "written by others"},
		{"dir", "theirs", Dir, "belongs to user 4711"},
		{"top", "linked dir", Top, ""},
		{"top", "open", Top, "written by others"},
		{"top", "their link", Top, "link of user 4711"},
		{"read", "file", file(os.O_RDONLY), ""},
		{"read", "linked file", file(os.O_RDONLY), "symbolic link"},
		{"read", "fifo", file(os.O_RDONLY), "not a regular file"},
		{"read", "dir", file(os.O_RDONLY), "not a regular file"},
		{"read", "their file", file(os.O_RDONLY), "belongs to user 4711"},
		{"make", "dangling", file(os.O_WRONLY | os.O_CREATE), "symbolic link"},
		{"make", "a new file", file(os.O_WRONLY | os.O_CREATE), ""},
	} {
		if strings.Contains(c.says, "4711") && !root {
			continue
		}
		err := c.try(at(c.name))
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%s %q: %v", c.what, c.name, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || !errors.Is(err, ErrNotOurs)):
			t.Errorf("%s %q: want %q, got %v", c.what, c.name, c.says, err)
		}
	}
	if _, err := os.Lstat(at("nowhere")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a dangling link was followed")
	}
	if b, err := ReadFile(at("file")); err != nil || string(b) != "text" {
		t.Errorf("%q %v", b, err)
	}
}
