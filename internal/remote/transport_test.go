package remote

import (
	"context"
	"crypto/x509"
	"errors"
	"hash/crc64"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ossmount/ossmount/internal/object"
)

// brief is short enough to wait for and long enough for loopback.
const brief = 200 * time.Millisecond

func TestServerThatStalls(t *testing.T) {
	hold := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	t.Run("before its answer", func(t *testing.T) {
		c := open(t, serve(t, hold), func(o *Options) { o.HeaderTimeout = brief })
		_, err := c.Put(t.Context(), "k", strings.NewReader("x"), 1, object.PutOptions{})
		wantFate(t, err, object.Unknown)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	})
	t.Run("within its answer", func(t *testing.T) {
		c := open(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"E"`)
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "01234")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		})), func(o *Options) { o.Idle = brief })
		rc, err := c.Get(t.Context(), object.Ref{Key: "k", ETag: "E", Size: 10}, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		if _, err := io.ReadAll(rc); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	})
	t.Run("before it has read the body", func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		c := open(t, serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release })),
			func(o *Options) { o.Idle = brief })
		_, err := c.Put(t.Context(), "k", &zeros{}, huge, object.PutOptions{})
		wantFate(t, err, object.NotSent)
	})
}

// slow hands out one byte per Read, each after a wait longer than Idle: it is
// the sender that is slow (a rate limit), which is no failure of the socket.
type slow struct {
	left int
	wait time.Duration
}

func (s *slow) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(s.wait)
	s.left--
	p[0] = 'x'
	return 1, nil
}

// TLS 1.3 servers send session tickets while the body is still under way,
// which must not be taken for the answer.
func TestSlowSenderIsNoStall(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"E"`)
	})
	plain, secure := httptest.NewServer(h), httptest.NewTLSServer(h)
	defer plain.Close()
	defer secure.Close()
	for _, s := range []*httptest.Server{plain, secure} {
		c := open(t, s.URL, func(o *Options) { o.Idle, o.HeaderTimeout = brief, brief })
		if s == secure {
			c.transport.TLSClientConfig.RootCAs = x509.NewCertPool()
			c.transport.TLSClientConfig.RootCAs.AddCert(s.Certificate())
		}
		for range 2 { // a new connection, then a used one
			if _, err := c.Put(t.Context(), "k", &slow{3, brief * 3 / 2}, 3, object.PutOptions{}); err != nil {
				t.Fatal(s.URL, err)
			}
		}
	}
}

func TestLongOperationsMayTakeLonger(t *testing.T) {
	c := open(t, "http://127.0.0.1:1", func(o *Options) { o.HeaderTimeout = time.Minute })
	for op := range ops {
		want := time.Minute
		if op == opComplete || op == opCopy || op == opPartCopy {
			want = 5 * time.Minute
		}
		if got := c.headerTimeout(op); got != want {
			t.Errorf("%s: %v", op, got)
		}
	}
}

// Few connections serve many calls: answers are read to their ends.
func TestConnectionsAreUsedAgain(t *testing.T) {
	var dials atomic.Int32
	withOSS(t, func(t *testing.T, c *Client) {
		dial := c.transport.DialContext
		c.transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			return dial(ctx, network, addr)
		}
		dials.Store(0)
		for range 20 {
			ref := mustPut(t, c, "k", noise(100_000))
			mustGet(t, c, ref, 0, ref.Size)
			mustGet(t, c, ref, 5, 10)
			if _, err := c.Head(t.Context(), "none"); err == nil {
				t.Fatal("found")
			}
			if _, err := c.Get(t.Context(), object.Ref{Key: "none", Size: 1}, 0, 1); err == nil {
				t.Fatal("found")
			}
			if _, err := c.List(t.Context(), object.ListQuery{}); err != nil {
				t.Fatal(err)
			}
		}
		if n := dials.Load(); n > 3 {
			t.Errorf("%d connections for 120 calls, one at a time", n)
		}
	})
}

func TestUploadLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 1 << 20
		limit := newThrottle(100 << 10)
		start := time.Now()
		b := &body{ctx: t.Context(), from: &zeros{}, size: size, limit: limit}
		n, err := io.Copy(io.Discard, b)
		if n != size || err != nil {
			t.Fatal(n, err)
		}
		if took := time.Since(start); took < 9*time.Second || took > 11*time.Second { // virtual time
			t.Fatal(took)
		}
		if whole, crc, err := b.seal(); !whole || crc != crc64.Checksum(make([]byte, size), crcTable) || err != nil {
			t.Fatal(whole, crc, err)
		}
	})
}

func TestSealedBodyGivesNothing(t *testing.T) {
	b := &body{ctx: t.Context(), from: &zeros{}, size: 10}
	if n, err := b.Read(make([]byte, 4)); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	if whole, _, _ := b.seal(); whole {
		t.Fatal("whole")
	}
	if n, err := b.Read(make([]byte, 4)); n != 0 || err == nil || err == io.EOF {
		t.Fatal(n, err)
	}
}

// deadlines is a socket that gives one byte per Read and notes the bound that
// each Read would have had.
type deadlines struct {
	net.Conn
	read time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error { d.read = t; return nil }
func (d *deadlines) Read([]byte) (int, error)          { return 1, nil }

// What a socket may take in each state. Bytes that come before the answer, as
// session tickets of TLS 1.3 do, are not the answer.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle, head = 30 * time.Second, 5 * time.Minute
		d := &deadlines{}
		c := &conn{Conn: d, idle: idle}
		want := func(state string, w time.Duration) {
			t.Helper()
			if w == 0 && !d.read.IsZero() || w != 0 && !d.read.Equal(time.Now().Add(w)) {
				t.Errorf("%s: %v, want %v", state, d.read, w)
			}
		}
		read := func() { _, _ = c.Read(nil); _, _ = c.Read(nil) }
		read()
		want("handshake", idle)
		for range 2 {
			c.begin(head)
			want("sending", 0)
			read()
			want("ticket while sending", 0)
			c.requestSent()
			want("sent", head)
			read()
			want("ticket after sending", head)
			c.answered()
			read()
			want("answer", idle)
		}
		c.begin(head)
		c.answered() // early: a refusal
		read()
		want("early answer", idle)
		c.requestSent()
		want("body behind an early answer", idle)
	})
}
