package fs

import (
	"context"
	"errors"
	"strings"
	"syscall"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
	"github.com/ossmount/ossmount/writeback"
)

// side is one of the two names of an exchange.
type side struct {
	dir     *node
	name    string
	e       *entry
	child   *node              // nil: the kernel does not know it
	objects map[string]beneath // beneath a directory, deep
	asked   *writeback.Moment
}

// exchange implements RENAME_EXCHANGE: two names, of whatever type, trade what
// they hold in one step.
func (f *FS) exchange(ctx context.Context, from *node, name string, to *node, newName string) error {
	a, err := f.side(ctx, from, name)
	if err != nil {
		return err
	}
	defer a.done()
	b, err := f.side(ctx, to, newName)
	if err != nil {
		return err
	}
	defer b.done()
	switch {
	case from == to && name == newName:
		return nil
	case a.e.dir && to.within(a.child), b.e.dir && from.within(b.child):
		return fail(syscall.EINVAL)
	}
	f.tree.Lock()
	defer f.tree.Unlock()
	if !from.holdsLocked(name, a.e) || !to.holdsLocked(newName, b.e) {
		return errMoved
	}
	change := f.q.Change
	if a.e.dir || b.e.dir {
		change = f.q.Batch
	}
	if _, err := change(func(c *writeback.Change) error { return trade(c, a, b) }); err != nil {
		return err
	}
	a.placeLocked(b.dir, b.name)
	b.placeLocked(a.dir, a.name)
	f.overlay.forget(a.keyLocked())
	f.overlay.forget(b.keyLocked())
	return nil
}

func (f *FS) side(ctx context.Context, dir *node, name string) (*side, error) {
	s := &side{dir: dir, name: name, child: dir.childNode(name)}
	if s.child != nil {
		if x := s.child.openFile(); x != nil {
			if err := x.commit(x.writing()); err != nil { // so that a row names its bytes
				return nil, err
			}
		}
	}
	var err error
	if s.e, err = dir.named(ctx, name); err != nil {
		return nil, err
	}
	if f.overlay.reserved(dir.key(), name) {
		return nil, fail(syscall.EPERM)
	}
	if err = f.readable(ctx, s.e); err != nil {
		return nil, err
	}
	if s.e.dir {
		s.objects, s.asked, err = f.overlay.below(ctx, s.e.key)
	}
	return s, err
}

func (s *side) done() {
	if s.asked != nil {
		s.asked.Done()
	}
}

// keyLocked is the key of the side's name; FS.tree is held.
func (s *side) keyLocked() string {
	key := s.dir.keyLocked() + s.name
	if s.e.dir {
		key += "/"
	}
	return key
}

func (s *side) placeLocked(dir *node, name string) {
	if s.child != nil {
		s.child.parent, s.child.name = dir, name
	}
}

// taken is what one key held before an exchange.
type taken struct {
	row   *writeback.Row
	was   object.Ref // what OSS holds there
	known bool
}

// take returns what the keys of one side hold, by what follows the name.
func (s *side) take(c *writeback.Change) (map[string]taken, error) {
	out := map[string]taken{}
	add := func(key string, clean *writeback.Row) error {
		rel := strings.TrimPrefix(key, s.dir.keyLocked()+s.name)
		if _, done := out[rel]; done {
			return nil
		}
		row, was, known, err := c.Take(key, clean)
		if errors.Is(err, writeback.ErrNoRow) && clean != nil && clean.Unlearnt {
			return nil // deleted here, and OSS does not know yet
		}
		out[rel] = taken{row, was, known}
		return err
	}
	key := s.keyLocked()
	if !s.e.dir {
		return out, add(key, s.e.clean())
	}
	settledOver(s.objects, s.asked, key)
	own := s.e.clean()
	if own == nil && s.e.row == nil { // but a prefix; where a row was, it has all that is known
		own = &writeback.Row{Attr: s.e.attr, Known: s.e.known}
	}
	if err := add(key, own); err != nil {
		return nil, err
	}
	for r, err := range c.Rows(key) {
		if err != nil {
			return nil, err
		}
		if r.Kind == journal.Put {
			if err := add(r.Key, nil); err != nil {
				return nil, err
			}
		}
	}
	for k, b := range s.objects {
		if err := add(k, b.clean()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// trade puts what each side holds under the name of the other.
func trade(c *writeback.Change, a, b *side) error {
	heldA, err := a.take(c)
	if err != nil {
		return err
	}
	heldB, err := b.take(c)
	if err != nil {
		return err
	}
	nameA, nameB := a.dir.keyLocked()+a.name, b.dir.keyLocked()+b.name
	if err := c.SwapNames(nameA+"/", nameB+"/"); err != nil {
		return err
	}
	for _, s := range []*side{a, b} {
		if err := c.Names(s.dir.keyLocked()); err != nil {
			return err
		}
	}
	if err := putOver(c, heldA, heldB, nameB); err != nil {
		return err
	}
	return putOver(c, heldB, heldA, nameA)
}

// putOver puts what is in from under the name to, which held before.
func putOver(c *writeback.Change, from, before map[string]taken, to string) error {
	for rel, t := range from {
		if len(to)+len(rel) > maxKey {
			return fail(syscall.ENAMETOOLONG)
		}
		r := *t.row
		r.Key = to + rel
		if (rel == "" || rel == "/") && r.Attr.Mode != 0 {
			r.Attr.Ctime = now()
		}
		r.Expected, r.Known = before[rel].was, true
		if b, ok := before[rel]; ok {
			r.Known = b.known
		}
		if err := c.Put(&r); err != nil {
			return err
		}
	}
	for rel, t := range before {
		if _, stays := from[rel]; !stays {
			if err := c.Delete(to+rel, t.was, t.known); err != nil {
				return err
			}
		}
	}
	return nil
}
