package fs

import (
	"context"
	"errors"
	"path"
	"strings"
	"syscall"
	"unicode/utf8"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/writeback"
)

// maxKey is the longest key that OSS takes, in bytes.
const maxKey = 1023

// maxName is the longest name in a directory, in bytes; the kernel lets longer
// ones through.
const maxName = 255

// allowed refuses a name that OSS would refuse, at the call that makes it.
func allowed(key string) error {
	switch {
	case !utf8.ValidString(key):
		return fail(syscall.EILSEQ)
	case len(key) > maxKey, len(path.Base(key)) > maxName:
		return fail(syscall.ENAMETOOLONG)
	case key[0] == '/' || key[0] == '\\':
		return fail(syscall.EINVAL)
	}
	return nil
}

// absent resolves a name that is about to be made and returns the answer for
// its Expected and Known; EEXIST if it is there.
func (n *node) absent(ctx context.Context, name string) (known bool, err error) {
	err = n.here(func(dir string) (err error) {
		known, err = n.absentIn(ctx, dir, name)
		return err
	})
	return known, err
}

func (n *node) absentIn(ctx context.Context, dir, name string) (known bool, err error) {
	if n.fs.overlay.reserved(dir, name) {
		return false, fail(syscall.EPERM)
	}
	if have := n.GetChild(name); have != nil {
		if c, ok := have.Operations().(*node); ok && !c.isGone() && c.openFile() != nil {
			return false, fail(syscall.EEXIST)
		}
	}
	_, err = n.fs.overlay.lookup(ctx, dir, name)
	switch {
	case len(name) > maxName:
		return false, fail(syscall.ENAMETOOLONG)
	case err == nil:
		return false, fail(syscall.EEXIST)
	case n.fs.errno("lookup", err) != syscall.ENOENT:
		return false, err
	}
	return n.fs.overlay.sure(dir), nil
}

// sure reports whether what is known of the directory is OSS's own word.
func (o *overlay) sure(dir string) bool {
	l, _, _ := o.cached(dir)
	return l == nil || !o.isStale(l)
}

// owner returns whose a name is that is made in the directory n, and its mode:
// in one with the set-group bit the group is the directory's, and a directory
// gets the bit too (inode(7)).
func (n *node) owner(ctx context.Context, mode uint32) (uid, gid, out uint32) {
	uid, gid = n.fs.o.UID, n.fs.o.GID
	if c, ok := fuse.FromContext(ctx); ok {
		uid, gid = c.Uid, c.Gid
	}
	if n.mode.Load()&syscall.S_ISGID != 0 {
		gid = n.gid.Load()
		if mode&object.TypeMask == object.TypeDir {
			mode |= syscall.S_ISGID
		}
	}
	return uid, gid, mode
}

// born gives a its owner and its times.
func (n *node) born(ctx context.Context, a *object.Attr) {
	a.UID, a.GID, a.Mode = n.owner(ctx, a.Mode)
	a.Modified(now())
	a.Atime = a.Mtime
}

// make makes a name of which nothing but its row is needed: a directory, a
// symlink, a special file.
func (n *node) make(ctx context.Context, op, name string, r *writeback.Row, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	ctx, cancel := n.fs.patient(ctx)
	defer cancel()
	if n.fs.o.ReadOnly {
		return nil, syscall.EROFS
	}
	isDir := r.Attr.Mode&object.TypeMask == object.TypeDir
	keyIn := func(dir string) string {
		if isDir {
			return dir + name + "/"
		}
		return dir + name
	}
	if err := allowed(keyIn(n.key())); err != nil {
		return nil, n.fs.errno(op, err)
	}
	known, err := n.absent(ctx, name)
	if err != nil {
		return nil, n.fs.errno(op, err)
	}
	n.born(ctx, &r.Attr)
	r.Known = known
	before := n.fs.q.Moment()
	defer before.Done()
	err = n.fs.commit(func(c *writeback.Change) error {
		r.Key = keyIn(n.keyLocked())
		if err := c.Names(n.keyLocked()); err != nil {
			return err
		}
		return c.Put(r)
	})
	if err != nil {
		return nil, n.fs.errno(op, err)
	}
	if isDir {
		n.fs.overlay.born(r.Key, !known, before)
	}
	return n.child(ctx, name, &entry{key: r.Key, dir: isDir, attr: r.Attr, size: r.Size, row: r}, out), 0
}

