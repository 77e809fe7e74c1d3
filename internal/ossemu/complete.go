package ossemu

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ossmount/ossmount/internal/crc64"
)

// minPart is the least size of every part but the last. It is checked at
// Complete, not when the part comes.
const minPart = 100 << 10

// maxCompleteBody has room for 10,000 parts.
const maxCompleteBody = 4 << 20

type completeRequest struct {
	XMLName xml.Name `xml:"CompleteMultipartUpload"`
	Parts   []struct {
		PartNumber int
		ETag       string
	} `xml:"Part"`
}

type completeResult struct {
	XMLName  xml.Name `xml:"CompleteMultipartUploadResult"`
	Location string
	Bucket   string
	Key      string
	ETag     string
}

func (c *call) complete() (*answer, error) {
	request, all, err := c.readComplete()
	if err != nil {
		return nil, err
	}
	acl, err := objectACL(c.r.Header)
	if err != nil {
		return nil, err
	}
	called, err := c.callback()
	if err != nil {
		return nil, err
	}
	id := c.uploadID()
	choose := func() (*upload, []*part, error) {
		u, err := c.s.store.uploadLocked(c.bucket, id)
		if err != nil {
			return nil, nil, err
		}
		if _, err := c.mayPutLocked(); err != nil {
			return nil, nil, err
		}
		parts, err := chooseParts(u, request, all)
		return u, parts, err
	}
	summed, sum, err := c.sumSequential(choose)
	if err != nil {
		return nil, err
	}
	var o *object
	err = c.s.store.change(func() (record, error) {
		u, parts, err := choose()
		if err != nil {
			return record{}, err
		}
		o = joinParts(u, parts)
		if sum != "" && slices.Equal(parts, summed) {
			o.headers = append(slices.Clone(o.headers), pair{"Content-Md5", sum})
		}
		o.modified = c.now()
		if acl != "" {
			o.acl = acl
		}
		return record{kind: recComplete, bucket: c.bucket, id: id, object: o}, nil
	})
	if err != nil {
		return nil, err
	}
	if called {
		return nil, errCallback
	}
	encode, _ := c.encoding()
	out := &answer{status: 200, xml: completeResult{
		Location: "http://" + c.r.Host + "/" + c.bucket + "/" + escape(c.key),
		Bucket:   c.bucket, Key: encode(c.key), ETag: quote(o.etag),
	}}
	out.set("ETag", quote(o.etag))
	setCRC(out, o.crc)
	echoEncryption(out, o.attrs)
	return out, nil
}

// sumSequential computes the MD5 of the parts of a sequential upload, which is
// why a client asks for one. It is the one Complete that reads the bytes, and it
// reads them outside the lock, so the parts are compared again afterwards.
func (c *call) sumSequential(choose func() (*upload, []*part, error)) (parts []*part, sum string, err error) {
	var r *segmentReader
	err = c.s.store.view(func() error {
		u, chosen, err := choose()
		if err == nil && u.sequential {
			parts, r = chosen, c.s.store.openLocked(joinParts(u, chosen).segments)
		}
		return err
	})
	if err != nil || r == nil {
		return nil, "", err
	}
	defer r.Close()
	var got content
	if err := sumOf(r, &got); err != nil {
		return nil, "", err
	}
	return parts, base64Of(got.md5[:]), nil
}

// readComplete reads the list of parts, or that all parts are meant.
func (c *call) readComplete() (request completeRequest, all bool, err error) {
	malformed := malformedXML("0042-00000205")
	body, err := c.readSmall(maxCompleteBody, malformed)
	if err != nil {
		return request, false, err
	}
	if strings.EqualFold(c.r.Header.Get("x-oss-complete-all"), "yes") {
		if len(body) > 0 {
			return request, false, withEC(invalidArgument("x-oss-complete-all", "yes", "Should not speficy both complete all header and http body."), "0042-00000216")
		}
		return request, true, nil
	}
	if xml.Unmarshal(body, &request) != nil || len(request.Parts) == 0 || len(request.Parts) > maxParts {
		return request, false, malformed
	}
	return request, false, nil
}

// chooseParts checks the list against the upload.
func chooseParts(u *upload, request completeRequest, all bool) ([]*part, error) {
	var parts []*part
	if all {
		for _, number := range slices.Sorted(maps.Keys(u.parts)) {
			parts = append(parts, u.parts[number])
		}
		if len(parts) == 0 {
			return nil, invalidPart("1")
		}
	}
	last := 0
	for _, listed := range request.Parts {
		if listed.PartNumber <= last {
			return nil, errPartOrder
		}
		last = listed.PartNumber
		p := u.parts[listed.PartNumber]
		if p == nil || !sameETag(strings.TrimSpace(listed.ETag), p.etag) {
			return nil, invalidPart(strconv.Itoa(listed.PartNumber))
		}
		parts = append(parts, p)
	}
	for _, p := range parts[:len(parts)-1] {
		if p.size < minPart {
			return nil, errTooSmall
		}
	}
	return parts, nil
}

// joinParts makes the object of parts: their segments in a row, the joined
// CRC, and an ETag that says of how many parts it was made. OSS takes the MD5
// of the parts' ETags as they are printed, not of the sums they stand for (as
// S3 does): the ETag that the SDK's own tests expect of the real service,
// 2351E662233817A7AE974D8C5B0876DD-5, comes out this way only.
func joinParts(u *upload, parts []*part) *object {
	o := &object{key: u.key, kind: kindMultipart, attrs: u.attrs}
	sums := md5.New()
	for _, p := range parts {
		sums.Write([]byte(p.etag))
		o.crc = crc64.Combine(o.crc, p.crc, p.size)
		o.size += p.size
		o.segments = append(o.segments, p.segments...)
	}
	o.etag = strings.ToUpper(hex.EncodeToString(sums.Sum(nil))) + "-" + strconv.Itoa(len(parts))
	return o
}
