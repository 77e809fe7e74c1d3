package ossemu

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// call is one request on its way through the server.
type call struct {
	s      *Server
	r      *http.Request
	op     *operation
	bucket string
	key    string
	query  query
	id     string // x-oss-request-id
	start  time.Time
	body   *meteredBody

	asked       *rate.Limiter // the speed it asked for (x-oss-traffic-limit), or nil
	delayed     time.Duration // how long its bytes waited in lanes
	access      string        // ID of the key that it says it was signed with
	unsigned    bool          // made by nobody we know, on something public
	secondLevel bool          // path style where the host is one of Options.Domains

	w     http.ResponseWriter
	began bool   // the answer is being sent
	gone  bool   // the connection was cut: there is nobody to answer
	code  string // of the error that is answered
	work  int    // status of what was done; 0: nothing yet
	entry *entry // in the log; nil: not yet

	// What faults do to it.
	fired           []firedFault
	hidden          bool          // made by a fault, and hit by none
	shift           time.Duration // of the clock
	late            *fault        // the work waits for this one
	slowIn, slowOut *rate.Limiter
	own             lanes
}

// answer is what an operation wants to say. It is a value and not calls of a
// ResponseWriter, so that between the work and the answer there is a place
// where a fault can be put.
type answer struct {
	status int
	header http.Header
	xml    any           // marshalled as the body, or
	raw    []byte        // the body, or
	body   io.ReadCloser // streamed; closed when sent
	length int64         // of body, or of the body that HEAD does not send
}

// unknownLength is the length of a body that is sent in chunks.
const unknownLength = -1

func (a *answer) set(name, value string) {
	if a.header == nil {
		a.header = http.Header{}
	}
	a.header.Set(name, value)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	c := s.newCall(r)
	c.w = w
	if !s.running.enter(c) {
		c.hurry()
		c.send(c.errorAnswer(errUnavailable))
		return
	}
	defer s.running.leave(c)
	a := c.outcome()
	defer a.close()
	if !c.gone {
		c.send(a)
	}
	if c.gone {
		c.record(0) // a client that went away, or work that landed late
	}
}

// hurry gives the client of a server that is closed a moment to send the rest
// of its request and to read the answer.
func (c *call) hurry() {
	control := http.NewResponseController(c.w)
	control.SetReadDeadline(time.Now().Add(time.Second))
	control.SetWriteDeadline(time.Now().Add(time.Second))
}

// outcome is what there is to answer: the faults before the work, the work,
// the faults after it.
func (c *call) outcome() *answer {
	err := c.wait(time.Duration(c.s.shape.load().LatencyIn))
	if err == nil {
		err = c.suffer(placeBefore, nil)
	}
	var a *answer
	if err == nil {
		a, err = c.run()
	}
	if err != nil {
		a = c.errorAnswer(err)
	}
	if c.work = a.status; c.gone {
		return a
	}
	if err := c.suffer(placeAfter, a); err != nil {
		a.close()
		a = c.errorAnswer(err)
	}
	return a
}

func (a *answer) close() {
	if a.body != nil {
		a.body.Close()
		a.body = nil
	}
}

func (s *Server) newCall(r *http.Request) *call {
	var id [12]byte
	rand.Read(id[:])
	c := &call{s: s, r: r, start: time.Now(), id: strings.ToUpper(hex.EncodeToString(id[:])), query: parseQuery(r.URL.RawQuery)}
	c.body = &meteredBody{c: c, r: r.Body}
	c.address()
	c.op = findOperation(c)
	return c
}

// run is the way of a request up to its answer.
func (c *call) run() (*answer, error) {
	if err := c.authorise(); err != nil {
		return nil, err
	}
	if err := c.checkAddress(); err != nil {
		return nil, err
	}
	if err := c.keepTrafficLimit(); err != nil {
		return nil, err
	}
	if id, ok := c.query.lookup("versionId"); ok && c.key != "" {
		if err := checkVersion(id, c.key); err != nil {
			return nil, err
		}
	}
	if c.r.ContentLength == 0 {
		c.body.begin()
		if err := c.land(); err != nil {
			return nil, err
		}
	}
	return c.op.run(c)
}

// part is the part number of the request, 0 for none.
func (c *call) part() int {
	n, _ := strconv.Atoi(c.query.get("partNumber"))
	return n
}

