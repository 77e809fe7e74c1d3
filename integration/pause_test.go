package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

// parts of a file, as `uploads parts` tells: how many there are, and how many OSS has.
func (m *mount) parts(path string) (all, sent int) {
	m.e.Helper()
	var p struct{ Parts []struct{ State string } }
	m.e.ok(json.Unmarshal([]byte(m.e.command(0, "uploads", "parts", "--json", path).Out), &p))
	for _, x := range p.Parts {
		if x.State == "sent" {
			sent++
		}
	}
	return len(p.Parts), sent
}

// A mount is paused in the middle of an upload: nothing more is sent, nothing is lost,
// nobody waits in vain, also not an unmount, and the next mount sends the rest only.
func TestPausedUploadsStopAtAPartAndGoOn(t *testing.T) {
	t.Parallel()
	const parts = 24
	e := setup(t, "--bandwidth=2MiB")
	m := e.mount("cache", "--multipart-threshold=100KiB", "--part-size=256KiB", "--upload-concurrency=2", "--eager=off")
	big := m.in("big")
	e.ok(harness.WriteFile(big, 7, parts*256<<10))
	e.poll("a part is there", patience, func() bool { _, _, done, err := m.Progress("big"); return err == nil && done > 0 })
	if r := e.command(0, "uploads", "list", m.Point); !strings.Contains(r.Out, "uploading") || !strings.Contains(r.Out, "/24") {
		t.Errorf("list: %v", r)
	}
	e.command(0, "uploads", "pause", m.Point)
	e.poll("nothing is under way", patience, func() bool { return len(m.status().Queue.Uploading) == 0 })
	e.write(m.in("small"), "written while paused")
	e.ok(os.Rename(m.in("small"), m.in("other")))
	all, sent := m.parts(big)
	if all != parts || sent == 0 || sent == parts {
		t.Errorf("%d of %d parts are sent", sent, all)
	}
	before := e.counts().Ops
	r := e.command(3, "wait", m.Point) // for ever, but for the pause
	if !strings.Contains(r.Err, "paused") {
		t.Errorf("wait says: %v", r)
	}
	if r := e.command(3, "wait", m.in("other")); !strings.Contains(r.Err, "paused") {
		t.Errorf("wait for one says: %v", r)
	}
	if r := e.command(0, "uploads", "list", m.Point); strings.Count(r.Out, "paused") != 2 {
		t.Errorf("list: %v", r)
	}
	if r := e.command(0, "status", m.Point); !strings.Contains(r.Out, "ossmount uploads resume "+m.Point) {
		t.Errorf("status does not say what to do: %v", r)
	}
	if s := m.state("big"); s != "paused" {
		t.Errorf("the attribute says %q", s)
	}
	if r := e.command(2, "uploads", "abort", big); !strings.Contains(r.Err, "is not given up") {
		t.Errorf("abort: %v", r)
	}
	if r := m.umount(3, "--drain=30m"); !strings.Contains(r.Err, "paused") {
		t.Errorf("umount says: %v", r)
	}
	after := e.counts().Ops
	for _, op := range []string{"UploadPart", "PutObject", "CompleteMultipartUpload"} {
		if before[op].Requests != after[op].Requests {
			t.Errorf("%s was sent while paused: %d, %d", op, before[op].Requests, after[op].Requests)
		}
	}
	m.start() // the pause has ended with the mount
	m.wait(m.Point)
	if n := e.counts().Ops["UploadPart"].Requests; n != parts {
		t.Errorf("%d parts were sent for %d", n, parts)
	}
	e.object("other", "written while paused")
	e.sameObject("big", 7, parts*256<<10)
	m.umount(0)
}

// sameObject fails unless the object is the random file of that seed and size.
func (e *env) sameObject(key string, seed, size uint64) {
	e.Helper()
	got, _, err := e.server.ObjectSum(key)
	e.ok(err)
	if want, _ := harness.Sum(harness.Random(seed, size)); got != want {
		e.Errorf("the object %s is another", key)
	}
}

