package integration

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossmount/ossmount/integration/harness"
)

// Buckets and objects of other kinds than a plain one. covers H28

// front stands before the server, says of the bucket what it is told to, and
// keeps the headers of all requests.
type front struct {
	*httptest.Server
	mu   sync.Mutex
	seen []*http.Request
}

// requests that came so far.
func (f *front) requests() []*http.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*http.Request(nil), f.seen...)
}

// front starts one; GetBucketInfo gets more into its element Bucket. It is gone
// before the test's cleanup: a test unmounts by itself.
func (e *env) front(more string) *front {
	e.Helper()
	u, err := url.Parse(e.server.URL)
	e.ok(err)
	f := &front{}
	p := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.seen = append(f.seen, r.In.Clone(r.In.Context()))
		},
		ModifyResponse: func(r *http.Response) error {
			if !r.Request.URL.Query().Has("bucketInfo") {
				return nil
			}
			b, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			b = bytes.Replace(b, []byte("</Bucket>"), []byte(more+"</Bucket>"), 1)
			r.Body = io.NopCloser(bytes.NewReader(b))
			r.ContentLength = int64(len(b))
			r.Header.Set("Content-Length", strconv.Itoa(len(b)))
			return nil
		},
	}
	f.Server = httptest.NewServer(p)
	e.Cleanup(f.Close)
	return f
}

// In a versioned bucket OSS ignores forbid-overwrite: what somebody else has
// put under a new name is found by a look. covers H28
func TestVersionedBucket(t *testing.T) {
	t.Parallel()
	e := setup(t)
	f := e.front("<Versioning>Enabled</Versioning>")
	m := e.mount("cache", "--endpoint="+f.URL, "--write-back-delay=0s", "--conflict=keep-both")
	if n := strings.Count(m.P.Err.String(), "the bucket is versioned"); n != 1 {
		t.Errorf("%d warnings that the bucket is versioned\n%s", n, m.P.Err.Tail(20))
	}
	for _, size := range []int{10, 11 << 20} { // one PutObject; in parts
		name, ours := "f"+strconv.Itoa(size), strings.Repeat("o", size)
		w := e.open(m.in(name), os.O_CREATE|os.O_WRONLY)
		e.put(name, strings.NewReader("theirs"))
		e.writeAt(w, ours, 0)
		e.ok(w.Close())
		m.wait(m.Point)
		e.object(name, "theirs")
		keys, err := e.server.Keys(name + ".conflict-")
		e.ok(err)
		if len(keys) != 1 {
			t.Fatalf("kept beside %s: %q", name, keys)
		}
		e.object(keys[0], ours)
	}
	m.umount(0)
	for _, r := range f.requests() {
		if r.Header.Get("X-Oss-Forbid-Overwrite") != "" {
			t.Errorf("%s %s relies on what OSS ignores", r.Method, r.URL)
		}
	}
}

// A bucket with a hierarchical namespace is refused in one line, and leaves no
// cache directory behind that belongs to it. covers H28
func TestHierarchicalBucketIsRefused(t *testing.T) {
	t.Parallel()
	e := setup(t)
	f := e.front("<HierarchicalNamespace>Enabled</HierarchicalNamespace>")
	e.ok(os.Mkdir(e.path("mnt"), 0o755))
	r, err := harness.Run(e.soon(), []string{"OSS_ACCESS_KEY_ID=" + harness.KeyID, "OSS_ACCESS_KEY_SECRET=" + harness.Secret}, binary,
		"mount", "oss://"+harness.Bucket, e.path("mnt"), "--cache-dir="+e.path("cache"), "--endpoint="+f.URL, "--region="+harness.Region)
	e.ok(err)
	if r.Code != 1 || !strings.Contains(r.Err, "hierarchical namespace") || strings.Count(r.Err, "\n") != 1 {
		t.Errorf("%v", r)
	}
	e.mountSource("oss://"+harness.Bucket+"/other", "mnt", "cache", e.usual()...) // the directory is still anybody's
}

