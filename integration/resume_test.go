package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/ossmount/ossmount/integration/harness"
)

// resumed is one big upload that is cut in the middle.
type resumed struct {
	*env
	m           *mount
	source      string
	size        int64
	part        int64
	concurrency int64
	before      int64 // bytes of UploadPart that a killed server had counted
	kept        int   // parts that OSS held at the cut
}

const bigKey = "big.bin"

// halfway copies a big file into a mount with a slow server and returns when
// half of it is on OSS. The server is slower still until arrives.
func halfway(t *testing.T) *resumed {
	r := &resumed{size: 192 << 20, part: 2 << 20, concurrency: 8}
	bandwidth, flags := int64(60_000_000), []string{"--part-size=2MiB", "--upload-concurrency=8"}
	if *full {
		r.size, r.part, r.concurrency, bandwidth, flags = 1<<30, 8<<20, 32, 100_000_000, nil
	}
	r.env = setup(t, fmt.Sprint("--bandwidth=", bandwidth))
	r.source = r.path("src")
	r.sh(`mkdir "$1"`, r.source)
	r.ok(harness.WriteFile(r.source+"/"+bigKey, 1, uint64(r.size)))
	r.m = r.mount("cache", flags...)
	r.sh(`cp "$1" "$2"`, r.source+"/"+bigKey, r.m.in(bigKey))
	r.poll("half of the file is on OSS", time.Minute, func() bool { return r.onServer() >= r.size/2 })
	r.ok(r.server.Bandwidth(bandwidth / 10)) // what comes next has time
	if n := r.onServer(); n >= r.size*9/10 {
		t.Fatalf("%d of %d bytes were sent before the test could cut it", n, r.size)
	}
	return r
}

// onServer is how many bytes of parts OSS holds.
func (r *resumed) onServer() (n int64) {
	r.Helper()
	uploads, err := r.server.Uploads()
	r.ok(err)
	r.kept = 0
	for _, u := range uploads {
		n += u.Bytes
		r.kept += u.Parts
	}
	return n
}

func (r *resumed) sent() int64 {
	r.Helper()
	return r.before + r.counts().Ops["UploadPart"].BytesIn
}

// arrives waits for the object, compares it, and demands that no more than
// most was sent in all and that no upload is left.
func (r *resumed) arrives(most int64) {
	r.Helper()
	r.ok(r.server.Bandwidth(0))
	r.m.wait(r.m.in(bigKey))
	r.ok(r.noUploads(5 * time.Second))
	r.Logf("file %d MiB; OSS held %d parts at the cut; sent in all %.1f MiB, allowed %.1f", r.size>>20, r.kept, mib(r.sent()), mib(most))
	if n := r.sent(); n > most {
		r.Errorf("%d bytes sent in UploadPart, at most %d allowed", n, most)
	}
	r.verify("", r.source)
	r.m.umount(0)
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

func (r *resumed) allowed() int64 { return r.size + r.concurrency*r.part }

func TestUploadGoesOnAfterSIGKILL(t *testing.T) {
	t.Parallel()
	r := halfway(t)
	r.m.kill9()
	r.onServer()
	r.m.start()
	r.arrives(r.allowed())
}

func TestUploadGoesOnAfterUmount(t *testing.T) {
	t.Parallel()
	r := halfway(t)
	r.m.umount(3, "--drain=0s")
	r.onServer()
	r.m.start()
	r.arrives(r.allowed())
}

func TestUploadGoesOnAfterTheServerDies(t *testing.T) {
	t.Parallel()
	r := halfway(t)
	r.before = r.sent()
	r.ok(r.server.Kill())
	r.ok(r.server.Start(r.soon()))
	r.onServer()
	r.arrives(r.allowed())
}

func TestUploadAbortedOnTheServerIsSentAnew(t *testing.T) {
	for _, mounted := range []bool{false, true} {
		t.Run(fmt.Sprintf("mounted meanwhile %v", mounted), func(t *testing.T) {
			t.Parallel()
			r := halfway(t)
			if !mounted {
				r.m.kill9()
			}
			uploads, err := r.server.Uploads()
			r.ok(err)
			if len(uploads) != 1 {
				r.Fatalf("want one upload, got %+v", uploads)
			}
			r.ok(r.abort(uploads[0]))
			if !mounted {
				r.m.start()
			}
			r.arrives(2*r.size + r.concurrency*r.part)
		})
	}
}

func TestUploadsGoOnAfterManyKills(t *testing.T) {
	t.Parallel()
	r := halfway(t)
	for range 4 {
		r.m.kill9()
		was := r.onServer()
		r.m.start()
		r.poll("the upload goes on", time.Minute, func() bool {
			n := r.onServer()
			return n > was || n == 0
		})
	}
	r.arrives(r.size + 5*r.concurrency*r.part)
}
