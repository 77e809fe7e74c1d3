package remote

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/ossmount/ossmount/internal/object"
)

// The operations, by the names that OSS gives them.
const (
	opHead       = "HeadObject"
	opSymlink    = "GetSymlink"
	opBucket     = "GetBucketInfo"
	opGet        = "GetObject"
	opPut        = "PutObject"
	opCopy       = "CopyObject"
	opDelete     = "DeleteObject"
	opDeleteMany = "DeleteMultipleObjects"
	opList       = "ListObjectsV2"
	opInitiate   = "InitiateMultipartUpload"
	opPart       = "UploadPart"
	opPartCopy   = "UploadPartCopy"
	opComplete   = "CompleteMultipartUpload"
	opAbort      = "AbortMultipartUpload"
	opParts      = "ListParts"
	opUploads    = "ListMultipartUploads"
	opTags       = "GetObjectTagging"
	opACL        = "GetObjectACL"
)

// call is one request to be made.
type call struct {
	op, method string
	key        string // empty: of the bucket
	ofBucket   bool   // no key is meant; guards an empty key from becoming a request on the bucket
	query      map[string]any
	header     map[string]string
	body       io.Reader // nil: none
	size       int64
	accept     int // the status of success; 0 means 200
}

// OSS takes 245,760 to 838,860,800 bit/s as x-oss-traffic-limit.
const (
	MinTrafficLimit = 245_760 / 8
	MaxTrafficLimit = 838_860_800 / 8
)

// isLimited reports a request that takes x-oss-traffic-limit.
func (r call) isLimited() bool {
	switch r.op {
	case opPut, opPart, opCopy, opPartCopy, opGet:
		return true
	}
	return false
}

// with is r with one header more.
func (r call) with(name, value string) call {
	r.header = maps.Clone(r.header)
	if r.header == nil {
		r.header = map[string]string{}
	}
	r.header[name] = value
	return r
}

// answer is a success.
type answer struct {
	status int
	header http.Header
	body   io.ReadCloser
	asked  time.Time
	crc    uint64 // of the body that was sent
}

// stream makes the request and returns its answer with the body unread; the
// caller closes it.
func (c *Client) stream(ctx context.Context, r call) (*answer, error) {
	if r.key == "" && !r.ofBucket {
		return nil, refuse(r.op, r.key, "an object needs a key")
	}
	if c.opts.RequesterPays {
		r = r.with("X-Oss-Request-Payer", "requester")
	}
	if c.opts.TrafficLimit > 0 && r.isLimited() {
		r = r.with("X-Oss-Traffic-Limit", strconv.FormatInt(8*c.opts.TrafficLimit, 10))
	}
	for name, value := range r.header {
		if !validHeader(name, value) {
			return nil, refuse(r.op, r.key, "header "+name+" cannot be sent: a control character in it")
		}
	}
	if r.body == nil && r.size > 0 {
		return nil, refuse(r.op, r.key, "a size without a body")
	}
	x := &exchange{head: c.headerTimeout(r.op), length: r.size}
	if r.body != nil && r.size > 0 {
		x.body = &body{ctx: ctx, from: r.body, size: r.size, limit: c.limit, moved: &c.tally.sent}
	}
	start := time.Now()
	resp, err := c.conn.DoWithContext(context.WithValue(ctx, exchangeKey{}, x),
		r.method, c.opts.Bucket, r.key, r.query, r.header, nil, 0, nil)
	a := &answer{status: x.status, header: x.header, asked: start}
	whole := true
	var bodyErr error
	if x.body != nil {
		whole, a.crc, bodyErr = x.body.seal()
	}
	if err == nil {
		a.body = resp.Body
		err = unexpected(r, x.status, whole)
	}
	if err != nil {
		if a.body != nil {
			a.body.Close()
		}
		err = c.renewed(x, failure(ctx, r, x, whole, bodyErr, err))
	}
	if err != nil || r.op != opGet { // a GetObject is logged once it is read
		c.log(ctx, r, x.status, r.size, start, err)
	}
	return a, err
}

// renewed takes up an error that says that the key is not valid any more: if
// there is a new one by now, the request has merely to be repeated. Else the
// remedy is that of the place where the key comes from.
func (c *Client) renewed(x *exchange, err error) error {
	var e *object.Error
	if !errors.As(err, &e) || e.Kind != object.Wait {
		return err
	}
	if renewable[e.Code] {
		renewed, remedy := c.keys.renew(x.sent)
		if e.Remedy = remedy; renewed {
			e.Kind, e.Remedy = object.Again, "there is a new key by now"
		}
	} else if e.Code == "SignatureDoesNotMatch" {
		e.Remedy = join(e.Remedy, c.keys.held().Remedy)
	}
	return err
}

// do is stream for the answers that have no body or one that is of no
// interest; the body is read to its end so that the connection can be used
// again, and an error in that changes nothing.
func (c *Client) do(ctx context.Context, r call) (*answer, error) {
	a, err := c.stream(ctx, r)
	if err != nil {
		return nil, err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(a.body, maxErrorBody))
	a.body.Close()
	return a, nil
}

// doXML is do for the answers whose body counts; it is decoded into out.
func (c *Client) doXML(ctx context.Context, r call, out any) (*answer, error) {
	a, err := c.stream(ctx, r)
	if err != nil {
		return nil, err
	}
	data, err := a.text()
	a.body.Close()
	if err != nil {
		return nil, &object.Error{Op: r.op, Key: r.key, Kind: object.Again, Status: a.status, Err: cause(err)}
	}
	if err := decodeXML(data, out); err != nil {
		return nil, badXML(r, a, data, err)
	}
	return a, nil
}

// text reads the body, into a buffer of its size where OSS tells it: a page of
// a listing is some 300 KiB, and there are many of them.
func (a *answer) text() ([]byte, error) {
	size, err := strconv.Atoi(a.header.Get("Content-Length"))
	if err != nil || size < 0 || size > maxXML {
		return io.ReadAll(io.LimitReader(a.body, maxXML))
	}
	data := make([]byte, size)
	_, err = io.ReadFull(a.body, data)
	return data, err
}

// maxXML bounds an answer: a page of 1000 keys of 1023 escaped bytes each is
// below 4 MiB.
const maxXML = 32 << 20

var errBroken = errors.New("answered before the whole body was sent")

// unexpected checks the status of what the SDK takes for a success.
func unexpected(r call, status int, whole bool) error {
	if !whole {
		return errBroken
	}
	want := r.accept
	if want == 0 {
		want = http.StatusOK
	}
	if status != want {
		return fmt.Errorf("status %d, not %d", status, want)
	}
	return nil
}

// withXML gives r an XML body.
func (r call) withXML(data []byte) call {
	r.body, r.size = bytes.NewReader(data), int64(len(data))
	sum := md5.Sum(data)
	if r.header == nil {
		r.header = map[string]string{}
	}
	r.header["Content-Md5"] = base64.StdEncoding.EncodeToString(sum[:])
	return r
}

// log counts a request and writes its one line.
func (c *Client) log(ctx context.Context, r call, status int, bytes int64, start time.Time, err error) {
	c.tally.ended(r.op, err)
	if !c.opts.Log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attrs := []slog.Attr{
		slog.String("op", r.op), slog.String("key", r.key), slog.Int("status", status),
		slog.Int64("bytes", bytes), slog.Duration("took", time.Since(start)),
	}
	if err != nil {
		attrs = append(attrs, slog.String("err", err.Error()))
	}
	c.opts.Log.LogAttrs(ctx, slog.LevelDebug, "oss", attrs...)
}
