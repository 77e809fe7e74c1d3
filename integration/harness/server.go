package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// Credentials that the server believes. The secret must be in no output.
const (
	KeyID  = "ak-of-the-tests"
	Secret = "s3cr3t-that-nobody-may-print"
	Bucket = "bkt"
	Region = "cn-hangzhou"
)

// Server is `ossmount server` in a process of its own. After Kill or Stop,
// Start starts it again on the same ports and the same data.
type Server struct {
	Bin   string   // the binary
	Dir   string   // for its objects
	Flags []string // beside the usual ones

	URL, AdminURL string
	P             *Process
}

// Start starts the server and waits until it serves.
func (s *Server) Start(ctx context.Context) (err error) {
	if s.URL == "" {
		urls, err := freeURLs(2)
		if err != nil {
			return fmt.Errorf("start the OSS server: %w", err)
		}
		s.URL, s.AdminURL = urls[0], urls[1]
	}
	args := []string{"server", "--data=" + s.Dir, "--create-bucket=" + Bucket, "--access-key-id=" + KeyID, "--access-key-secret=" + Secret,
		"--listen=" + hostPort(s.URL), "--admin=" + hostPort(s.AdminURL)}
	if s.P, err = Start(nil, s.Bin, append(args, s.Flags...)...); err != nil {
		return err
	}
	if s.URL, err = s.P.Out.Line(ctx, "serving "); err == nil {
		s.AdminURL, err = s.P.Out.Line(ctx, "admin ")
	}
	if err != nil {
		return fmt.Errorf("start the OSS server: %w\n%s", err, s.P.Err.Tail(20))
	}
	return nil
}

// freeURLs returns n URLs of ports of the loopback at which nobody listens.
func freeURLs(n int) (urls []string, err error) {
	for range n {
		addr, err := FreePort()
		if err != nil {
			return nil, err
		}
		urls = append(urls, "http://"+addr)
	}
	return urls, nil
}

// FreePort returns a port of the loopback at which nobody listens, as "host:port". It
// is none that the kernel gives to outgoing connections (ip(7), ip_local_port_range):
// who listens there can stop, and find it free again later.
func FreePort() (string, error) {
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(22_000)))
		if err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", errors.New("no port from 10000 to 31999 of 127.0.0.1 is free")
}

// hostPort is where u listens.
func hostPort(u string) string {
	p, err := url.Parse(u)
	if err != nil {
		return u // to be refused by the server
	}
	return p.Host
}

// Kill ends the server with SIGKILL.
func (s *Server) Kill() error { return s.P.Kill() }

// Stop ends the server with SIGTERM.
func (s *Server) Stop() error {
	s.P.Signal(syscall.SIGTERM)
	code, err := s.P.Wait(30 * time.Second)
	if err == nil && code != 0 {
		err = fmt.Errorf("the OSS server ended with exit code %d\n%s", code, s.P.Err.Tail(20))
	}
	return err
}

// Op is what one operation did since the last Reset.
type Op struct {
	Requests int64            `json:"requests"`
	BytesIn  int64            `json:"bytes_in"`
	BytesOut int64            `json:"bytes_out"`
	Status   map[string]int64 `json:"status"`
}

// Counts is what all operations did.
type Counts struct {
	Ops      map[string]Op `json:"ops"`
	Requests int64         `json:"requests"`
	BytesIn  int64         `json:"bytes_in"`
	BytesOut int64         `json:"bytes_out"`
}

// OfObjects counts the requests about objects: all but listings of the bucket
// and questions about it.
func (c Counts) OfObjects() (n int64) {
	for name, op := range c.Ops {
		switch name {
		case "ListObjects", "ListObjectsV2", "ListMultipartUploads", "ListBuckets", "GetBucketInfo", "GetBucketLocation", "GetBucketStat":
		default:
			n += op.Requests
		}
	}
	return n
}

func (c Counts) String() string {
	s := fmt.Sprintf("%d requests:", c.Requests)
	for name, op := range c.Ops {
		s += fmt.Sprintf(" %s %d (in %d, out %d, %v)", name, op.Requests, op.BytesIn, op.BytesOut, op.Status)
	}
	return s
}

// Upload is one open multipart upload.
type Upload struct {
	Bucket   string `json:"bucket"`
	Key      string `json:"key"`
	UploadID string `json:"upload_id"`
	Parts    int    `json:"parts"`
	Bytes    int64  `json:"bytes"`
}

// Request is one line of the server's log.
type Request struct {
	Seq      int64     `json:"seq"`
	Time     time.Time `json:"time"`
	Op       string    `json:"op"`
	Bucket   string    `json:"bucket"`
	Key      string    `json:"key"`
	Part     int       `json:"part"`
	UploadID string    `json:"upload_id"`
	Access   string    `json:"access_key_id"`
	BytesIn  int64     `json:"bytes_in"`
	BytesOut int64     `json:"bytes_out"`
	Status   int       `json:"status"` // 0: no answer was sent
	Code     string    `json:"code"`
	// From Time on until the answer was sent.
	DurationMS float64 `json:"duration_ms"`
	Work       int     `json:"work"` // where no answer was sent: the status of what was done
	Faults     []struct {
		ID int    `json:"id"`
		Do string `json:"do"`
		At string `json:"at"`
	} `json:"faults"`
}

// Fault is a fault in force and what it has done.
type Fault struct {
	ID      int    `json:"id"`
	Seed    uint64 `json:"seed"`    // with a probability
	Matched int64  `json:"matched"` // requests that came to its place
	Fired   int64  `json:"fired"`   // of those, how often it happened
	Held    int64  `json:"held"`    // requests that wait because of it
}

