package ossemu

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

func TestReopenWithoutClose(t *testing.T) {
	r := newRig(t)
	b := r.bucket(oss.AuthV4)
	r.put("k", []byte("one"), oss.Meta("a", "1"))
	r.put("k", []byte("two"), oss.Meta("a", "2"))
	r.put("gone", []byte("x"))
	if err := b.DeleteObject("gone"); err != nil {
		t.Fatal(err)
	}
	up, err := b.InitiateMultipartUpload("m", oss.Meta("m", "v"))
	if err != nil {
		t.Fatal(err)
	}
	one, err := b.UploadPart(up, bytes.NewReader(pattern(1, minPart)), minPart, 1)
	if err != nil {
		t.Fatal(err)
	}
	r.die()
	r.open(testOptions())
	b = r.bucket(oss.AuthV4)
	if got := r.get("k"); string(got) != "two" {
		t.Errorf("k is %q", got)
	}
	if h, _ := b.GetObjectDetailedMeta("k"); h.Get("X-Oss-Meta-A") != "2" {
		t.Error(h)
	}
	if ok, _ := b.IsObjectExist("gone"); ok {
		t.Error("a deleted object is back")
	}
	two, err := b.UploadPart(up, strings.NewReader("end"), 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.CompleteMultipartUpload(up, []oss.UploadPart{one, two}); err != nil {
		t.Fatal(err)
	}
	r.die()
	r.open(testOptions())
	if got := r.get("m"); !bytes.Equal(got, append(pattern(1, minPart), "end"...)) {
		t.Error("m differs")
	}
}

func TestASecondServerIsRefused(t *testing.T) {
	r := newRig(t)
	if s, err := Open(context.Background(), r.dir, testOptions()); err == nil {
		s.Close()
		t.Error("two servers share a directory")
	}
}

func TestATornTailIsCutOff(t *testing.T) {
	r := newRig(t)
	r.put("k", []byte("kept"))
	name := filepath.Join(r.dir, "log")
	sound, _ := os.ReadFile(name)
	r.put("new", []byte("torn"))
	r.die()
	whole, _ := os.ReadFile(name)
	garbled := bytes.Clone(whole)
	garbled[len(garbled)-1] ^= 1
	tails := map[string][]byte{"zeros": append(bytes.Clone(sound), make([]byte, 5000)...), "garbled": garbled}
	for cut := len(sound); cut < len(whole); cut += 1 + (cut-len(sound))/3 { // each byte of the head, then steps
		tails[fmt.Sprint("cut at ", cut)] = whole[:cut]
	}
	for name, log := range tails {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(r.dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "log"), log, 0o600); err != nil {
			t.Fatal(err)
		}
		torn := &rig{t: t, dir: dir}
		torn.open(testOptions())
		if got := torn.get("k"); string(got) != "kept" {
			t.Errorf("%s: k is %q", name, got)
		}
		if ok, _ := torn.bucket(oss.AuthV4).IsObjectExist("new"); ok {
			t.Errorf("%s: a torn record counted", name)
		}
		torn.put("after", []byte("after"))
		torn.check()
		torn.die()
		torn.open(testOptions())
		if got := torn.get("after"); string(got) != "after" {
			t.Errorf("%s: after is %q", name, got)
		}
		torn.web.Close()
		torn.s.Close()
	}
	r.open(testOptions())
}

