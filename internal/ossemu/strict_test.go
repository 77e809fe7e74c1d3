package ossemu

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

func TestTextsAreCompressedOnTheWire(t *testing.T) {
	r := newRig(t)
	text := pattern(1, 300<<10)
	r.put("text", text, oss.ContentType("text/plain; charset=utf-8"))
	r.put("short", text[:minCompressed-1], oss.ContentType("text/plain"))
	r.put("picture", text, oss.ContentType("image/png"))
	r.put("stored", text, oss.ContentType("text/plain"), oss.ContentEncoding("br"))
	at := "/" + testBucket + "/"
	for name, c := range map[string]struct {
		method, key, accept, byteRange string
		compressed                     bool
	}{
		"a text":              {"GET", "text", "gzip", "", true},
		"its head":            {"HEAD", "text", "gzip, deflate", "", true},
		"nobody asked":        {"GET", "text", "identity", "", false},
		"a range":             {"GET", "text", "gzip", "bytes=0-9999", false},
		"short":               {"GET", "short", "gzip", "", false},
		"no text":             {"GET", "picture", "gzip", "", false},
		"stored with its own": {"GET", "stored", "gzip", "", false},
	} {
		q := r.signed(c.method, at+c.key, nil)
		q.Header.Set("Accept-Encoding", c.accept)
		if c.byteRange != "" {
			q.Header.Set("Range", c.byteRange)
		}
		a, err := http.DefaultTransport.RoundTrip(q)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(a.Body)
		a.Body.Close()
		if err != nil || a.StatusCode/100 != 2 {
			t.Fatal(name, a.StatusCode, err)
		}
		zipped := a.Header.Get("Content-Encoding") == "gzip"
		if zipped != c.compressed || zipped != (a.Header.Get("ETag") == "") || zipped != (a.ContentLength < 0) {
			t.Errorf("%s: %v, %d", name, a.Header, a.ContentLength)
		}
		if a.Header.Get("x-oss-hash-crc64ecma") == "" {
			t.Errorf("%s: no CRC", name)
		}
		if zipped && c.method == "GET" {
			z, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if plain, err := io.ReadAll(z); err != nil || !bytes.Equal(plain, text) {
				t.Errorf("%s: other bytes, %v", name, err)
			}
		}
	}
	// The SDK, which lets net/http ask for gzip, gets the bytes.
	if !bytes.Equal(r.get("text"), text) {
		t.Error("bytes differ")
	}
}

func TestAConditionalPutIsRefused(t *testing.T) {
	r := newRig(t)
	r.put("k", []byte("old"))
	for _, name := range []string{"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
		err := r.bucket(oss.AuthV4).PutObject("k", strings.NewReader("new"), oss.SetHeader(name, "*"))
		wantCode(t, err, 501, "NotImplemented")
	}
	if string(r.get("k")) != "old" {
		t.Error("a refused Put was carried out")
	}
}

func TestHeadersThatOSSRefuses(t *testing.T) {
	r := newRig(t)
	b := r.bucket(oss.AuthV4)
	for name, c := range map[string]struct {
		header, value, code string
	}{
		"slower than OSS lets":         {"x-oss-traffic-limit", "245759", "InvalidArgument"},
		"faster than OSS lets":         {"x-oss-traffic-limit", "838860801", "InvalidArgument"},
		"no speed":                     {"x-oss-traffic-limit", "fast", "InvalidArgument"},
		"a key without KMS":            {"x-oss-server-side-encryption-key-id", "k", "InvalidArgument"},
		"data encryption without KMS":  {"x-oss-server-side-data-encryption", "SM4", "InvalidArgument"},
		"a callback that is no JSON":   {"x-oss-callback", base64.StdEncoding.EncodeToString([]byte("no")), "InvalidArgument"},
		"a callback that is no base64": {"x-oss-callback", "{}", "InvalidArgument"},
		"a tag with an ampersand":      {"x-oss-tagging", "a=x%26y", "InvalidTag"},
		"a tag twice":                  {"x-oss-tagging", "a=1&a=2", "InvalidTag"},
		"eleven tags":                  {"x-oss-tagging", "a=&b=&c=&d=&e=&f=&g=&h=&i=&j=&k=", "InvalidTag"},
	} {
		err := b.PutObject("k", strings.NewReader("x"), oss.SetHeader(c.header, c.value))
		if se, ok := err.(oss.ServiceError); !ok || se.StatusCode != 400 || se.Code != c.code {
			t.Errorf("%s: %v, want 400 %s", name, err, c.code)
		}
	}
	if ok, _ := b.IsObjectExist("k"); ok {
		t.Error("a refused Put made an object")
	}
	err := b.PutObject("k", strings.NewReader("x"), oss.TrafficLimitHeader(819200), oss.ServerSideEncryption("KMS"), oss.ServerSideDataEncryption("SM4"))
	if h := r.head("k"); err != nil || h.Get("X-Oss-Server-Side-Data-Encryption") != "SM4" {
		t.Error(h, err)
	}
}