// commit runs a change whose keys are places of nodes: the tree stands still.
func (f *FS) commit(change func(c *writeback.Change) error) error {
	f.tree.RLock()
	defer f.tree.RUnlock()
	_, err := f.q.Change(change)
	return err
}

// Mkdir implements mkdir.
func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	return n.make(ctx, "mkdir", name, &writeback.Row{Attr: object.Attr{Mode: mode&^object.TypeMask | object.TypeDir}}, out)
}

// Mknod makes regular files, FIFOs and sockets: empty objects whose mode says
// so, as ossfs 1.x has them.
func (n *node) Mknod(ctx context.Context, name string, mode, dev uint32, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	switch mode & object.TypeMask {
	case syscall.S_IFREG, syscall.S_IFIFO, syscall.S_IFSOCK:
		dev = 0
	case syscall.S_IFCHR, syscall.S_IFBLK: // the kernel lets only those through who may
	case 0:
		mode |= object.TypeFile
	default:
		return nil, syscall.EINVAL
	}
	return n.make(ctx, "mknod", name, &writeback.Row{Attr: object.Attr{Mode: mode, Rdev: dev}}, out)
}

// Symlink makes a symlink: its target is its content.
func (n *node) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	r := &writeback.Row{Text: target, Size: int64(len(target)), Attr: object.Attr{Mode: object.TypeLink | 0o777}}
	if !utf8.ValidString(target) { // a row holds text, a content any bytes
		if err := n.fs.inContent(n.key()+name, r); err != nil {
			return nil, n.fs.errno("symlink", err)
		}
	}
	return n.make(ctx, "symlink", name, r, out)
}

// Link: OSS has no second name for an object.
func (n *node) Link(context.Context, gofs.InodeEmbedder, string, *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	return nil, syscall.EPERM
}

// Readlink implements readlink.
func (n *node) Readlink(ctx context.Context) ([]byte, syscall.Errno) {
	ctx, cancel := n.fs.patient(ctx)
	defer cancel()
	e, err := n.entry(ctx)
	if err != nil {
		return nil, n.fs.errno("readlink", err)
	}
	if e.row != nil && e.row.Base.IsZero() && e.row.Content == 0 {
		return []byte(e.row.Text), 0
	}
	if e.link != "" {
		return []byte(e.link), 0
	}
	if err := n.fs.readable(ctx, e); err != nil {
		return nil, n.fs.errno("readlink", err)
	}
	b, err := n.fs.small(ctx, e)
	return b, n.fs.errno("readlink", err)
}

// Unlink implements unlink.
func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	return n.remove(ctx, "unlink", name, false)
}

// Rmdir implements rmdir.
func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno {
	return n.remove(ctx, "rmdir", name, true)
}

func (n *node) remove(ctx context.Context, op, name string, dir bool) syscall.Errno {
	ctx, cancel := n.fs.patient(ctx)
	defer cancel()
	if n.fs.o.ReadOnly {
		return syscall.EROFS
	}
	return n.fs.errno(op, retried(func() error {
		e, err := n.removable(ctx, name, dir)
		if err != nil {
			return err
		}
		last, err := n.lastName(ctx, name)
		if err != nil {
			return err
		}
		return n.removeNow(name, e, last)
	}))
}

func (n *node) removable(ctx context.Context, name string, dir bool) (*entry, error) {
	e, err := n.named(ctx, name)
	switch {
	case err != nil:
		return nil, err
	case dir && !e.dir:
		return nil, fail(syscall.ENOTDIR)
	case !dir && e.dir:
		return nil, fail(syscall.EISDIR)
	case !dir:
		return e, nil
	}
	empty, err := n.fs.overlay.empty(ctx, e.key)
	if err == nil && !empty {
		err = fail(syscall.ENOTEMPTY)
	}
	return e, err
}

// removeNow commits the removal of name and takes its node out of the tree.
func (n *node) removeNow(name string, e *entry, last *writeback.Row) error {
	child := n.childNode(name)
	n.fs.tree.Lock()
	defer n.fs.tree.Unlock()
	if !n.holdsLocked(name, e) {
		return errMoved
	}
	_, err := n.fs.q.Change(func(c *writeback.Change) error {
		key := e.key
		if e.dir {
			if err := c.ForgetNames(key); err != nil {
				return err
			}
		}
		if err := c.Names(n.keyLocked()); err != nil {
			return err
		}
		if last != nil {
			last.Key = n.keyLocked()
			if err := c.Put(last); err != nil {
				return err
			}
		}
		return c.Delete(key, e.ref, e.known)
	})
	if err != nil {
		return err
	}
	if child != nil {
		n.fs.goneLocked(child, e)
	}
	return nil
}

