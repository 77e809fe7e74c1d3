package ossemu

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// fault brings a fault into force over the admin address.
func (r *rig) fault(spec string) (f FaultState) {
	r.t.Helper()
	if code := r.admin("POST", "/faults", spec, &f); code != 200 || f.ID == 0 {
		r.t.Fatalf("fault %s: status %d", spec, code)
	}
	return f
}

// state asks what a fault has done.
func (r *rig) state(id int) (f FaultState) {
	r.t.Helper()
	if code := r.admin("GET", fmt.Sprint("/faults/", id), "", &f); code != 200 {
		r.t.Fatalf("fault %d: status %d", id, code)
	}
	return f
}

// held waits until a fault holds a request.
func (r *rig) held(id int) {
	r.t.Helper()
	var f FaultState
	if r.admin("GET", fmt.Sprintf("/faults/%d?held=1&wait=1m", id), "", &f); f.Held == 0 {
		r.t.Fatalf("fault %d holds nothing: %+v", id, f)
	}
}

func (r *rig) remove(id int) {
	r.t.Helper()
	if code := r.admin("DELETE", fmt.Sprint("/faults/", id), "", nil); code != 200 {
		r.t.Fatalf("remove fault %d: status %d", id, code)
	}
}

// last waits for the request behind number after in the log.
func (r *rig) logged(after int64) requestInfo {
	r.t.Helper()
	var list []requestInfo
	r.admin("GET", fmt.Sprintf("/log?after=%d&wait=1m", after), "", &list)
	if len(list) == 0 {
		r.t.Fatalf("there is no request behind %d in the log", after)
	}
	return list[0]
}

// mark is the number of the last request.
func (r *rig) mark() int64 {
	list := r.s.tally.requests()
	if len(list) == 0 {
		return 0
	}
	return list[len(list)-1].Seq
}

// once is an SDK client with a connection for each request: net/http sends a
// GET again by itself if a connection that it had kept is reset.
func (r *rig) once() *oss.Bucket {
	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return r.bucket(oss.AuthV4, oss.HTTPClient(web))
}

// until asks again and again, for what cannot be waited for otherwise.
func (r *rig) until(what string, reached func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); !reached(); runtime.Gosched() {
		if time.Now().After(deadline) {
			r.t.Fatalf("never: %s", what)
		}
	}
}

