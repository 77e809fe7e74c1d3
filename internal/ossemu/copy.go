package ossemu

import (
	"encoding/xml"
	"io"
	"net/url"
	"slices"
	"strings"
)

type copyResult struct {
	XMLName      xml.Name
	LastModified string `xml:"LastModified"`
	ETag         string `xml:"ETag"`
}

// copySource reads x-oss-copy-source: /bucket/key, escaped with query rules,
// so that a + in it is a space.
func (c *call) copySource() (bucket, key string, err error) {
	header := c.r.Header.Get("x-oss-copy-source")
	path, version, versioned := strings.Cut(header, "?versionId=")
	if versioned {
		if err := checkVersion(version, path); err != nil {
			return "", "", err
		}
	}
	name, err := url.QueryUnescape(path)
	if err == nil {
		var found bool
		bucket, key, found = strings.Cut(strings.TrimPrefix(name, "/"), "/")
		if found && validBucket(bucket) && key != "" {
			return bucket, key, nil
		}
	}
	return "", "", invalidArgument("x-oss-copy-source", header, "Copy Source must mention the source bucket and key: /sourcebucket/sourcekey.")
}

// sourceLocked finds the source of a copy and checks its conditions.
func (c *call) sourceLocked(bucket, key string, names conditions) (*object, error) {
	src, err := c.s.store.objectLocked(bucket, key)
	if err != nil {
		return nil, err
	}
	if err := checkConditions(c.r.Header, names, src); err != nil {
		return nil, err
	}
	if err := c.mayReadLocked(c.s.store.buckets[bucket], src); err != nil {
		return nil, err
	}
	if src.kind == kindAppend {
		return nil, errNoCopy
	}
	return src, src.readable(c.now())
}

// copyObject makes an object of the segments of another: no byte is moved.
func (c *call) copyObject() (*answer, error) {
	bucket, key, err := c.copySource()
	if err != nil {
		return nil, err
	}
	class, err := c.mayPut()
	if err != nil {
		return nil, err
	}
	asked, err := c.readAttrs(class)
	if err != nil {
		return nil, err
	}
	replaceMeta, err := c.directive("x-oss-metadata-directive")
	if err != nil {
		return nil, err
	}
	replaceTags, err := c.directive("x-oss-tagging-directive")
	if err != nil {
		return nil, err
	}
	var o object
	err = c.s.store.change(func() (record, error) {
		if _, err := c.mayPutLocked(); err != nil {
			return record{}, err
		}
		src, err := c.sourceLocked(bucket, key, copyConditions)
		if err != nil {
			return record{}, err
		}
		o = *src
		o.key, o.modified, o.attrs = c.key, c.now(), asked
		if o.kind != kindSymlink { // a link is copied as a link, a restored object as one that never was
			o.special = nil
		}
		if !replaceMeta {
			o.meta, o.headers = src.meta, append(contentOf(src.headers), encryptionOf(c.r.Header)...)
		}
		if !replaceTags {
			o.tags = src.tags
		}
		if err := checkCopySize(src, &o, bucket == c.bucket); err != nil {
			return record{}, err
		}
		return record{kind: recPut, bucket: c.bucket, object: &o}, nil
	})
	if err != nil {
		return nil, err
	}
	out := &answer{status: 200, xml: copyResult{
		XMLName: xml.Name{Local: "CopyObjectResult"}, LastModified: xmlSeconds(o.modified), ETag: quote(o.etag),
	}}
	out.set("ETag", quote(o.etag))
	setCRC(out, o.crc)
	echoEncryption(out, o.attrs)
	return out, nil
}

// checkCopySize keeps the limits of CopyObject: one bucket and one form knows
// none; to another bucket 5 GB go, and 1 GB where the bytes must be written anew.
func checkCopySize(src, dst *object, sameBucket bool) error {
	const anew = 1 << 30
	changed := src.class != dst.class || !slices.Equal(encryptionPairs(src.headers), encryptionPairs(dst.headers))
	if changed && src.size > anew || !sameBucket && src.size > maxBody {
		return errTooLarge
	}
	return nil
}

