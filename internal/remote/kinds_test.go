package remote

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/object"
)

// request sends a request of which the client has no call.
func request(t *testing.T, c *Client, r call) {
	t.Helper()
	if _, err := c.do(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

func putLink(t *testing.T, c *Client, key, target string) {
	t.Helper()
	request(t, c, call{op: "PutSymlink", method: http.MethodPut, key: key, query: map[string]any{"symlink": nil},
		header: map[string]string{"X-Oss-Symlink-Target": url.QueryEscape(target), "X-Oss-Meta-Color": "red"}})
}

// What is asked about an OSS symlink is answered about the link, wherever it
// leads to, and as a listing shows it. covers H28
func TestLinksAreNotFollowed(t *testing.T) {
	withOSS(t, func(t *testing.T, c *Client) {
		ctx := t.Context()
		for _, key := range []string{"dir/a b+ü", "a b+ü"} {
			if _, err := c.Put(ctx, key, strings.NewReader("bytes"), 5, object.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		targets := map[string]string{"to a file": "dir/a b+ü", "to nothing": "not there", "to a link": "to a file"}
		for key, target := range targets {
			putLink(t, c, key, target)
		}
		page, err := c.List(ctx, object.ListQuery{Prefix: "to "})
		if err != nil || len(page.Entries) != len(targets) {
			t.Fatal(page, err)
		}
		for _, e := range page.Entries {
			if e.Type != object.TypeSymlink {
				t.Errorf("%s is listed as %q", e.Key, e.Type)
			}
			for name, ask := range map[string]func(context.Context, string) (object.Info, error){"Head": c.Head, "Symlink": c.Symlink} {
				info, err := ask(ctx, e.Key)
				if err != nil || info.Link != targets[e.Key] || info.Type != object.TypeSymlink || info.Meta["color"] != "red" {
					t.Errorf("%s %s: %+v, %v", name, e.Key, info, err)
				}
				if !info.Ref.Same(e.Ref()) {
					t.Errorf("%s %s: version %+v, listed is %+v", name, e.Key, info.Ref, e.Ref())
				}
			}
		}
		if _, err := c.Symlink(ctx, "a b+ü"); err == nil {
			t.Error("a file is a symlink")
		}
		if _, err := c.Symlink(ctx, "nobody"); !object.IsAbsent(err) {
			t.Errorf("a link that is not there: %v", err)
		}
	})
}

// What HEAD says of an archived object. covers H28
func TestRestoreIsTold(t *testing.T) {
	withOSS(t, func(t *testing.T, c *Client) {
		ctx := t.Context()
		for _, class := range []string{"Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive"} {
			if _, err := c.Put(ctx, class, strings.NewReader("x"), 1, object.PutOptions{Headers: object.Headers{object.HeaderClass: class}}); err != nil {
				t.Fatal(err)
			}
			info, err := c.Head(ctx, class)
			archive := strings.HasSuffix(class, "Archive")
			if err != nil || info.Class != class || info.Archived() != archive || info.Restore != "" {
				t.Errorf("%s: %+v, %v", class, info, err)
			}
			if !archive {
				continue
			}
			request(t, c, call{op: "RestoreObject", method: http.MethodPost, key: class, query: map[string]any{"restore": nil}, accept: http.StatusAccepted})
			if info, err = c.Head(ctx, class); err != nil || !info.Restoring() || !info.Archived() {
				t.Errorf("%s while it is restored: %+v, %v", class, info, err)
			}
		}
	})
	at := time.Date(2026, 12, 1, 2, 3, 4, 0, time.UTC)
	done := object.Info{Class: "Archive", Restore: `ongoing-request="false", expiry-date="Tue, 01 Dec 2026 02:03:04 GMT"`}
	if until, ok := done.Restored(); !ok || !until.Equal(at) || done.Archived() || done.Restoring() {
		t.Errorf("restored: %v %v", until, ok)
	}
}

// What is asked about the bucket. covers H28
func TestKindOfTheBucket(t *testing.T) {
	withOSS(t, func(t *testing.T, c *Client) {
		if b, err := c.BucketInfo(t.Context()); err != nil || b != (Bucket{}) {
			t.Errorf("a plain bucket: %+v, %v", b, err)
		}
	})
	for body, want := range map[string]Bucket{
		"<Versioning>Enabled</Versioning>":                                                        {Versioned: true},
		"<Versioning>Suspended</Versioning>":                                                      {},
		"<HierarchicalNamespace>Enabled</HierarchicalNamespace>":                                  {Hierarchical: true},
		"<HierarchicalNamespace>Disabled</HierarchicalNamespace><Versioning>Enabled</Versioning>": {Versioned: true},
	} {
		h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Oss-Request-Id", "1")
			if _, ok := r.URL.Query()["bucketInfo"]; !ok || r.URL.Path != "/bkt/" {
				w.WriteHeader(http.StatusBadRequest)
			}
			_, _ = w.Write([]byte("<BucketInfo><Bucket>" + body + "</Bucket></BucketInfo>"))
		}))
		if b, err := open(t, h.URL, nil).BucketInfo(t.Context()); err != nil || b != want {
			t.Errorf("%s: %+v, %v", body, b, err)
		}
		h.Close()
	}
}

// What moves the bytes of an object says how fast it may, nothing else does.
func TestTrafficLimit(t *testing.T) {
	var seen, limited atomic.Int32
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		if got := r.Header.Get("X-Oss-Traffic-Limit"); got == "819200" {
			limited.Add(1)
		} else if got != "" {
			t.Errorf("%s %s: x-oss-traffic-limit %q", r.Method, r.URL, got)
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	defer h.Close()
	c := open(t, h.URL, func(o *Options) { o.TrafficLimit = 100 << 10 })
	ctx, ref := t.Context(), object.Ref{Key: "k", ETag: "e", Size: 1}
	_, _ = c.Get(ctx, ref, 0, 1)
	_, _ = c.Put(ctx, "k", strings.NewReader("x"), 1, object.PutOptions{})
	_, _ = c.Copy(ctx, ref, "l", object.PutOptions{})
	_, _ = c.UploadPart(ctx, "k", "u", 1, strings.NewReader("x"), 1)
	_, _ = c.UploadPartCopy(ctx, "k", "u", 1, ref, 0, 1)
	if n := limited.Load(); n != 5 {
		t.Errorf("%d of 5 requests were limited", n)
	}
	_, _ = c.Head(ctx, "k")
	_, _ = c.Initiate(ctx, "k", object.PutOptions{})
	_, _ = c.List(ctx, object.ListQuery{})
	if seen, limited := seen.Load(), limited.Load(); seen != 8 || limited != 5 {
		t.Errorf("%d of %d requests were limited", limited, seen)
	}
}

// Every request says who pays, or none does. covers H28
func TestRequesterPays(t *testing.T) {
	for _, pays := range []bool{true, false} {
		want := map[bool]string{true: "requester"}[pays]
		var seen atomic.Int32
		h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get("X-Oss-Request-Payer"); got != want {
				t.Errorf("%s %s: x-oss-request-payer %q, want %q", r.Method, r.URL, got, want)
			}
			seen.Add(1)
			w.WriteHeader(http.StatusForbidden)
		}))
		c := open(t, h.URL, func(o *Options) { o.RequesterPays = pays })
		ctx, ref := t.Context(), object.Ref{Key: "k", ETag: "e", Size: 1}
		parts := []object.Part{{Number: 1, Size: 1, ETag: "e"}}
		_, _ = c.Head(ctx, "k")
		_, _ = c.Symlink(ctx, "k")
		_, _ = c.BucketInfo(ctx)
		_, _ = c.List(ctx, object.ListQuery{})
		_, _ = c.Get(ctx, ref, 0, 1)
		_, _ = c.Put(ctx, "k", strings.NewReader("x"), 1, object.PutOptions{})
		_, _ = c.Copy(ctx, ref, "l", object.PutOptions{})
		_ = c.Delete(ctx, "k")
		_, _ = c.DeleteMany(ctx, []string{"k"})
		_, _ = c.Initiate(ctx, "k", object.PutOptions{})
		_, _ = c.UploadPart(ctx, "k", "u", 1, strings.NewReader("x"), 1)
		_, _ = c.UploadPartCopy(ctx, "k", "u", 1, ref, 0, 1)
		_, _ = c.Complete(ctx, "k", "u", parts, object.PutOptions{})
		_ = c.Abort(ctx, "k", "u")
		_, _ = c.Parts(ctx, "k", "u")
		_, _ = c.Uploads(ctx, "k")
		h.Close()
		if n := seen.Load(); n != 16 {
			t.Errorf("%d requests came, 16 were sent", n)
		}
	}
}
