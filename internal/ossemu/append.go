package ossemu

import (
	"crypto/md5"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/ossmount/ossmount/internal/crc64"
)

// appendObject makes an appendable object, or adds to one, at its very end.
func (c *call) appendObject() (*answer, error) {
	v, ok := c.query.lookup("position")
	if !ok {
		return nil, missingArgument("position", "0016-00000501")
	}
	position, ok := digits(v)
	if !ok {
		return nil, invalidArgument("position", v, "The position must be an integer that is not negative.")
	}
	if c.r.Header.Get("x-oss-server-side-encryption-key-id") != "" {
		return nil, invalidArgument("x-oss-server-side-encryption-key-id", "", "An appendable object can not be encrypted by a key of the customer.")
	}
	var class string
	err := c.s.store.view(func() error {
		b, _, err := c.mayAppendLocked(position)
		if err == nil {
			class = b.class
		}
		return err
	})
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
	var o *object
	err = c.s.store.change(func() (record, error) {
		_, old, err := c.mayAppendLocked(position)
		if err != nil {
			return record{}, err
		}
		if o = c.lengthen(old, a, got); o.size > maxBody {
			return record{}, errTooLarge
		}
		return record{kind: recPut, bucket: c.bucket, object: o}, nil
	})
	if err != nil {
		return nil, err
	}
	out := &answer{status: 200}
	out.set("ETag", quote(o.etag))
	out.set("x-oss-next-append-position", strconv.FormatInt(o.size, 10))
	setCRC(out, o.crc)
	echoEncryption(out, o.attrs)
	return out, nil
}

// mayAppendLocked finds the object that position is the end of; old is nil if
// there is none yet.
func (c *call) mayAppendLocked(position int64) (b *bucket, old *object, err error) {
	if b, err = c.s.store.bucketLocked(c.bucket); err != nil {
		return nil, nil, err
	}
	length := int64(0)
	if o, ok := b.objects.get(c.key); ok {
		if o.kind != kindAppend {
			return nil, nil, errFixed
		}
		old, length = o, o.size
	}
	if position != length {
		e := refuse(409, "PositionNotEqualToLength", "Position is not equal to file length", "0026-00000016")
		e.header = []pair{{"x-oss-next-append-position", strconv.FormatInt(length, 10)}}
		return nil, nil, e
	}
	return b, old, nil
}

// lengthen makes the object that old, which may be nil, becomes with got behind
// it. Of what the request says besides the bytes only the ACL counts later on.
func (c *call) lengthen(old *object, a attrs, got content) *object {
	o := &object{key: c.key, kind: kindAppend, modified: c.now(), attrs: a, size: got.size, crc: got.crc, segments: got.segments}
	before := ""
	if old != nil {
		before, o.attrs = old.etag, old.attrs
		if a.acl != "" {
			o.acl = a.acl
		}
		o.size, o.crc = old.size+got.size, crc64.Combine(old.crc, got.crc, got.size)
		o.segments = append(append([]segment(nil), old.segments...), got.segments...)
	}
	// 32 digits that change with each append and end in zeros: no MD5 of
	// anything a client has.
	sum := md5.Sum([]byte(before + got.etag()))
	o.etag = strings.ToUpper(hex.EncodeToString(sum[:12])) + "00000000"
	return o
}
