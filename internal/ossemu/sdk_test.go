package ossemu

import (
	"bytes"
	"fmt"
	"hash/crc64"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// allVersions runs a test with clients that sign with V1, V2 and V4.
func allVersions(t *testing.T, run func(t *testing.T, v oss.AuthVersionType)) {
	for _, v := range []oss.AuthVersionType{oss.AuthV1, oss.AuthV2, oss.AuthV4} {
		t.Run(string(v), func(t *testing.T) { run(t, v) })
	}
}

var oddKeys = []string{
	"a/b c+d~é/../x//y.txt", "dir/", "dir/sub/", "plain", "a%2Fb", "a&b=c", "100%", "+", "?acl", "ключ/日本.txt", "a", "a/b",
	"con\x01trol\x1f\r\n\t", strings.Repeat("k", 1023), "./x", "../x", "x/.", "semi;colon", "quote\"'<>&",
}

func TestEveryObjectOperationWithTheSDK(t *testing.T) {
	allVersions(t, func(t *testing.T, v oss.AuthVersionType) {
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
	allVersions(t, func(t *testing.T, v oss.AuthVersionType) {
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
	allVersions(t, func(t *testing.T, v oss.AuthVersionType) {
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
			printed := ""
			for _, p := range parts {
				printed += strings.Trim(p.ETag, `"`)
			}
			if want := `"` + etagOf([]byte(printed)) + `-4"`; done.ETag != want {
				t.Errorf("ETag %s, want %s", done.ETag, want)
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
	allVersions(t, func(t *testing.T, v oss.AuthVersionType) {
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