func (r *rig) has(key, content string) bool {
	r.t.Helper()
	body, err := r.bucket(oss.AuthV4).GetObject(key)
	if err != nil {
		return false
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	return err == nil && string(b) == content
}

// change is one request that changes something.
type change struct {
	name string
	body bool // it has one
	// prepare makes what the change needs; do makes it; done sees whether it
	// has been made.
	prepare func(r *rig, key string) (do func(*oss.Bucket) error, done func() bool)
}

var changes = []change{
	{"PutObject", true, func(r *rig, k string) (func(*oss.Bucket) error, func() bool) {
		r.put(k, []byte("old"))
		return func(b *oss.Bucket) error { return b.PutObject(k, strings.NewReader("the new content")) },
			func() bool { return r.has(k, "the new content") }
	}},
	{"PutObject", true, func(r *rig, k string) (func(*oss.Bucket) error, func() bool) { // in a segment of its own, by many reads
		body := string(pattern(1, 5*bufferSize+1))
		return func(b *oss.Bucket) error { return b.PutObject(k+"-large", strings.NewReader(body)) },
			func() bool { return r.has(k+"-large", body) }
	}},
	{"AppendObject", true, func(r *rig, k string) (func(*oss.Bucket) error, func() bool) {
		if _, err := r.bucket(oss.AuthV4).AppendObject(k, strings.NewReader("begun"), 0); err != nil {
			r.t.Fatal(err)
		}
		return func(b *oss.Bucket) error { _, err := b.AppendObject(k, strings.NewReader(" and ended"), 5); return err },
			func() bool { return r.has(k, "begun and ended") }
	}},
	{"DeleteMultipleObjects", true, func(r *rig, k string) (func(*oss.Bucket) error, func() bool) {
		r.put(k, []byte("old"))
		r.put(k+"2", []byte("old"))
		return func(b *oss.Bucket) error { _, err := b.DeleteObjects([]string{k, k + "2"}); return err },
			func() bool {
				if r.has(k, "old") != r.has(k+"2", "old") {
					r.t.Error("one of two is deleted")
				}
				return !r.has(k, "old")
			}
	}},
	{"PutSymlink", false, func(r *rig, k string) (func(*oss.Bucket) error, func() bool) {
		r.put(k, []byte("target"))
		return func(b *oss.Bucket) error { return b.PutSymlink(k+"-link", k) }, func() bool { return r.has(k+"-link", "target") }
	}},
	{"PutObjectTagging", true, func(r *rig, k string) (func(*oss.Bucket) error, func() bool) {
		r.put(k, nil)
		return func(b *oss.Bucket) error {
				return b.PutObjectTagging(k, oss.Tagging{Tags: []oss.Tag{{Key: "a", Value: "b"}}})
			},
			func() bool {
				tags, err := r.bucket(oss.AuthV4).GetObjectTagging(k)
				return err == nil && len(tags.Tags) == 1
			}
	}},
	{"UploadPartCopy", false, func(r *rig, k string) (func(*oss.Bucket) error, func() bool) {
		r.put(k+"-source", []byte("source"))
		up := r.initiate(k)
		return func(b *oss.Bucket) error {
				_, err := b.UploadPartCopy(up, testBucket, k+"-source", 0, 6, 1)
				return err
			},
			func() bool { return r.parts(k) == 1 }
	}},
	{"AbortMultipartUpload", false, func(r *rig, k string) (func(*oss.Bucket) error, func() bool) {
		up := r.initiate(k)
		return func(b *oss.Bucket) error { return b.AbortMultipartUpload(up) }, func() bool { return r.parts(k) < 0 }
	}},
	{"DeleteObject", false, func(r *rig, k string) (func(*oss.Bucket) error, func() bool) {
		r.put(k, []byte("old"))
		return func(b *oss.Bucket) error { return b.DeleteObject(k) }, func() bool { return !r.has(k, "old") }
	}},
	{"CopyObject", false, func(r *rig, k string) (func(*oss.Bucket) error, func() bool) {
		r.put(k, []byte("old"))
		return func(b *oss.Bucket) error { _, err := b.CopyObject(k, k+"-copy"); return err }, func() bool { return r.has(k+"-copy", "old") }
	}},
	{"InitiateMultipartUpload", false, func(r *rig, k string) (func(*oss.Bucket) error, func() bool) {
		return func(b *oss.Bucket) error { _, err := b.InitiateMultipartUpload(k); return err },
			func() bool { return r.parts(k) == 0 }
	}},
	{"UploadPart", true, func(r *rig, k string) (func(*oss.Bucket) error, func() bool) {
		up := r.initiate(k)
		return func(b *oss.Bucket) error {
				_, err := b.UploadPart(up, strings.NewReader("a part of it"), 12, 7)
				return err
			},
			func() bool { return r.parts(k) == 1 }
	}},
	{"CompleteMultipartUpload", true, func(r *rig, k string) (func(*oss.Bucket) error, func() bool) {
		up := r.initiate(k)
		p, err := r.bucket(oss.AuthV4).UploadPart(up, strings.NewReader("a part"), 6, 1)
		if err != nil {
			r.t.Fatal(err)
		}
		return func(b *oss.Bucket) error { _, err := b.CompleteMultipartUpload(up, []oss.UploadPart{p}); return err },
			func() bool { return r.has(k, "a part") && r.parts(k) < 0 }
	}},
}

// parts is how many parts the open upload of a key has; -1: it has no upload.
func (r *rig) parts(key string) int {
	for _, u := range r.s.openUploads() {
		if u.Key == key {
			return u.Parts
		}
	}
	return -1
}

func (r *rig) initiate(key string) oss.InitiateMultipartUploadResult {
	r.t.Helper()
	up, err := r.bucket(oss.AuthV4).InitiateMultipartUpload(key)
	if err != nil {
		r.t.Fatal(err)
	}
	return up
}

// TestFaultsLeaveTheStateThatIsDocumented plays each fault that ends a request
// on each change: the last column of the table of Fault is what is stored.
func TestFaultsLeaveTheStateThatIsDocumented(t *testing.T) {
	r := newRig(t)
	for i, f := range []struct {
		spec     string
		bodyOnly bool
		done     bool // the work is done
		told     bool // the client hears that it was
	}{
		{spec: "delay,for=1ms", done: true, told: true},
		{spec: "delay,at=after,for=1ms", done: true, told: true},
		{spec: "delay,at=body,for=1ms", bodyOnly: true, done: true, told: true},
		{spec: "error"},
		{spec: "error,code=SecurityTokenExpired"},
		{spec: "error,at=after,status=503", done: true},
		{spec: "reset"},
		{spec: "reset,at=body", bodyOnly: true},
		{spec: "reset,at=body,bytes=1000000", bodyOnly: true}, // the whole body has come
		{spec: "reset,at=after", done: true},
		{spec: "close"},
		{spec: "close,at=body,bytes=0", bodyOnly: true},
		{spec: "close,at=after", done: true},
		{spec: "slow,at=body,rate=1000000", bodyOnly: true, done: true, told: true},
		{spec: "clock,by=-20m"},
		{spec: "clock,by=5m", done: true, told: true},
	} {
		for _, c := range changes {
			if f.bodyOnly && !c.body {
				continue
			}
			t.Run(f.spec+" "+c.name, func(t *testing.T) {
				do, done := c.prepare(r, fmt.Sprint(i, c.name))
				mark := r.mark()
				id := r.fault(f.spec + ",op=" + c.name).ID
				err := do(r.once())
				if state := r.state(id); state.Fired != 1 {
					t.Errorf("it fired %d times", state.Fired)
				}
				r.remove(id)
				if (err == nil) != f.told {
					t.Errorf("the client hears %v", err)
				}
				if got := r.logged(mark); got.Op != c.name || len(got.Faults) != 1 || got.Faults[0].ID != id {
					t.Errorf("the log says %+v", got)
				}
				if done() != f.done {
					t.Errorf("that the work is done is %v", !f.done)
				}
			})
		}
	}
}

// covers H6
func TestLateWorkLandsAfterTheConnectionIsGone(t *testing.T) {
	r := newRig(t)
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			do, done := c.prepare(r, c.name)
			mark := r.mark()
			id := r.fault("late,op=" + c.name).ID
			if err := do(r.once()); err == nil {
				t.Fatal("the client got an answer")
			}
			r.held(id)
			if done() {
				t.Error("the work was done before it landed")
			}
			mark = max(mark, r.mark())
			r.remove(id)
			got := r.logged(mark)
			if got.Op != c.name || got.Status != 0 || got.Work/100 != 2 || got.Faults[0].Do != "late" {
				t.Errorf("the log says %+v", got)
			}
			if !done() {
				t.Error("the work was not done")
			}
		})
	}
	t.Run("after a time", func(t *testing.T) {
		do, done := changes[0].prepare(r, "k")
		mark := r.mark()
		r.fault("late,for=1ms,count=1")
		if do(r.once()) == nil {
			t.Error("the client got an answer")
		}
		if got := r.logged(mark); got.Op != "PutObject" || got.Work != 200 || !done() {
			t.Errorf("%+v", got)
		}
	})
}