func TestACallbackFailsAndTheObjectIsThere(t *testing.T) {
	r := newRig(t)
	wish := base64.StdEncoding.EncodeToString([]byte(`{"callbackUrl": "127.0.0.1:1", "callbackBody": "x"}`))
	err := r.bucket(oss.AuthV4).PutObject("k", strings.NewReader("x"), oss.Callback(wish))
	wantCode(t, err, 203, "CallbackFailed")
	if string(r.get("k")) != "x" {
		t.Error("the object is not there")
	}
}

func TestABucketWithoutVersionsHasTheNullVersion(t *testing.T) {
	r := newRig(t)
	b := r.bucket(oss.AuthV4)
	for i := range 5 {
		r.put(fmt.Sprint("a+b/", i), []byte("x"))
	}
	page, err := b.ListObjectVersions(oss.MaxKeys(3))
	if err != nil || len(page.ObjectVersions) != 3 || !page.IsTruncated || page.NextKeyMarker != "a+b/2" {
		t.Fatalf("%+v %v", page, err)
	}
	if v := page.ObjectVersions[0]; v.Key != "a+b/0" || v.VersionId != "null" || !v.IsLatest {
		t.Errorf("%+v", v)
	}
	page, err = b.ListObjectVersions(oss.KeyMarker(page.NextKeyMarker), oss.VersionIdMarker(page.NextVersionIdMarker))
	if err != nil || len(page.ObjectVersions) != 2 || page.IsTruncated {
		t.Fatalf("%+v %v", page, err)
	}
	if string(r.get("a+b/0", oss.VersionId("null"))) != "x" {
		t.Error("the null version differs")
	}
	_, err = b.GetObject("a+b/0", oss.VersionId("CAEQ"))
	wantCode(t, err, 404, "NoSuchVersion")
	wantCode(t, b.DeleteObject("a+b/0", oss.VersionId("CAEQ")), 404, "NoSuchVersion")
	_, err = b.CopyObject("a+b/0", "copy", oss.VersionId("CAEQ"))
	wantCode(t, err, 404, "NoSuchVersion")
	gone, err := b.DeleteObjectVersions([]oss.DeleteObject{{Key: "a+b/1", VersionId: "CAEQ"}, {Key: "a+b/2", VersionId: "null"}})
	if err != nil || len(gone.DeletedObjectsDetail) != 1 || gone.DeletedObjectsDetail[0].Key != "a+b/2" {
		t.Error(gone, err)
	}
	if ok, _ := b.IsObjectExist("a+b/1"); !ok {
		t.Error("a version that is not there was deleted")
	}
	if err := b.DeleteObject("a+b/0", oss.VersionId("null")); err != nil {
		t.Error(err)
	}
	if ok, _ := b.IsObjectExist("a+b/0"); ok {
		t.Error("it is still there")
	}
}

func TestABucketKeepsItsRedundancy(t *testing.T) {
	r := newRig(t)
	c := r.client(oss.AuthV4)
	if err := c.CreateBucket("zoned", oss.RedundancyType(oss.RedundancyZRS)); err != nil {
		t.Fatal(err)
	}
	wantCode(t, c.CreateBucket("zoned"), 409, "BucketAlreadyExists")
	r.die()
	r.open(testOptions())
	info, err := r.client(oss.AuthV4).GetBucketInfo("zoned")
	if err != nil || info.BucketInfo.RedundancyType != "ZRS" {
		t.Errorf("%+v %v", info, err)
	}
}

