package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// newTransport makes the one transport of a client. It decodes nothing: an
// object stored with Content-Encoding gzip is bytes to us, and the CRC64 of
// OSS is that of the stored bytes.
func newTransport(o Options) *http.Transport {
	dialer := &net.Dialer{Timeout: o.ConnectTimeout, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, // never for loopback
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			nc, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &conn{Conn: nc, idle: o.Idle}, nil
		},
		TLSHandshakeTimeout: o.ConnectTimeout,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		DisableCompression:  true,
		MaxIdleConns:        o.Concurrency + 8,
		MaxIdleConnsPerHost: o.Concurrency + 8,
		// Readers may hold answers open beside the transfers that
		// Concurrency counts, so the bound is above it: it is there against
		// running out of local ports, not to schedule.
		MaxConnsPerHost: 2*o.Concurrency + 16,
		// Shorter than the read deadline, so that a connection at rest is
		// taken out of the pool before its deadline can hit a new request.
		IdleConnTimeout: o.Idle / 2,
		WriteBufferSize: 64 << 10,
		ReadBufferSize:  64 << 10,
	}
}

// conn fails a read or a write that makes no progress. Who waits for whom
// decides the bound:
//
//	request being sent   write: idle   read: none, the sender may be us
//	                                   waiting for our own rate limit
//	request sent         read: the header timeout of its operation
//	answer has begun     read: idle
//	at rest              read: idle, but IdleConnTimeout comes first
type conn struct {
	net.Conn
	idle time.Duration

	mu   sync.Mutex
	wait bool          // no byte of the answer has come
	sent bool          // with wait: the request is written
	head time.Duration // with wait: how long the answer may take to begin
}

func (c *conn) Read(p []byte) (int, error) {
	c.armRead()
	return c.Conn.Read(p)
}

func (c *conn) Write(p []byte) (total int, err error) {
	for {
		if err := c.Conn.SetWriteDeadline(time.Now().Add(c.idle)); err != nil {
			return total, err
		}
		n, err := c.Conn.Write(p[total:])
		total += n
		if n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return total, err
		}
		// Some of it went: a slow line, not a dead one.
	}
}

func (c *conn) armRead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setReadDeadlineLocked()
}

func (c *conn) setReadDeadlineLocked() {
	var t time.Time
	switch {
	case !c.wait:
		t = time.Now().Add(c.idle)
	case c.sent:
		t = time.Now().Add(c.head)
	}
	_ = c.Conn.SetReadDeadline(t) // fails only on a closed socket, as Read will
}

// begin: a request is about to be written.
func (c *conn) begin(head time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wait, c.sent, c.head = true, false, head
	c.setReadDeadlineLocked() // net/http reads all the time; this moves that read's deadline
}

// requestSent: the request is written as a whole.
func (c *conn) requestSent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = true
	if c.wait {
		c.setReadDeadlineLocked()
	}
}

// answered: the first byte of the answer was read. That is not the first
// byte from the socket: with TLS 1.3 session tickets come before it.
func (c *conn) answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wait = false // the next read sets its own deadline
}

// exchange is one request and what became of it. It travels through the SDK
// in the request's context, since the SDK shows neither the status of an
// answer that is not XML nor whether a request was sent at all.
type exchange struct {
	body    *body // nil: none
	length  int64
	head    time.Duration
	reached atomic.Bool // a connection was had: the request may have left

	sent   http.Header // of the request; holds what nobody may print
	status int         // 0: no answer
	header http.Header
	failed []byte // body of an answer that is not a success, cut at maxErrorBody
}

const maxErrorBody = 64 << 10

type exchangeKey struct{}

// tripper sends the SDK's signed requests: it attaches the body with its
// exact length (the SDK sends an empty one chunked) and notes the answer.
type tripper struct{ transport *http.Transport }

func (t *tripper) RoundTrip(req *http.Request) (*http.Response, error) {
	x := req.Context().Value(exchangeKey{}).(*exchange)
	x.sent = req.Header
	var used *conn
	var mu sync.Mutex // net/http calls the latter two on goroutines of the connection
	trace := &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			x.reached.Store(true)
			mu.Lock()
			defer mu.Unlock()
			if used = innerConn(info.Conn); used != nil {
				used.begin(x.head)
			}
		},
		WroteRequest: func(httptrace.WroteRequestInfo) {
			mu.Lock()
			defer mu.Unlock()
			if used != nil {
				used.requestSent()
			}
		},
		GotFirstResponseByte: func() {
			mu.Lock()
			defer mu.Unlock()
			if used != nil {
				used.answered()
			}
		},
	}
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), trace))
	if x.body != nil {
		req.Body, req.ContentLength = x.body, x.length
	}
	resp, err := t.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	x.status, x.header = resp.StatusCode, resp.Header
	if resp.StatusCode/100 != 2 {
		// Read here and parsed in errors.go: the SDK leaves a 3xx open and
		// cannot read an error that quotes a key with a control character.
		x.failed, _ = io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
		resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(nil))
	}
	return resp, nil
}

func innerConn(nc net.Conn) *conn {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	c, _ := nc.(*conn)
	return c
}
