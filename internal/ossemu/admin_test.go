package ossemu

import (
	"bytes"
	"fmt"
	"hash/crc64"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

func TestAdminCountsAndLog(t *testing.T) {
	r := newRig(t)
	b, began := r.bucket(oss.AuthV4), time.Now()
	r.fault("delay,for=30ms,op=UploadPart")
	r.put("k", pattern(0, 1000))
	r.get("k")
	r.get("k", oss.Range(0, 99))
	if _, err := b.GetObject("missing"); err == nil {
		t.Error("missing was found")
	}
	up, err := b.InitiateMultipartUpload("m")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.UploadPart(up, strings.NewReader("part"), 4, 3); err != nil {
		t.Fatal(err)
	}
	var got counts
	r.admin("GET", "/counts", "", &got)
	if op := got.Ops["PutObject"]; op.Requests != 1 || op.BytesIn != 1000 || op.BytesOut != 0 || op.Status["200"] != 1 {
		t.Errorf("%+v", op)
	}
	op := got.Ops["GetObject"]
	if op.Requests != 3 || op.BytesOut < 1100 || op.Status["200"] != 1 || op.Status["206"] != 1 || op.Status["404"] != 1 {
		t.Errorf("%+v", op)
	}
	if got.Requests != 6 || got.BytesIn != 1004 {
		t.Errorf("%+v", got)
	}
	var log []requestInfo
	r.admin("GET", "/log", "", &log)
	last := log[len(log)-1]
	if len(log) != 6 || last.Op != "UploadPart" || last.Key != "m" || last.Part != 3 || last.UploadID != up.UploadID || last.BytesIn != 4 || last.Status != 200 || last.Bucket != testBucket {
		t.Errorf("%+v", log)
	}
	// It was held for 30 ms.
	if last.Time.Before(log[4].Time) || log[0].Time.Before(began) || last.Time.After(time.Now()) || last.DurationMS < 30 || last.ID == "" {
		t.Errorf("%+v", last)
	}
	var uploads []uploadInfo
	r.admin("GET", "/uploads", "", &uploads)
	if len(uploads) != 1 || uploads[0].Parts != 1 || uploads[0].Bytes != 4 || uploads[0].Key != "m" {
		t.Errorf("%+v", uploads)
	}
	r.admin("POST", "/reset", "", nil)
	got = counts{}
	r.admin("GET", "/counts", "", &got)
	if got.Requests != 0 || len(got.Ops) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestAdminShapesAtRunTime(t *testing.T) {
	r := newRig(t)
	for path, body := range map[string]string{"/bandwidth": `{"bytes_per_second": 5000000}`, "/latency": `{"milliseconds": 0.5}`} {
		if code := r.admin("PUT", path, body, nil); code != 200 {
			t.Errorf("%s: %d", path, code)
		}
		for _, bad := range []string{`{}`, `nonsense`, `{"milliseconds": -1}`, `{"bytes_per_second": -1}`, `{"other": 1}`} {
			if code := r.admin("PUT", path, bad, nil); code != 400 {
				t.Errorf("%s %s: %d", path, bad, code)
			}
		}
	}
	if now := r.s.shape.load(); now.Latency != Duration(500*time.Microsecond) || now.both == nil {
		t.Error("nothing was set")
	}
	body := pattern(0, 300<<10)
	r.put("k", body)
	if !bytes.Equal(r.get("k"), body) {
		t.Error("a shaped body differs")
	}
	r.admin("PUT", "/bandwidth", `{"bytes_per_second": 0}`, nil)
	if r.s.shape.load().both != nil {
		t.Error("still limited")
	}
	var health map[string]bool
	if r.admin("GET", "/healthz", "", &health); !health["ok"] {
		t.Error(health)
	}
}

func TestTheLogOfRequestsIsBounded(t *testing.T) {
	r := newRig(t)
	for i := range ringSize + 5 {
		c := &call{s: r.s, op: &unknownOperation, id: fmt.Sprint(i)}
		c.body = &meteredBody{c: c}
		r.s.tally.begin(c, 200)
	}
	list := r.s.tally.requests()
	if len(list) != ringSize || list[0].ID != "5" || list[ringSize-1].ID != fmt.Sprint(ringSize+4) {
		t.Error(len(list), list[0].ID)
	}
}

func TestReadersKeepWhatTheyRead(t *testing.T) {
	r := newRig(t)
	body := pattern(0, 4<<20)
	r.put("k", body)
	open, err := r.bucket(oss.AuthV4).GetObject("k")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	head := make([]byte, 1000)
	if _, err := io.ReadFull(open, head); err != nil {
		t.Fatal(err)
	}
	r.put("k", []byte("new"))
	rest, err := io.ReadAll(open)
	if err != nil || !bytes.Equal(append(head, rest...), body) {
		t.Error("the reader lost its object", err)
	}
	if string(r.get("k")) != "new" {
		t.Error("not overwritten")
	}
}

// TestConcurrentUse lets writers, copiers, readers, listers and deleters work
// on few keys; every body that is read must be one that was written.
func TestConcurrentUse(t *testing.T) {
	r := newRig(t)
	var wg sync.WaitGroup
	for worker := range 6 {
		wg.Go(func() {
			b := r.bucket([]oss.AuthVersionType{oss.AuthV1, oss.AuthV4}[worker%2])
			for i := range 60 {
				key := fmt.Sprint("k", i%4)
				switch (worker + i) % 6 {
				case 0, 1:
					if err := b.PutObject(key, bytes.NewReader(pattern(i, 10+i*2000))); err != nil {
						t.Error(err)
					}
				case 2:
					b.CopyObject(key, fmt.Sprint("k", (i+1)%4))
				case 3:
					if body, err := b.GetObject(key); err == nil {
						got, err := io.ReadAll(body)
						if err != nil || fmt.Sprint(crc64.Checksum(got, crcTable)) != body.(*oss.Response).Headers.Get("x-oss-hash-crc64ecma") {
							t.Errorf("%d bytes: %v", len(got), err)
						}
						body.Close()
					}
				case 4:
					if _, err := b.ListObjectsV2(); err != nil {
						t.Error(err)
					}
					r.admin("GET", "/counts", "", nil)
				case 5:
					if err := b.DeleteObject(key); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	// Readers let go of their segments after their client has its bytes.
	r.web.Close()
}

func TestCloseRefusesRequests(t *testing.T) {
	r := newRig(t)
	b := r.bucket(oss.AuthV4)
	if err := r.s.Close(); err != nil {
		t.Fatal(err)
	}
	wantCode(t, b.PutObject("k", strings.NewReader("x")), 503, "ServiceUnavailable")
	resp, err := http.Get(r.web.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	r.web.Close()
	r.open(testOptions())
}