// dial speaks to the server without a client.
func (r *rig) dial(text string) net.Conn {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.web.Listener.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, text); err != nil {
		r.t.Fatal(err)
	}
	return conn
}

const rawPut = "PUT /bkt/k HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"

func TestResetIsAResetAndCloseIsAnEnd(t *testing.T) {
	for spec, want := range map[string]error{
		"reset": syscall.ECONNRESET, "reset,at=body": syscall.ECONNRESET, "reset,at=after": syscall.ECONNRESET,
		"close": nil, "close,at=body": nil, "close,at=after": nil,
	} {
		t.Run(spec, func(t *testing.T) {
			r := newRig(t)
			r.fault(spec)
			conn := r.dial(rawPut + "0123456789")
			b, err := io.ReadAll(conn)
			if !errors.Is(err, want) || len(b) > 0 {
				t.Errorf("%q %v, want %v", b, err, want)
			}
		})
	}
	t.Run("before the body is sent", func(t *testing.T) {
		r := newRig(t)
		r.fault("reset")
		if b, err := io.ReadAll(r.dial(rawPut)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q %v", b, err)
		}
	})
	t.Run("behind Listener", func(t *testing.T) {
		r := newRig(t)
		web := &http.Server{Handler: r.s}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go web.Serve(r.s.Listener(l))
		defer web.Close()
		r.fault("reset")
		_, err = http.Get("http://" + l.Addr().String())
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	})
}

