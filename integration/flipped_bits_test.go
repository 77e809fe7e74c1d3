package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// contentWith finds the content of the cache directory that begins with text.
func (m *mount) contentWith(text string) (found string) {
	m.e.Helper()
	m.e.ok(filepath.WalkDir(filepath.Join(m.Cache, "contents"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		b := make([]byte, len(text))
		if n, _ := f.ReadAt(b, 0); n == len(text) && string(b) == text {
			found = path
		}
		return nil
	}))
	if found == "" {
		m.e.Fatalf("no content begins with %q", text)
	}
	return found
}

// flip changes a bit of a file as a bad disk does: size and time stay.
func (e *env) flip(path string, off int64) {
	e.Helper()
	st, err := os.Stat(path)
	e.ok(err)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	e.ok(err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, off)
	e.ok(err)
	_, err = f.WriteAt([]byte{b[0] ^ 4}, off)
	e.ok(err)
	e.ok(os.Chtimes(path, st.ModTime(), st.ModTime()))
}

// A bit changes on the cache disk between close and upload: nothing is published,
// what OSS has stays, and what is sound goes on.
func TestBitsThatFlipOnTheCacheDiskAreNotPublished(t *testing.T) {
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed meanwhile %v", killed), func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			e.ok(e.bucket().PutObject("replaced", strings.NewReader("as it was")))
			m := e.mount("cache", "--part-size=1MiB", "--multipart-threshold=1MiB", "--passthrough=off")
			_, err := os.ReadDir(m.Point)
			e.ok(err)
			_, err = e.server.Fault("error,code=ServiceUnavailable,status=503,op=PutObject|UploadPart")
			e.ok(err)
			big := "big " + strings.Repeat("0123456789abcdef", 3*mebi/16)
			damaged := map[string]string{"small": "absent", "replaced": "as it was", "big": "absent", "renamed": "absent", "log": "absent"}
			e.write(m.in("small"), "small and new")
			e.write(m.in("replaced"), "a new version")
			e.write(m.in("big"), big)
			e.write(m.in("old name"), "renamed meanwhile")
			e.write(m.in("log"), "first line\n")
			e.write(m.in("sound"), "sound")
			e.flip(m.contentWith("small"), 6)
			e.flip(m.contentWith("a new"), 12)
			e.flip(m.contentWith("big"), mebi+77)
			e.flip(m.contentWith("renamed"), 0)
			e.ok(os.Rename(m.in("old name"), m.in("renamed")))
			e.flip(m.contentWith("first"), 3)
			e.ok(appended("second line\n")(m.in("log")))
			if killed {
				m.kill9()
				m.start()
			}
			e.ok(e.server.ClearFaults())
			e.poll("what is damaged is parked", time.Minute, func() bool {
				s := m.status()
				return s.Queue.Pending == 0 && s.Queue.Parked == len(damaged)
			})
			for _, k := range m.status().Queue.Kept {
				if damaged[k.Key] == "" || !strings.HasPrefix(k.Reason, "damaged: the bytes on the cache disk differ") {
					t.Errorf("%s: %s", k.Key, k.Reason)
				}
			}
			if r, err := m.Wait(m.in("small"), time.Minute); err != nil || r.Code != 4 {
				t.Errorf("wait: %v %v", r, err)
			}
			e.object("sound", "sound")
			for key, was := range damaged {
				if there, err := e.bucket().IsObjectExist(key); err != nil || there != (was != "absent") {
					t.Errorf("%s is on OSS: %t, %v", key, there, err)
				} else if there {
					e.object(key, was)
				}
			}
			// What is written anew is sound again.
			e.write(m.in("small"), "written anew")
			e.write(m.in("big"), big)
			m.wait(m.in("small"))
			m.wait(m.in("big"))
			e.object("small", "written anew")
			e.object("big", big)
			e.ok(e.noUploads(20 * time.Second))
			m.umount(4)
		})
	}
}

// A pending file whose bytes have vanished from the cache directory is there, and an
// error to whoever opens it: not a name that is gone.
func TestBytesThatVanishAreAnError(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=1h", "--passthrough=off")
	e.write(m.in("f"), "the only copy")
	e.ok(os.Remove(m.contentWith("the only copy")))
	st, err := os.Stat(m.in("f"))
	e.ok(err)
	if st.Size() != int64(len("the only copy")) {
		t.Errorf("it has %d bytes", st.Size())
	}
	if _, err := os.ReadFile(m.in("f")); !errors.Is(err, syscall.EIO) {
		t.Errorf("to read it: %v, want EIO", err)
	}
	e.poll("the log says why", patience, func() bool {
		return strings.Contains(m.P.Err.String(), "the bytes are not in the cache directory")
	})
	m.umount(4)
	if _, err := e.bucket().GetObject("f"); err == nil {
		t.Error("there is an object")
	}
}

// A copy of what OSS has, whose file in the cache directory has been cut, is not taken
// for it: the object is fetched.
func TestCopyThatWasCutIsNotUsed(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.leaves(panics, "it asks to be reported")
	m := e.mount("cache", "--passthrough=off")
	text := strings.Repeat("all of it ", 1000)
	e.write(m.in("f"), text)
	m.wait(m.Point)
	e.ok(os.Truncate(m.contentWith("all of it"), 4000))
	e.reads(m.in("f"), text)
	e.poll("the log says why", patience, func() bool {
		return strings.Contains(m.P.Err.String(), "the copy of an object has not its size")
	})
	m.kill9()
	m.start()
	e.reads(m.in("f"), text)
	m.umount(0)
}
