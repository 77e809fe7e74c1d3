package journal

import (
	"maps"
	"time"

	"github.com/ossmount/ossmount/internal/extent"
	"github.com/ossmount/ossmount/internal/object"
)

// Kind of an intent.
type Kind uint8

const (
	Put    Kind = 1 // the key shall hold this content with these attributes
	Delete Kind = 2 // the key shall hold nothing
)

func (k Kind) String() string {
	if k == Delete {
		return "delete"
	}
	return "put"
}

// Row is the intent for one key: what OSS still has to learn. A row is there
// as long as OSS is behind, and no longer.
type Row struct {
	Key  string `json:"-"`
	Seq  uint64 `json:"s"` // commit that made it visible; notes and moves of the engine keep it
	Kind Kind   `json:"k"`

	// The bytes of a Put are one of: a content (Content), one hole over a
	// version that OSS holds (Base), a content made from such a version (both),
	// or what stands in the row itself (Text; empty for directories and special
	// files).
	Content uint64     `json:"c,omitempty"`
	Base    object.Ref `json:"b,omitzero"`
	Text    string     `json:"x,omitempty"`
	// Dirty, of a content with a base: the bytes that may differ from those of
	// the base at the same place, and are here. All others lie within the base;
	// the content has them too if Whole is set, else holes are there.
	Dirty extent.Set `json:"w,omitempty"`
	Whole bool       `json:"wh,omitempty"`
	// Tags under which these very bytes may have replaced Base (R7).
	Tags []string `json:"bt,omitempty"`

	Size int64       `json:"z,omitempty"` // bytes of the file
	Attr object.Attr `json:"a,omitzero"`

	// Unlearnt: Base was renamed with its directory and nothing has been asked
	// about it: its metadata is taken over as HEAD shows it.
	Unlearnt bool `json:"ul,omitempty"`

	// CRC64 of the file's bytes as they were written, if it is known: what is
	// published must have it, so that bytes which the cache disk has damaged
	// never become an object.
	CRC64  uint64 `json:"cr,omitempty"`
	HasCRC bool   `json:"hc,omitempty"`

	// Headers and foreign user metadata that a rewrite keeps (H22).
	Headers object.Headers `json:"h,omitempty"`
	Meta    object.Meta    `json:"m,omitempty"`

	// Expected is what OSS held under the key when the intent began. A zero
	// Ref with Known set says that it held nothing.
	Expected object.Ref `json:"e,omitzero"`
	Known    bool       `json:"ek,omitempty"`

	// Size and mtime of the content's file as the flush found them, before
	// our own extended attribute was set (H25).
	SignSize  int64 `json:"gz,omitempty"`
	SignMtime int64 `json:"gt,omitempty"` // Unix nanoseconds

	// Unseen: the kernel has served the content itself. It may have been changed
	// after this was committed, by who has it open or mapped.
	Unseen bool `json:"us,omitempty"`

	// Open: the content was open for writing when this was committed, or has
	// been opened since; after a power cut its bytes vouch for nothing.
	Open bool `json:"o,omitempty"`
	// Vouched is the first state in which a row vouched for these bytes; 0: Seq.
	// A rename or chmod gives the row another sequence, and the bytes none.
	Vouched uint64 `json:"v,omitempty"`
	// Interrupted: found at a start with an unfinished write; not published
	// until it is closed again through the mount.
	Interrupted bool `json:"i,omitempty"`
	// Rebuilt: made from what its content says of itself, after the journal had
	// lost it; the tag that it had before. Published only if OSS holds exactly
	// what it expected.
	Rebuilt string `json:"rb,omitempty"`
	// Parked: the reason why it cannot succeed as it is; kept and shown.
	Parked string `json:"p,omitempty"`

	Closed int64 `json:"t,omitempty"` // first unpublished close, Unix nanoseconds
	Due    int64 `json:"d"`           // not to be carried before, Unix nanoseconds

	// AsOf is, in a row that stands for what a name held when it was looked up,
	// the state that it was looked up in; never stored.
	AsOf uint64 `json:"-"`

	digest uint64 // of what the database holds of it (sum.go); set by Tx.Row

	// Note: a request that publishes this row was about to be sent, and no
	// final answer to it is known (R7).
	Note *Note `json:"n,omitempty"`
}

// Note is what a row was about to publish.
type Note struct {
	Tag string `json:"t"` // x-oss-meta-ossmount of the object that it makes
	// Lost is when a request was given up without an answer, Unix nanoseconds;
	// 0: none was yet, as far as this was written.
	Lost int64 `json:"l,omitempty"`
	// Answered: OSS has answered with success (Published is what it made), but
	// an older request of the key is in doubt, so that a HEAD decides at Due
	// (R8).
	Answered  bool       `json:"a,omitempty"`
	Published object.Ref `json:"r,omitzero"`
	// Begun is what the object was published with, if that is not what the row
	// says: the rest is a copy onto itself (H21).
	Begun *Begun `json:"at,omitempty"`
}

// Begun is what an upload began with beside the bytes: its object will carry
// that, whatever the row says by then (H21).
type Begun struct {
	Attr    object.Attr    `json:"a,omitzero"`
	Meta    object.Meta    `json:"m,omitempty"`
	Headers object.Headers `json:"h,omitempty"`
}

// Begin returns what an upload of the row begins with.
func (r *Row) Begin() Begun { return Begun{r.Attr, r.Meta, r.Headers} }

// Differs reports that r says something else.
func (b *Begun) Differs(r *Row) bool {
	return b.Attr.Published() != r.Attr.Published() || !maps.Equal(b.Meta, r.Meta) || !maps.Equal(b.Headers, r.Headers)
}