func TestAnswersAreCutInTheMiddle(t *testing.T) {
	r := newRig(t)
	body := pattern(1, 1<<20)
	r.put("k", body)
	r.put("short", []byte("0123456789"))
	for _, how := range []string{"reset", "close"} {
		id := r.fault(how + ",at=answer,op=GetObject").ID
		open, err := r.once().GetObject("k")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(open)
		open.Close()
		if err == nil || len(got) > len(body)/2 || !bytes.HasPrefix(body, got) {
			t.Errorf("%s: %d bytes and %v", how, len(got), err)
		}
		if how == "close" && (len(got) != len(body)/2 || !errors.Is(err, io.ErrUnexpectedEOF)) {
			t.Errorf("%d bytes and %v", len(got), err)
		}
		// An answer without a body cannot be cut there, and is not counted.
		if _, err := r.once().GetObjectDetailedMeta("k"); err != nil {
			t.Error(err)
		}
		if f := r.state(id); f.Fired != 1 || f.Matched != 1 {
			t.Errorf("%+v", f)
		}
		r.remove(id)
	}
	id := r.fault("close,at=answer,bytes=3").ID
	open, err := r.once().GetObject("short")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(open); string(got) != "012" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q %v", got, err)
	}
	open.Close()
	r.remove(id)
	list := r.s.tally.requests()
	if e := list[len(list)-1]; e.Status != 200 || e.BytesOut != 3 || e.Faults[0].At != "answer" {
		t.Errorf("%+v", e)
	}
}

func TestErrorsAreThoseOfOSS(t *testing.T) {
	r := newRig(t)
	r.put("k", []byte("x"))
	for spec, want := range map[string]struct {
		status int
		code   string
	}{
		"error": {500, "InternalError"},
		"error,code=AccessDenied,op=HeadObject|PutObject":     {403, "AccessDenied"},
		"error,code=InvalidSecurityToken":                     {403, "InvalidSecurityToken"},
		"error,code=SecurityTokenExpired,at=after":            {403, "SecurityTokenExpired"},
		"error,code=InvalidAccessKeyId":                       {403, "InvalidAccessKeyId"},
		"error,status=503":                                    {503, "ServiceUnavailable"},
		"error,status=418,code=Teapot,message=short & stout!": {418, "Teapot"},
	} {
		id := r.fault(spec).ID
		err := r.once().PutObject("k", strings.NewReader("x"))
		wantCode(t, err, want.status, want.code)
		var se oss.ServiceError
		if errors.As(err, &se) && (se.RequestID == "" || se.Message == "" || want.code == "Teapot" && se.Message != "short & stout!") {
			t.Errorf("%s: %+v", spec, se)
		}
		_, err = r.once().GetObjectDetailedMeta("k") // HEAD: the error is in x-oss-err
		wantCode(t, err, want.status, want.code)
		if e := r.logged(r.mark() - 1); e.Code != want.code || e.Status != want.status {
			t.Errorf("%s: the log says %+v", spec, e)
		}
		r.remove(id)
	}
	r.fault("error,code=AccessDenied,op=DeleteObject")
	wantCode(t, r.once().DeleteObject("k"), 403, "AccessDenied")
	if !r.has("k", "x") {
		t.Error("it was deleted, or can not be read")
	}
}

// The first request empties a bucket that is filled once in a quarter of an
// hour, so no clock can make this test fail.
func TestThrottlingIsAnErrorAboveARate(t *testing.T) {
	r := newRig(t)
	id := r.fault("error,code=TotalQpsLimitExceeded,above=0.001,op=PutObject").ID
	b := r.once()
	if err := b.PutObject("a", strings.NewReader("x")); err != nil {
		t.Error(err)
	}
	for range 3 {
		wantCode(t, b.PutObject("b", strings.NewReader("x")), 503, "TotalQpsLimitExceeded")
	}
	if f := r.state(id); f.Matched != 4 || f.Fired != 3 || r.has("b", "x") || !r.has("a", "x") {
		t.Errorf("%+v", f)
	}
}

