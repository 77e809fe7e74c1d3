package integration

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
	"golang.org/x/sync/errgroup"

	"github.com/ossmount/ossmount/integration/harness"
)

// More uploads than a page has were left by others: they are listed and aborted by
// age; those of a mount, and of a cache directory, are marked and stay.
func TestUploadsThatWereLeftAreAbortedByAge(t *testing.T) {
	t.Parallel()
	const left = 1_050
	const bucket = "left-by-others" // other tests have mounts of the usual one
	e := setup(t, "--create-bucket="+bucket)
	b, err := e.bucket().Client.Bucket(bucket)
	e.ok(err)
	begin := func(key string) string {
		r, err := b.InitiateMultipartUpload(key)
		e.ok(err)
		return r.UploadID
	}
	// All begin ten minutes ago by the clock of OSS.
	clock, err := e.server.Fault("clock,by=-10m,op=InitiateMultipartUpload")
	e.ok(err)
	var g errgroup.Group
	g.SetLimit(4 * runtime.NumCPU())
	for i := range left {
		g.Go(func() error {
			_, err := b.InitiateMultipartUpload(fmt.Sprintf("pre/left/%04d", i%700)) // some keys have two
			return err
		})
	}
	e.ok(g.Wait())
	elsewhere := begin("elsewhere")
	withParts, err := b.InitiateMultipartUpload("pre/a key with parts")
	e.ok(err)
	for n := range 2 {
		_, err := b.UploadPart(withParts, strings.NewReader(strings.Repeat("p", 1000)), 1000, n+1)
		e.ok(err)
	}
	// And one by a mount, whose parts are held up.
	held, err := e.server.Fault("delay,op=UploadPart")
	e.ok(err)
	m := e.mountSource("oss://"+bucket+"/pre", "mnt", "cache", append(e.usual(), "--write-back-delay=0s")...)
	e.ok(harness.WriteFile(m.in("ours"), 1, 24<<20))
	_, err = e.server.WaitHeld(e.soon(), held.ID)
	e.ok(err)
	_, err = e.server.RemoveFault(clock.ID)
	e.ok(err)
	young := begin("pre/young")

	where := []string{"--endpoint=" + e.server.URL, "--region=" + harness.Region}
	source := "oss://" + bucket + "/pre"
	type upload struct {
		Key, ID, Owner string
		Parts          int
		Bytes, Age     int64
	}
	list := func(args ...string) map[string]upload {
		t.Helper()
		r := e.command(0, append(append([]string{"uploads", "list", source, "--json"}, where...), args...)...)
		var all []upload
		e.ok(json.Unmarshal([]byte(r.Out), &all))
		byID := map[string]upload{}
		for _, u := range all {
			byID[u.ID] = u
		}
		if len(byID) != len(all) {
			t.Errorf("some are listed twice: %d, %d", len(all), len(byID))
		}
		return byID
	}
	all := list()
	if len(all) != left+3 || all[young].Key != "pre/young" || all[elsewhere].Key != "" {
		t.Fatalf("%d uploads are listed", len(all))
	}
	ours := ""
	for id, u := range all {
		switch {
		case u.Key == "pre/ours":
			if ours = id; u.Owner != m.Point {
				t.Errorf("the upload of the mount is marked as of %q", u.Owner)
			}
		case u.Owner != "":
			t.Errorf("%+v is marked", u)
		}
	}
	if u := list("--mountpoint=" + m.Point)[ours]; u.Owner != m.Point {
		t.Errorf("with --mountpoint it is marked as of %q", u.Owner)
	}
	if r := e.command(1, append([]string{"uploads", "list", source, "--mountpoint=" + e.dir}, where...)...); !strings.Contains(r.Err, e.dir) {
		t.Errorf("a --mountpoint that is none: %v", r)
	}
	if u := all[withParts.UploadID]; u.Parts != 2 || u.Bytes != 2000 {
		t.Errorf("parts: %+v", u)
	}
	old := list("--older-than=5m")
	if len(old) != left+2 || old[young].ID != "" {
		t.Errorf("%d uploads are older than five minutes", len(old))
	}

	abort := func(code int, args ...string) harness.Result {
		t.Helper()
		return e.command(code, append(append([]string{"uploads", "abort"}, where...), args...)...)
	}
	abort(2, source)
	abort(2, source, "--older-than=0s")
	abort(2, source, "pre/young")
	abort(2, source, "pre/young", young, "--older-than=5m")
	if r := abort(2, source, "--older-than=5m"); !strings.Contains(r.Err, "--yes") {
		t.Errorf("nobody confirms it: %v", r)
	}
	if r := abort(0, source, "--older-than=5m", "--dry-run"); !strings.Contains(r.Out, fmt.Sprintf("%d uploads, 2 parts", left+1)) {
		t.Errorf("--dry-run: %.300s", r.Out[max(0, len(r.Out)-300):])
	}
	if n := len(list()); n != left+3 {
		t.Errorf("%d uploads are there after nothing was confirmed", n)
	}
	e.ok(e.server.Reset())
	abort(0, source, "--older-than=5m", "--yes")
	c := e.counts()
	if c.Ops["ListMultipartUploads"].Requests != 2 || c.Ops["AbortMultipartUpload"].Requests != left+1 || c.Ops["ListParts"].Requests != left+2 {
		t.Errorf("the requests: %v", c)
	}
	if now := list(); len(now) != 2 || now[young].ID == "" || now[ours].ID == "" {
		t.Errorf("left are %+v", now)
	}
	if r := abort(0, source, "pre/ours", ours, "--yes"); !strings.Contains(r.Out, "left alone") {
		t.Errorf("that of the mount: %v", r)
	}
	// Of a cache directory that is not mounted it is known by --cache-dir only.
	m.kill9()
	e.ok(harness.Detach(m.Point))
	if u := list()[ours]; u.Owner != "" {
		t.Errorf("whose cache directory nobody knows: %+v", u)
	}
	if u := list("--cache-dir=" + m.Cache)[ours]; u.Owner != m.Cache {
		t.Errorf("of a cache directory: %+v", u)
	}
	if r := abort(0, source, "--older-than=5m", "--yes", "--cache-dir="+m.Cache); !strings.Contains(r.Out, "left alone") {
		t.Errorf("that of a cache directory: %v", r)
	}
	abort(0, source, "pre/young", young, "--yes")
	abort(1, source, "pre/young", young, "--yes")
	e.ok(b.AbortMultipartUpload(oss.InitiateMultipartUploadResult{Bucket: bucket, Key: "elsewhere", UploadID: elsewhere}))
	e.ok(e.server.ClearFaults())
	m.start()
	m.wait(m.Point)
	m.umount(0)
	body, err := b.GetObject("pre/ours")
	e.ok(err)
	defer body.Close()
	got, err := harness.Sum(body)
	e.ok(err)
	if want, _ := harness.Sum(harness.Random(1, 24<<20)); got != want {
		t.Error("the object of the mount is wrong")
	}
}
