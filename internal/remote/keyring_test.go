package remote

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/internal/ossemu"
)

// source hands out keys one after another.
type source struct {
	mu      sync.Mutex
	keys    []Key // the last one is given again and again
	fetched int
	fails   error
}

func (s *source) Get(context.Context) (Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetched++
	if s.fails != nil {
		return Key{}, s.fails
	}
	k := s.keys[0]
	if len(s.keys) > 1 {
		s.keys = s.keys[1:]
	}
	return k, nil
}

func (s *source) fetches() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fetched
}

func (s *source) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails = err
}

// sts is a server that believes temporary keys, which can be taken back.
type sts struct {
	*ossemu.Server
	url string
}

func newSTS(t *testing.T, ids ...string) *sts {
	t.Helper()
	var tokens []ossemu.Token
	for _, id := range ids {
		tokens = append(tokens, ossemu.Token{AccessKeyID: id, AccessKeySecret: testSecret, SecurityToken: "token of " + id})
	}
	s, err := ossemu.Open(t.Context(), t.TempDir(), ossemu.Options{Tokens: tokens})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.CreateBucket("bkt"); err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return &sts{s, h.URL}
}

// expire has OSS refuse what comes, as often as it is said.
func (s *sts) expire(t *testing.T, code string, times int64) {
	t.Helper()
	if _, err := s.AddFault(ossemu.Fault{Do: "error", Status: 403, Code: code, Count: times}); err != nil {
		t.Fatal(err)
	}
}

func temporary(id string, left time.Duration) Key {
	return Key{ID: id, Secret: testSecret, Token: "token of " + id, Expires: time.Now().Add(left), Remedy: "write another one"}
}

// The key expires in the middle of a multipart upload: OSS refuses a part, the new
// key is fetched, and the same part is sent again under the same upload.
func TestKeyThatExpiresInTheMiddleOfAnUpload(t *testing.T) {
	for code := range renewable {
		for _, region := range []string{"", "cn-hangzhou"} {
			t.Run(code+" "+region, func(t *testing.T) {
				t.Parallel()
				server := newSTS(t, "first", "second")
				keys := &source{keys: []Key{temporary("first", time.Hour), temporary("second", time.Hour)}}
				c := open(t, server.url, func(o *Options) { o.Credentials, o.Region = keys, region })
				id, err := c.Initiate(t.Context(), "k", object.PutOptions{})
				if err != nil {
					t.Fatal(err)
				}
				part := strings.Repeat("x", 100<<10)
				server.expire(t, code, 1)
				_, err = c.UploadPart(t.Context(), "k", id, 1, strings.NewReader(part), int64(len(part)))
				if object.KindOf(err) != object.Again {
					t.Fatalf("there is a new key, and the part is %v, want again", err)
				}
				p, err := c.UploadPart(t.Context(), "k", id, 1, strings.NewReader(part), int64(len(part)))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Complete(t.Context(), "k", id, []object.Part{p}, object.PutOptions{}); err != nil {
					t.Fatal(err)
				}
				if n := keys.fetches(); n != 2 {
					t.Errorf("the key was fetched %d times, want 2", n)
				}
			})
		}
	}
}

// Many requests that are refused at once fetch one key.
func TestManyWhoseKeyHasExpired(t *testing.T) {
	server := newSTS(t, "first", "second")
	keys := &source{keys: []Key{temporary("first", time.Hour), temporary("second", time.Hour)}}
	c := open(t, server.url, func(o *Options) { o.Credentials = keys })
	server.expire(t, "SecurityTokenExpired", 20)
	var g sync.WaitGroup
	for range 20 {
		g.Go(func() {
			if _, err := c.List(t.Context(), object.ListQuery{}); err == nil || object.KindOf(err) == object.Parked {
				t.Errorf("%v", err)
			}
		})
	}
	g.Wait()
	if _, err := c.List(t.Context(), object.ListQuery{}); err != nil {
		t.Error(err)
	}
	if n := keys.fetches(); n > 21 { // one for the first, and at worst one for each that was refused
		t.Errorf("the key was fetched %d times", n)
	}
}

// Where the source has no other key, all work waits; what mends it is said.
func TestKeyThatHasNoSuccessor(t *testing.T) {
	server := newSTS(t, "only")
	c := open(t, server.url, func(o *Options) { o.Credentials = &source{keys: []Key{temporary("only", time.Hour)}} })
	server.expire(t, "SecurityTokenExpired", 1)
	_, err := c.Put(t.Context(), "k", strings.NewReader("x"), 1, object.PutOptions{})
	if object.KindOf(err) != object.Wait || !strings.Contains(err.Error(), "write another one") {
		t.Errorf("want wait and a remedy: %v", err)
	}
}

// No error text holds what a request was signed with.
func TestRefusedKeyIsInNoError(t *testing.T) {
	c := open(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		asOSS(403, "InvalidAccessKeyId", "")(w, r)
	})), func(o *Options) { o.Credentials = &source{keys: []Key{temporary("first", time.Hour)}} })
	_, err := c.Put(t.Context(), "k", strings.NewReader("x"), 1, object.PutOptions{})
	for _, secret := range []string{testSecret, "token of first"} {
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%v", err)
		}
	}
}