func TestDelayHoldsUntilItIsRemoved(t *testing.T) {
	for _, at := range []string{"before", "body", "after"} {
		t.Run(at, func(t *testing.T) {
			r := newRig(t)
			do, done := changes[0].prepare(r, "k")
			id := r.fault("delay,op=PutObject,at=" + at).ID
			end := make(chan error, 1)
			go func() { end <- do(r.once()) }()
			r.held(id)
			if done() != (at == "after") {
				t.Error("the work is done too soon or too late")
			}
			select {
			case err := <-end:
				t.Errorf("it was not held: %v", err)
			default:
			}
			r.admin("DELETE", "/faults", "", nil)
			if err := <-end; err != nil || !done() {
				t.Error(err)
			}
		})
	}
	t.Run("for a time", func(t *testing.T) {
		r := newRig(t)
		r.fault("delay,for=20ms")
		start := time.Now()
		if err := r.once().PutObject("k", strings.NewReader("x")); err != nil || time.Since(start) < 20*time.Millisecond {
			t.Error(err, time.Since(start))
		}
	})
}

func TestSlowIsSlow(t *testing.T) {
	r := newRig(t)
	body := pattern(1, 3000)
	r.put("k", body)
	for _, at := range []string{"answer", "body"} {
		id := r.fault("slow,rate=100000,at=" + at).ID
		start := time.Now()
		if at == "body" {
			r.put("k", body)
		} else if !bytes.Equal(r.get("k"), body) {
			t.Error("other bytes")
		}
		if d := time.Since(start); d < 30*time.Millisecond || r.state(id).Fired != 1 {
			t.Errorf("3,000 bytes at 100,000 per second took %v", d)
		}
		r.remove(id)
	}
}

func TestCorruptAnswers(t *testing.T) {
	r := newRig(t)
	body := pattern(1, 1000)
	b := r.once()
	id := r.fault("corrupt,what=crc").ID
	var wrong oss.CRCCheckError
	if err := b.PutObject("k", bytes.NewReader(body)); !errors.As(err, &wrong) {
		t.Errorf("the SDK says %v", err)
	}
	meta, err := b.GetObjectDetailedMeta("k")
	if err != nil || meta.Get("x-oss-hash-crc64ecma") == crcOf(body) {
		t.Error(err, meta)
	}
	if f := r.state(id); f.Fired != 2 {
		t.Errorf("%+v", f)
	}
	r.remove(id)
	if meta, _ := b.GetObjectDetailedMeta("k"); meta.Get("x-oss-hash-crc64ecma") != crcOf(body) {
		t.Error("the wrong CRC was stored")
	}

	id = r.fault("corrupt,what=etag").ID
	copied, err := b.CopyObject("k", "copy") // in XML
	if err != nil || strings.Trim(copied.ETag, `"`) == etagOf(body) || len(copied.ETag) != len(etagOf(body))+2 {
		t.Error(err, copied)
	}
	meta, err = b.GetObjectDetailedMeta("k") // in a header
	if err != nil || strings.Trim(meta.Get("ETag"), `"`) == etagOf(body) {
		t.Error(err, meta)
	}
	list, err := b.ListObjectsV2()
	if err != nil || len(list.Objects) != 2 || strings.Trim(list.Objects[0].ETag, `"`) == etagOf(body) || strings.Trim(list.Objects[1].ETag, `"`) == etagOf(body) {
		t.Error(err, list.Objects)
	}
	r.remove(id)

	id = r.fault("corrupt,what=body,op=GetObject").ID
	want := bytes.Clone(body)
	want[500] ^= 1
	if got := r.get("k"); !bytes.Equal(got, want) {
		t.Errorf("%d bytes", len(got))
	}
	r.remove(id)
	for _, op := range []string{"GetObject", "ListObjectsV2"} {
		id = r.fault("corrupt,what=length,bytes=400,op=" + op).ID
		if op == "GetObject" {
			if got := r.get("k"); !bytes.Equal(got, body[:400]) { // and no error: only the CRC shows it
				t.Errorf("%d bytes", len(got))
			}
		} else if _, err := b.ListObjectsV2(); err == nil {
			t.Error("half a listing was taken")
		}
		r.remove(id)
	}
}

