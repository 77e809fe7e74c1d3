package journal

import "github.com/ossmount/ossmount/internal/codec"

// The values that there are many of name their fields here, in the order of the struct
// and as its tags say (TestEachFieldIsKnown). All others are left to encoding/json.

// record is v if it is one of those. What has one of them embedded has its method, too,
// and is another.
func record(v any) codec.Record {
	switch v := v.(type) {
	case *Row:
		return v
	case *Attrs:
		return v
	case *Clean:
		return v
	case *whole:
		return v
	}
	return nil
}

// Fields is how it is written and read by hand.
func (r *Row) Fields(c *codec.Coder) {
	c.One('{')
	codec.Number(c, "s", codec.Always, &r.Seq)
	codec.Number(c, "k", codec.Always, &r.Kind)
	codec.Number(c, "c", codec.IfSet, &r.Content)
	c.Ref("b", codec.IfSet, &r.Base)
	c.Text("x", codec.IfSet, &r.Text)
	c.Ranges("w", &r.Dirty)
	c.Flag("wh", codec.IfSet, &r.Whole)
	c.List("bt", &r.Tags)
	codec.Number(c, "z", codec.IfSet, &r.Size)
	c.Attr("a", &r.Attr)
	c.Flag("ul", codec.IfSet, &r.Unlearnt)
	codec.Number(c, "cr", codec.IfSet, &r.CRC64)
	c.Flag("hc", codec.IfSet, &r.HasCRC)
	codec.Texts(c, "h", &r.Headers)
	codec.Texts(c, "m", &r.Meta)
	c.Ref("e", codec.IfSet, &r.Expected)
	c.Flag("ek", codec.IfSet, &r.Known)
	codec.Number(c, "gz", codec.IfSet, &r.SignSize)
	codec.Number(c, "gt", codec.IfSet, &r.SignMtime)
	c.Flag("us", codec.IfSet, &r.Unseen)
	c.Flag("o", codec.IfSet, &r.Open)
	codec.Number(c, "v", codec.IfSet, &r.Vouched)
	c.Flag("i", codec.IfSet, &r.Interrupted)
	c.Text("rb", codec.IfSet, &r.Rebuilt)
	c.Text("p", codec.IfSet, &r.Parked)
	codec.Number(c, "t", codec.IfSet, &r.Closed)
	codec.Number(c, "d", codec.Always, &r.Due)
	if c.Has("n", r.Note != nil) {
		codec.Made(&r.Note).fields(c)
	}
	c.One('}')
}

func (n *Note) fields(c *codec.Coder) {
	c.One('{')
	c.Text("t", codec.Always, &n.Tag)
	codec.Number(c, "l", codec.IfSet, &n.Lost)
	c.Flag("a", codec.IfSet, &n.Answered)
	c.Ref("r", codec.IfSet, &n.Published)
	if c.Has("at", n.Begun != nil) {
		codec.Made(&n.Begun).fields(c)
	}
	c.One('}')
}

func (b *Begun) fields(c *codec.Coder) {
	c.One('{')
	c.Attr("a", &b.Attr)
	codec.Texts(c, "m", &b.Meta)
	codec.Texts(c, "h", &b.Headers)
	c.One('}')
}

// Fields is how it is written and read by hand.
func (a *Attrs) Fields(c *codec.Coder) {
	c.One('{')
	c.Ref("r", codec.Always, &a.Ref)
	c.Moment("l", &a.LastModified)
	codec.Texts(c, "m", &a.Meta)
	codec.Texts(c, "h", &a.Headers)
	c.Text("t", codec.IfSet, &a.Type)
	c.Text("c", codec.IfSet, &a.Class)
	c.Text("k", codec.IfSet, &a.Link)
	codec.Number(c, "ct", codec.IfSet, &a.Ctime)
	codec.Number(c, "at", codec.IfSet, &a.Atime)
	codec.Number(c, "s", codec.IfSet, &a.Settled)
	c.Flag("y", codec.IfSet, &a.Racy)
	c.One('}')
}

// Fields is how it is written and read by hand.
func (l *Clean) Fields(c *codec.Coder) {
	c.One('{')
	codec.Number(c, "c", codec.Always, &l.Content)
	c.Ref("r", codec.Always, &l.Ref)
	codec.Number(c, "u", codec.IfSet, &l.Used)
	c.One('}')
}

func (w *whole) Fields(c *codec.Coder) {
	c.One('{')
	codec.Number(c, "s", codec.Always, &w.Sum)
	codec.Number(c, "n", codec.Always, &w.Keys)
	c.Text("b", codec.Always, &w.Boot)
	c.Text("id", codec.Always, &w.Cache)
	c.Flag("new", codec.IfSet, &w.New)
	c.One('}')
}
