package codec

import "github.com/ossmount/ossmount/internal/object"

// Ref is a field of a version of an object.
func (c *Coder) Ref(name string, w When, r *object.Ref) {
	if !c.Has(name, bool(w) || !r.IsZero()) {
		return
	}
	c.One('{')
	c.Text("Key", Always, &r.Key)
	c.Text("ETag", Always, &r.ETag)
	Number(c, "Size", Always, &r.Size)
	Number(c, "CRC64", Always, &r.CRC64)
	c.Flag("HasCRC", Always, &r.HasCRC)
	c.One('}')
}

// Attr is a field of attributes.
func (c *Coder) Attr(name string, a *object.Attr) {
	if !c.Has(name, *a != object.Attr{}) {
		return
	}
	c.One('{')
	Number(c, "m", Always, &a.Mode)
	Number(c, "u", IfSet, &a.UID)
	Number(c, "g", IfSet, &a.GID)
	Number(c, "t", Always, &a.Mtime)
	Number(c, "r", IfSet, &a.Rdev)
	Number(c, "ct", IfSet, &a.Ctime)
	Number(c, "at", IfSet, &a.Atime)
	c.One('}')
}

// Made is what p points to, made if there is nothing yet.
func Made[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}
