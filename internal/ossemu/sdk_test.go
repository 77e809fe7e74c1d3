package ossemu

import (
	"bytes"
	"fmt"
	"hash/crc64"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// bothVersions runs a test with clients that sign with V1 and with V4.
func bothVersions(t *testing.T, run func(t *testing.T, v oss.AuthVersionType)) {
	for _, v := range []oss.AuthVersionType{oss.AuthV1, oss.AuthV4} {
		t.Run(string(v), func(t *testing.T) { run(t, v) })
	}
}

var oddKeys = []string{
	"a/b c+d~é/../x//y.txt", "dir/", "dir/sub/", "plain", "a%2Fb", "a&b=c", "100%", "+", "?acl", "ключ/日本.txt", "a", "a/b",
	"con\x01trol\x1f\r\n\t", strings.Repeat("k", 1023), "./x", "../x", "x/.", "semi;colon", "quote\"'<>&",
}

func TestEveryObjectOperationWithTheSDK(t *testing.T) {
	bothVersions(t, func(t *testing.T, v oss.AuthVersionType) {
		r := newRig(t)
		b := r.bucket(v)
		for i, key := range oddKeys {
			body := pattern(i, i*1000)
			err := b.PutObject(key, bytes.NewReader(body), oss.Meta("author", "alice "+strconv.Itoa(i)), oss.ContentType("text/x-odd"),
				oss.CacheControl("no-cache"), oss.ContentMD5(md5Of(body)))
			if err != nil {
				t.Fatalf("put %q: %v", key, err)
			}
			if got := r.get(key); !bytes.Equal(got, body) {
				t.Fatalf("get %q: %d bytes, want %d", key, len(got), len(body))
			}
			h, err := b.GetObjectDetailedMeta(key)
			if err != nil {
				t.Fatalf("head %q: %v", key, err)
			}
			want := map[string]string{
				"X-Oss-Meta-Author": "alice " + strconv.Itoa(i), "Content-Type": "text/x-odd", "Cache-Control": "no-cache",
				"Content-Length": strconv.Itoa(len(body)), "X-Oss-Object-Type": "Normal", "X-Oss-Storage-Class": "Standard",
				"X-Oss-Hash-Crc64ecma": strconv.FormatUint(crc64.Checksum(body, crcTable), 10), "Content-Md5": md5Of(body),
			}
			for name, value := range want {
				if h.Get(name) != value {
					t.Errorf("head %q: %s is %q, want %q", key, name, h.Get(name), value)
				}
			}
			if h, err = b.GetObjectMeta(key); err != nil || h.Get("Content-Length") != strconv.Itoa(len(body)) {
				t.Errorf("meta %q: %v %v", key, h, err)
			}
			if ok, err := b.IsObjectExist(key); !ok || err != nil {
				t.Errorf("exists %q: %v %v", key, ok, err)
			}
			if _, err := b.CopyObject(key, "copy"); err != nil {
				t.Errorf("copy %q: %v", key, err)
			} else if got := r.get("copy"); !bytes.Equal(got, body) {
				t.Errorf("copy of %q differs", key)
			}
		}
		listed := listAll(t, b)
		want := append([]string{"copy"}, oddKeys...)
		slices.Sort(want)
		if !slices.Equal(listed, want) {
			t.Errorf("listed %q\nwant   %q", listed, want)
		}
		gone, err := b.DeleteObjects(append([]string{"never"}, oddKeys...))
		if err != nil || len(gone.DeletedObjects) != len(oddKeys)+1 {
			t.Errorf("deleted %q, %v", gone.DeletedObjects, err)
		}
		if err := b.DeleteObject("copy"); err != nil {
			t.Error(err)
		}
		if err := b.DeleteObject("copy"); err != nil {
			t.Error("a second delete fails:", err)
		}
		if listed := listAll(t, b); len(listed) != 0 {
			t.Errorf("left: %q", listed)
		}
		_, err = b.GetObject("copy")
		wantCode(t, err, 404, "NoSuchKey")
		_, err = b.GetObjectDetailedMeta("copy")
		wantCode(t, err, 404, "NoSuchKey") // from x-oss-err
	})
}

func listAll(t *testing.T, b *oss.Bucket) (keys []string) {
	t.Helper()
	marker := ""
	for {
		page, err := b.ListObjects(oss.MaxKeys(3), oss.Marker(marker))
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Objects {
			keys = append(keys, o.Key)
		}
		if !page.IsTruncated {
			return keys
		}
		marker = page.NextMarker
	}
}

func TestBucketOperationsWithTheSDK(t *testing.T) {
	bothVersions(t, func(t *testing.T, v oss.AuthVersionType) {
		r := newRig(t)
		c := r.client(v)
		for i := range 3 {
			if err := c.CreateBucket(fmt.Sprint("other-", i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.CreateBucket("other-0"); err != nil {
			t.Error("same settings:", err)
		}
		wantCode(t, c.CreateBucket("other-0", oss.StorageClass(oss.StorageIA)), 409, "BucketAlreadyExists")
		list, err := c.ListBuckets(oss.Prefix("other-"), oss.MaxKeys(2))
		if err != nil || len(list.Buckets) != 2 || !list.IsTruncated || list.NextMarker != "other-1" {
			t.Errorf("%+v %v", list, err)
		}
		list, err = c.ListBuckets(oss.Marker(list.NextMarker))
		if err != nil || len(list.Buckets) != 1 || list.IsTruncated {
			t.Errorf("%+v %v", list, err)
		}
		info, err := c.GetBucketInfo("other-1")
		if err != nil || info.BucketInfo.Name != "other-1" || info.BucketInfo.ACL != "private" || info.BucketInfo.CreationDate.IsZero() {
			t.Errorf("%+v %v", info, err)
		}
		_, err = c.GetBucketInfo("missing")
		wantCode(t, err, 404, "NoSuchBucket")
		if location, err := c.GetBucketLocation("other-1"); err != nil || location != "oss-cn-hangzhou" {
			t.Error(location, err)
		}
		if err := c.SetBucketACL("other-1", oss.ACLPublicRead); err != nil {
			t.Error(err)
		}
		if acl, err := c.GetBucketACL("other-1"); err != nil || acl.ACL != "public-read" {
			t.Error(acl, err)
		}
		if v, err := c.GetBucketVersioning("other-1"); err != nil || v.Status != "" {
			t.Error(v, err)
		}
		r.put("x", pattern(0, 10))
		if stat, err := c.GetBucketStat(testBucket); err != nil || stat.ObjectCount != 1 || stat.Storage != 10 {
			t.Error(stat, err)
		}
		wantCode(t, c.DeleteBucket(testBucket), 409, "BucketNotEmpty")
		if err := c.DeleteBucket("other-1"); err != nil {
			t.Error(err)
		}
		wantCode(t, c.DeleteBucket("other-1"), 404, "NoSuchBucket")
	})
}

func TestMultipartWithTheSDK(t *testing.T) {
	bothVersions(t, func(t *testing.T, v oss.AuthVersionType) {
		r := newRig(t)
		b := r.bucket(v)
		body := pattern(1, 3*minPart+17)
		for _, key := range []string{"multi", "a/b c+d~é/../x//y.txt"} {
			up, err := b.InitiateMultipartUpload(key, oss.Meta("k", "v"), oss.ContentType("text/x"))
			if err != nil || len(up.UploadID) != 32 || up.Key != key {
				t.Fatal(up, err)
			}
			var parts []oss.UploadPart
			for i := range 4 {
				piece := body[i*minPart : min(len(body), (i+1)*minPart)]
				p, err := b.UploadPart(up, bytes.NewReader(piece), int64(len(piece)), i+1)
				if err != nil {
					t.Fatal(err)
				}
				parts = append(parts, p)
			}
			list, err := b.ListUploadedParts(up, oss.MaxParts(3))
			if err != nil || len(list.UploadedParts) != 3 || !list.IsTruncated || list.NextPartNumberMarker != "3" || list.Key != key {
				t.Errorf("%+v %v", list, err)
			}
			list, err = b.ListUploadedParts(up, oss.PartNumberMarker(3))
			if err != nil || len(list.UploadedParts) != 1 || list.UploadedParts[0].Size != 17 {
				t.Errorf("%+v %v", list, err)
			}
			var h http.Header
			done, err := b.CompleteMultipartUpload(up, parts, oss.GetResponseHeader(&h))
			if err != nil || !strings.HasSuffix(done.ETag, `-4"`) {
				t.Fatal(done, err)
			}
			if h.Get("x-oss-hash-crc64ecma") != strconv.FormatUint(crc64.Checksum(body, crcTable), 10) {
				t.Error("CRC of the whole object is wrong")
			}
			if got := r.get(key); !bytes.Equal(got, body) {
				t.Error("bytes differ")
			}
			if got := r.get(key, oss.Range(minPart-5, 2*minPart+5)); !bytes.Equal(got, body[minPart-5:2*minPart+6]) {
				t.Error("range over parts differs")
			}
			meta, _ := b.GetObjectDetailedMeta(key)
			if meta.Get("x-oss-object-type") != "Multipart" || meta.Get("X-Oss-Meta-K") != "v" || meta.Get("Content-Type") != "text/x" {
				t.Error(meta)
			}
			_, err = b.CompleteMultipartUpload(up, parts)
			wantCode(t, err, 404, "NoSuchUpload")
			wantCode(t, b.AbortMultipartUpload(up), 404, "NoSuchUpload")
		}
	})
}

func TestUploadPartCopyWithTheSDK(t *testing.T) {
	r := newRig(t)
	b := r.bucket(oss.AuthV4)
	body := pattern(2, 3*minPart)
	r.put("src", body)
	up, err := b.InitiateMultipartUpload("dst")
	if err != nil {
		t.Fatal(err)
	}
	whole, err := b.UploadPartCopy(up, testBucket, "src", 0, int64(len(body)), 1)
	if err != nil {
		t.Fatal(err)
	}
	piece, err := b.UploadPartCopy(up, testBucket, "src", 100, minPart, 2)
	if err != nil || strings.Trim(piece.ETag, `"`) != etagOf(body[100:100+minPart]) {
		t.Fatal(piece, err)
	}
	tail, err := b.UploadPart(up, strings.NewReader("tail"), 4, 7)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.UploadPartCopy(up, testBucket, "src", int64(len(body))-10, 11, 8)
	wantCode(t, err, 400, "InvalidArgument")
	_, err = b.UploadPartCopy(up, testBucket, "src", 0, 10, 8, oss.CopySourceIfMatch("other"))
	wantCode(t, err, 412, "PreconditionFailed")
	if err := b.DeleteObject("src"); err != nil { // the parts keep its segment
		t.Fatal(err)
	}
	var h http.Header
	if _, err := b.CompleteMultipartUpload(up, []oss.UploadPart{whole, piece, tail}, oss.GetResponseHeader(&h)); err != nil {
		t.Fatal(err)
	}
	want := slices.Concat(body, body[100:100+minPart], []byte("tail"))
	if !bytes.Equal(r.get("dst"), want) {
		t.Error("bytes differ")
	}
	if h.Get("x-oss-hash-crc64ecma") != strconv.FormatUint(crc64.Checksum(want, crcTable), 10) {
		t.Error("CRC differs")
	}
}

func TestUploadFileAndDownloadFile(t *testing.T) {
	bothVersions(t, func(t *testing.T, v oss.AuthVersionType) {
		r := newRig(t)
		b := r.bucket(v)
		name := filepath.Join(t.TempDir(), "file")
		body := pattern(3, 5<<20+123)
		if err := os.WriteFile(name, body, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := b.UploadFile("big", name, 512<<10, oss.Routines(4)); err != nil {
			t.Fatal(err)
		}
		if err := b.DownloadFile("big", name+".back", 300<<10, oss.Routines(4)); err != nil {
			t.Fatal(err)
		}
		if back, _ := os.ReadFile(name + ".back"); !bytes.Equal(back, body) {
			t.Error("bytes differ")
		}
		if err := b.CopyFile(testBucket, "big", "big2", 1<<20, oss.Routines(2)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(r.get("big2"), body) {
			t.Error("copy differs")
		}
	})
}

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
	wantCode(t, b.RestoreObject("there"), 501, "NotImplemented")
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
	if err := b.PutObjectTagging("k", oss.Tagging{Tags: []oss.Tag{{Key: "a", Value: "1"}, {Key: "b", Value: "&"}}}); err != nil {
		t.Fatal(err)
	}
	if got, err := b.GetObjectTagging("k"); err != nil || len(got.Tags) != 2 || got.Tags[1].Value != "&" {
		t.Error(got, err)
	}
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
