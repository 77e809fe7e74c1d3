package fs

import (
	"context"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
	"github.com/ossmount/ossmount/writeback"
)

// Flags of renameat2(2).
const (
	renameNoreplace = 1
	renameExchange  = 2
)

// Rename implements rename and renameat2.
func (n *node) Rename(ctx context.Context, name string, newParent gofs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to, ok := newParent.(*node)
	switch {
	case n.fs.o.ReadOnly:
		return syscall.EROFS
	case !ok || flags != 0 && flags != renameNoreplace && flags != renameExchange:
		return syscall.EINVAL
	}
	ctx, cancel := n.fs.patient(ctx)
	defer cancel()
	return n.fs.errno("rename", retried(func() error {
		if flags == renameExchange {
			return n.fs.exchange(ctx, n, name, to, newName)
		}
		return n.fs.rename(ctx, n, name, to, newName, flags == renameNoreplace)
	}))
}

func (f *FS) rename(ctx context.Context, from *node, name string, to *node, newName string, noreplace bool) error {
	toKey := to.key()
	src, err := from.named(ctx, name)
	if err != nil {
		return err
	}
	if err := allowed(toKey + newName); err != nil {
		return err
	}
	if err := f.readable(ctx, src); err != nil {
		return err
	}
	dst, err := to.named(ctx, newName)
	switch {
	case f.overlay.reserved(toKey, newName):
		return fail(syscall.EPERM)
	case err != nil && f.errno("rename", err) != syscall.ENOENT:
		return err
	case err != nil:
		dst = nil
	case noreplace:
		return fail(syscall.EEXIST)
	case src.key == dst.key:
		return nil
	case src.dir && !dst.dir:
		return fail(syscall.ENOTDIR)
	case !src.dir && dst.dir:
		return fail(syscall.EISDIR)
	case dst.dir:
		if empty, err := f.overlay.empty(ctx, dst.key); err != nil || !empty {
			if err == nil {
				err = fail(syscall.ENOTEMPTY)
			}
			return err
		}
	}
	var last *writeback.Row
	if from != to {
		if last, err = from.lastName(ctx, name); err != nil {
			return err
		}
	}
	m := &move{f: f, from: from, name: name, to: to, newName: newName, toKey: toKey, src: src, dst: dst, last: last,
		known: f.overlay.sure(toKey)}
	if src.dir {
		return m.directory(ctx)
	}
	return m.file()
}

// move is one rename that may happen.
type move struct {
	f             *FS
	from, to      *node
	name, newName string
	toKey         string // of to, as the names were resolved
	src, dst      *entry
	last          *writeback.Row // keeps the old directory in being
	known         bool           // OSS said what the new name holds
}

// replaced says what OSS holds under the new name, for its row.
func (m *move) replaced() (object.Ref, bool) {
	if m.dst == nil {
		return object.Ref{}, m.known
	}
	return m.dst.ref, m.dst.known
}

// file moves a file, a symlink or a special file.
func (m *move) file() error {
	child, target := m.from.childNode(m.name), m.to.childNode(m.newName)
	clean := m.src.clean()
	moved := func(uint64) {}
	if child != nil {
		if x := child.openFile(); x != nil {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.attr.Ctime = now()
			if row := x.unnamedLocked(); row != nil {
				clean = row // a rename of a file without a row writes one
				moved = func(seq uint64) { x.committedLocked(seq, true) }
			}
		}
	}
	f := m.f
	f.tree.Lock()
	defer f.tree.Unlock()
	if m.strayedLocked() {
		return errMoved
	}
	expected, known := m.replaced()
	seq, err := f.q.Change(func(c *writeback.Change) error {
		if err := m.keepLast(c); err != nil {
			return err
		}
		if err := m.names(c); err != nil {
			return err
		}
		return c.Move(m.from.keyLocked()+m.name, m.to.keyLocked()+m.newName, clean, expected, known)
	})
	if err != nil {
		return err
	}
	m.movedLocked(child, target)
	moved(seq)
	if child != nil {
		f.unfresh(child)
	}
	return nil
}

// strayedLocked reports that one of the directories has moved since the names
// were resolved; FS.tree is held.
func (m *move) strayedLocked() bool {
	return !m.from.holdsLocked(m.name, m.src) || m.to.keyLocked() != m.toKey
}

// names notes that both directories have changed.
func (m *move) names(c *writeback.Change) error {
	if err := c.Names(m.from.keyLocked()); err != nil {
		return err
	}
	return c.Names(m.to.keyLocked())
}

func (m *move) keepLast(c *writeback.Change) error {
	if m.last == nil {
		return nil
	}
	m.last.Key = m.from.keyLocked()
	return c.Put(m.last)
}

