package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ossmount/ossmount/integration/harness"
)

// A change that leaves size and modification time as they were is one, also for the
// daemon after a crash. covers H25
func TestRewriteThatLeavesSizeAndTime(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=1h")
	then := time.Unix(1_700_000_000, 123_456_789)
	for _, text := range []string{"first", "again", "third"} {
		e.write(m.in("f"), text)
		e.ok(harness.SetMtime(m.in("f"), then))
	}
	f := e.open(m.in("f"), os.O_RDWR) // in place, without a truncation
	e.writeAt(f, "final", 0)
	e.ok(harness.SetMtime(m.in("f"), then))
	e.ok(f.Close())
	e.ok(harness.SetMtime(m.in("f"), then))
	m.kill9()
	m.start()
	e.reads(m.in("f"), "final")
	m.umount(0, "--drain=1m")
	e.object("f", "final")
}

// Who may not delete may still write: what needs the permission waits, and says so,
// and the rest goes on. covers H41
func TestMissingPermissionToDelete(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=0s")
	e.write(m.in("gone"), "text")
	m.wait(m.Point)
	e.ok(second(e.server.Fault("error,code=AccessDenied,op=DeleteObject|DeleteMultipleObjects")))
	e.ok(os.Remove(m.in("gone")))
	e.poll("the delete was refused", patience, func() bool {
		c := e.counts()
		return c.Ops["DeleteObject"].Status["403"]+c.Ops["DeleteMultipleObjects"].Status["403"] > 0
	})
	for _, name := range []string{"one", "two", "three"} {
		e.write(m.in(name), name)
		m.wait(m.in(name))
		e.object(name, name)
	}
	if s := m.status().Queue; s.Away != "" || s.Parked > 0 || s.Pending != 1 {
		t.Errorf("with one delete that is not allowed: %+v", s)
	}
	e.ok(e.server.ClearFaults())
	m.wait(m.Point)
	keys, err := e.server.Keys("")
	e.ok(err)
	if len(keys) != 3 {
		t.Errorf("objects: %q", keys)
	}
}

// A cache directory that lies in a mount would wait for itself. covers H48
func TestCacheDirectoryInAMountIsRefused(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache")
	e.ok(os.Mkdir(e.path("other"), 0o755))
	for _, dir := range []string{m.in("cache"), filepath.Join(e.path("other"), "cache")} {
		r, err := harness.Run(e.soon(), harness.Credentials(), binary, append([]string{"mount", "oss://" + harness.Bucket, e.path("other"), "--cache-dir=" + dir, "--log-level=error"}, "--endpoint="+e.server.URL, "--region="+harness.Region)...)
		e.ok(err)
		if r.Code != 1 || !strings.Contains(r.Err, "FUSE") && !strings.Contains(r.Err, "inside the mount point") || strings.Count(r.Err, "\n") != 1 {
			t.Errorf("a cache directory %s: %v", dir, r)
		}
	}
}
