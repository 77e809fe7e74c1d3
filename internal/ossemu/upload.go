package ossemu

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/xml"
	"strconv"
	"strings"
)

const maxParts = 10000

type initiateResult struct {
	XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
	Bucket   string
	Key      string
	UploadId string
}

func (c *call) initiate() (*answer, error) {
	class, err := c.mayPut()
	if err != nil {
		return nil, err
	}
	a, err := c.readAttrs(class)
	if err != nil {
		return nil, err
	}
	a.acl = "" // an upload has none: Complete says the object's
	var id [16]byte
	rand.Read(id[:])
	u := &upload{
		uploadKey: uploadKey{c.key, strings.ToUpper(hex.EncodeToString(id[:]))},
		started:   c.now(), attrs: a, sequential: c.query.has("sequential"), parts: map[int]*part{},
	}
	err = c.s.store.change(func() (record, error) {
		if _, err := c.mayPutLocked(); err != nil {
			return record{}, err
		}
		return record{kind: recUpload, bucket: c.bucket, upload: u}, nil
	})
	if err != nil {
		return nil, err
	}
	encode, _ := c.encoding()
	out := &answer{status: 200, xml: initiateResult{Bucket: c.bucket, Key: encode(c.key), UploadId: u.id}}
	echoEncryption(out, a)
	return out, nil
}

func (c *call) uploadID() uploadKey { return uploadKey{c.key, c.query.get("uploadId")} }

// partID reads which part of which upload a request is about.
func (c *call) partID() (number int, id uploadKey, err error) {
	v := c.query.get("partNumber")
	n, ok := digits(v)
	if !ok || n < 1 || n > maxParts {
		return 0, id, invalidArgument("partNumber", v, "Part number must be an integer between 1 and 10000, inclusive.")
	}
	return int(n), c.uploadID(), nil
}

func (c *call) uploadPart() (*answer, error) {
	number, id, err := c.partID()
	if err != nil {
		return nil, err
	}
	err = c.s.store.view(func() error { _, err := c.mayPutPartLocked(id, number); return err })
	if err != nil {
		return nil, err
	}
	got, err := c.receive()
	if err != nil {
		return nil, err
	}
	defer c.release(got)
	p := &part{number: number, size: got.size, etag: got.etag(), crc: got.crc, modified: c.now(), segments: got.segments}
	u, err := c.putPart(id, p)
	if err != nil {
		return nil, err
	}
	out := stored(got)
	echoEncryption(out, u.attrs)
	return out, nil
}

// putPart adds a part to an upload that still exists when its bytes are there.
func (c *call) putPart(id uploadKey, p *part) (u *upload, err error) {
	err = c.s.store.change(func() (_ record, err error) {
		if u, err = c.mayPutPartLocked(id, p.number); err != nil {
			return record{}, err
		}
		return record{kind: recPart, bucket: c.bucket, id: id, part: p}, nil
	})
	return u, err
}

// mayPutPartLocked checks that the upload is open and, where it is sequential,
// that the part is the next, or the last again.
func (c *call) mayPutPartLocked(id uploadKey, number int) (*upload, error) {
	u, err := c.s.store.uploadLocked(c.bucket, id)
	if err != nil || !u.sequential {
		return u, err
	}
	if n := len(u.parts); number != n && number != n+1 {
		return nil, refuse(400, "PartNotSequential", "The part is not the next of a sequential upload.", "", pair{"PartNumber", strconv.Itoa(number)})
	}
	return u, nil
}

func (c *call) abort() (*answer, error) {
	id := c.uploadID()
	err := c.s.store.change(func() (record, error) {
		if _, err := c.s.store.uploadLocked(c.bucket, id); err != nil {
			return record{}, err
		}
		return record{kind: recAbort, bucket: c.bucket, id: id}, nil
	})
	if err != nil {
		return nil, err
	}
	return &answer{status: 204}, nil
}
