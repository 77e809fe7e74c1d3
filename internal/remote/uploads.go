package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ossmount/ossmount/internal/object"
)

// Parts is ListParts, all its pages: what OSS holds of an upload, by number.
// An upload that does not exist is of kind Restart. The answer is decoded
// here since the SDK drops HashCrc64ecma, the only checksum of a part under
// KMS.
func (c *Client) Parts(ctx context.Context, key, uploadID string) ([]object.Part, error) {
	if uploadID == "" {
		return nil, refuse(opParts, key, "it needs an upload ID")
	}
	var all []object.Part
	for marker := 0; ; {
		r := call{op: opParts, method: http.MethodGet, key: key, query: map[string]any{
			"uploadId": uploadID, "max-parts": "1000", "encoding-type": "url",
		}}
		if marker > 0 {
			r.query["part-number-marker"] = strconv.Itoa(marker)
		}
		var out partsResult
		a, err := c.doXML(ctx, r, &out)
		if err != nil {
			return nil, err
		}
		some, err := out.parts()
		if err != nil {
			return nil, broken(r.op, key, a.status, err)
		}
		all = append(all, some...)
		if !out.IsTruncated {
			return all, nil
		}
		if out.NextPartNumberMarker <= marker {
			return nil, broken(r.op, key, a.status, errors.New("more is announced, but no new marker given"))
		}
		marker = out.NextPartNumberMarker
	}
}

type partsResult struct {
	XMLName              struct{} `xml:"ListPartsResult"`
	IsTruncated          bool
	NextPartNumberMarker int
	Part                 []struct {
		PartNumber          int
		Size                int64
		ETag, HashCrc64ecma string
	}
}

func (l *partsResult) parts() (all []object.Part, err error) {
	for _, p := range l.Part {
		part := object.Part{Number: p.PartNumber, Size: p.Size, ETag: unquote(p.ETag)}
		if part.Number < 1 || part.Size < 0 {
			return nil, fmt.Errorf("part %d of %d bytes", part.Number, part.Size)
		}
		if crc, err := strconv.ParseUint(strings.TrimSpace(p.HashCrc64ecma), 10, 64); err == nil {
			part.CRC64, part.HasCRC = crc, true
		}
		all = append(all, part)
	}
	return all, nil
}

// Uploads is ListMultipartUploads for one key, all its pages: the uploads
// that OSS holds open for key itself, not for those that begin with it.
func (c *Client) Uploads(ctx context.Context, key string) ([]object.Upload, error) {
	if key == "" {
		return nil, refuse(opUploads, key, "an upload belongs to a key")
	}
	var all []object.Upload
	err := c.EachUpload(ctx, key, func(page []object.Upload, _ time.Time) (more bool, err error) {
		for _, u := range page {
			if u.Key != key { // the key itself comes before all that begin with it
				return false, nil
			}
			all = append(all, u)
		}
		return true, nil
	})
	return all, err
}

// EachUpload is ListMultipartUploads, page by page: the uploads that OSS holds
// open for all keys that begin with prefix, and the time of the answer by the
// clock of OSS, zero where it does not tell. It ends when f says so.
func (c *Client) EachUpload(ctx context.Context, prefix string, f func(page []object.Upload, now time.Time) (more bool, err error)) error {
	var keyMarker, idMarker string
	for {
		r := call{op: opUploads, method: http.MethodGet, ofBucket: true, query: map[string]any{
			"uploads": nil, "prefix": prefix, "max-uploads": "1000", "encoding-type": "url",
		}}
		if keyMarker != "" {
			r.query["key-marker"], r.query["upload-id-marker"] = keyMarker, idMarker
		}
		var out uploadsResult
		a, err := c.doXML(ctx, r, &out)
		if err != nil {
			return withPrefix(err, prefix)
		}
		u := unescaper{on: out.EncodingType == "url"}
		page := make([]object.Upload, 0, len(out.Upload))
		for _, p := range out.Upload {
			page = append(page, object.Upload{Key: u.text(p.Key), ID: p.UploadID, Initiated: parseTime(p.Initiated)})
		}
		nextKey, nextID := u.text(out.NextKeyMarker), out.NextUploadIDMarker
		if u.err != nil {
			return broken(r.op, prefix, a.status, u.err)
		}
		now, _ := http.ParseTime(a.header.Get("Date"))
		more, err := f(page, now)
		if err != nil || !more || !out.IsTruncated {
			return err
		}
		if nextKey == "" || (nextKey == keyMarker && nextID == idMarker) {
			return broken(r.op, prefix, a.status, errors.New("more is announced, but no new marker given"))
		}
		keyMarker, idMarker = nextKey, nextID
	}
}

type uploadsResult struct {
	XMLName            struct{} `xml:"ListMultipartUploadsResult"`
	EncodingType       string
	IsTruncated        bool
	NextKeyMarker      string
	NextUploadIDMarker string `xml:"NextUploadIdMarker"`
	Upload             []struct {
		Key       string
		UploadID  string `xml:"UploadId"`
		Initiated string
	}
}