// clock is the server's time, as this request sees it.
func (c *call) clock() time.Time { return c.s.o.Now().Add(c.shift) }

// record puts the request into the log, once.
func (c *call) record(status int) {
	if c.entry == nil {
		c.entry = c.s.tally.begin(c, status)
	}
	if status == 0 {
		c.entry.end()
	}
}

// drainLimit is how much of an unread body is read before an error is
// answered. A client that finds the connection closed while it still writes
// reports "connection reset" and never sees the error; OSS reads on as well.
const drainLimit = 64 << 20

// send sends a. What the request cost is recorded before its last byte leaves,
// so that a client which has its answer finds it in the counts.
func (c *call) send(a *answer) {
	if a.status >= 300 {
		io.Copy(io.Discard, io.LimitReader(c.body, drainLimit))
	}
	c.wait(time.Duration(c.s.shape.load().Latency))
	if c.gone {
		return
	}
	body := a.raw
	if a.xml != nil {
		body = marshal(a.xml)
	}
	body, spoiled := c.spoil(a, body)
	h := c.w.Header()
	h.Set("Server", "AliyunOSS")
	h.Set("Date", c.clock().UTC().Format(http.TimeFormat))
	h.Set("x-oss-request-id", c.id)
	h.Set("x-oss-server-time", strconv.FormatInt(time.Since(c.start).Milliseconds(), 10))
	if c.asked != nil {
		h.Set("x-oss-qos-delay-time", strconv.FormatInt(c.delayed.Milliseconds(), 10))
	}
	if a.xml != nil {
		h.Set("Content-Type", "application/xml")
	}
	for name, values := range a.header {
		h[name] = values
	}
	length := int64(len(body))
	if a.body != nil || c.r.Method == http.MethodHead {
		length = a.length
	}
	if length != unknownLength && a.status != http.StatusNoContent && a.status != http.StatusNotModified {
		h.Set("Content-Length", strconv.FormatInt(length, 10))
	}
	c.record(a.status)
	defer c.entry.end()
	c.began = true
	c.w.WriteHeader(a.status)
	out := &meteredWriter{c: c, w: c.w, entry: c.entry, spoiled: spoiled}
	switch {
	case c.r.Method == http.MethodHead:
	case out.cutOff(): // before the first byte of the body
	case a.body != nil:
		c.stream(out, a)
	default:
		out.Write(body)
	}
}

// stream sends a body. When the bytes cannot be read the connection is broken
// off, because the status has been sent and a short body is the only way left
// to tell the client.
func (c *call) stream(out io.Writer, a *answer) {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	known := a.length != unknownLength
	for sent := int64(0); !known || sent < a.length; {
		piece := *buffer
		if known {
			piece = piece[:min(int64(len(piece)), a.length-sent)]
		}
		n, err := a.body.Read(piece)
		if n > 0 {
			if _, err := out.Write(piece[:n]); err != nil {
				return // the client is gone
			}
			sent += int64(n)
		}
		if err == io.EOF && !known {
			return
		}
		if err != nil && (!known || sent < a.length) {
			c.s.o.Log.Error("object not readable", "bucket", c.bucket, "key", c.key, "error", err)
			panic(http.ErrAbortHandler)
		}
	}
}

// errorAnswer turns any error into the answer OSS gives.
func (c *call) errorAnswer(err error) *answer {
	var e *apiError
	if !errors.As(err, &e) {
		switch {
		case errors.Is(err, errClosed):
			e = errUnavailable
		case errors.Is(err, context.Canceled):
			e = errBrokenBody
		default:
			c.s.o.Log.Error("request failed", "op", c.op.name, "bucket", c.bucket, "key", c.key, "error", err)
			e = errInternal
		}
	}
	c.code = e.code
	a := &answer{status: e.status}
	for _, p := range e.header {
		a.set(p.name, p.value)
	}
	if e.status == http.StatusNotModified {
		return a
	}
	if e.ec != "" {
		a.set("x-oss-ec", e.ec)
	}
	body := e.body(c.id, c.r.Host)
	if c.r.Method == http.MethodHead {
		a.set("x-oss-err", base64Of(body))
		return a
	}
	a.set("Content-Type", "application/xml")
	a.raw = body
	return a
}
