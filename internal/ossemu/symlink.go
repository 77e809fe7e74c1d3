package ossemu

import (
	"crypto/md5"
	"net/url"
)

const targetHeader = "x-oss-symlink-target"

// putSymlink makes an object that stands for another of the bucket, which need
// not be there.
func (c *call) putSymlink() (*answer, error) {
	escaped := c.r.Header.Get(targetHeader)
	if escaped == "" {
		return nil, missingArgument(targetHeader, "0043-00000001")
	}
	target, err := url.QueryUnescape(escaped)
	if err != nil {
		return nil, invalidArgument(targetHeader, escaped, "The symbolic link target is not URL encoded.")
	}
	if err := checkKey(target); err != nil {
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
	sum := content{md5: md5.Sum([]byte(target))}
	o := &object{key: c.key, kind: kindSymlink, etag: sum.etag(), modified: c.now(), attrs: a, special: &special{target: target}}
	err = c.s.store.change(func() (record, error) {
		if _, err := c.mayPutLocked(); err != nil {
			return record{}, err
		}
		return record{kind: recPut, bucket: c.bucket, object: o}, nil
	})
	if err != nil {
		return nil, err
	}
	out := &answer{status: 200}
	out.set("ETag", quote(o.etag))
	return out, nil
}

func (c *call) getSymlink() (*answer, error) {
	o, err := c.object()
	if err != nil {
		return nil, err
	}
	if o.kind != kindSymlink {
		return nil, refuse(400, "NotSymlink", "The object you specified is not a symbolic link.", "0043-00000101", pair{"Key", c.key})
	}
	out := &answer{status: 200}
	for _, p := range o.meta {
		out.set(metaPrefix+p.name, p.value)
	}
	out.set(targetHeader, escape(o.special.target))
	out.set("ETag", quote(o.etag))
	out.set("Last-Modified", httpSeconds(o.modified))
	out.set("x-oss-object-type", o.kind)
	out.set("x-oss-storage-class", o.class)
	return out, nil
}

// readableLocked finds the object that the request names and the one whose
// bytes it reads: the same, or the target of a link, one step away.
func (c *call) readableLocked() (named, bytes *object, err error) {
	named, err = c.s.store.objectLocked(c.bucket, c.key)
	if err != nil || named.kind != kindSymlink {
		return named, named, err
	}
	b := c.s.store.buckets[c.bucket]
	bytes, ok := b.objects.get(named.special.target)
	if !ok {
		return nil, nil, refuse(404, "SymlinkTargetNotExist", "The target object does not exist.", "", pair{"Key", named.special.target})
	}
	if bytes.kind == kindSymlink {
		return nil, nil, errLinkToLink
	}
	if err := c.mayReadLocked(b, bytes); err != nil {
		return nil, nil, err
	}
	return named, bytes, nil
}

// through is target as it is seen through link: its bytes and their sums, the
// later of the times, and all else of the link.
func through(link, target *object) *object {
	if link == target {
		return link
	}
	o := *link
	o.size, o.etag, o.crc, o.segments = target.size, target.etag, target.crc, target.segments
	o.modified = max(link.modified, target.modified)
	return &o
}