// movedLocked gives the nodes their new places; FS.tree is held for writing.
func (m *move) movedLocked(child, target *node) {
	if target != nil && target != child {
		m.f.goneLocked(target, m.dst)
	}
	if child != nil {
		child.parent, child.name = m.to, m.newName
	}
}

// directory moves a directory: what is beneath it is listed first, then all
// rows are committed as one state, of any size, so that a crash leaves the old
// names or the new ones (H1, H31). The engine copies and deletes behind.
func (m *move) directory(ctx context.Context) error {
	f := m.f
	if m.to.within(m.from.childNode(m.name)) {
		return fail(syscall.EINVAL) // into itself
	}
	objects, asked, err := f.overlay.below(ctx, m.src.key)
	if err != nil {
		return err
	}
	defer asked.Done()
	child, target := m.from.childNode(m.name), m.to.childNode(m.newName)
	f.tree.Lock()
	defer f.tree.Unlock()
	if m.strayedLocked() {
		return errMoved
	}
	oldKey, newKey := m.src.key, m.toKey+m.newName+"/"
	if len(newKey) > maxKey {
		return fail(syscall.ENAMETOOLONG)
	}
	_, err = f.q.Batch(func(c *writeback.Change) error {
		if err := m.keepLast(c); err != nil {
			return err
		}
		if err := m.names(c); err != nil {
			return err
		}
		if err := c.ForgetNames(newKey); err != nil {
			return err
		}
		if err := c.MoveNames(oldKey, newKey); err != nil {
			return err
		}
		settledOver(objects, asked, oldKey) // here, where nothing settles meanwhile
		return m.moveTree(c, oldKey, newKey, objects)
	})
	if err != nil {
		return err
	}
	m.movedLocked(child, target)
	f.overlay.forget(oldKey)
	f.overlay.forget(newKey)
	return nil
}

func (f *FS) unfresh(n *node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.fresh, n)
}

// within reports whether n lies in the directory top, or is it.
func (n *node) within(top *node) bool {
	n.fs.tree.RLock()
	defer n.fs.tree.RUnlock()
	for at := n; at != nil; at = at.parent {
		if at == top {
			return true
		}
	}
	return false
}

// settledOver lays what rows have become since a deep listing was asked for
// over it (R9).
func settledOver(objects map[string]beneath, asked *writeback.Moment, key string) {
	asked.Under(key, func(key string, memo writeback.Memo) {
		switch {
		case memo.Ref.IsZero():
			delete(objects, key)
		case !objects[key].ref.Same(memo.Ref):
			objects[key] = beneath{ref: memo.Ref}
		}
	})
}

// moveTree moves every row and every object from beneath oldKey. A file that
// is open and was never flushed has neither: its key is wherever its directory
// is when it is.
func (m *move) moveTree(c *writeback.Change, oldKey, newKey string, objects map[string]beneath) error {
	var rows []*writeback.Row
	for r, err := range c.Rows(oldKey) {
		if err != nil {
			return err
		}
		rows = append(rows, r)
	}
	moved := func(key string) string { return newKey + key[len(oldKey):] }
	done := map[string]bool{oldKey: true}
	for _, r := range rows {
		if done[r.Key] {
			continue
		}
		done[r.Key] = true
		if r.Kind != journal.Put {
			continue // gone from here, and not there
		}
		if err := m.allowed(moved(r.Key)); err != nil {
			return err
		}
		if err := c.Move(r.Key, moved(r.Key), nil, object.Ref{}, m.known); err != nil {
			return err
		}
	}
	for key, b := range objects {
		if done[key] {
			continue
		}
		if err := m.allowed(moved(key)); err != nil {
			return err
		}
		if err := c.Move(key, moved(key), b.clean(), object.Ref{}, m.known); err != nil {
			return err
		}
	}
	expected, known := m.replaced()
	own := &writeback.Row{Attr: m.src.attr, Headers: m.src.headers, Meta: m.src.meta}
	if row, err := c.Row(oldKey); err != nil {
		return err
	} else if row != nil && row.Kind == journal.Put && row.Attr.Mode != 0 { // changed while it was listed
		own.Attr, own.Headers, own.Meta = row.Attr, row.Headers, row.Meta
	}
	own.Attr.Ctime = now()
	own.Key, own.Expected, own.Known = newKey, expected, known
	if err := c.Put(own); err != nil {
		return err
	}
	ref, isKnown := m.src.ref, m.src.known
	if at, ok := objects[oldKey]; ok {
		ref, isKnown = at.ref, true
	}
	return c.Delete(oldKey, ref, isKnown)
}

func (m *move) allowed(key string) error {
	if len(key) > maxKey {
		return fail(syscall.ENAMETOOLONG)
	}
	return nil
}