// encryptionPairs is the other part of headers than contentOf.
func encryptionPairs(headers []pair) []pair {
	var out []pair
	for _, p := range headers {
		if strings.HasPrefix(p.name, "X-Oss-") {
			out = append(out, p)
		}
	}
	return out
}

// contentOf is headers without those of encryption, which a copy does not inherit.
func contentOf(headers []pair) []pair {
	var out []pair
	for _, p := range headers {
		if !strings.HasPrefix(p.name, "X-Oss-") {
			out = append(out, p)
		}
	}
	return out
}

// directive reads a header that is COPY, the default, or REPLACE.
func (c *call) directive(name string) (replace bool, err error) {
	v := c.r.Header.Get(name)
	switch strings.ToUpper(v) {
	case "", "COPY":
		return false, nil
	case "REPLACE":
		return true, nil
	}
	return false, invalidArgument(name, v, "The directive must be COPY or REPLACE.")
}

// uploadPartCopy makes a part of a range of an object. The segments are
// shared; the bytes are read only where the sums of the range are not known.
func (c *call) uploadPartCopy() (*answer, error) {
	number, id, err := c.partID()
	if err != nil {
		return nil, err
	}
	bucket, key, err := c.copySource()
	if err != nil {
		return nil, err
	}
	src, reader, got, err := c.openCopy(id, bucket, key)
	if err != nil {
		return nil, err
	}
	defer reader.Close() // holds the segments until the part does
	if sum, ok := etagMD5(src.etag); ok && got.size == src.size && src.kind == kindNormal {
		copy(got.md5[:], sum)
		got.crc = src.crc
	} else if err := sumOf(reader, &got); err != nil {
		return nil, err
	}
	p := &part{number: number, size: got.size, etag: got.etag(), crc: got.crc, modified: c.now(), segments: got.segments}
	u, err := c.putPart(id, p)
	if err != nil {
		return nil, err
	}
	out := &answer{status: 200, xml: copyResult{
		XMLName: xml.Name{Local: "CopyPartResult"}, LastModified: xmlSeconds(p.modified), ETag: quote(p.etag),
	}}
	out.set("ETag", quote(p.etag))
	setCRC(out, p.crc)
	echoEncryption(out, u.attrs)
	return out, nil
}

// openCopy finds the range that is copied and pins it.
func (c *call) openCopy(id uploadKey, bucket, key string) (src *object, r *segmentReader, got content, err error) {
	st := c.s.store
	err = st.view(func() error {
		if _, err := st.uploadLocked(c.bucket, id); err != nil {
			return err
		}
		if src, err = c.sourceLocked(bucket, key, partCopyConditions); err != nil {
			return err
		}
		if src.kind == kindSymlink {
			return errLinkToLink
		}
		off, length := int64(0), src.size
		if header := c.r.Header.Get("x-oss-copy-source-range"); header != "" {
			first, last, ok := parseRange(header)
			if !ok || first < 0 || last < first || last >= src.size {
				return withEC(invalidArgument("x-oss-copy-source-range", header, "The range is not valid for the source object."), "0042-00000306")
			}
			off, length = first, last-first+1
		}
		if length > maxBody {
			return errTooLarge
		}
		got = content{segments: cut(src.segments, off, length), size: length}
		r = st.openLocked(got.segments)
		return nil
	})
	return src, r, got, err
}

// sumOf computes the sums of what r reads.
func sumOf(r io.Reader, got *content) error {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	sums := newDigest()
	for {
		n, err := r.Read(*buffer)
		sums.Write((*buffer)[:n])
		if err == io.EOF {
			sums.sums(got)
			return nil
		}
		if err != nil {
			return err
		}
	}
}
