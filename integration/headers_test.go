package integration

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// What the mount makes has the headers, the tags, the ACL and the metadata of the rules
// that fit its name, however it comes to OSS; what somebody else has made keeps its own.
func TestUploadHeaders(t *testing.T) {
	t.Parallel()
	e := setup(t)
	b := e.bucket()
	e.put("theirs.html", strings.NewReader("of others"), oss.CacheControl("max-age=1"), oss.ContentType("text/x-theirs"), oss.ObjectStorageClass(oss.StorageStandard))
	m := e.mount("cache", "--multipart-threshold=1MiB",
		"--upload-header=x-oss-object-acl: public-read",
		"--upload-header=x-oss-server-side-encryption: AES256",
		"--upload-header=x-oss-tagging: team=a%20b",
		"--upload-header=*.html=Cache-Control: max-age=60",
		"--upload-header=*.bin=Content-Type: application/x-own",
		"--upload-header=cold/**=x-oss-storage-class: IA",
		"--upload-header=x-oss-meta-origin: mount")
	big := strings.Repeat("0123456789abcdef", 1<<17)
	e.ok(os.MkdirAll(m.in("cold/deep"), 0o755))
	e.write(m.in("a.html"), "small")
	e.write(m.in("b.bin"), big)
	e.write(m.in("cold/deep/c.html"), big)
	e.ok(os.Symlink("a.html", m.in("link.html")))
	m.wait(m.Point)

	all := map[string]string{"X-Oss-Server-Side-Encryption": "AES256"}
	has := func(what, key string, tags int, want map[string]string) {
		t.Helper()
		h, err := b.GetObjectDetailedMeta(key)
		e.ok(err)
		for _, more := range []map[string]string{all, want} {
			for name, v := range more {
				if got := h.Get(name); got != v {
					t.Errorf("%s: %s has %s: %q, want %q", what, key, name, got, v)
				}
			}
		}
		acl, err := b.GetObjectACL(key)
		e.ok(err)
		if acl.ACL != string(oss.ACLPublicRead) {
			t.Errorf("%s: %s has the ACL %s", what, key, acl.ACL)
		}
		got, err := b.GetObjectTagging(key)
		e.ok(err)
		if len(got.Tags) != tags || tags == 1 && (got.Tags[0].Key != "team" || got.Tags[0].Value != "a b") {
			t.Errorf("%s: %s has the tags %v", what, key, got.Tags)
		}
	}
	html := map[string]string{"Cache-Control": "max-age=60", "Content-Type": "text/html", "X-Oss-Storage-Class": "Standard", "X-Oss-Meta-Origin": "mount"}
	has("new", "a.html", 1, html)
	has("new, in parts", "b.bin", 1, map[string]string{"Cache-Control": "", "Content-Type": "application/x-own", "X-Oss-Meta-Origin": "mount"})
	has("new, deep", "cold/deep/c.html", 1, map[string]string{"Cache-Control": "max-age=60", "X-Oss-Storage-Class": "IA"})
	has("new", "cold/", 1, map[string]string{"X-Oss-Storage-Class": "Standard", "X-Oss-Meta-Origin": ""})
	has("new", "link.html", 1, map[string]string{"Cache-Control": "", "X-Oss-Meta-Origin": ""})

	e.ok(os.Chmod(m.in("a.html"), 0o600))
	m.wait(m.Point)
	has("given another mode", "a.html", 1, html)
	e.write(m.in("a.html"), big)
	m.wait(m.Point)
	has("written anew", "a.html", 1, html)
	e.ok(os.Rename(m.in("b.bin"), m.in("cold/b.html")))
	m.wait(m.Point)
	has("renamed", "cold/b.html", 1, map[string]string{"Cache-Control": "max-age=60", "Content-Type": "text/html", "X-Oss-Storage-Class": "IA", "X-Oss-Meta-Origin": "mount"})
	e.write(m.in("theirs.html"), "written here")
	m.wait(m.Point)
	h, err := b.GetObjectDetailedMeta("theirs.html")
	e.ok(err)
	for name, want := range map[string]string{"Cache-Control": "max-age=1", "Content-Type": "text/x-theirs", "X-Oss-Server-Side-Encryption": "", "X-Oss-Meta-Origin": ""} {
		if h.Get(name) != want {
			t.Errorf("theirs.html has %s: %q, want %q", http.CanonicalHeaderKey(name), h.Get(name), want)
		}
	}
	m.umount(0)
}