func (n *node) childNode(name string) *node {
	if have := n.GetChild(name); have != nil {
		if c, ok := have.Operations().(*node); ok {
			return c
		}
	}
	return nil
}

// goneLocked takes a node, which held what e says, out of the tree; FS.tree is
// held for writing.
func (f *FS) goneLocked(c *node, e *entry) {
	c.gone, c.left = true, now()
	if e != nil {
		was := *e
		was.attr.Ctime = c.left
		c.was = &was
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.fresh, c)
}

// inContent puts the text of a row into a content.
func (f *FS) inContent(key string, r *writeback.Row) error {
	y, err := f.create(key, r.Attr, object.Ref{})
	if err != nil {
		return err
	}
	defer y.Close()
	if _, err := y.WriteAt([]byte(r.Text), 0); err != nil {
		return errors.Join(err, f.c.Drop(y.Number()))
	}
	sign, err := y.Sign()
	r.Content, r.Text = y.Number(), ""
	r.SignSize, r.SignMtime = sign.Size, sign.Mtime
	return err
}

// named resolves a name that is about to be removed or moved: a file that is
// open and was never flushed has no row, and is there all the same.
func (n *node) named(ctx context.Context, name string) (*entry, error) {
	if len(name) > maxName {
		return nil, fail(syscall.ENAMETOOLONG)
	}
	if c := n.childNode(name); c != nil && !c.isGone() {
		if x := c.openFile(); x != nil {
			if e := x.unnamedEntry(c.key()); e != nil {
				return e, nil
			}
		}
	}
	var e *entry
	err := n.here(func(dir string) (err error) {
		e, err = n.fs.overlay.lookup(ctx, dir, name)
		return err
	})
	return e, err
}

// errMoved says that a directory which leads to a name has moved since the name
// was resolved.
var errMoved = fail(syscall.EBUSY)

// holdsLocked reports that e, which was resolved as name in n, is still its key;
// FS.tree is held.
func (n *node) holdsLocked(name string, e *entry) bool {
	return strings.TrimSuffix(e.key, "/") == n.keyLocked()+name
}

// retried repeats f, which resolves a name and commits a change of it, if the
// row that it saw has settled in between, or the way there has moved.
func retried(f func() error) (err error) {
	for range 5 {
		if err = f(); !errors.Is(err, writeback.ErrNoRow) && err != errMoved {
			return err
		}
	}
	return err
}

// lastName returns the row that keeps the directory n in being when its last
// name, name, goes, or nil if it needs none: a directory that OSS knows only by
// its names' prefix stays one.
func (n *node) lastName(ctx context.Context, name string) (*writeback.Row, error) {
	if n == n.fs.root {
		return nil, nil
	}
	key := n.key()
	if row, err := n.fs.q.Row(key); err != nil || row != nil {
		return nil, err
	}
	info, err := n.fs.overlay.marker(ctx, key)
	if err != nil || info != nil {
		return nil, err
	}
	// What follows the name first: whoever removes all goes in that order.
	for _, after := range []string{name, ""} {
		other, err := n.otherName(ctx, key, name, after)
		if err != nil || other {
			return nil, err
		}
	}
	return &writeback.Row{Attr: n.fs.overlay.defaults(true, n.fs.born), Known: true}, nil
}

// otherName reports whether the directory n, at key, holds another name than
// name after the place after.
func (n *node) otherName(ctx context.Context, key, name, after string) (bool, error) {
	s, err := n.fs.overlay.stream(ctx, key, n.fs.freshIn(key), after)
	if err != nil {
		return false, err
	}
	defer s.close()
	for {
		other, ok, err := s.next(ctx)
		if err != nil || !ok || other.name != name {
			return ok, err
		}
	}
}

// freshIn returns the names in the directory key of files that no row names
// yet.
func (f *FS) freshIn(key string) []string {
	f.tree.RLock()
	defer f.tree.RUnlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for c := range f.fresh {
		if c.parent != nil && !c.gone && c.parent.keyLocked() == key {
			out = append(out, c.name)
		}
	}
	return out
}