// One file is paused: the others go, a drain does not wait for it, and what needs it
// waits with it.
func TestOneFileIsPaused(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache")
	e.write(m.in("old"), "old bytes")
	m.wait(m.Point)
	e.command(0, "uploads", "pause", m.in("new"))
	e.command(2, "uploads", "pause", e.mkdir(m.in("dir")))
	e.ok(os.Rename(m.in("old"), m.in("new"))) // the object at old is needed until new is there
	e.write(m.in("more"), "goes")
	m.wait(m.in("more"))
	if r := e.command(3, "wait", m.Point); !strings.Contains(r.Err, "paused") {
		t.Errorf("wait says: %v", r)
	}
	keys, err := e.server.Keys("")
	e.ok(err)
	if fmt.Sprint(keys) != "[dir/ more old]" {
		t.Errorf("on OSS are %q", keys)
	}
	e.reads(m.in("new"), "old bytes")
	e.command(0, "uploads", "pause", m.Point)
	if r := e.command(1, "uploads", "resume", m.in("new")); !strings.Contains(r.Err, "all of") {
		t.Errorf("resume of one while all is paused: %v", r)
	}
	e.command(0, "uploads", "resume", m.Point)
	m.wait(m.Point)
	e.object("new", "old bytes")
	if r := e.command(0, "uploads", "resume", m.Point); !strings.Contains(r.Out, "was not paused") {
		t.Errorf("resume of what is not paused: %v", r)
	}
	if r := e.command(1, "uploads", "parts", m.in("new")); !strings.Contains(r.Err, "nothing of") {
		t.Errorf("parts of what is on OSS: %v", r)
	}
	m.umount(0)
}

func (e *env) mkdir(path string) string {
	e.Helper()
	e.ok(os.Mkdir(path, 0o755))
	return path
}

// With a limit an upload that would take two minutes is under way; without, the same
// requests are done.
func TestTheLimitOfUploadsIsChangedAtRunTime(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	e := setup(t)
	m := e.mount("cache", "--multipart-threshold=100KiB", "--part-size=100KiB", "--upload-concurrency=2", "--upload-limit=64MiB")
	limit := func(args ...string) string {
		t.Helper()
		return strings.TrimSpace(e.command(0, append([]string{"limit", m.Point}, args...)...).Out)
	}
	if s := limit(); s != "64.0 MiB/s" {
		t.Errorf("it begins with %q", s)
	}
	if s := limit("64KiB/s"); s != "64.0 KiB/s" {
		t.Errorf("it was set to %q", s)
	}
	e.ok(harness.WriteFile(m.in("f"), 3, size))
	e.poll("a part is there", patience, func() bool { _, _, done, err := m.Progress("f"); return err == nil && done > 0 })
	s := m.status()
	if s.UploadLimit != 64<<10 || len(s.Queue.Uploading) != 1 || s.Queue.Uploading[0].Sent > size/2 {
		t.Errorf("with the limit: %d, %+v", s.UploadLimit, s.Queue.Uploading)
	}
	e.command(2, "limit", m.Point, "fast")
	e.command(2, "limit", m.Point, "-1")
	if s := limit("0"); s != "no limit" {
		t.Errorf("it was lifted to %q", s)
	}
	m.wait(m.in("f"))
	if n := e.counts().Ops["UploadPart"].Requests; n != (size+100<<10-1)/(100<<10) {
		t.Errorf("%d parts were sent", n)
	}
	e.sameObject("f", 3, size)
	m.umount(0)
}

// What a file says of itself, before and after it is on OSS.
func TestAttributesTellOfTheUpload(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mountSource("oss://"+harness.Bucket+"/pre", "mnt", "cache", e.usual()...)
	attr := func(name, what string) string {
		t.Helper()
		v := make([]byte, 1024)
		n, err := unix.Lgetxattr(m.in(name), "user.ossmount."+what, v)
		if err == unix.ENODATA {
			return "none"
		}
		e.ok(err)
		return string(v[:n])
	}
	e.command(0, "uploads", "pause", m.Point)
	e.write(m.in("f"), "twelve bytes")
	for what, want := range map[string]string{"state": "paused", "progress": "0/12", "etag": "none", "url": "oss://" + harness.Bucket + "/pre/f"} {
		if got := attr("f", what); got != want {
			t.Errorf("%s is %q while pending, want %q", what, got, want)
		}
	}
	e.command(0, "uploads", "resume", m.Point)
	m.wait(m.Point)
	h, err := e.bucket().GetObjectMeta("pre/f")
	e.ok(err)
	for what, want := range map[string]string{"state": "clean", "progress": "none", "etag": strings.Trim(h.Get("ETag"), `"`)} {
		if got := attr("f", what); got != want || got == "" {
			t.Errorf("%s is %q when it is on OSS, want %q", what, got, want)
		}
	}
	if err := unix.Lsetxattr(m.in("f"), "user.ossmount.etag", []byte("x"), 0); err != unix.EPERM {
		t.Errorf("an attribute of ours was set: %v", err)
	}
	m.umount(0)
}
