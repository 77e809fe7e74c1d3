package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"

	"github.com/ossmount/ossmount/internal/object"
)

// Initiate is InitiateMultipartUpload. Metadata and headers are settled here;
// with ForbidOverwrite a key that exists is a Conflict. A lost answer leaves
// an upload that Uploads finds.
func (c *Client) Initiate(ctx context.Context, key string, o object.PutOptions) (uploadID string, err error) {
	header := putHeaders(key, o)
	delete(header, object.HeaderACL) // that is for Complete to say
	r := call{op: opInitiate, method: http.MethodPost, key: key, header: header,
		query: map[string]any{"uploads": nil, "encoding-type": "url"}}
	var out struct {
		XMLName  struct{} `xml:"InitiateMultipartUploadResult"`
		UploadID string   `xml:"UploadId"`
	}
	a, err := c.doXML(ctx, r, &out)
	if err != nil {
		return "", err
	}
	if out.UploadID == "" {
		return "", broken(r.op, key, a.status, errors.New("no upload ID in the answer"))
	}
	return out.UploadID, nil
}

func partQuery(uploadID string, number int) map[string]any {
	return map[string]any{"uploadId": uploadID, "partNumber": strconv.Itoa(number)}
}

// UploadPart is UploadPart: the first size bytes of body become part number
// (1 to 10000) of the upload, in place of what that part was. Checked as Put
// is. An upload that does not exist is of kind Restart.
func (c *Client) UploadPart(ctx context.Context, key, uploadID string, number int, body io.Reader, size int64) (object.Part, error) {
	r := call{op: opPart, method: http.MethodPut, key: key, query: partQuery(uploadID, number), body: body, size: size}
	if uploadID == "" || size < 0 {
		return object.Part{}, refuse(r.op, key, "a part needs an upload ID and a size")
	}
	a, err := c.do(ctx, r)
	if err != nil {
		return object.Part{}, err
	}
	p := object.Part{Number: number, Size: size, ETag: etagOf(a.header)}
	p.CRC64, p.HasCRC, err = stored(r, a)
	return p, err
}

// UploadPartCopy is UploadPartCopy: n bytes from off of src, in the same
// bucket, become part number of the upload, on condition of the ETag of src
// (Conflict if it differs, Absent if src is gone). OSS answers no CRC64 for
// it as a rule, so HasCRC is mostly false.
func (c *Client) UploadPartCopy(ctx context.Context, key, uploadID string, number int, src object.Ref, off, n int64) (object.Part, error) {
	r := call{op: opPartCopy, method: http.MethodPut, key: key, query: partQuery(uploadID, number), header: map[string]string{}}
	if uploadID == "" || src.Key == "" || off < 0 || n <= 0 || off+n > src.Size {
		return object.Part{}, refuse(r.op, key, fmt.Sprintf("no such range of %q: %d bytes at %d of %d", src.Key, n, off, src.Size))
	}
	c.copySource(r.header, src)
	r.header["X-Oss-Copy-Source-Range"] = fmt.Sprintf("bytes=%d-%d", off, off+n-1)
	var out struct {
		XMLName struct{} `xml:"CopyPartResult"`
		ETag    string
	}
	a, err := c.doXML(ctx, r, &out)
	if err != nil {
		return object.Part{}, err
	}
	p := object.Part{Number: number, Size: n, ETag: unquote(out.ETag)}
	if p.ETag == "" {
		return object.Part{}, broken(r.op, key, a.status, errors.New("no ETag in the answer"))
	}
	p.CRC64, p.HasCRC = crcOf(a.header)
	return p, nil
}

// Complete is CompleteMultipartUpload: parts, in the order of their numbers,
// become the object. Of o only ForbidOverwrite and the ACL count. The CRC64 of the
// answer is in the ref, its size is the sum of the parts; to compare them
// with what was meant is up to the caller (crc64.Combine). OSS goes on with it
// when the connection breaks: without an answer the fate is Unknown, and a
// NoSuchUpload (Restart) afterwards may mean that it was done.
func (c *Client) Complete(ctx context.Context, key, uploadID string, parts []object.Part, o object.PutOptions) (object.Ref, error) {
	if uploadID == "" || len(parts) == 0 {
		return object.Ref{}, refuse(opComplete, key, "it needs an upload ID and at least one part")
	}
	parts = slices.Clone(parts)
	slices.SortFunc(parts, func(a, b object.Part) int { return a.Number - b.Number })
	var size int64
	var b bytes.Buffer
	b.WriteString("<CompleteMultipartUpload>")
	for _, p := range parts {
		size += p.Size
		fmt.Fprintf(&b, "<Part><PartNumber>%d</PartNumber><ETag>", p.Number)
		if !escapeXML(&b, quote(p.ETag)) {
			return object.Ref{}, refuse(opComplete, key, fmt.Sprintf("the ETag of part %d is no text", p.Number))
		}
		b.WriteString("</ETag></Part>")
	}
	b.WriteString("</CompleteMultipartUpload>")

	r := call{op: opComplete, method: http.MethodPost, key: key,
		query: map[string]any{"uploadId": uploadID, "encoding-type": "url"}}.withXML(b.Bytes())
	if o.ForbidOverwrite {
		r.header["X-Oss-Forbid-Overwrite"] = "true"
	}
	if acl := o.Headers[object.HeaderACL]; acl != "" {
		r.header[object.HeaderACL] = acl
	}
	var out struct {
		XMLName struct{} `xml:"CompleteMultipartUploadResult"`
		ETag    string
	}
	a, err := c.doXML(ctx, r, &out)
	if err != nil {
		return object.Ref{}, err
	}
	ref := object.Ref{Key: key, ETag: unquote(out.ETag), Size: size}
	if ref.ETag == "" {
		return object.Ref{}, broken(r.op, key, a.status, errors.New("no ETag in the answer"))
	}
	ref.CRC64, ref.HasCRC = crcOf(a.header)
	return ref, nil
}

// Abort is AbortMultipartUpload. An upload that does not exist is a success.
// Parts under way may still arrive after it: abort again when they have ended.
func (c *Client) Abort(ctx context.Context, key, uploadID string) error {
	if uploadID == "" { // without one it would be a DeleteObject
		return refuse(opAbort, key, "it needs an upload ID")
	}
	_, err := c.do(ctx, call{op: opAbort, method: http.MethodDelete, key: key,
		query: map[string]any{"uploadId": uploadID}, accept: http.StatusNoContent})
	var e *object.Error
	if errors.As(err, &e) && e.Code == "NoSuchUpload" {
		return nil
	}
	return err
}
