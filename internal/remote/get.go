package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/ossmount/ossmount/internal/crc64"
	"github.com/ossmount/ossmount/internal/object"
)

// Get is GetObject: n bytes from offset off of the version ref. Another
// version there is a Conflict, no object Absent. The reader gives exactly n
// bytes and then io.EOF, or fails with an *object.Error (io.ErrUnexpectedEOF
// within it if the answer ended early); ctx governs it to its end, and it
// must be closed. If the range is the whole object its CRC64 is compared
// before io.EOF is given: a difference is of kind Again, and the bytes
// already read must not be used. n == 0 makes no request.
func (c *Client) Get(ctx context.Context, ref object.Ref, off, n int64) (io.ReadCloser, error) {
	if off < 0 || n < 0 || off+n < off {
		return nil, refuse(opGet, ref.Key, fmt.Sprintf("no such range: %d bytes at %d", n, off))
	}
	if n == 0 {
		return http.NoBody, nil
	}
	whole := off == 0 && n == ref.Size
	r := call{op: opGet, method: http.MethodGet, key: ref.Key, header: map[string]string{
		"Accept-Encoding": "identity", // else OSS may compress, and leave out size and ETag
	}}
	if ref.ETag != "" {
		r.header["If-Match"] = quote(ref.ETag)
	}
	if !whole {
		r.header["Range"] = fmt.Sprintf("bytes=%d-%d", off, off+n-1)
		// Without it OSS answers a range that it dislikes with the object.
		r.header["X-Oss-Range-Behavior"] = "standard"
		r.accept = http.StatusPartialContent
	}
	a, err := c.stream(ctx, r)
	if err != nil {
		return nil, err
	}
	if kind, err := checkRange(a, ref, off, n, whole); err != nil {
		a.body.Close()
		return nil, &object.Error{Op: r.op, Key: r.key, Kind: kind, Fate: object.Answered, Status: a.status, Err: err}
	}
	rd := &reader{c: c, call: r, status: a.status, body: a.body, start: a.asked, left: n, whole: whole}
	if whole {
		if rd.want, rd.check = crcOf(a.header); !rd.check {
			rd.want, rd.check = ref.CRC64, ref.HasCRC
		}
	}
	return rd, nil
}

// checkRange makes sure that the answer is the piece that was asked for.
func checkRange(a *answer, ref object.Ref, off, n int64, whole bool) (object.Kind, error) {
	etag := etagOf(a.header)
	switch {
	case etag == "":
		// OSS always sends one unless it compresses.
		return object.Again, errors.New("no ETag in the answer")
	case ref.ETag != "" && !object.SameETag(etag, ref.ETag):
		return object.Conflict, fmt.Errorf("ETag %s, not %s", etag, ref.ETag)
	}
	if whole {
		if l := a.header.Get("Content-Length"); l != "" && l != fmt.Sprint(n) {
			if ref.ETag != "" { // it is that version, cut short on its way
				return object.Again, fmt.Errorf("%s bytes, not %d", l, n)
			}
			return object.Conflict, fmt.Errorf("%s bytes, not %d", l, n)
		}
		return 0, nil
	}
	var first, last int64
	var total string
	s := strings.TrimSpace(a.header.Get("Content-Range"))
	if _, err := fmt.Sscanf(s, "bytes %d-%d/%s", &first, &last, &total); err != nil {
		return object.Again, fmt.Errorf("Content-Range %q", s)
	}
	if total != "*" && total != fmt.Sprint(ref.Size) {
		return object.Conflict, fmt.Errorf("%s bytes in the object, not %d", total, ref.Size)
	}
	if first != off || last != off+n-1 {
		return object.Again, fmt.Errorf("Content-Range %q for %d bytes at %d", s, n, off)
	}
	return 0, nil
}

// reader is the body of a GetObject.
type reader struct {
	c      *Client
	call   call
	status int
	body   io.ReadCloser
	start  time.Time

	left, read int64
	whole      bool
	check      bool // compare crc with want at the end
	crc, want  uint64
	err        error // sticky
	closed     bool
}

func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.body.Read(p)
	if r.check {
		r.crc = crc64.Update(r.crc, p[:n])
	}
	r.left -= int64(n)
	r.read += int64(n)
	r.c.tally.received.Add(int64(n))
	switch {
	case r.left == 0:
		r.err = r.end(err)
	case err == io.EOF:
		r.err = r.fail(io.ErrUnexpectedEOF)
	case err != nil:
		r.err = r.fail(err)
	}
	return n, r.err
}

// end is what follows the last byte: nothing more may come, and of a whole
// object the sum must be right.
func (r *reader) end(err error) error {
	if err == nil {
		var one [1]byte
		var n int
		for n == 0 && err == nil {
			n, err = r.body.Read(one[:])
		}
		if n > 0 {
			return r.fail(errors.New("more bytes than asked for"))
		}
	}
	if err != io.EOF {
		return r.fail(err)
	}
	if r.check && r.crc != r.want {
		return r.fail(fmt.Errorf("%w: read crc64 %d, OSS has %d", object.ErrIntegrity, r.crc, r.want))
	}
	return io.EOF
}

func (r *reader) fail(err error) error {
	return &object.Error{Op: r.call.op, Key: r.call.key, Kind: object.Again, Status: r.status, Err: cause(err)}
}

// Close gives the connection back, or drops it if bytes are left.
func (r *reader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	var err error
	if r.err != nil && r.err != io.EOF {
		err = r.err
	}
	if r.err == nil {
		r.err = r.fail(errors.New("read after close"))
	}
	r.c.log(context.Background(), r.call, r.status, r.read, r.start, err)
	return r.body.Close()
}
