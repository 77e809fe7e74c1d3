package ossemu

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/crc64"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

const (
	testKey    = "ak"
	testSecret = "sk"
	testRegion = "cn-hangzhou"
	testBucket = "bkt"
)

// crcTable is the standard library's, to judge ours.
var crcTable = crc64.MakeTable(crc64.ECMA)

// rig is a server on a directory, with clients of it.
type rig struct {
	t   *testing.T
	dir string
	s   *Server
	web *httptest.Server
}

func testOptions() Options {
	return Options{Keys: map[string]string{testKey: testSecret}, Region: testRegion}
}

func newRig(t *testing.T) *rig { return newRigWith(t, testOptions()) }

// newRigWith starts a server with one bucket. When the test is over it checks
// that what is on disk is what was in memory.
func newRigWith(t *testing.T, o Options) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir()}
	r.open(o)
	if err := r.s.CreateBucket(testBucket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.web.Close()
		r.s.running.all.Wait() // those whose connection a fault has cut
		r.check()
		if err := r.s.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) open(o Options) {
	r.t.Helper()
	s, err := Open(context.Background(), r.dir, o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.s, r.web = s, httptest.NewServer(s)
}

// die takes the server away as kill -9 would: nothing is closed or flushed,
// only the lock is lost.
func (r *rig) die() {
	r.web.CloseClientConnections()
	r.web.Close()
	r.s.store.lock.Close()
}

// check compares the state in memory with that of the log, and the segment
// files with those that are used.
func (r *rig) check() {
	r.t.Helper()
	st := r.s.store
	st.mu.Lock()
	defer st.mu.Unlock()
	again := newStore(st.dir, false, st.log)
	f, err := os.Open(st.path("log"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	if _, err := readLog(context.Background(), f, func(rec record) error { _, err := again.applyLocked(rec); return err }); err != nil {
		r.t.Fatal(err)
	}
	if a, b := dump(st), dump(again); a != b {
		r.t.Errorf("log and memory differ:\n%s\n----\n%s", a, b)
	}
	again.packs.measure(again.segmentPath)
	if st.packs.size != again.packs.size || st.packs.live != again.packs.live || len(st.packs.all) != len(again.packs.all) {
		r.t.Errorf("%d packs of %d bytes, %d of them alive; by log and files %d, %d, %d", len(st.packs.all), st.packs.size, st.packs.live,
			len(again.packs.all), again.packs.size, again.packs.live)
	}
	files, _ := filepath.Glob(filepath.Join(st.dir, "data", "*", "*"))
	if len(files) != len(st.refs) {
		r.t.Errorf("%d segment files, %d in use", len(files), len(st.refs))
	}
}

func dump(st *store) string {
	var b bytes.Buffer
	for _, name := range st.bucketNamesLocked() {
		bk := st.buckets[name]
		fmt.Fprintf(&b, "%+v parts %d bytes %d objects %d uploads %d\n", bk.bucketInfo, bk.parts, bk.bytes, bk.objects.size, bk.uploads.size)
		for n := bk.objects.first(); n != nil; n = n.following() {
			o := *n.value
			if s := o.special; s != nil { // a pointer says nothing
				fmt.Fprintf(&b, "%+v ", *s)
			}
			o.special = nil
			fmt.Fprintf(&b, "%+v\n", o)
		}
		for n := bk.uploads.first(); n != nil; n = n.following() {
			fmt.Fprintf(&b, "%+v %d %v %+v\n", n.value.uploadKey, n.value.started, n.value.sequential, n.value.attrs)
			for i := 1; i <= maxParts; i++ {
				if p := n.value.parts[i]; p != nil {
					fmt.Fprintf(&b, "  %+v\n", *p)
				}
			}
		}
	}
	fmt.Fprintln(&b, st.refs)
	return b.String()
}

// client gives an SDK client; version is oss.AuthV1 or oss.AuthV4.
func (r *rig) client(version oss.AuthVersionType, more ...oss.ClientOption) *oss.Client {
	r.t.Helper()
	options := append([]oss.ClientOption{oss.AuthVersion(version), oss.Region(testRegion)}, more...)
	c, err := oss.New(r.web.URL, testKey, testSecret, options...)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) bucket(version oss.AuthVersionType, more ...oss.ClientOption) *oss.Bucket {
	b, err := r.client(version, more...).Bucket(testBucket)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// put stores an object with the SDK.
func (r *rig) put(key string, body []byte, options ...oss.Option) {
	r.t.Helper()
	if err := r.bucket(oss.AuthV4).PutObject(key, bytes.NewReader(body), options...); err != nil {
		r.t.Fatalf("put %q: %v", key, err)
	}
}

// get reads an object with the SDK.
func (r *rig) get(key string, options ...oss.Option) []byte {
	r.t.Helper()
	body, err := r.bucket(oss.AuthV4).GetObject(key, options...)
	if err != nil {
		r.t.Fatalf("get %q: %v", key, err)
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil {
		r.t.Fatalf("get %q: %v", key, err)
	}
	return b
}

// wantCode checks that err is the given refusal.
func wantCode(t *testing.T, err error, status int, code string) {
	t.Helper()
	se, ok := err.(oss.ServiceError)
	if !ok || se.StatusCode != status || se.Code != code {
		t.Errorf("got %v, want %d %s", err, status, code)
	}
}

// admin calls the admin handler and decodes its answer.
func (r *rig) admin(method, path, body string, into any) int {
	r.t.Helper()
	w := httptest.NewRecorder()
	r.s.Admin().ServeHTTP(w, httptest.NewRequest(method, path, bytes.NewBufferString(body)))
	if into != nil && w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			r.t.Fatalf("%s %s: %v", method, path, err)
		}
	}
	return w.Code
}

// pattern gives n bytes that differ from place to place.
func pattern(seed, n int) []byte {
	b := make([]byte, 0, n+16)
	for i := 0; len(b) < n; i++ {
		b = append(strconv.AppendInt(b, int64(i*7919+seed), 36), '.')
	}
	return b[:n]
}

func md5Of(b []byte) string { sum := md5.Sum(b); return base64.StdEncoding.EncodeToString(sum[:]) }

func etagOf(b []byte) string { return strings.ToUpper(fmt.Sprintf("%x", md5.Sum(b))) }
