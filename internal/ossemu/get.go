package ossemu

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// responseOverrides are the parameters that replace headers of a GetObject.
var responseOverrides = []string{"Content-Type", "Content-Language", "Expires", "Cache-Control", "Content-Disposition", "Content-Encoding"}

func (c *call) getObject() (*answer, error) {
	out := &answer{status: 200}
	var o *object
	err := c.s.store.view(func() error {
		named, bytes, err := c.readableLocked()
		if err != nil {
			return err
		}
		o = through(named, bytes)
		if err := checkConditions(c.r.Header, readConditions, o); err != nil {
			return err
		}
		if err := bytes.readable(c.now()); err != nil {
			return err
		}
		r, err := chooseRange(c.r.Header, o.size)
		if err != nil {
			return err
		}
		c.setObjectHeaders(out, o, bytes.kind)
		if r.partial {
			out.status = http.StatusPartialContent
			out.set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", r.off, r.off+r.length-1, o.size))
		}
		out.length = r.length
		out.body = c.s.store.openLocked(cut(o.segments, r.off, r.length))
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, name := range responseOverrides {
		if v := c.query.get("response-" + strings.ToLower(name)); v != "" {
			out.set(name, v)
		}
	}
	c.compress(out, o)
	return out, nil
}

func (c *call) headObject() (*answer, error) {
	var named, bytes *object
	err := c.s.store.view(func() (err error) {
		named, bytes, err = c.readableLocked()
		return err
	})
	if err != nil {
		return nil, err
	}
	o := through(named, bytes)
	if err := checkConditions(c.r.Header, readConditions, o); err != nil {
		return nil, err
	}
	out := &answer{status: 200, length: o.size}
	c.setObjectHeaders(out, o, bytes.kind)
	c.compress(out, o)
	return out, nil
}

func (c *call) getObjectMeta() (*answer, error) {
	o, err := c.object()
	if err != nil {
		return nil, err
	}
	out := &answer{status: 200}
	if c.r.Method == http.MethodHead {
		out.length = o.size
	}
	out.set("ETag", quote(o.etag))
	out.set("Last-Modified", httpSeconds(o.modified))
	setCRC(out, o.crc)
	return out, nil
}

// object is the object that the request is about.
func (c *call) object() (o *object, err error) {
	err = c.s.store.view(func() error {
		o, err = c.s.store.objectLocked(c.bucket, c.key)
		return err
	})
	return o, err
}

func httpSeconds(unix int64) string { return time.Unix(unix, 0).UTC().Format(http.TimeFormat) }

// setObjectHeaders sets what GET and HEAD say of o. bytesKind is the type of
// the object that has the bytes, another than o's where o is a link to it.
func (c *call) setObjectHeaders(out *answer, o *object, bytesKind string) {
	for _, p := range o.headers {
		out.set(p.name, p.value)
	}
	for _, p := range o.meta {
		out.set(metaPrefix+p.name, p.value)
	}
	out.set("ETag", quote(o.etag))
	out.set("Last-Modified", httpSeconds(o.modified))
	out.set("Accept-Ranges", "bytes")
	out.set("x-oss-object-type", o.kind)
	out.set("x-oss-storage-class", o.class)
	setCRC(out, o.crc)
	if o.kind == kindSymlink {
		out.set("x-oss-symlink-target-type", bytesKind)
	}
	if o.kind == kindAppend {
		out.set("x-oss-next-append-position", strconv.FormatInt(o.size, 10))
	}
	if v := o.restoreInfo(c.now()); v != "" {
		out.set("x-oss-restore", v)
	}
	if sum, ok := etagMD5(o.etag); ok && bytesKind == kindNormal {
		out.set("Content-MD5", base64Of(sum))
	}
	if len(o.tags) > 0 {
		out.set("x-oss-tagging-count", strconv.Itoa(len(o.tags)))
	}
}