// IsHole reports that no byte of the row is here.
func (r *Row) IsHole() bool { return r.Content == 0 && !r.Base.IsZero() }

// HasHoles reports that some bytes of the row are those of its base, and not
// here.
func (r *Row) HasHoles() bool { return !r.Base.IsZero() && !r.Whole }

// Here is what of the bytes is in the content.
func (r *Row) Here() extent.Set {
	switch {
	case r.IsHole():
		return nil
	case r.HasHoles():
		return r.Dirty
	}
	return extent.Of(0, r.Size)
}

// here is how many bytes are in the content.
func (r *Row) here() int64 {
	switch {
	case r.Content == 0:
		return 0
	case r.HasHoles():
		return r.Dirty.Len()
	}
	return r.Size
}

// Changed is what of the bytes may differ from the base; all without one.
func (r *Row) Changed() extent.Set {
	switch {
	case r.Base.IsZero():
		return extent.Of(0, r.Size)
	case r.IsHole():
		return nil
	}
	return r.Dirty
}

// Rootless makes r a row without a base: all its bytes are here.
func (r *Row) Rootless() { r.Base, r.Tags, r.Dirty, r.Whole = object.Ref{}, nil, nil, false }

// ForgetSum says that the bytes may be others than those whose CRC64 was known.
func (r *Row) ForgetSum() { r.CRC64, r.HasCRC = 0, false }

// Waiting reports whether the engine may ever carry the row by itself.
func (r *Row) Waiting() bool { return r.Parked == "" && !r.Interrupted }

// IsAnswered reports that OSS has answered the request that the row's note is about.
func (r *Row) IsAnswered() bool { return r.Note != nil && r.Note.Answered }

// Upload is a multipart upload of the content of a key (see Part).
type Upload struct {
	Num      uint64     `json:"n"`           // names its parts here: the state that it was first written in
	ID       string     `json:"i,omitempty"` // empty: asked for, answer not noted
	Content  uint64     `json:"c,omitempty"`
	Base     object.Ref `json:"b,omitzero"` // of the parts that are copied
	Size     int64      `json:"z"`
	PartSize int64      `json:"p"` // of parts with a body, as planned
	Begun
	Tag   string `json:"t"`
	Asked int64  `json:"w"`           // Unix nanoseconds
	Seq   uint64 `json:"s,omitempty"` // of the row whose bytes all its parts were last compared with
}

// Part is a part that OSS has acknowledged.
type Part struct {
	Number int    `json:"n"`
	Off    int64  `json:"o"`
	Size   int64  `json:"z"`
	Copied bool   `json:"cp,omitempty"` // from the upload's Base, at the same place
	ETag   string `json:"e"`
	CRC64  uint64 `json:"c"`
	HasCRC bool   `json:"hc,omitempty"`
}

// Doubt is a request for a key that may still land: it was sent and got no
// answer, and another row has taken its place (R8).
type Doubt struct {
	Tags   []string  `json:"t,omitempty"` // of Puts
	Delete bool      `json:"d,omitempty"` // a Delete is among them
	Older  bool      `json:"o,omitempty"` // a Delete was among them before the last
	Since  time.Time `json:"s"`           // when the last of them was given up
	// Flying is the sequence of a row whose request had not ended when this
	// was written, 0 for none; a start finds it ended then.
	Flying uint64 `json:"f,omitempty"`
}

// Debt is a multipart upload nobody wants any more (H26), or a hidden copy
// that has served (R5): work that drain does not wait for.
type Debt struct {
	ID     uint64    `json:"-"`
	Key    string    `json:"k"`
	Upload string    `json:"u,omitempty"` // empty: the ID was asked for and never noted
	Object bool      `json:"o,omitempty"` // delete the object at Key instead, a hidden copy
	For    string    `json:"f,omitempty"` // key of the row that the copy is made for
	Asked  time.Time `json:"a,omitzero"`
	Since  time.Time `json:"s"`
	// Until is when what asked for the upload cannot land any more; zero: it has
	// ended. There may be none before, and one after.
	Until time.Time `json:"l,omitzero"`
}

// Clean says that a content holds exactly the bytes of a version that OSS
// holds.
type Clean struct {
	Key     string     `json:"-"`
	Content uint64     `json:"c"`
	Ref     object.Ref `json:"r"`
	Used    int64      `json:"u,omitempty"` // Unix seconds, coarse
}

// Attrs are the attributes learnt of a version, by HEAD or from our own
// upload: good as long as a listing shows the same ETag, size and
// LastModified. A zero LastModified is closed by the first listing (H23).
type Attrs struct {
	Key          string         `json:"-"`
	Ref          object.Ref     `json:"r"`
	LastModified time.Time      `json:"l,omitzero"`
	Meta         object.Meta    `json:"m,omitempty"`
	Headers      object.Headers `json:"h,omitempty"`
	Type         string         `json:"t,omitempty"`
	Class        string         `json:"c,omitempty"`
	Link         string         `json:"k,omitempty"` // key that an OSS symlink stands for
	// Known here only (object.Attr).
	Ctime int64 `json:"ct,omitempty"`
	Atime int64 `json:"at,omitempty"`
	// Settled is the state in which a row of ours became this version; 0: we
	// have not made it.
	Settled uint64 `json:"s,omitempty"`
	// Learnt so soon after LastModified that another version of the same
	// second may have it, too (H23): asked once more.
	Racy bool `json:"y,omitempty"`
}