func TestSubResourcesOfTomorrowDoNotTouchTheBucket(t *testing.T) {
	r := newRig(t)
	wantAnswer(t, r.signed("DELETE", "/"+testBucket+"/", nil), 204, "")
	wantAnswer(t, r.signedWith("PUT", "/"+testBucket+"/", "brandNew", nil), 501, "NotImplemented")
	if r.s.hasBucket(testBucket) {
		t.Error("a bucket was made")
	}
}

// Parts that are copies of whole objects cost no bytes, so objects of any size
// are there to try.
func TestCopiesHaveALimit(t *testing.T) {
	r := newRig(t)
	b := r.bucket(oss.AuthV4)
	if err := r.client(oss.AuthV4).CreateBucket("other"); err != nil {
		t.Fatal(err)
	}
	other, _ := r.client(oss.AuthV4).Bucket("other")
	const piece = 16 << 20
	r.put("piece", pattern(1, piece))
	join := func(key string, parts int) {
		t.Helper()
		up, err := b.InitiateMultipartUpload(key, oss.ObjectACL(oss.ACLPublicRead))
		if err != nil {
			t.Fatal(err)
		}
		var list []oss.UploadPart
		for i := range parts {
			p, err := b.UploadPartCopy(up, testBucket, "piece", 0, piece, i+1)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, p)
		}
		if _, err := b.CompleteMultipartUpload(up, list); err != nil {
			t.Fatal(err)
		}
	}
	join("1 GB", 64)
	join("more", 65)
	join("5 GB and more", 321)
	if acl, err := b.GetObjectACL("1 GB"); err != nil || acl.ACL != "default" {
		t.Error("the ACL of Initiate was taken:", acl, err)
	}
	colder := oss.ObjectStorageClass(oss.StorageIA)
	copyTo := func(to *oss.Bucket, key string, options ...oss.Option) error {
		_, err := to.CopyObjectFrom(testBucket, key, "copy of "+key, options...)
		return err
	}
	for _, err := range []error{copyTo(b, "5 GB and more"), copyTo(other, "more"), copyTo(b, "1 GB", colder)} {
		if err != nil {
			t.Error(err)
		}
	}
	wantCode(t, copyTo(b, "more", colder), 400, "EntityTooLarge")
	wantCode(t, copyTo(b, "more", oss.ServerSideEncryption("AES256")), 400, "EntityTooLarge")
	wantCode(t, copyTo(other, "5 GB and more"), 400, "EntityTooLarge")
}

func TestARequestIsAsSlowAsItAsks(t *testing.T) {
	r := newRig(t)
	b := r.bucket(oss.AuthV4)
	body := pattern(1, 50<<10)
	delay := func(options ...oss.Option) (ms int) {
		t.Helper()
		var h http.Header
		if err := b.PutObject("k", bytes.NewReader(body), append(options, oss.GetResponseHeader(&h))...); err != nil {
			t.Fatal(err)
		}
		ms, err := strconv.Atoi(h.Get("x-oss-qos-delay-time"))
		if err != nil {
			ms = -1
		}
		return ms
	}
	const limit = 819200 // bit/s: 100 KiB of bytes
	if ms := delay(oss.TrafficLimitHeader(limit)); ms < 300 {
		t.Errorf("50 KiB waited for %d ms at 100 KiB/s", ms)
	}
	if ms := delay(); ms != -1 {
		t.Errorf("a request without a limit waited for %d ms", ms)
	}
	if got := r.get("k", oss.TrafficLimitHeader(limit)); !bytes.Equal(got, body) {
		t.Error("bytes differ")
	}
}