func TestDamageInTheMiddleIsNotATornTail(t *testing.T) {
	r := newRig(t)
	r.put("a", []byte("a"))
	r.put("b", []byte("b"))
	r.die()
	name := filepath.Join(r.dir, "log")
	log, _ := os.ReadFile(name)
	damaged := bytes.Clone(log)
	damaged[frameHead+1] ^= 0x40 // in the first record
	if err := os.WriteFile(name, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(context.Background(), r.dir, testOptions()); err == nil {
		s.Close()
		t.Error("a damaged log was opened")
	}
	if now, _ := os.ReadFile(name); !bytes.Equal(now, damaged) {
		t.Error("a refused log was changed")
	}
	if err := os.WriteFile(name, log, 0o600); err != nil {
		t.Fatal(err)
	}
	r.open(testOptions())
}

func TestTheLogIsRewritten(t *testing.T) {
	r := newRig(t)
	for i := range 50 {
		r.put(fmt.Sprint("k", i%5), pattern(i, 100), oss.Meta("i", fmt.Sprint(i)))
	}
	up, err := r.bucket(oss.AuthV4).InitiateMultipartUpload("m")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.bucket(oss.AuthV4).UploadPart(up, strings.NewReader("x"), 1, 1); err != nil {
		t.Fatal(err)
	}
	st := r.s.store
	st.mu.Lock()
	before, long := dump(st), st.length
	err = st.rewriteLocked()
	after, short := dump(st), st.length
	if alive := st.aliveLocked(); st.records != alive {
		t.Errorf("%d records, %d alive", st.records, alive)
	}
	st.mu.Unlock()
	if err != nil || before != after || short >= long/2 {
		t.Errorf("%v, %d bytes from %d", err, short, long)
	}
	r.check()
	r.put("k0", []byte("new"))
	r.die()
	r.open(testOptions())
	if string(r.get("k0")) != "new" || !bytes.Equal(r.get("k4"), pattern(49, 100)) {
		t.Error("objects differ")
	}
}

// A crash while the log is rewritten leaves a beginning of the new one.
func TestAHalfWrittenNewLogIsNoLog(t *testing.T) {
	r := newRig(t)
	r.put("k", []byte("kept"))
	log, err := os.ReadFile(filepath.Join(r.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	r.put("k", []byte("newer"))
	for _, n := range []int{0, 1, len(log) / 2, len(log)} {
		r.die()
		if err := os.WriteFile(filepath.Join(r.dir, "log.new"), log[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		r.open(testOptions())
		if got := r.get("k"); string(got) != "newer" {
			t.Errorf("with %d bytes of a new log, k is %q", n, got)
		}
		r.put("after", fmt.Append(nil, n))
		r.s.store.mu.Lock()
		err := r.s.store.rewriteLocked()
		r.s.store.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		r.die()
		r.open(testOptions())
		if string(r.get("k")) != "newer" || string(r.get("after")) != fmt.Sprint(n) {
			t.Errorf("%d bytes of a new log came into the next", n)
		}
	}
}

// rawPut sends a signed PUT and gives the caller the connection in the middle
// of the body.
func (r *rig) rawPut(key string, header string) net.Conn {
	r.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.web.URL, "http://"))
	if err != nil {
		r.t.Fatal(err)
	}
	date := time.Now().UTC().Format(http.TimeFormat)
	auth := signV1(testSecret, "PUT\n\n\n"+date+"\n/"+testBucket+"/"+key)
	fmt.Fprintf(conn, "PUT /%s/%s HTTP/1.1\r\nHost: x\r\nDate: %s\r\nAuthorization: OSS %s:%s\r\n%s\r\n", testBucket, key, date, testKey, auth, header)
	return conn
}

func TestABodyThatBreaksOffLeavesNothing(t *testing.T) {
	for name, header := range map[string]string{"length": "Content-Length: 1000000\r\n", "chunked": "Transfer-Encoding: chunked\r\n"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.put("old", []byte("old"))
			r.admin("POST", "/reset", "", nil)
			for _, key := range []string{"old", "new"} {
				conn := r.rawPut(key, header)
				if name == "chunked" {
					io.WriteString(conn, "186A0\r\n")
				}
				conn.Write(pattern(0, 500))
				conn.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, conn) // until the server is done with it
				conn.Close()
			}
			if got := r.get("old"); string(got) != "old" {
				t.Errorf("old is %q", got)
			}
			if ok, _ := r.bucket(oss.AuthV4).IsObjectExist("new"); ok {
				t.Error("half an object is visible")
			}
			var got counts
			r.admin("GET", "/counts", "", &got)
			if op := got.Ops["PutObject"]; op.Requests != 2 || op.BytesIn != 1000 || op.Status["400"] != 2 {
				t.Errorf("%+v", op)
			}
		})
	}
}

func TestABodyWithoutLengthIsRefused(t *testing.T) {
	r := newRig(t)
	for header, status := range map[string]string{"": "411", "Content-Length: 0\r\n": "200"} {
		conn := r.rawPut("k", header)
		line, err := bufio.NewReader(conn).ReadString('\n')
		conn.Close()
		if err != nil || !strings.Contains(line, status) {
			t.Errorf("%q: %q %v, want %s", header, line, err, status)
		}
	}
}

func TestRefusedBigBodyStillGetsItsAnswer(t *testing.T) {
	r := newRig(t)
	c, _ := oss.New(r.web.URL, testKey, "wrong")
	b, _ := c.Bucket(testBucket)
	wantCode(t, b.PutObject("k", bytes.NewReader(make([]byte, 8<<20))), 403, "SignatureDoesNotMatch")
}
