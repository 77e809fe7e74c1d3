package remote

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

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
		for _, p := range out.Part {
			part := object.Part{Number: p.PartNumber, Size: p.Size, ETag: unquote(p.ETag)}
			if crc, err := strconv.ParseUint(strings.TrimSpace(p.HashCrc64ecma), 10, 64); err == nil {
				part.CRC64, part.HasCRC = crc, true
			}
			all = append(all, part)
		}
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

// Uploads is ListMultipartUploads for one key, all its pages: the uploads
// that OSS holds open for key itself, not for those that begin with it.
func (c *Client) Uploads(ctx context.Context, key string) ([]object.Upload, error) {
	if key == "" {
		return nil, refuse(opUploads, key, "an upload belongs to a key")
	}
	var all []object.Upload
	var keyMarker, idMarker string
	for {
		r := call{op: opUploads, method: http.MethodGet, ofBucket: true, query: map[string]any{
			"uploads": nil, "prefix": key, "max-uploads": "1000", "encoding-type": "url",
		}}
		if keyMarker != "" {
			r.query["key-marker"], r.query["upload-id-marker"] = keyMarker, idMarker
		}
		var out uploadsResult
		a, err := c.doXML(ctx, r, &out)
		if err != nil {
			return nil, withPrefix(err, key)
		}
		u := unescaper{on: out.EncodingType == "url"}
		others := false
		for _, p := range out.Upload {
			if u.text(p.Key) != key {
				others = true
				continue
			}
			all = append(all, object.Upload{Key: key, ID: p.UploadID, Initiated: parseTime(p.Initiated)})
		}
		nextKey, nextID := u.text(out.NextKeyMarker), out.NextUploadIDMarker
		if u.err != nil {
			return nil, broken(r.op, key, a.status, u.err)
		}
		// The key itself comes before all that begin with it.
		if !out.IsTruncated || others {
			return all, nil
		}
		if nextKey == "" || (nextKey == keyMarker && nextID == idMarker) {
			return nil, broken(r.op, key, a.status, errors.New("more is announced, but no new marker given"))
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