func crcOf(b []byte) string {
	d := newDigest()
	d.Write(b)
	var c content
	d.sums(&c)
	return fmt.Sprint(c.crc)
}

func TestAnUploadIsForgotten(t *testing.T) {
	r := newRig(t)
	b := r.once()
	part := func(up oss.InitiateMultipartUploadResult) error {
		_, err := b.UploadPart(up, strings.NewReader("part"), 4, 2)
		return err
	}
	up := r.initiate("k")
	id := r.fault("forget,op=UploadPart,part=2-3,count=1").ID
	if _, err := b.UploadPart(up, strings.NewReader("part"), 4, 1); err != nil {
		t.Error(err)
	}
	wantCode(t, part(up), 404, "NoSuchUpload")
	r.remove(id)
	wantCode(t, part(up), 404, "NoSuchUpload")
	_, err := b.ListUploadedParts(up)
	wantCode(t, err, 404, "NoSuchUpload")

	id = r.fault("forget,at=after,op=InitiateMultipartUpload").ID
	wantCode(t, part(r.initiate("k")), 404, "NoSuchUpload")
	r.remove(id)
	if err := part(r.initiate("k")); err != nil {
		t.Error(err)
	}
}

func TestAnObjectChangesBehindTheBackOfTheClient(t *testing.T) {
	r := newRig(t)
	r.put("k", []byte("mine"))
	r.put("other", []byte("mine"))
	was, err := r.once().GetObjectDetailedMeta("k")
	if err != nil {
		t.Fatal(err)
	}
	id := r.fault("change,op=HeadObject,key=k,content=theirs").ID
	is, err := r.once().GetObjectDetailedMeta("k")
	if err != nil || is.Get("ETag") == was.Get("ETag") || is.Get("Content-Length") != "6" || !r.has("k", "theirs") {
		t.Error(err, is)
	}
	r.remove(id)
	id = r.fault("change,op=HeadObject,at=after,object=other,count=2").ID
	for range 2 {
		if _, err := r.once().GetObjectDetailedMeta("k"); err != nil {
			t.Error(err)
		}
	}
	if got := string(r.get("other")); !strings.HasSuffix(got, ", 2") {
		t.Errorf("the second change left %q", got)
	}
	r.remove(id)
	id = r.fault("remove,op=HeadObject,at=after").ID
	if _, err := r.once().GetObjectDetailedMeta("k"); err != nil {
		t.Error(err)
	}
	_, err = r.once().GetObjectDetailedMeta("k")
	wantCode(t, err, 404, "NoSuchKey")
	if f := r.state(id); f.Fired != 2 {
		t.Errorf("%+v", f)
	}
	// What the server does behind the client's back is no request.
	var c counts
	if r.admin("GET", "/counts", "", &c); c.Ops["PutObject"].Requests != 2 || c.Ops["DeleteObject"].Requests != 0 {
		t.Errorf("%+v", c)
	}
}

func TestAWrongClock(t *testing.T) {
	r := newRig(t)
	r.put("k", []byte("x"))
	for _, by := range []string{"20m", "-20m"} {
		id := r.fault("clock,by=" + by).ID
		wantCode(t, r.once().PutObject("k", strings.NewReader("y")), 403, "RequestTimeTooSkewed")
		resp, err := http.Get(r.web.URL)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		date, err := http.ParseTime(resp.Header.Get("Date"))
		if d := time.Since(date).Abs(); err != nil || d < 19*time.Minute {
			t.Errorf("the server's Date is off by %v: %v", d, err)
		}
		r.remove(id)
	}
	r.fault("clock,by=-10m")
	r.put("k", []byte("y"))
	meta, err := r.once().GetObjectDetailedMeta("k")
	if err != nil {
		t.Fatal(err)
	}
	if at, err := http.ParseTime(meta.Get("Last-Modified")); err != nil || time.Since(at) < 9*time.Minute {
		t.Error(at, err)
	}
}

