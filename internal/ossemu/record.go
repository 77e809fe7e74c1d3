package ossemu

import "fmt"

// pair is a name and its value; lists of pairs are sorted by name.
type pair struct{ name, value string }

// segment is a range of one segment file.
type segment struct {
	id   uint64
	off  int64
	size int64
}

// attrs is what a client says about an object besides its bytes.
type attrs struct {
	class   string // storage class
	acl     string // object ACL; empty is "default"
	headers []pair // content and encryption headers, canonical names
	meta    []pair // user metadata, lower case, without x-oss-meta-
	tags    []pair
}

// object is one object. It is never changed once it is in an index; a change
// puts another in its place, so readers need no lock.
type object struct {
	key      string
	kind     string // x-oss-object-type
	size     int64
	etag     string // without quotes
	crc      uint64
	modified int64 // Unix seconds: OSS has no finer resolution
	attrs
	segments []segment
	special  *special // nil for most
}

// special is what few objects have; like the object it is replaced, not changed.
type special struct {
	target  string // of a symlink
	ready   int64  // archived: when the copy that was asked for is there, Unix seconds; 0: none was
	expires int64  // and when it goes away
}

// part is one part of an open upload; like an object it is replaced, not changed.
type part struct {
	number   int
	size     int64
	etag     string
	crc      uint64
	modified int64
	segments []segment
}

// uploadKey orders uploads as ListMultipartUploads shows them.
type uploadKey struct{ key, id string }

// upload is an open multipart upload.
type upload struct {
	uploadKey
	started int64
	attrs
	sequential bool          // parts come in order, and the object gets an MD5
	parts      map[int]*part // owned by store.mu
}

// bucketInfo is what PutBucket sets.
type bucketInfo struct {
	name    string
	created int64
	class   string
	acl     string
	copies  string // DataRedundancyType; empty is LRS
}

type recordKind byte

const (
	recHead     recordKind = 1 + iota // format and next segment number, first in a log
	recBucket                         // bucket made or changed
	recNoBucket                       // bucket removed
	recPut                            // object put
	recDelete                         // objects removed
	recUpload                         // upload begun
	recPart                           // part stored
	recAbort                          // upload ended without an object
	recComplete                       // upload ended, object put
)

// formatVersion counts the forms of the records. Version 2 has symlinks,
// restored objects, sequential uploads and redundancy types: fields at the end
// of their records, there only when they say something, so that a log of
// version 1 reads as one of version 2. Open writes it anew, for the sake of
// older servers, which would not know what to make of such fields.
const formatVersion = 2

// record is one change. Which fields count is said by kind.
type record struct {
	kind   recordKind
	next   uint64     // recHead
	format uint64     // recHead, as it was read
	bucket string     // all but recHead, recBucket
	info   bucketInfo // recBucket
	keys   []string   // recDelete
	object *object    // recPut, recComplete
	upload *upload    // recUpload
	id     uploadKey  // recPart, recAbort, recComplete
	part   *part      // recPart
}

func (r record) encode(b []byte) []byte {
	e := encoder{append(b, byte(r.kind))}
	switch r.kind {
	case recHead:
		e.uint(formatVersion)
		e.uint(r.next)
		return e.b
	case recBucket:
		e.str(r.info.name)
		e.int(r.info.created)
		e.str(r.info.class)
		e.str(r.info.acl)
		if r.info.copies != "" {
			e.str(r.info.copies)
		}
		return e.b
	}
	e.str(r.bucket)
	switch r.kind {
	case recPut:
		e.object(r.object)
	case recDelete:
		e.uint(uint64(len(r.keys)))
		for _, k := range r.keys {
			e.str(k)
		}
	case recUpload:
		e.id(r.upload.uploadKey)
		e.int(r.upload.started)
		e.attrs(r.upload.attrs)
		if r.upload.sequential {
			e.uint(1)
		}
	case recPart:
		e.id(r.id)
		e.part(r.part)
	case recAbort:
		e.id(r.id)
	case recComplete:
		e.id(r.id)
		e.object(r.object)
	}
	return e.b
}

func (e *encoder) id(k uploadKey) {
	e.str(k.key)
	e.str(k.id)
}

func (e *encoder) object(o *object) {
	e.str(o.key)
	e.str(o.kind)
	e.int(o.size)
	e.str(o.etag)
	e.uint(o.crc)
	e.int(o.modified)
	e.attrs(o.attrs)
	e.segments(o.segments)
	if s := o.special; s != nil {
		e.str(s.target)
		e.int(s.ready)
		e.int(s.expires)
	}
}

func (e *encoder) part(p *part) {
	e.int(int64(p.number))
	e.int(p.size)
	e.str(p.etag)
	e.uint(p.crc)
	e.int(p.modified)
	e.segments(p.segments)
}

// decodeRecord reads one payload. common may be nil.
func decodeRecord(b []byte, common map[string]string) (record, error) {
	if len(b) == 0 {
		return record{}, errDecode
	}
	r, d := record{kind: recordKind(b[0])}, decoder{b: b[1:], common: common}
	switch r.kind {
	case recHead:
		if r.format = d.uint(); r.format < 1 || r.format > formatVersion {
			return record{}, fmt.Errorf("log has format %d, this server reads up to %d", r.format, formatVersion)
		}
		r.next = d.uint()
	case recBucket:
		r.info = bucketInfo{name: d.str(), created: d.int(), class: d.name(), acl: d.name()}
		if d.more() {
			r.info.copies = d.name()
		}
	case recNoBucket:
		r.bucket = d.name()
	case recPut:
		r.bucket, r.object = d.name(), d.object()
	case recDelete:
		r.bucket = d.name()
		r.keys = make([]string, d.count())
		for i := range r.keys {
			r.keys[i] = d.str()
		}
	case recUpload:
		r.bucket = d.name()
		r.upload = &upload{uploadKey: d.id(), started: d.int(), attrs: d.attrs(), parts: map[int]*part{}}
		r.upload.sequential = d.more() && d.uint() == 1
	case recPart:
		r.bucket, r.id, r.part = d.name(), d.id(), d.part()
	case recAbort:
		r.bucket, r.id = d.name(), d.id()
	case recComplete:
		r.bucket, r.id, r.object = d.name(), d.id(), d.object()
	default:
		return record{}, fmt.Errorf("record of unknown kind %d", b[0])
	}
	if d.bad || len(d.b) != 0 {
		return record{}, errDecode
	}
	return r, nil
}

func (d *decoder) id() uploadKey { return uploadKey{key: d.str(), id: d.str()} }

func (d *decoder) object() *object {
	o := &object{
		key: d.str(), kind: d.name(), size: d.int(), etag: d.str(), crc: d.uint(),
		modified: d.int(), attrs: d.attrs(), segments: d.segments(),
	}
	if d.more() {
		o.special = &special{target: d.str(), ready: d.int(), expires: d.int()}
	}
	return o
}

func (d *decoder) part() *part {
	return &part{
		number: int(d.int()), size: d.int(), etag: d.str(), crc: d.uint(),
		modified: d.int(), segments: d.segments(),
	}
}
