package ossemu

import (
	"bytes"
	"hash/crc64"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

func TestAppendGrowsAnObjectAtItsEndOnly(t *testing.T) {
	allVersions(t, func(t *testing.T, v oss.AuthVersionType) {
		r := newRig(t)
		b := r.bucket(v)
		add := func(piece string, at int64, options ...oss.Option) (int64, error) {
			return b.AppendObject("log", strings.NewReader(piece), at, options...)
		}
		var h http.Header
		_, err := add("x", 1, oss.GetResponseHeader(&h))
		wantCode(t, err, 409, "PositionNotEqualToLength")
		if h.Get("x-oss-next-append-position") != "0" {
			t.Error(h)
		}
		next, err := add("one,", 0, oss.Meta("a", "1"), oss.ContentType("text/a"), oss.ObjectACL(oss.ACLPrivate))
		if err != nil || next != 4 {
			t.Fatal(next, err)
		}
		first := r.head("log")
		_, err = add("two", 0, oss.GetResponseHeader(&h))
		wantCode(t, err, 409, "PositionNotEqualToLength")
		if h.Get("x-oss-next-append-position") != "4" || h.Get("x-oss-ec") != "0026-00000016" {
			t.Error(h)
		}
		next, err = add("two", 4, oss.Meta("a", "2"), oss.ContentType("text/b"), oss.ObjectACL(oss.ACLPublicRead), oss.GetResponseHeader(&h))
		if err != nil || next != 7 {
			t.Fatal(next, err)
		}
		want := map[string]string{
			"X-Oss-Object-Type": "Appendable", "X-Oss-Next-Append-Position": "7", "Content-Length": "7", "X-Oss-Meta-A": "1",
			"Content-Type": "text/a", "X-Oss-Hash-Crc64ecma": crcText([]byte("one,two")), "Content-Md5": "", "Etag": h.Get("Etag"),
		}
		got := r.head("log")
		for name, value := range want {
			if got.Get(name) != value {
				t.Errorf("%s is %q, want %q", name, got.Get(name), value)
			}
		}
		if first.Get("Etag") == got.Get("Etag") || len(got.Get("Etag")) != 34 || !strings.HasSuffix(got.Get("Etag"), `00000000"`) {
			t.Error(first.Get("Etag"), got.Get("Etag"))
		}
		if acl, err := b.GetObjectACL("log"); err != nil || acl.ACL != "public-read" {
			t.Error(acl, err)
		}
		if string(r.get("log")) != "one,two" || string(r.get("log", oss.Range(2, 5))) != "e,tw" {
			t.Error("bytes differ")
		}
		if _, err := add("bad", 7, oss.ContentMD5(md5Of([]byte("other")))); err == nil || string(r.get("log")) != "one,two" {
			t.Error("a piece with a wrong digest was taken", err)
		}
		_, err = b.CopyObject("log", "copy")
		wantCode(t, err, 400, "OperationNotSupported")
		r.die()
		r.open(testOptions())
		if string(r.get("log")) != "one,two" {
			t.Error("it did not survive the server")
		}
	})
}

func TestWhatIsNotAppendableIsNotAppendedTo(t *testing.T) {
	r := newRig(t)
	b := r.bucket(oss.AuthV4)
	r.put("normal", []byte("x"))
	_, err := b.AppendObject("normal", strings.NewReader("y"), 1)
	wantCode(t, err, 409, "ObjectNotAppendable")
	_, err = b.AppendObject("new", strings.NewReader("y"), 0, oss.ServerSideEncryption("KMS"), oss.ServerSideEncryptionKeyID("k"))
	wantCode(t, err, 400, "InvalidArgument")
	q := r.signed("POST", "/"+testBucket+"/new?append", nil)
	wantAnswer(t, q, 400, "MissingArgument")
	q = r.signed("POST", "/"+testBucket+"/new?append&position=-1", nil)
	wantAnswer(t, q, 400, "InvalidArgument")
	if ok, _ := b.IsObjectExist("new"); ok {
		t.Error("a refused append made an object")
	}
	if _, err := b.AppendObject("new", strings.NewReader("y"), 0); err != nil {
		t.Fatal(err)
	}
	up, err := b.InitiateMultipartUpload("dst")
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.UploadPartCopy(up, testBucket, "new", 0, 1, 1)
	wantCode(t, err, 400, "OperationNotSupported")
	r.put("new", []byte("normal now"))
	_, err = b.AppendObject("new", strings.NewReader("y"), 10)
	wantCode(t, err, 409, "ObjectNotAppendable")
}

func TestALinkIsReadThroughOneStep(t *testing.T) {
	r := newRig(t)
	b := r.bucket(oss.AuthV4)
	target := "a b+c/é.txt"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(b.PutSymlink("link", target, oss.Meta("of", "link")))
	_, err := b.GetObject("link")
	wantCode(t, err, 404, "SymlinkTargetNotExist")
	r.put(target, []byte("bytes of the target"), oss.Meta("of", "target"))
	h, err := b.GetSymlink("link")
	if err != nil || h.Get("x-oss-symlink-target") != target || h.Get("X-Oss-Meta-Of") != "link" {
		t.Error(h, err)
	}
	if string(r.get("link")) != "bytes of the target" || string(r.get("link", oss.Range(0, 4))) != "bytes" {
		t.Error("bytes differ")
	}
	of := r.head(target)
	for name, want := range map[string]string{
		"Etag": of.Get("Etag"), "Content-Length": "19", "X-Oss-Object-Type": "Symlink", "X-Oss-Meta-Of": "link",
		"X-Oss-Hash-Crc64ecma": of.Get("X-Oss-Hash-Crc64ecma"),
	} {
		if got := r.head("link").Get(name); got != want {
			t.Errorf("%s of the link is %q, want %q", name, got, want)
		}
	}
	_, err = b.GetObject("link", oss.IfMatch(of.Get("Etag")+"x"))
	wantCode(t, err, 412, "PreconditionFailed")
	list, err := b.ListObjects(oss.Prefix("link"))
	if err != nil || len(list.Objects) != 1 || list.Objects[0].Type != "Symlink" {
		t.Error(list, err)
	}
	must(b.PutSymlink("second", "link"))
	_, err = b.GetObject("second")
	wantCode(t, err, 400, "InvalidTargetType")
	_, err = b.GetObjectDetailedMeta("second")
	wantCode(t, err, 400, "InvalidTargetType")
	_, err = b.GetSymlink(target)
	wantCode(t, err, 400, "NotSymlink")
	_, err = b.GetSymlink("missing")
	wantCode(t, err, 404, "NoSuchKey")
	wantCode(t, b.PutSymlink("link", target, oss.ForbidOverWrite(true)), 409, "FileAlreadyExists")
	wantCode(t, b.PutSymlink("link", "/x"), 400, "InvalidObjectName")
	wantAnswer(t, r.signed("PUT", "/"+testBucket+"/new?symlink", nil), 400, "MissingArgument")
	_, err = b.AppendObject("link", strings.NewReader("y"), 0)
	wantCode(t, err, 409, "ObjectNotAppendable")
	_, err = b.CopyObject("link", "copied")
	must(err)
	r.die()
	r.open(testOptions())
	if h, err := r.bucket(oss.AuthV1).GetSymlink("copied"); err != nil || h.Get("x-oss-symlink-target") != target {
		t.Error("the copy of a link is no link", h, err)
	}
	must(r.bucket(oss.AuthV4).DeleteObject("link"))
	if string(r.get(target)) != "bytes of the target" {
		t.Error("the target went with its link")
	}
	r.put("copied", []byte("own"))
	if string(r.get("copied")) != "own" || r.head("copied").Get("X-Oss-Object-Type") != "Normal" {
		t.Error("a link that was overwritten is still one")
	}
}

func TestArchivedObjectsAreReadableWhenRestored(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	o := testOptions()
	o.Now = func() time.Time { return now }
	o.RestoreTime = time.Minute
	r := newRigWith(t, o)
	b := r.bucket(oss.AuthV4)
	r.put("cold", []byte("bytes"), oss.ObjectStorageClass(oss.StorageArchive))
	r.put("warm", []byte("x"), oss.ObjectStorageClass(oss.StorageIA))
	wait := func(d time.Duration) { now = now.Add(d) }
	status := func(key string, config oss.RestoreConfiguration) int {
		t.Helper()
		var h http.Header
		if err := b.RestoreObjectDetail(key, config, oss.GetResponseHeader(&h)); err != nil {
			t.Fatal(err)
		}
		log := r.s.tally.requests()
		return log[len(log)-1].Status
	}
	listed := func() string {
		page, err := b.ListObjects(oss.Prefix("cold"))
		if err != nil || len(page.Objects) != 1 {
			t.Fatal(page, err)
		}
		return page.Objects[0].RestoreInfo
	}
	wantCode(t, b.RestoreObject("warm"), 400, "OperationNotSupported")
	wantCode(t, b.RestoreObject("missing"), 404, "NoSuchKey")
	wantCode(t, b.RestoreObjectXML("cold", "<RestoreRequest><Days>8</Days></RestoreRequest>"), 400, "InvalidArgument")
	wantCode(t, b.RestoreObjectXML("cold", "<RestoreRequest><Days>0</Days></RestoreRequest>"), 400, "InvalidArgument")
	wantCode(t, b.RestoreObjectXML("cold", "<Restore"), 400, "MalformedXML")
	wantCode(t, b.RestoreObjectXML("cold", "<RestoreRequest><JobParameters><Tier>Now</Tier></JobParameters></RestoreRequest>"), 400, "MalformedXML")
	_, err := b.GetObject("cold")
	wantCode(t, err, 403, "InvalidObjectState")
	_, err = b.CopyObject("cold", "copy")
	wantCode(t, err, 403, "InvalidObjectState")
	if h := r.head("cold"); h.Get("X-Oss-Restore") != "" || h.Get("Content-Length") != "5" {
		t.Error(h)
	}
	if got := status("cold", oss.RestoreConfiguration{Days: 2}); got != 202 {
		t.Error(got)
	}
	wantCode(t, b.RestoreObject("cold"), 409, "RestoreAlreadyInProgress")
	if got := r.head("cold").Get("X-Oss-Restore"); got != `ongoing-request="true"` || listed() != got {
		t.Error(got, listed())
	}
	_, err = b.GetObject("cold")
	wantCode(t, err, 403, "InvalidObjectState")
	wait(time.Minute)
	until := now.Add(48 * time.Hour).UTC().Format(http.TimeFormat)
	if got := r.head("cold").Get("X-Oss-Restore"); got != `ongoing-request="false", expiry-date="`+until+`"` || listed() != got {
		t.Error(got, listed())
	}
	if string(r.get("cold")) != "bytes" {
		t.Error("not readable after the restore")
	}
	if got := status("cold", oss.RestoreConfiguration{Days: 3}); got != 200 {
		t.Error(got)
	}
	if _, err := b.CopyObject("cold", "copy", oss.ObjectStorageClass(oss.StorageArchive)); err != nil {
		t.Error(err)
	}
	_, err = b.GetObject("copy")
	wantCode(t, err, 403, "InvalidObjectState") // a copy was never restored
	st := r.s.store
	st.mu.Lock()
	cold, _ := st.buckets[testBucket].objects.get("cold")
	st.mu.Unlock()
	if later := now.Add(72 * time.Hour).Unix(); cold.readable(later) == nil || cold.restoreInfo(later) != "" {
		t.Error("what was restored never goes away")
	}
}

func TestASequentialUploadComesInOrderAndGetsItsMD5(t *testing.T) {
	r := newRig(t)
	b := r.bucket(oss.AuthV4)
	up, err := b.InitiateMultipartUpload("k", oss.Sequential())
	if err != nil {
		t.Fatal(err)
	}
	send := func(number int) (oss.UploadPart, error) {
		return b.UploadPart(up, bytes.NewReader(pattern(number, minPart)), minPart, number)
	}
	_, err = send(2)
	wantCode(t, err, 400, "PartNotSequential")
	one, err := send(1)
	if err != nil {
		t.Fatal(err)
	}
	r.die()
	r.open(testOptions())
	b = r.bucket(oss.AuthV4)
	_, err = send(3)
	wantCode(t, err, 400, "PartNotSequential")
	if _, err = send(1); err != nil { // the last one again
		t.Fatal(err)
	}
	two, err := send(2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.CompleteMultipartUpload(up, []oss.UploadPart{one, two}); err != nil {
		t.Fatal(err)
	}
	if got, want := r.head("k").Get("Content-MD5"), md5Of(slices.Concat(pattern(1, minPart), pattern(2, minPart))); got != want {
		t.Errorf("Content-MD5 %q, want %q", got, want)
	}
}

func crcText(b []byte) string {
	return strconv.FormatUint(crc64.Checksum(b, crc64.MakeTable(crc64.ECMA)), 10)
}
