package writeback

import (
	"maps"
	"strings"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// keep asks for what a rewrite would take from the object that it replaces and
// no HEAD tells in full: its tags, and with Options.KeepACL its ACL (H22).
// CopyObject keeps tags by itself. Who may not ask for them goes on without.
func (t *transfer) keep() error {
	q, row := t.q, t.row
	from := row.Base.Key
	if row.Base.IsZero() {
		from = row.Key
	}
	if row.Base.IsZero() && row.Expected.IsZero() || t.kept != nil {
		return nil
	}
	kept := object.Headers{}
	ask := func(header, what string, f func() (string, error)) error {
		v, err := f()
		switch {
		case err == nil && v != "":
			kept[header] = v
		case object.IsAbsent(err): // who took it away is found when it is replaced
		case err != nil && object.KindOf(err) == object.Denied:
			q.log.Warn("no permission to ask for the "+what+" of an object that is rewritten: it will have none", "key", row.Key, "err", err)
		case err != nil:
			return err
		}
		return nil
	}
	if n := row.Headers[object.HeaderTags]; n != "" && n != "0" && !(row.IsHole() && row.Size <= q.o.limits.maxCopy) {
		if err := ask(object.HeaderSetTags, "tags", func() (string, error) { return q.remote.Tags(q.work, from) }); err != nil {
			return err
		}
	}
	if q.o.KeepACL {
		if err := ask(object.HeaderACL, "ACL", func() (string, error) { return q.remote.ACL(q.work, from) }); err != nil {
			return err
		}
	}
	t.kept = kept
	return nil
}

// headers are what is published beside bytes and metadata.
func (t *transfer) headers() object.Headers {
	h, _ := t.given()
	if len(t.row.Headers) > 0 {
		h = t.row.Headers
	}
	if len(t.kept) == 0 {
		return h
	}
	all := object.Headers{}
	maps.Copy(all, h)
	maps.Copy(all, t.kept)
	return all
}

// given is what the rules of the mount say of an object that replaces none of somebody
// else: that keeps what it has.
func (t *transfer) given() (object.Headers, object.Meta) {
	if t.q.o.Headers == nil || len(t.row.Headers) > 0 {
		return nil, nil
	}
	mode := t.row.Attr.Mode
	if strings.HasSuffix(t.row.Key, "/") {
		mode = object.TypeDir
	} else if mode&object.TypeMask == 0 {
		mode |= object.TypeFile
	}
	return t.q.o.Headers(strings.TrimSuffix(strings.TrimPrefix(t.row.Key, t.q.o.Prefix), "/"), mode)
}

// meta is the user metadata that is published with what b says. What rules give goes
// without saying where there is no room for it.
func (t *transfer) meta(b journal.Begun, tag string) object.Meta {
	own := metaOf(b, tag)
	_, all := t.given()
	if len(all) == 0 {
		return own
	}
	maps.Copy(all, own)
	if all.Size() > object.MaxMeta {
		return own
	}
	return all
}

// metaOf is the user metadata of what is published with b under a tag.
func metaOf(b journal.Begun, tag string) object.Meta {
	m := object.Meta{}
	maps.Copy(m, b.Meta)
	if b.Attr.Mode != 0 {
		b.Attr.AddTo(m)
	}
	m[object.TagMeta] = tag
	return m
}
