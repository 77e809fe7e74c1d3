package ossemu

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// errGone ends the work for a client that has lost its connection by a fault.
var errGone = errors.New("the connection was cut off")

// firedFault is what the log of requests says of a fault.
type firedFault struct {
	ID int    `json:"id"`
	Do string `json:"do"`
	At string `json:"at"`
}

// befalls decides whether f happens to c, which has come to a place.
func (c *call) befalls(f *fault, place string, a *answer) bool {
	if f.At != place || !f.matches(c) || !c.canSuffer(f, a) || !f.due() {
		return false
	}
	c.fired = append(c.fired, firedFault{f.id, f.Do, f.At})
	return true
}

// canSuffer reports whether f means something for a request, or for its answer.
func (c *call) canSuffer(f *fault, a *answer) bool {
	switch f.Do {
	case "forget":
		return c.uploadIn(a) != ""
	case "change", "remove":
		return c.bucket != "" && (c.key != "" || f.Object != "")
	case "late":
		return !c.gone
	}
	if f.At == placeBody {
		return c.r.ContentLength != 0
	}
	return true
}

// uploadIn is the upload ID in a request or in the answer to Initiate.
func (c *call) uploadIn(a *answer) string {
	if id := c.query.get("uploadId"); id != "" || a == nil {
		return id
	}
	started, _ := a.xml.(initiateResult)
	return started.UploadId
}

// suffer lets the faults of the places before and after happen. An error takes
// the place of the work, or of its answer.
func (c *call) suffer(place string, a *answer) error {
	for _, f := range c.s.faults.all() {
		if !c.befalls(f, place, a) {
			continue
		}
		switch f.Do {
		case "delay":
			if err := c.hold(f, c.r.Context().Done()); err != nil {
				return err
			}
		case "error":
			return f.refusal()
		case "reset", "close":
			c.cut(f.Do)
			return errGone
		case "clock":
			c.shift += time.Duration(f.By)
		case "forget":
			c.behind(http.MethodDelete, c.key, "uploadId="+escape(c.uploadIn(a)), "")
		case "change":
			content := f.Content
			if content == "" {
				content = "changed behind the back of the client, " + strconv.FormatInt(f.state().Fired, 10)
			}
			c.behind(http.MethodPut, f.objectOf(c), "", content)
		case "remove":
			c.behind(http.MethodDelete, f.objectOf(c), "", "")
		}
	}
	return nil
}

func (f *fault) objectOf(c *call) string {
	if f.Object != "" {
		return f.Object
	}
	return c.key
}

// hold lets a request wait until the time of f is over or f is removed. It
// fails if the client (unless away is nil) or the server goes first.
func (c *call) hold(f *fault, away <-chan struct{}) error {
	f.holding(1)
	defer f.holding(-1)
	var over <-chan time.Time
	if f.For > 0 {
		t := time.NewTimer(time.Duration(f.For))
		defer t.Stop()
		over = t.C
	}
	select {
	case <-over:
	case <-f.removed:
	case <-away:
		c.sever("reset")
		return errGone
	case <-c.s.closing:
		select {
		case <-f.removed: // it was let go before the server was closed
		default:
			return errClosed
		}
	}
	return nil
}

// behind does what another client would do to the bucket of c, whatever its
// permissions. That it cannot be done is no concern of c: an upload that is to
// be forgotten may be gone already.
func (c *call) behind(method, key, rawQuery, body string) {
	r := &http.Request{
		Method: method, URL: &url.URL{Path: "/" + c.bucket + "/" + key, RawQuery: rawQuery}, Host: c.r.Host,
		Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	other := c.s.newCall(r)
	other.bucket, other.key = c.bucket, key
	other.op = findOperation(other)
	other.hidden = true
	if _, err := other.op.run(other); err != nil {
		c.s.o.Log.Info("nothing to do behind the client's back", "op", other.op.name, "bucket", c.bucket, "key", key, "error", err)
	}
}

// armBody decides, before the first byte of a body is read, what will happen
// to it.
func (c *call) armBody() {
	for _, f := range c.s.faults.all() {
		if !c.befalls(f, placeBody, nil) {
			continue
		}
		switch f.Do {
		case "slow":
			c.slowIn = newLane(f.Rate)
		case "late":
			c.late = f
		default:
			c.body.stops = append(c.body.stops, stop{at: f.where(c.r.ContentLength), f: f})
		}
	}
}

// where says after how many of length bytes f happens. A body whose length is
// not known is broken off after its first byte.
func (f *fault) where(length int64) int64 {
	switch {
	case f.Bytes != nil && length >= 0:
		return min(*f.Bytes, length)
	case f.Bytes != nil:
		return *f.Bytes
	case length < 0:
		return 1
	}
	return length / 2
}

// stop is a byte of a body at which something happens.
type stop struct {
	at int64
	f  *fault
}

// halt does what is due after the bytes of the body that have come.
func (b *meteredBody) halt() error {
	for i := 0; i < len(b.stops); i++ {
		s := b.stops[i]
		if s.at > b.in {
			continue
		}
		b.stops = append(b.stops[:i:i], b.stops[i+1:]...)
		i--
		if s.f.Do == "delay" {
			if err := b.c.hold(s.f, b.c.r.Context().Done()); err != nil {
				return err
			}
			continue
		}
		b.c.cut(s.f.Do)
		return errGone
	}
	return nil
}

// land is where a request has been read and its work begins. If it is to be
// late, the client loses its connection here, and the work waits.
func (c *call) land() error {
	f := c.late
	if f == nil {
		return nil
	}
	c.late = nil
	c.sever("reset") // it is recorded when it has landed
	return c.hold(f, nil)
}

// cut ends the connection, as reset (RST) or close (FIN). The request is
// recorded before, so that a client which sees its connection go finds it in
// the log.
func (c *call) cut(how string) {
	c.record(0)
	c.sever(how)
}

func (c *call) sever(how string) {
	if c.gone {
		return
	}
	c.gone = true
	control := http.NewResponseController(c.w)
	if c.began {
		control.Flush() // what was sent was sent
	}
	conn, _, err := control.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // no connection of HTTP/1.1: the best that is left
	}
	defer conn.Close()
	inner := conn
	if wrapped, ok := conn.(interface{ NetConn() net.Conn }); ok {
		inner = wrapped.NetConn()
	}
	tcp, ok := inner.(interface {
		SetLinger(int) error
		CloseWrite() error
	})
	switch {
	case !ok:
	case how == "reset":
		tcp.SetLinger(0)
	default:
		// A close over unread bytes would be a reset: what the client still
		// sends is read, for a moment.
		tcp.CloseWrite()
		c.s.running.limit(c, conn, time.Second)
		io.Copy(io.Discard, io.LimitReader(conn, drainLimit))
	}
}