func TestWhichRequestsAFaultIsFor(t *testing.T) {
	r := newRig(t)
	b := r.once()
	id := r.fault("error,op=PutObject,key=dir/.*\\.bin,skip=1,count=2").ID
	var got []string
	for _, key := range []string{"dir/1.bin", "other", "dir/2.bin", "dir/sub/3.bin", "dir/4.bin", "xdir/5.bin", "dir/6.binx"} {
		if b.PutObject(key, strings.NewReader("x")) != nil {
			got = append(got, key)
		}
	}
	if s := strings.Join(got, " "); s != "dir/2.bin dir/sub/3.bin" {
		t.Errorf("it fired for %s", s)
	}
	if f := r.state(id); f.Matched != 4 || f.Fired != 2 {
		t.Errorf("%+v", f)
	}
	r.remove(id)
	// The same seed draws the same lot; a seed that nobody gave is reported.
	draw := func(spec string) (lot string, seed uint64) {
		f := r.fault(spec)
		defer r.remove(f.ID)
		for range 40 {
			if b.PutObject("k", strings.NewReader("x")) != nil {
				lot += "x"
			} else {
				lot += "."
			}
		}
		return lot, f.Seed
	}
	first, seed := draw("error,probability=0.5")
	if again, _ := draw(fmt.Sprint("error,probability=0.5,seed=", seed)); seed == 0 || again != first || !strings.Contains(first, "x") || !strings.Contains(first, ".") {
		t.Errorf("seed %d:\n%s\n%s", seed, first, again)
	}
	// A bucket, and the form of JSON.
	if err := r.s.CreateBucket("other"); err != nil {
		t.Fatal(err)
	}
	r.fault(`{"do": "error", "bucket": "o.*", "code": "AccessDenied", "key": "a,b"}`)
	other, _ := r.client(oss.AuthV4).Bucket("other")
	wantCode(t, other.PutObject("a,b", strings.NewReader("x")), 403, "AccessDenied")
	if err := b.PutObject("a,b", strings.NewReader("x")); err != nil {
		t.Error(err)
	}
	// Several faults happen to one request, in their order.
	r.admin("DELETE", "/faults", "", nil)
	r.fault("delay,for=1ms")
	r.fault("error,at=after,status=500")
	r.fault("error,at=after,status=502")
	wantCode(t, b.PutObject("k", strings.NewReader("x")), 500, "InternalError")
	if e := r.logged(r.mark() - 1); len(e.Faults) != 2 {
		t.Errorf("%+v", e)
	}
}

