package journal

import "github.com/ossmount/ossmount/internal/object"

// The values that there are many of name their fields here, in the order of the struct
// and as its tags say (TestEachFieldIsKnown). All others are left to encoding/json.

// value writes or reads what v points to, if it is one of those.
func (c *coder) value(v any) (known bool) {
	switch v := v.(type) {
	case *Row:
		v.fields(c)
	case *Attrs:
		v.fields(c)
	case *Clean:
		v.fields(c)
	case *whole:
		v.fields(c)
	default:
		return false
	}
	return true
}

func (r *Row) fields(c *coder) {
	c.one('{')
	number(c, "s", always, &r.Seq)
	number(c, "k", always, &r.Kind)
	number(c, "c", ifSet, &r.Content)
	c.ref("b", ifSet, &r.Base)
	c.text("x", ifSet, &r.Text)
	c.ranges("w", &r.Dirty)
	c.flag("wh", ifSet, &r.Whole)
	c.list("bt", &r.Tags)
	number(c, "z", ifSet, &r.Size)
	c.attr("a", &r.Attr)
	c.flag("ul", ifSet, &r.Unlearnt)
	number(c, "cr", ifSet, &r.CRC64)
	c.flag("hc", ifSet, &r.HasCRC)
	texts(c, "h", &r.Headers)
	texts(c, "m", &r.Meta)
	c.ref("e", ifSet, &r.Expected)
	c.flag("ek", ifSet, &r.Known)
	number(c, "gz", ifSet, &r.SignSize)
	number(c, "gt", ifSet, &r.SignMtime)
	c.flag("us", ifSet, &r.Unseen)
	c.flag("o", ifSet, &r.Open)
	number(c, "v", ifSet, &r.Vouched)
	c.flag("i", ifSet, &r.Interrupted)
	c.text("rb", ifSet, &r.Rebuilt)
	c.text("p", ifSet, &r.Parked)
	number(c, "t", ifSet, &r.Closed)
	number(c, "d", always, &r.Due)
	if c.has("n", r.Note != nil) {
		made(&r.Note).fields(c)
	}
	c.one('}')
}

func (n *Note) fields(c *coder) {
	c.one('{')
	c.text("t", always, &n.Tag)
	number(c, "l", ifSet, &n.Lost)
	c.flag("a", ifSet, &n.Answered)
	c.ref("r", ifSet, &n.Published)
	if c.has("at", n.Begun != nil) {
		made(&n.Begun).fields(c)
	}
	c.one('}')
}

func (b *Begun) fields(c *coder) {
	c.one('{')
	c.attr("a", &b.Attr)
	texts(c, "m", &b.Meta)
	texts(c, "h", &b.Headers)
	c.one('}')
}

func (a *Attrs) fields(c *coder) {
	c.one('{')
	c.ref("r", always, &a.Ref)
	c.moment("l", &a.LastModified)
	texts(c, "m", &a.Meta)
	texts(c, "h", &a.Headers)
	c.text("t", ifSet, &a.Type)
	c.text("c", ifSet, &a.Class)
	c.text("k", ifSet, &a.Link)
	number(c, "ct", ifSet, &a.Ctime)
	number(c, "at", ifSet, &a.Atime)
	number(c, "s", ifSet, &a.Settled)
	c.flag("y", ifSet, &a.Racy)
	c.one('}')
}

func (l *Clean) fields(c *coder) {
	c.one('{')
	number(c, "c", always, &l.Content)
	c.ref("r", always, &l.Ref)
	number(c, "u", ifSet, &l.Used)
	c.one('}')
}

func (w *whole) fields(c *coder) {
	c.one('{')
	number(c, "s", always, &w.Sum)
	number(c, "n", always, &w.Keys)
	c.text("b", always, &w.Boot)
	c.text("id", always, &w.Cache)
	c.flag("new", ifSet, &w.New)
	c.one('}')
}

func (c *coder) ref(name string, w when, r *object.Ref) {
	if !c.has(name, bool(w) || !r.IsZero()) {
		return
	}
	c.one('{')
	c.text("Key", always, &r.Key)
	c.text("ETag", always, &r.ETag)
	number(c, "Size", always, &r.Size)
	number(c, "CRC64", always, &r.CRC64)
	c.flag("HasCRC", always, &r.HasCRC)
	c.one('}')
}

func (c *coder) attr(name string, a *object.Attr) {
	if !c.has(name, *a != object.Attr{}) {
		return
	}
	c.one('{')
	number(c, "m", always, &a.Mode)
	number(c, "u", ifSet, &a.UID)
	number(c, "g", ifSet, &a.GID)
	number(c, "t", always, &a.Mtime)
	number(c, "r", ifSet, &a.Rdev)
	number(c, "ct", ifSet, &a.Ctime)
	number(c, "at", ifSet, &a.Atime)
	c.one('}')
}

// made is what p points to, made if there is nothing yet.
func made[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}