// Counts of requests since the last Reset.
func (s *Server) Counts() (c Counts, err error) { return c, s.admin("GET", "/counts", nil, &c) }

// Uploads that are open.
func (s *Server) Uploads() (u []Upload, err error) { return u, s.admin("GET", "/uploads", nil, &u) }

// Log is the last 10,000 requests.
func (s *Server) Log() (r []Request, err error) { return r, s.admin("GET", "/log", nil, &r) }

// Mark is the number of the last request, for WaitFor.
func (s *Server) Mark() (int64, error) {
	list, err := s.Log()
	if err != nil || len(list) == 0 {
		return 0, err
	}
	return list[len(list)-1].Seq, nil
}

// WaitFor waits for a request behind number after (0: the first in the log) for
// which is is true; nil: any request. It asks without sleeping.
func (s *Server) WaitFor(ctx context.Context, after int64, is func(Request) bool) (Request, error) {
	for {
		var list []Request
		if err := s.adminIn(ctx, "GET", fmt.Sprintf("/log?after=%d&wait=10s", after), nil, &list); err != nil {
			return Request{}, fmt.Errorf("wait for a request behind number %d: %w", after, err)
		}
		for _, r := range list {
			if after = r.Seq; is == nil || is(r) {
				return r, nil
			}
		}
	}
}

// Fault brings a fault into force, written as for --fault (docs/server.md):
// "reset,at=after,op=CompleteMultipartUpload,count=1".
func (s *Server) Fault(spec string) (f Fault, err error) {
	return f, s.admin("POST", "/faults", spec, &f)
}

// FaultKinds is all that a fault can be about.
type FaultKinds struct {
	Do         map[string][]string `json:"do"` // what happens, and where
	What       []string            `json:"what"`
	Operations []string            `json:"operations"`
}

// FaultKinds asks the server what it can be made to do.
func (s *Server) FaultKinds() (k FaultKinds, err error) {
	return k, s.admin("GET", "/faults/kinds", nil, &k)
}

// Faults lists those in force.
func (s *Server) Faults() (f []Fault, err error) { return f, s.admin("GET", "/faults", nil, &f) }

// RemoveFault takes one out of force: what it holds goes on, and what it made
// late lands. It gives what the fault had done.
func (s *Server) RemoveFault(id int) (f Fault, err error) {
	return f, s.admin("DELETE", fmt.Sprint("/faults/", id), nil, &f)
}

// ClearFaults takes all out of force.
func (s *Server) ClearFaults() error { return s.admin("DELETE", "/faults", nil, nil) }

// WaitFired waits until a fault has fired so many times.
func (s *Server) WaitFired(ctx context.Context, id int, times int64) (Fault, error) {
	return s.waitFault(ctx, id, fmt.Sprint("fired=", times), func(f Fault) bool { return f.Fired >= times })
}

// WaitHeld waits until a fault holds a request.
func (s *Server) WaitHeld(ctx context.Context, id int) (Fault, error) {
	return s.waitFault(ctx, id, "held=1", func(f Fault) bool { return f.Held > 0 })
}

func (s *Server) waitFault(ctx context.Context, id int, what string, reached func(Fault) bool) (f Fault, err error) {
	for err == nil && !reached(f) {
		err = s.adminIn(ctx, "GET", fmt.Sprintf("/faults/%d?%s&wait=10s", id, what), nil, &f)
	}
	if err != nil {
		return f, fmt.Errorf("wait for %s of fault %d: %w", what, id, err)
	}
	return f, nil
}

// Shape changes how slow the server is, by the fields of /shape in
// docs/server.md: {"out": 1 << 20, "latency_in": "20ms"}.
func (s *Server) Shape(fields map[string]any) error { return s.admin("PUT", "/shape", fields, nil) }

// Reset forgets counts and log.
func (s *Server) Reset() error { return s.admin("POST", "/reset", nil, nil) }

// Believe has the server believe a temporary key until it expires, or until then if it
// knows it already.
func (s *Server) Believe(id, secret, token string, expires time.Time) error {
	return s.admin("PUT", "/tokens", map[string]any{"access_key_id": id, "access_key_secret": secret, "security_token": token, "expires": expires}, nil)
}

// Disbelieve has it refuse a temporary key.
func (s *Server) Disbelieve(id string) error { return s.admin("DELETE", "/tokens/"+id, nil, nil) }

// Bandwidth limits the bytes per second; 0 is no limit.
func (s *Server) Bandwidth(n int64) error {
	return s.admin("PUT", "/bandwidth", map[string]int64{"bytes_per_second": n}, nil)
}

// Latency is added to each answer.
func (s *Server) Latency(d time.Duration) error {
	return s.admin("PUT", "/latency", map[string]float64{"milliseconds": d.Seconds() * 1000}, nil)
}

func (s *Server) admin(method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return s.adminIn(ctx, method, path, in, out)
}

// adminIn sends in as JSON, or as it is if it is text.
func (s *Server) adminIn(ctx context.Context, method, path string, in, out any) error {
	text, isText := in.(string)
	b := []byte(text)
	if !isText {
		var err error
		if b, err = json.Marshal(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, s.AdminURL+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("admin of the OSS server: %w", err)
	}
	defer resp.Body.Close()
	if b, err = io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
		return fmt.Errorf("admin of the OSS server: %s %s: %s %s %v", method, path, resp.Status, b, err)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}