// A log that was written before there were symlinks is read, and written anew
// in the format of today.
func TestALogOfTheFirstFormatIsRead(t *testing.T) {
	r := newRig(t)
	r.put("k", []byte("bytes"))
	r.web.Close()
	if err := r.s.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(r.dir, "log")
	log, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	head := appendFrame(nil, record{kind: recHead, next: 1})
	if !bytes.HasPrefix(log, head) || head[frameHead+1] != formatVersion {
		t.Fatalf("the log does not begin with its head: %x", log[:20])
	}
	for _, format := range []byte{1, formatVersion + 1} {
		old := bytes.Clone(log)
		old[frameHead+1] = format
		binary.LittleEndian.PutUint32(old[4:], crc32.Checksum(old[frameHead:len(head)], castagnoli))
		if err := os.WriteFile(name, old, 0o600); err != nil {
			t.Fatal(err)
		}
		if format > formatVersion {
			if s, err := Open(context.Background(), r.dir, testOptions()); err == nil {
				s.Close()
				t.Error("a log of a later format was read")
			}
			continue
		}
		r.open(testOptions())
		if string(r.get("k")) != "bytes" {
			t.Error("other bytes")
		}
		if anew, err := os.ReadFile(name); err != nil || anew[frameHead+1] != formatVersion {
			t.Error("the log has the old format still", err)
		}
		r.web.Close()
		r.s.Close()
	}
	if err := os.WriteFile(name, log, 0o600); err != nil {
		t.Fatal(err)
	}
	r.open(testOptions())
}

func TestEachLimitHasItsAnswer(t *testing.T) {
	r := newRig(t)
	up, err := r.bucket(oss.AuthV4).InitiateMultipartUpload("k")
	if err != nil {
		t.Fatal(err)
	}
	at, long := "/"+testBucket+"/", strings.Repeat("x", 1024)
	for _, c := range []struct {
		method, resource, unsigned string
		status                     int
		code                       string
	}{
		{"GET", at, "max-keys=0", 400, "InvalidArgument"},
		{"GET", at, "max-keys=1001", 400, "InvalidArgument"},
		{"GET", at, "max-keys=ten", 400, "InvalidArgument"},
		{"GET", at, "max-keys=1000", 200, ""},
		{"GET", at, "prefix=" + long, 400, "InvalidArgument"},
		{"GET", at, "marker=" + long, 400, "InvalidArgument"},
		{"GET", at, "delimiter=" + long, 400, "InvalidArgument"},
		{"GET", at, "prefix=" + long[1:], 200, ""},
		{"GET", at, "encoding-type=base64", 400, "InvalidArgument"},
		{"GET", at, "list-type=3", 400, "InvalidArgument"},
		{"GET", at, "list-type=2&start-after=" + long, 400, "InvalidArgument"},
		{"GET", at + "?continuation-token=nonsense", "list-type=2", 400, "InvalidArgument"},
		{"GET", at + "?uploads", "max-uploads=1001", 400, "InvalidArgument"},
		{"GET", at + "?uploads", "key-marker=" + long, 400, "InvalidArgument"},
		{"GET", at + "k?uploadId=" + up.UploadID, "max-parts=1001", 400, "InvalidArgument"},
		{"GET", at + "k?uploadId=" + up.UploadID, "part-number-marker=x", 400, "InvalidArgument"},
		{"GET", at + "k?uploadId=0123", "", 404, "NoSuchUpload"},
		{"GET", at + "other?uploadId=" + up.UploadID, "", 404, "NoSuchUpload"},
		{"PUT", at + "k?partNumber=0&uploadId=" + up.UploadID, "", 400, "InvalidArgument"},
		{"PUT", at + "k?partNumber=10001&uploadId=" + up.UploadID, "", 400, "InvalidArgument"},
		{"PUT", at + "k?partNumber=-1&uploadId=" + up.UploadID, "", 400, "InvalidArgument"},
		{"GET", "/", "max-keys=1001", 400, "InvalidArgument"},
		{"PUT", "/ab/", "", 400, "InvalidBucketName"},
		{"PUT", "/Capital/", "", 400, "InvalidBucketName"},
		{"PUT", "/-dash/", "", 400, "InvalidBucketName"},
		{"PUT", "/" + strings.Repeat("b", 64) + "/", "", 400, "InvalidBucketName"},
		{"PUT", at + long, "", 400, "InvalidObjectName"},
		{"HEAD", at + "missing", "", 404, "NoSuchKey"},
		{"HEAD", "/missing-bucket/k", "", 404, "NoSuchBucket"},
		{"GET", at + "?website", "", 501, "NotImplemented"},
		{"PATCH", at + "k", "", 405, "MethodNotAllowed"},
	} {
		wantAnswer(t, r.signedWith(c.method, c.resource, c.unsigned, nil), c.status, c.code)
	}
}
