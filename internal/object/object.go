package object

import (
	"strings"
	"time"
)

// Ref names one version of one object.
type Ref struct {
	Key    string // full key in the bucket
	ETag   string // as OSS prints it, without the quotes; opaque
	Size   int64  // bytes
	CRC64  uint64 // CRC-64/XZ of the whole object (x-oss-hash-crc64ecma)
	HasCRC bool   // false: OSS sent no CRC64 for it
}

// IsZero reports that r names no version: the object is absent.
func (r Ref) IsZero() bool { return r.ETag == "" }

// Same reports that r and o are the same version of the same key. ETags are
// compared as OSS compares them: without quotes and without case.
func (r Ref) Same(o Ref) bool {
	return r.Key == o.Key && r.Size == o.Size && SameETag(r.ETag, o.ETag)
}

// SameETag compares two ETags without quotes and case.
func SameETag(a, b string) bool {
	return strings.EqualFold(strings.Trim(a, `"`), strings.Trim(b, `"`))
}

// Meta is user metadata: names in lower case without the x-oss-meta- prefix.
type Meta map[string]string

// Info is what OSS answers about one object (HeadObject, GetObject).
type Info struct {
	Ref
	LastModified time.Time // one second of resolution
	Meta         Meta
	Type         string    // x-oss-object-type: Normal, Multipart, Appendable, Symlink
	Class        string    // x-oss-storage-class
	Restore      string    // x-oss-restore of an archived object; empty: none was asked for
	Link         string    // key that an OSS symlink (Type Symlink) stands for
	Headers      Headers   // what a rewrite of the object must keep
	Asked        time.Time // when the request was started, by our clock
	Date         time.Time // when it was answered, by the clock of OSS; zero: not told
}

// MaxMeta is how many bytes of user metadata an object takes, names included (PutObject).
const MaxMeta = 8192

// Size is how many bytes of MaxMeta m takes.
func (m Meta) Size() (n int) {
	for name, v := range m {
		n += len("x-oss-meta-") + len(name) + len(v)
	}
	return n
}

// Headers are the content headers of an object, kept over a rewrite (H22).
// Names are canonical HTTP header names; only those that OSS stores are here:
// Content-Type, Content-Encoding, Content-Language, Content-Disposition,
// Cache-Control, Expires, X-Oss-Storage-Class, X-Oss-Server-Side-Encryption
// and its key ID and data encryption; and HeaderTags.
type Headers map[string]string

// Entry is one object in a page of a listing (ListObjectsV2).
type Entry struct {
	Key          string
	ETag         string // without quotes
	Size         int64
	LastModified time.Time
	Type         string
	Class        string
}

// Ref returns the version that the entry names.
func (e Entry) Ref() Ref { return Ref{Key: e.Key, ETag: e.ETag, Size: e.Size} }

// ListQuery asks for one page of a listing.
type ListQuery struct {
	Prefix    string
	Delimiter string // "/" or ""
	After     string // start-after: only keys greater than this
	Token     string // continuation token of the page before; wins over After
	Max       int    // 1..1000; 0 means 1000
}

// Page is one page of a listing: Entries and Prefixes, each in byte order.
type Page struct {
	Entries  []Entry
	Prefixes []string  // common prefixes, each with its delimiter at the end
	Next     string    // token of the next page, empty on the last
	Asked    time.Time // when the request was started, by our clock
}

// Part is one part of a multipart upload as OSS holds it.
type Part struct {
	Number int // 1..10000
	Size   int64
	ETag   string // without quotes
	CRC64  uint64
	HasCRC bool
}

// Upload is a multipart upload that OSS holds open.
type Upload struct {
	Key, ID   string
	Initiated time.Time
}

// PutOptions is what a PutObject or an InitiateMultipartUpload says beside
// key and bytes.
type PutOptions struct {
	Meta            Meta
	Headers         Headers
	ForbidOverwrite bool // x-oss-forbid-overwrite: a Conflict if the key exists
}
