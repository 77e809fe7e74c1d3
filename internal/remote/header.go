package remote

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
	"github.com/ossmount/ossmount/internal/object"
)

const metaPrefix = "X-Oss-Meta-"

// kept are the headers of object.Headers, in canonical form.
var kept = []string{
	"Content-Type", "Content-Encoding", "Content-Language", "Content-Disposition",
	"Cache-Control", "Expires", object.HeaderClass,
	"X-Oss-Server-Side-Encryption", "X-Oss-Server-Side-Encryption-Key-Id", "X-Oss-Server-Side-Data-Encryption",
	object.HeaderTags,
}

// putHeaders are the request headers of PutObject, CopyObject and
// InitiateMultipartUpload.
func putHeaders(key string, o object.PutOptions) map[string]string {
	h := map[string]string{}
	for name, value := range o.Headers {
		h[http.CanonicalHeaderKey(name)] = strings.TrimSpace(value)
	}
	delete(h, object.HeaderTags) // it only tells
	if h["Content-Type"] == "" {
		h["Content-Type"] = contentType(key)
	}
	for name, value := range o.Meta {
		// HTTP drops outer blanks, the SDK signs them: without the trim the
		// signature would not match.
		h[http.CanonicalHeaderKey(metaPrefix+name)] = strings.TrimSpace(value)
	}
	if o.ForbidOverwrite {
		h["X-Oss-Forbid-Overwrite"] = "true"
	}
	return h
}

func contentType(key string) string {
	if t := oss.TypeByExtension(key); t != "" {
		return t
	}
	return "application/octet-stream"
}

// validHeader reports that net/http will send it.
func validHeader(name, value string) bool {
	for i := 0; i < len(name); i++ {
		ch := name[i]
		if ch <= ' ' || ch >= 0x7F || strings.IndexByte(`()<>@,;:\"/[]?={}`, ch) >= 0 {
			return false
		}
	}
	for i := 0; i < len(value); i++ {
		if ch := value[i]; (ch < ' ' && ch != '\t') || ch == 0x7F {
			return false
		}
	}
	return name != ""
}

func etagOf(h http.Header) string { return strings.Trim(h.Get("Etag"), `"`) }

func quote(etag string) string { return `"` + strings.Trim(etag, `"`) + `"` }

// crcOf is x-oss-hash-crc64ecma: of the whole object, also on a ranged GET.
func crcOf(h http.Header) (crc uint64, ok bool) {
	crc, err := strconv.ParseUint(h.Get("X-Oss-Hash-Crc64ecma"), 10, 64)
	return crc, err == nil
}

func infoOf(key string, size int64, a *answer) object.Info {
	h := a.header
	info := object.Info{
		Ref:     object.Ref{Key: key, ETag: etagOf(h), Size: size},
		Meta:    object.Meta{},
		Type:    h.Get("X-Oss-Object-Type"),
		Class:   h.Get(object.HeaderClass),
		Restore: h.Get("X-Oss-Restore"),
		Headers: object.Headers{},
		Asked:   a.asked,
	}
	info.CRC64, info.HasCRC = crcOf(h)
	info.LastModified, _ = http.ParseTime(h.Get("Last-Modified"))
	info.Date, _ = http.ParseTime(h.Get("Date"))
	for name, values := range h {
		if strings.HasPrefix(name, metaPrefix) && len(values) > 0 {
			info.Meta[strings.ToLower(name[len(metaPrefix):])] = values[0]
		}
	}
	for _, name := range kept {
		if v := h.Get(name); v != "" {
			info.Headers[name] = v
		}
	}
	return info
}