// Whoever may not ask about the bucket may mount it. covers H28
func TestBucketThatCannotBeAskedAbout(t *testing.T) {
	t.Parallel()
	e := setup(t)
	_, err := e.server.Fault("error,code=AccessDenied,op=GetBucketInfo")
	e.ok(err)
	m := e.mount("cache")
	e.write(m.in("f"), "x")
	m.wait(m.in("f"))
	e.object("f", "x")
}

// With --requester-pays every request says so. covers H28
func TestRequesterPays(t *testing.T) {
	t.Parallel()
	e := setup(t)
	f := e.front("")
	m := e.mount("cache", "--endpoint="+f.URL, "--requester-pays")
	e.write(m.in("f"), "x")
	m.wait(m.in("f"))
	e.ok(os.Rename(m.in("f"), m.in("g")))
	m.wait(m.Point)
	e.object("g", "x")
	m.umount(0)
	for _, r := range f.requests() {
		if r.Header.Get("X-Oss-Request-Payer") != "requester" {
			t.Errorf("%s %s does not say who pays", r.Method, r.URL)
		}
	}
}

// Appendable objects are not copied by OSS: what needs a copy fetches them and
// sends them anew. covers H28
func TestAppendableObjects(t *testing.T) {
	t.Parallel()
	e := setup(t)
	appended := func(key string, parts ...string) string {
		at := int64(0)
		for _, p := range parts {
			var err error
			at, err = e.bucket().AppendObject(key, strings.NewReader(p), at)
			e.ok(err)
		}
		return strings.Join(parts, "")
	}
	texts := map[string]string{}
	for _, name := range []string{"read", "moved", "moded", "rewritten", "longer", "d/in a directory", "emptied"} {
		texts[name] = appended(name, "one of ", name)
	}
	m := e.mount("cache")
	for name, want := range texts {
		e.reads(m.in(name), want)
	}
	e.ok(os.Rename(m.in("moved"), m.in("to")))
	e.ok(os.Rename(m.in("d"), m.in("e")))
	e.ok(os.Chmod(m.in("moded"), 0o600))
	e.write(m.in("rewritten"), "new")
	e.ok(os.Truncate(m.in("emptied"), 0))
	e.appends(m.in("longer"), " and more")
	m.wait(m.Point)
	want := map[string]string{"read": texts["read"], "to": texts["moved"], "e/in a directory": texts["d/in a directory"],
		"moded": texts["moded"], "rewritten": "new", "emptied": "", "longer": texts["longer"] + " and more"}
	m.umount(0)
	m = e.mount("another-cache")
	for name, text := range want {
		e.object(name, text)
		e.reads(m.in(name), text)
	}
	if fi, err := os.Stat(m.in("moded")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("its mode: %v %v", fi, err)
	}
	e.is(syscall.ENOENT, second(os.Stat(m.in("moved"))))
	e.is(syscall.ENOENT, second(os.Stat(m.in("d/in a directory"))))
}

// A copy in parts that OSS refuses is begun anew from fetched bytes, and leaves
// no upload behind. covers H28
func TestRefusedPartCopy(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("an object of more than 1 GiB")
	}
	e := setup(t)
	const size = 1<<30 + 1<<20
	_, err := e.server.Fault("error,code=OperationNotSupported,status=400,op=UploadPartCopy")
	e.ok(err)
	e.put("big", harness.Random(5, size), oss.Meta("color", "red"))
	m := e.mount("cache")
	e.ok(os.Rename(m.in("big"), m.in("moved")))
	m.wait(m.Point)
	sum, n, err := e.server.ObjectSum("moved")
	e.ok(err)
	if want, _ := harness.Sum(harness.Random(5, size)); sum != want {
		t.Errorf("%d bytes of another kind", n)
	}
	e.ok(e.noUploads(patience))
}
