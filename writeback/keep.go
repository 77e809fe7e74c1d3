package writeback

import (
	"maps"

	"github.com/ossmount/ossmount/internal/object"
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
		if err := ask("X-Oss-Tagging", "tags", func() (string, error) { return q.remote.Tags(q.work, from) }); err != nil {
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
	if len(t.kept) == 0 {
		return t.row.Headers
	}
	h := maps.Clone(t.row.Headers)
	if h == nil {
		h = object.Headers{}
	}
	maps.Copy(h, t.kept)
	return h
}
