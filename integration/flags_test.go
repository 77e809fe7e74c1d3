package integration

import (
	"context"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

// Flags that no other test is about (internal/house has the list).

func TestOwnerAndModeOfObjectsThatCarryNone(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.put("dir/f", strings.NewReader("x"))
	m := e.mount("cache", "--uid=1234", "--gid=2345", "--file-mode=0640", "--dir-mode=0710")
	for name, mode := range map[string]uint32{"dir": unix.S_IFDIR | 0o710, "dir/f": unix.S_IFREG | 0o640} {
		var st unix.Stat_t
		e.ok(unix.Lstat(m.in(name), &st))
		if st.Uid != 1234 || st.Gid != 2345 || st.Mode != mode {
			t.Errorf("%s belongs to %d:%d and has the mode %o, want %o", name, st.Uid, st.Gid, st.Mode, mode)
		}
	}
	e.write(m.in("ours"), "x")
	var st unix.Stat_t
	e.ok(unix.Lstat(m.in("ours"), &st))
	if st.Uid != 0 {
		t.Errorf("what root makes belongs to %d", st.Uid)
	}
}

func TestProfilesOnTheControlSocket(t *testing.T) {
	t.Parallel()
	e := setup(t)
	for flag, want := range map[string]int{"--pprof": http.StatusOK, "--pprof=false": http.StatusNotFound} {
		m := e.mount("cache", flag)
		buf := make([]byte, 4096)
		n, err := unix.Getxattr(m.Point, "user.ossmount.control", buf)
		e.ok(err)
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", string(buf[:n]))
		}}}
		r, err := c.Get("http://mount/debug/pprof/heap")
		e.ok(err)
		r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("with %s the answer is %s", flag, r.Status)
		}
		m.umount(0)
	}
}

// Past its age a close is published although the file has been opened for writing again.
func TestCloseOfAFileThatIsAlwaysOpenIsPublishedInTheEnd(t *testing.T) {
	t.Parallel()
	e := setup(t)
	held, err := e.server.Fault("delay,op=UploadPart")
	e.ok(err)
	m := e.mount("cache", "--write-back-delay=0s", "--max-dirty-age=1ms", "--eager=off", "--part-size=256KiB", "--multipart-threshold=512KiB")
	first := strings.Repeat("first", 1<<18)
	e.write(m.in("f"), first)
	_, err = e.server.WaitHeld(e.soon(), held.ID)
	e.ok(err)
	f := e.holdOpen(m.in("f"), os.O_WRONLY)
	f.writeAt("second", 0)
	_, err = e.server.RemoveFault(held.ID)
	e.ok(err)
	e.poll("the first close is on OSS", patience, func() bool {
		sum, _, err := e.server.ObjectSum("f")
		want, _ := harness.Sum(strings.NewReader(first))
		return err == nil && sum == want
	})
	f.end()
	m.wait(m.Point)
	e.object("f", "second"+first[len("second"):])
}

func TestNamesOfEagerSkipAreNotSentAhead(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=1h", "--eager-skip=*.skipped,*.other", "--part-size=256KiB", "--multipart-threshold=512KiB")
	block := strings.Repeat("b", 4<<20)
	for _, name := range []string{"a.skipped", "b.sent"} { // the one that would go first is first
		f := e.holdOpen(m.in(name), os.O_CREATE|os.O_WRONLY)
		f.writeAt(block, 0)
		defer f.end()
	}
	open := func() (keys []string) {
		all, err := e.server.Uploads()
		e.ok(err)
		for _, u := range all {
			keys = append(keys, u.Key)
		}
		return keys
	}
	e.poll("the other file is sent ahead", patience, func() bool { return strings.Contains(strings.Join(open(), " "), "b.sent") })
	if keys := open(); len(keys) != 1 {
		t.Errorf("sent ahead are %q", keys)
	}
}
