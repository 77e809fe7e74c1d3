package integration

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A mount with --read-only shows all and refuses every change, as a local file
// system that is mounted so.
func TestReadOnlyMount(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.put("f", strings.NewReader("text"))
	e.put("d/g", strings.NewReader("in d"))
	m := e.mount("cache", "--read-only")
	e.reads(m.in("f"), "text")
	e.reads(m.in("d/g"), "in d")
	f, absent := m.in("f"), m.in("absent")
	for what, err := range map[string]error{
		"open for writing":   opens(f, unix.O_WRONLY),
		"open for both":      opens(f, unix.O_RDWR),
		"open and truncate":  opens(f, unix.O_TRUNC),
		"create":             opens(absent, unix.O_CREAT|unix.O_WRONLY),
		"create for reading": opens(absent, unix.O_CREAT),
		"access":             unix.Access(f, unix.W_OK),
		"truncate":           unix.Truncate(f, 1),
		"mkdir":              unix.Mkdir(absent, 0o755),
		"mkfifo":             unix.Mkfifo(absent, 0o644),
		"mknod":              unix.Mknod(absent, unix.S_IFREG|0o644, 0),
		"symlink":            unix.Symlink("x", absent),
		"link":               unix.Link(f, absent),
		"unlink":             unix.Unlink(f),
		"rmdir":              unix.Rmdir(m.in("d")),
		"rename":             unix.Rename(f, absent),
		"exchange":           unix.Renameat2(unix.AT_FDCWD, f, unix.AT_FDCWD, m.in("d"), unix.RENAME_EXCHANGE),
		"chmod":              unix.Chmod(f, 0o600),
		"chown":              unix.Chown(f, 1, 1),
		"utimes":             unix.Utimes(f, nil),
		"setxattr":           unix.Setxattr(f, "user.a", []byte("x"), 0),
		"removexattr":        unix.Removexattr(f, "user.a"),
		"chmod of the root":  unix.Chmod(m.Point, 0o700),
	} {
		if errname(err) != "EROFS" {
			t.Errorf("%s: %s, want EROFS", what, errname(err))
		}
	}
	e.ok(opens(f, unix.O_RDONLY))
	e.ok(opens(f, unix.O_CREAT))
	e.is(syscall.EEXIST, opens(f, unix.O_CREAT|unix.O_EXCL))
	e.is(syscall.EEXIST, unix.Mkdir(m.in("d"), 0o755))
	e.is(syscall.ENOENT, second(os.Stat(absent)))
	m.umount(0)
	keys, err := e.server.Keys("")
	e.ok(err)
	if s := strings.Join(keys, " "); s != "d/g f" {
		t.Errorf("the bucket holds %s", s)
	}
}