func TestWrongFaultsAreRefused(t *testing.T) {
	r := newRig(t)
	for spec, want := range map[string]string{
		"":                         "it is one of change, clock",
		"explode":                  "it is one of change, clock",
		"reset,at=noon":            "give at=before or at=body",
		"late,at=after":            "give at=body",
		"reset,op=PutObjct":        "they are AbortMultipartUpload",
		"reset,key=(":              "no regular expression",
		"reset,key=a)(b":           "no regular expression",
		"reset,part=0":             "write 3, 2-5 or 7-",
		"reset,part=5-2":           "write 3, 2-5 or 7-",
		"reset,part=x":             "write 3, 2-5 or 7-",
		"reset,count=many":         "not a number",
		"reset,count=-1":           "cannot be negative",
		"reset,bytes=7":            "at=body or at=answer",
		"reset,colour=red":         "the fields are do, at, op",
		"reset,key=a,b":            "form of JSON",
		"reset,for=1s":             "reset has no use for for: it takes bytes",
		"forget,rate=1":            "nothing but the matcher",
		"slow":                     "needs rate=",
		"clock":                    "needs by=",
		"corrupt":                  "needs what=",
		"corrupt,what=hash":        "one of crc, etag, body, length",
		"corrupt,what=crc,bytes=1": "what=body",
		"delay,for=soon":           "a duration such as 250ms",
		"error,status=418":         "needs a code",
		"error,code=Teapot":        "give status=",
		"error,status=200,code=X":  "is no error",
		"error,probability=2":      "between 0 and 1",
		"error,seed=2":             "give that too",
		`{"do":"reset","x":1}`:     "the fields are do, at, op",
		`{"do":"reset"} {}`:        "something behind",
		`{"do":"delay","for":"x"}`: "invalid duration",
	} {
		if _, err := ParseFault(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", spec, err, want)
		}
		if code := r.admin("POST", "/faults", spec, nil); code != 400 {
			t.Errorf("%q: status %d", spec, code)
		}
	}
	for path, want := range map[string]int{"/faults/7": 404, "/faults/x": 404} {
		if code := r.admin("GET", path, "", nil); code != want {
			t.Error(path, code)
		}
		if code := r.admin("DELETE", path, "", nil); code != want {
			t.Error(path, code)
		}
	}
	o := testOptions()
	o.Faults = []Fault{{Do: "explode"}}
	if s, err := Open(t.Context(), t.TempDir(), o); err == nil {
		s.Close()
		t.Error("a server with a wrong fault was opened")
	}
	list, err := ParseFaults(strings.NewReader("# two\n\nreset,at=after\n {\"do\":\"error\"}\n"))
	if err != nil || len(list) != 2 || list[1].Code != "InternalError" {
		t.Error(list, err)
	}
	if _, err := ParseFaults(strings.NewReader("reset\nx\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Error(err)
	}
}

func TestFaultsFromTheBeginning(t *testing.T) {
	o := testOptions()
	o.Faults = []Fault{{Do: "error", Code: "UserDisable", Op: "PutObject"}}
	r := newRigWith(t, o)
	wantCode(t, r.once().PutObject("k", strings.NewReader("x")), 403, "UserDisable")
	var list []FaultState
	if r.admin("GET", "/faults", "", &list); len(list) != 1 || list[0].Fired != 1 || list[0].Status != 403 {
		t.Errorf("%+v", list)
	}
}

// TestCloseEndsWhatIsHeld leaves requests in every state of waiting, and closes
// the server.
func TestCloseEndsWhatIsHeld(t *testing.T) {
	r := newRig(t)
	r.put("k", pattern(1, 16<<20))
	ids := []int{r.fault("delay,op=PutObject").ID, r.fault("late,op=DeleteObject").ID, r.fault("delay,at=after,op=HeadObject").ID}
	b := r.once()
	go b.PutObject("new", strings.NewReader("x"))
	go b.GetObjectDetailedMeta("k")
	if b.DeleteObject("k") == nil {
		t.Error("the delete was answered")
	}
	for _, id := range ids {
		r.held(id)
	}
	// A client that sends half a request, one that sends half a body, one that
	// does not read its answer.
	r.dial("PUT /bkt/k HT")
	stalled := r.dial(rawPut + "01")
	url, err := b.SignURL("k", oss.HTTPGet, 60)
	if err != nil {
		t.Fatal(err)
	}
	deaf := r.dial("GET " + strings.TrimPrefix(url, r.web.URL) + " HTTP/1.1\r\nHost: x\r\n\r\n")
	deaf.(*net.TCPConn).SetReadBuffer(1)
	if line, err := bufio.NewReader(deaf).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Fatalf("%q %v", line, err)
	}
	r.until("5 requests wait", func() bool {
		r.s.running.mu.Lock()
		defer r.s.running.mu.Unlock()
		return len(r.s.running.calls) == 5
	})
	poll := make(chan int)
	go func() { poll <- r.admin("GET", "/log?after=1000000&wait=1h", "", nil) }()
	if err := r.s.Close(); err != nil {
		t.Error(err)
	}
	if code := <-poll; code != 200 {
		t.Error("a poll ends with", code)
	}
	if b, err := io.ReadAll(stalled); err == nil && strings.Contains(string(b), "200 OK") {
		t.Errorf("half a body was answered with %q", b)
	}
	r.web.CloseClientConnections()
	r.web.Close()
	r.until("no request is under way", func() bool {
		stacks := make([]byte, 1<<20)
		return !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("Server).ServeHTTP("))
	})
	r.open(testOptions())
	if !bytes.Equal(r.get("k"), pattern(1, 16<<20)) || r.has("new", "x") {
		t.Error("what was held was done")
	}
}
