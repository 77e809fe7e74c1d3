package ossemu

import (
	"encoding/xml"
	"strconv"
	"time"
)

// now is Last-Modified of what is written now.
func (c *call) now() int64 { return c.clock().Unix() }

func (c *call) putObject() (*answer, error) {
	// OSS has no conditional write but x-oss-forbid-overwrite. It says so
	// rather than write without looking.
	for _, name := range []string{"If-Modified-Since", "If-Unmodified-Since", "If-Match", "If-None-Match"} {
		if c.r.Header.Get(name) != "" {
			return nil, notImplemented(name)
		}
	}
	called, err := c.callback()
	if err != nil {
		return nil, err
	}
	class, err := c.mayPut()
	if err != nil {
		return nil, err
	}
	a, err := c.readAttrs(class)
	if err != nil {
		return nil, err
	}
	got, err := c.receive()
	if err != nil {
		return nil, err
	}
	defer c.release(got)
	o := &object{
		key: c.key, kind: kindNormal, size: got.size, etag: got.etag(), crc: got.crc,
		modified: c.now(), attrs: a, segments: got.segments,
	}
	err = c.s.store.change(func() (record, error) {
		if _, err := c.mayPutLocked(); err != nil {
			return record{}, err
		}
		return record{kind: recPut, bucket: c.bucket, object: o}, nil
	})
	if err != nil {
		return nil, err
	}
	if called {
		return nil, errCallback
	}
	out := stored(got)
	echoEncryption(out, o.attrs)
	return out, nil
}

// stored is the answer to a body that was kept.
func stored(got content) *answer {
	out := &answer{status: 200}
	out.set("ETag", quote(got.etag()))
	out.set("Content-MD5", base64Of(got.md5[:]))
	setCRC(out, got.crc)
	return out
}

func setCRC(a *answer, crc uint64) { a.set("x-oss-hash-crc64ecma", strconv.FormatUint(crc, 10)) }

func echoEncryption(out *answer, a attrs) {
	for _, p := range a.headers {
		for _, name := range encryptionHeaders {
			if p.name == name {
				out.set(p.name, p.value)
			}
		}
	}
}

func quote(etag string) string { return `"` + etag + `"` }

func (c *call) deleteObject() (*answer, error) {
	if err := c.removeKeys([]string{c.key}); err != nil {
		return nil, err
	}
	return &answer{status: 204}, nil
}

// removeKeys removes objects, all in one record; that a key does not exist is
// no error, and if none exists nothing is written.
func (c *call) removeKeys(keys []string) error {
	err := c.s.store.change(func() (record, error) {
		b, err := c.s.store.bucketLocked(c.bucket)
		if err != nil {
			return record{}, err
		}
		var there []string
		for _, key := range keys {
			if _, ok := b.objects.get(key); ok {
				there = append(there, key)
			}
		}
		if there == nil {
			return record{}, errNothing
		}
		return record{kind: recDelete, bucket: c.bucket, keys: there}, nil
	})
	if err == errNothing {
		return nil
	}
	return err
}

type deleteResult struct {
	XMLName      xml.Name     `xml:"DeleteResult"`
	EncodingType string       `xml:"EncodingType,omitempty"`
	Deleted      []deletedKey `xml:"Deleted"`
}

type deletedKey struct {
	Key string `xml:"Key"`
}

const (
	maxDelete     = 1000
	maxDeleteBody = 2 << 20
)

func (c *call) deleteObjects() (*answer, error) {
	if c.r.Header.Get("Content-MD5") == "" {
		return nil, missingArgument("Content-MD5", "")
	}
	if c.r.ContentLength < 0 {
		return nil, errNoLength
	}
	malformed := malformedXML("0016-00000608")
	body, err := c.readSmall(maxDeleteBody, malformed)
	if err != nil {
		return nil, err
	}
	request, err := readDelete(body)
	if err != nil || request.named == 0 || request.named > maxDelete {
		return nil, malformed
	}
	for _, key := range request.keys {
		if err := checkKey(key); err != nil {
			return nil, err
		}
	}
	if err := c.removeKeys(request.keys); err != nil {
		return nil, err
	}
	if request.quiet {
		return &answer{status: 200}, nil
	}
	encode, encoding := c.encoding()
	result := deleteResult{EncodingType: encoding}
	for _, key := range request.keys {
		result.Deleted = append(result.Deleted, deletedKey{encode(key)})
	}
	return &answer{status: 200, xml: result}, nil
}

// encoding is how names stand in the answer: as asked by encoding-type.
func (c *call) encoding() (encode func(string) string, name string) {
	if c.query.get("encoding-type") == "url" {
		return escape, "url"
	}
	return func(s string) string { return s }, ""
}

const xmlTime = "2006-01-02T15:04:05.000Z"

func xmlSeconds(unix int64) string { return time.Unix(unix, 0).UTC().Format(xmlTime) }

// marshal makes an XML document of v, which is one of our own types.
func marshal(v any) []byte {
	body, err := xml.Marshal(v)
	if err != nil {
		panic(err) // a type of this package that does not marshal
	}
	return append([]byte(xml.Header), body...)
}
