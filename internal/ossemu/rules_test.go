package ossemu

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

func TestCopyDirectivesAndConditions(t *testing.T) {
	r := newRig(t)
	b := r.bucket(oss.AuthV4)
	r.put("src", []byte("one"), oss.Meta("a", "1"), oss.ContentType("text/a"), oss.ServerSideEncryption("AES256"))
	head := func(key string) http.Header {
		h, err := b.GetObjectDetailedMeta(key)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := b.CopyObject("src", "kept", oss.Meta("b", "2"), oss.ContentType("text/b"))
	must(err)
	if h := head("kept"); h.Get("X-Oss-Meta-A") != "1" || h.Get("X-Oss-Meta-B") != "" || h.Get("Content-Type") != "text/a" || h.Get("X-Oss-Server-Side-Encryption") != "" {
		t.Error(h)
	}
	_, err = b.CopyObject("src", "new", oss.Meta("b", "2"), oss.ContentType("text/b"), oss.MetadataDirective(oss.MetaReplace))
	must(err)
	if h := head("new"); h.Get("X-Oss-Meta-A") != "" || h.Get("X-Oss-Meta-B") != "2" || h.Get("Content-Type") != "text/b" {
		t.Error(h)
	}
	must(b.SetObjectMeta("src", oss.Meta("c", "3")))
	if h := head("src"); h.Get("X-Oss-Meta-C") != "3" || string(r.get("src")) != "one" {
		t.Error(h)
	}
	etag := head("src").Get("ETag")
	_, err = b.CopyObject("src", "x", oss.CopySourceIfMatch("nothing"))
	wantCode(t, err, 412, "PreconditionFailed")
	if _, err = b.CopyObject("src", "x", oss.CopySourceIfNoneMatch(etag)); err == nil || !strings.Contains(err.Error(), "304") {
		t.Error(err)
	}
	_, err = b.CopyObject("src", "x", oss.CopySourceIfMatch(etag))
	must(err)
	_, err = b.CopyObject("src", "x", oss.ForbidOverWrite(true))
	wantCode(t, err, 409, "FileAlreadyExists")
	_, err = b.CopyObject("missing", "x")
	wantCode(t, err, 404, "NoSuchKey")
	must(b.DeleteObject("src"))
	if string(r.get("x")) != "one" {
		t.Error("the copy went with its source")
	}
}

func TestLimitsAndRefusals(t *testing.T) {
	r := newRig(t)
	b := r.bucket(oss.AuthV4)
	put := func(key string, options ...oss.Option) error {
		return b.PutObject(key, strings.NewReader("x"), options...)
	}
	r.put("there", []byte("old"))
	wantCode(t, put("/x"), 400, "InvalidObjectName")
	wantCode(t, put(`\x`), 400, "InvalidObjectName")
	wantCode(t, put(strings.Repeat("k", 1024)), 400, "InvalidObjectName")
	wantCode(t, put("bad\xff"), 400, "InvalidObjectName")
	wantCode(t, put("x", oss.ContentMD5(md5Of([]byte("y")))), 400, "InvalidDigest")
	wantCode(t, put("x", oss.ContentMD5("short")), 400, "InvalidDigest")
	wantCode(t, put("x", oss.Meta("under_score", "v")), 400, "InvalidArgument")
	wantCode(t, put("x", oss.Meta("a", strings.Repeat("v", 8<<10))), 400, "InvalidArgument")
	wantCode(t, put("x", oss.ServerSideEncryption("ROT13")), 400, "InvalidEncryptionAlgorithmError")
	wantCode(t, put("x", oss.ObjectStorageClass("Gold")), 400, "InvalidArgument")
	wantCode(t, put("x", oss.ObjectACL("nobody")), 400, "InvalidArgument")
	wantCode(t, put("there", oss.ForbidOverWrite(true)), 409, "FileAlreadyExists")
	if string(r.get("there")) != "old" {
		t.Error("a refused overwrite changed the object")
	}
	if err := put("cold", oss.ObjectStorageClass(oss.StorageArchive)); err != nil {
		t.Error(err)
	}
	_, err := b.GetObject("cold")
	wantCode(t, err, 403, "InvalidObjectState")
	missing, _ := r.client(oss.AuthV4).Bucket("missing")
	wantCode(t, missing.PutObject("x", strings.NewReader("x")), 404, "NoSuchBucket")
	_, err = b.ListObjects(oss.MaxKeys(1001))
	wantCode(t, err, 400, "InvalidArgument")
	_, err = r.client(oss.AuthV4).GetBucketWebsite(testBucket)
	wantCode(t, err, 501, "NotImplemented")
	for _, key := range []string{"x", "kk"} {
		if ok, _ := b.IsObjectExist(key); ok {
			t.Errorf("%q was stored by a refused request", key)
		}
	}
}

func TestMultipartRules(t *testing.T) {
	r := newRig(t)
	b := r.bucket(oss.AuthV4)
	up, err := b.InitiateMultipartUpload("k")
	if err != nil {
		t.Fatal(err)
	}
	part := func(number, size int) oss.UploadPart {
		t.Helper()
		p, err := b.UploadPart(up, bytes.NewReader(pattern(number, size)), int64(size), number)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	complete := func(options []oss.Option, parts ...oss.UploadPart) error {
		_, err := b.CompleteMultipartUpload(up, parts, options...)
		return err
	}
	small, large, dropped, last := part(1, minPart-1), part(2, minPart), part(3, minPart), part(10000, 1)
	_, err = b.UploadPart(up, strings.NewReader("x"), 1, 10001)
	wantCode(t, err, 400, "InvalidArgument")
	wantCode(t, complete(nil, small, large), 400, "EntityTooSmall")
	wantCode(t, complete(nil, large, oss.UploadPart{PartNumber: 4, ETag: large.ETag}), 400, "InvalidPart")
	wantCode(t, complete(nil, oss.UploadPart{PartNumber: 2, ETag: last.ETag}), 400, "InvalidPart")
	wantCode(t, complete(nil, large, large), 400, "InvalidPartOrder")
	wantCode(t, complete(nil), 400, "MalformedXML")
	again := part(1, minPart) // replaces the small one
	wantCode(t, complete(nil, small, last), 400, "InvalidPart")
	r.put("k", []byte("old"))
	wantCode(t, complete([]oss.Option{oss.ForbidOverWrite(true)}, again, last), 409, "FileAlreadyExists")
	if err := complete(nil, again, large, last); err != nil {
		t.Fatal(err)
	}
	if want := slices.Concat(pattern(1, minPart), pattern(2, minPart), pattern(10000, 1)); !bytes.Equal(r.get("k"), want) {
		t.Error("bytes differ")
	}
	_ = dropped
	_, err = b.UploadPart(up, strings.NewReader("x"), 1, 1)
	wantCode(t, err, 404, "NoSuchUpload")
}

// The answers to the parts of an upload that is to be encrypted say so.
func TestPartsAreEncryptedAsTheirUploadIs(t *testing.T) {
	r := newRig(t)
	r.put("source", []byte("one"))
	b := r.bucket(oss.AuthV4)
	up, err := b.InitiateMultipartUpload("k", oss.ServerSideEncryption("AES256"))
	if err != nil {
		t.Fatal(err)
	}
	var sent, copied http.Header
	_, err = b.UploadPart(up, strings.NewReader("x"), 1, 1, oss.GetResponseHeader(&sent))
	if v := sent.Get("X-Oss-Server-Side-Encryption"); err != nil || v != "AES256" {
		t.Errorf("a part has encryption %q, %v", v, err)
	}
	_, err = b.UploadPartCopy(up, testBucket, "source", 0, 3, 2, oss.GetResponseHeader(&copied))
	if v := copied.Get("X-Oss-Server-Side-Encryption"); err != nil || v != "AES256" {
		t.Errorf("a part that was copied has encryption %q, %v", v, err)
	}
}

func TestConditionsOfGet(t *testing.T) {
	r := newRig(t)
	b := r.bucket(oss.AuthV4)
	r.put("k", []byte("body"))
	h, _ := b.GetObjectDetailedMeta("k")
	etag := h.Get("ETag")
	at, _ := http.ParseTime(h.Get("Last-Modified"))
	cases := map[string]struct {
		option oss.Option
		status int
	}{
		"match":                {oss.IfMatch(etag), 200},
		"match without quotes": {oss.IfMatch(strings.Trim(etag, `"`)), 200},
		"no match":             {oss.IfMatch("other"), 412},
		"none match":           {oss.IfNoneMatch(etag), 304},
		"none match other":     {oss.IfNoneMatch("other"), 200},
		"modified since":       {oss.IfModifiedSince(at), 304},
		"modified before":      {oss.IfModifiedSince(at.Add(-1e9)), 200},
		"unmodified since":     {oss.IfUnmodifiedSince(at), 200},
		"unmodified before":    {oss.IfUnmodifiedSince(at.Add(-1e9)), 412},
	}
	for name, c := range cases {
		body, err := b.GetObject("k", c.option)
		_, headErr := b.GetObjectDetailedMeta("k", c.option)
		for _, err := range []error{err, headErr} {
			switch c.status {
			case 200:
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			case 304:
				if err == nil || !strings.Contains(err.Error(), "304") {
					t.Errorf("%s: %v", name, err)
				}
			case 412:
				wantCode(t, err, 412, "PreconditionFailed")
			}
		}
		if err == nil {
			io.Copy(io.Discard, body)
			body.Close()
		}
	}
}

func TestTaggingACLAndResponseOverrides(t *testing.T) {
	r := newRig(t)
	b := r.bucket(oss.AuthV4)
	r.put("k", []byte("x"))
	if err := b.PutObjectTagging("k", oss.Tagging{Tags: []oss.Tag{{Key: "a", Value: "1"}, {Key: "b", Value: "x/y"}}}); err != nil {
		t.Fatal(err)
	}
	if got, err := b.GetObjectTagging("k"); err != nil || len(got.Tags) != 2 || got.Tags[1].Value != "x/y" {
		t.Error(got, err)
	}
	wantCode(t, b.PutObjectTagging("k", oss.Tagging{Tags: []oss.Tag{{Key: "a&", Value: "1"}}}), 400, "InvalidTag")
	if err := b.DeleteObjectTagging("k"); err != nil {
		t.Error(err)
	}
	if got, err := b.GetObjectACL("k"); err != nil || got.ACL != "default" {
		t.Error(got, err)
	}
	if err := b.SetObjectACL("k", oss.ACLPublicRead); err != nil {
		t.Error(err)
	}
	if got, err := b.GetObjectACL("k"); err != nil || got.ACL != "public-read" {
		t.Error(got, err)
	}
	var h http.Header
	body, err := b.GetObject("k", oss.ResponseContentType("x/y"), oss.GetResponseHeader(&h))
	if err != nil || h.Get("Content-Type") != "x/y" {
		t.Error(h, err)
	} else {
		body.Close()
	}
}

func TestCompleteAll(t *testing.T) {
	r := newRig(t)
	b := r.bucket(oss.AuthV4)
	up, err := b.InitiateMultipartUpload("k")
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range []int{9, 3} {
		if _, err := b.UploadPart(up, bytes.NewReader(pattern(number, minPart)), minPart, number); err != nil {
			t.Fatal(err)
		}
	}
	all := oss.SetHeader("x-oss-complete-all", "yes")
	_, err = b.CompleteMultipartUpload(up, nil, all) // the SDK sends an empty list, which is a body
	wantCode(t, err, 400, "InvalidArgument")
	r.completeAll(up)
	if !bytes.Equal(r.get("k"), slices.Concat(pattern(3, minPart), pattern(9, minPart))) {
		t.Error("bytes differ")
	}
}

func TestSyncedServerAnswersTheSame(t *testing.T) {
	o := testOptions()
	o.Sync = true
	r := newRigWith(t, o)
	r.put("k", []byte("one"))
	r.put("k", []byte("two"))
	r.die()
	r.open(o)
	if string(r.get("k")) != "two" {
		t.Error("not there")
	}
}

// completeAll sends x-oss-complete-all without a body, as SDK V2 does.
func (r *rig) completeAll(up oss.InitiateMultipartUploadResult) {
	r.t.Helper()
	resource := "/" + testBucket + "/" + up.Key + "?uploadId=" + up.UploadID
	date := time.Now().UTC().Format(http.TimeFormat)
	q, err := http.NewRequest("POST", r.web.URL+resource, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	q.Header.Set("Date", date)
	q.Header.Set("x-oss-complete-all", "yes")
	q.Header.Set("Authorization", "OSS "+testKey+":"+signV1(testSecret, "POST\n\n\n"+date+"\nx-oss-complete-all:yes\n"+resource))
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		r.t.Fatal(err)
	}
	defer a.Body.Close()
	if a.StatusCode != 200 {
		body, _ := io.ReadAll(a.Body)
		r.t.Fatalf("%d %s", a.StatusCode, body)
	}
}
