package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/ossmount/ossmount/internal/object"
)

// Head is HeadObject. An object that does not exist is an error of kind
// Absent; a 404 that OSS itself did not give is not (kind Again). OSS follows
// its symlinks here; Head does not, and answers what Symlink does.
func (c *Client) Head(ctx context.Context, key string) (object.Info, error) {
	r := call{op: opHead, method: http.MethodHead, key: key}
	a, err := c.do(ctx, r)
	if isLink(a, err) {
		return c.ofLink(ctx, key)
	}
	if err != nil {
		return object.Info{}, err
	}
	size, err := strconv.ParseInt(a.header.Get("Content-Length"), 10, 64)
	if err != nil || etagOf(a.header) == "" {
		return object.Info{}, broken(r.op, key, a.status, errors.New("no size or no ETag in the answer"))
	}
	return infoOf(key, size, a), nil
}

// Put is PutObject: the first size bytes of body become the object. A body
// that ends early is an error of fate NotSent; OSS then keeps what it had.
// The CRC64 of what was read is compared with the one that OSS answers; a
// difference is of kind Again and fate Unknown, since OSS stored something.
// With ForbidOverwrite an existing key is a Conflict.
func (c *Client) Put(ctx context.Context, key string, body io.Reader, size int64, o object.PutOptions) (object.Ref, error) {
	if size < 0 {
		return object.Ref{}, refuse(opPut, key, "a negative size")
	}
	r := call{op: opPut, method: http.MethodPut, key: key, header: putHeaders(key, o), body: body, size: size}
	a, err := c.do(ctx, r)
	if err != nil {
		return object.Ref{}, err
	}
	ref := object.Ref{Key: key, ETag: etagOf(a.header), Size: size}
	ref.CRC64, ref.HasCRC, err = stored(r, a)
	return ref, err
}

// stored checks what OSS says of the bytes that it took (PutObject,
// UploadPart).
func stored(r call, a *answer) (crc uint64, has bool, err error) {
	if etagOf(a.header) == "" {
		return 0, false, broken(r.op, r.key, a.status, errors.New("no ETag in the answer"))
	}
	crc, has = crcOf(a.header)
	if has && crc != a.crc {
		return 0, false, broken(r.op, r.key, a.status, fmt.Errorf("%w: sent crc64 %d, OSS stored %d", object.ErrIntegrity, a.crc, crc))
	}
	return crc, has, nil
}

// Copy is CopyObject within the bucket, on condition of the ETag of src
// (Conflict if it differs, Absent if src is gone). Metadata and headers of
// the copy are those of o, none is taken from src; tags are. OSS copies
// objects above 1 GB only under conditions, see UploadPartCopy.
func (c *Client) Copy(ctx context.Context, src object.Ref, key string, o object.PutOptions) (object.Ref, error) {
	r := call{op: opCopy, method: http.MethodPut, key: key, header: putHeaders(key, o)}
	if src.Key == "" {
		return object.Ref{}, refuse(r.op, key, "a copy needs a source")
	}
	c.copySource(r.header, src)
	r.header["X-Oss-Metadata-Directive"] = "REPLACE"
	var out struct {
		XMLName struct{} `xml:"CopyObjectResult"`
		ETag    string
	}
	a, err := c.doXML(ctx, r, &out)
	if err != nil {
		return object.Ref{}, err
	}
	ref := object.Ref{Key: key, ETag: unquote(out.ETag), Size: src.Size}
	if ref.ETag == "" {
		return object.Ref{}, broken(r.op, key, a.status, errors.New("no ETag in the answer"))
	}
	ref.CRC64, ref.HasCRC = crcOf(a.header)
	return ref, nil
}

func (c *Client) copySource(h map[string]string, src object.Ref) {
	h["X-Oss-Copy-Source"] = "/" + c.opts.Bucket + "/" + escapePath(src.Key)
	if src.ETag != "" {
		h["X-Oss-Copy-Source-If-Match"] = quote(src.ETag)
	}
}

// Delete is DeleteObject. A key that does not exist is a success.
func (c *Client) Delete(ctx context.Context, key string) error {
	_, err := c.do(ctx, call{op: opDelete, method: http.MethodDelete, key: key, accept: http.StatusNoContent})
	return err
}

// maxDelete is how many keys one DeleteMultipleObjects takes.
const maxDelete = 1000

// DeleteMany is DeleteMultipleObjects, one request for each 1000 keys. It
// returns the keys that OSS says are gone now, those that never existed among
// them. OSS gives no reason for a key that it keeps: it is merely missing in
// deleted, and Delete of that key tells why. The same goes for keys that XML
// cannot carry. After an error, deleted is what the requests before it did.
func (c *Client) DeleteMany(ctx context.Context, keys []string) (deleted []string, err error) {
	for len(keys) > 0 {
		n := min(len(keys), maxDelete)
		some, err := c.deleteSome(ctx, keys[:n])
		deleted = append(deleted, some...)
		if err != nil {
			return deleted, err
		}
		keys = keys[n:]
	}
	return deleted, nil
}

func (c *Client) deleteSome(ctx context.Context, keys []string) ([]string, error) {
	asked := make(map[string]bool, len(keys))
	var b bytes.Buffer
	b.WriteString("<Delete><Quiet>false</Quiet>")
	for _, key := range keys {
		var one bytes.Buffer
		if key == "" || asked[key] || !escapeXML(&one, key) {
			continue
		}
		asked[key] = true
		b.WriteString("<Object><Key>")
		b.Write(one.Bytes())
		b.WriteString("</Key></Object>")
	}
	b.WriteString("</Delete>")
	if len(asked) == 0 {
		return nil, nil
	}
	r := call{op: opDeleteMany, method: http.MethodPost, ofBucket: true,
		query: map[string]any{"delete": nil, "encoding-type": "url"}}.withXML(b.Bytes())
	var out struct {
		XMLName      struct{} `xml:"DeleteResult"`
		EncodingType string
		Deleted      []struct{ Key string }
	}
	a, err := c.doXML(ctx, r, &out)
	if err != nil {
		return nil, err
	}
	u := unescaper{on: out.EncodingType == "url"}
	var deleted []string
	for _, d := range out.Deleted {
		if key := u.text(d.Key); asked[key] {
			deleted = append(deleted, key)
		}
	}
	if u.err != nil {
		return deleted, broken(r.op, "", a.status, u.err)
	}
	return deleted, nil
}
