package fs

import (
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// glance is what the journal says of some names of a directory, read in one go for
// somebody who looks them up one after another. Any commit makes it worthless.
type glance struct {
	asOf   uint64                    // the state in which it was read
	noRows bool                      // no row tells of any name of the directory
	attrs  map[string]*journal.Attrs // what is remembered, by name
}

// glance reads what is remembered of the names from first to last of the directory dir.
func (o *overlay) glance(dir, first, last string) *glance {
	g := &glance{attrs: map[string]*journal.Attrs{}}
	err := o.q.View(func(tx *journal.Tx) error {
		g.asOf = tx.At()
		g.noRows = hasNoRows(tx, dir)
		for key, a := range tx.AttrsFrom(dir, dir+first) {
			name := key[len(dir):]
			if name > last {
				return nil
			}
			if a != nil {
				g.attrs[name] = a
			}
		}
		return nil
	})
	if err != nil {
		return nil
	}
	return g
}

func hasNoRows(tx *journal.Tx, dir string) bool {
	if tx.None(dir) {
		return true
	}
	for range tx.ChildNames(dir) {
		return false
	}
	return true
}

// dated is glance for names that a listing shows, and notes when those were modified
// that it shows for the first time.
func (o *overlay) dated(dir string, items []item, files map[string]object.Entry) *glance {
	if len(items) == 0 {
		return nil
	}
	first, last := items[0].order(), items[len(items)-1].order()
	g := o.glance(dir, first, last)
	if g == nil {
		return nil
	}
	var seen []object.Entry
	for _, i := range items {
		e, file := files[i.name]
		if a := g.attrs[i.name]; file && a != nil && a.LastModified.IsZero() && !e.LastModified.IsZero() && a.Ref.Same(e.Ref()) {
			seen = append(seen, e)
		}
	}
	if len(seen) == 0 {
		return g
	}
	if err := o.q.Dated(seen); err != nil {
		return nil
	}
	return o.glance(dir, first, last)
}

// now is g where it holds, else nil.
func (o *overlay) now(g *glance) *glance {
	if g == nil || g.asOf != o.q.Newest() {
		return nil
	}
	return g
}

// glanced is what is at hand of the names of the directory dir.
func (o *overlay) glanced(dir string) *glance {
	l, fresh, _ := o.cached(dir)
	if !fresh {
		return nil
	}
	return o.now(l.ahead.glanced())
}

func (g *glance) hasNoRows() bool { return g != nil && g.noRows }

// of is what is remembered of a name; nil: it is to be asked for.
func (g *glance) of(name string) *journal.Attrs {
	if g == nil {
		return nil
	}
	return g.attrs[name]
}
