package fs

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// node is an inode: a file, a directory or a symlink.
type node struct {
	gofs.Inode
	fs  *FS
	dir bool

	// Its place, under FS.tree.
	parent *node // nil: the root
	name   string
	gone   bool // removed; open handles live on

	was  *entry // what it held when it was removed; nil: not known
	left int64  // when it was removed, Unix nanoseconds

	mu   sync.Mutex
	file *file   // while it is open
	ends int     // how often it has ceased to be
	seen bytesOf // what the kernel has pages of; zero: it shall drop them

	// As last told to the kernel, for those made in a directory with the
	// set-group bit; and when a name that no row names yet came to it.
	mode, gid atomic.Uint32
	names     atomic.Int64
}

var (
	_ gofs.NodeLookuper       = (*node)(nil)
	_ gofs.NodeGetattrer      = (*node)(nil)
	_ gofs.NodeSetattrer      = (*node)(nil)
	_ gofs.NodeOpendirHandler = (*node)(nil)
	_ gofs.NodeMkdirer        = (*node)(nil)
	_ gofs.NodeMknoder        = (*node)(nil)
	_ gofs.NodeSymlinker      = (*node)(nil)
	_ gofs.NodeLinker         = (*node)(nil)
	_ gofs.NodeReadlinker     = (*node)(nil)
	_ gofs.NodeCreater        = (*node)(nil)
	_ gofs.NodeOpener         = (*node)(nil)
	_ gofs.NodeUnlinker       = (*node)(nil)
	_ gofs.NodeRmdirer        = (*node)(nil)
	_ gofs.NodeRenamer        = (*node)(nil)
	_ gofs.NodeStatfser       = (*node)(nil)
	_ gofs.NodeGetxattrer     = (*node)(nil)
	_ gofs.NodeListxattrer    = (*node)(nil)
	_ gofs.NodeSetxattrer     = (*node)(nil)
	_ gofs.NodeRemovexattrer  = (*node)(nil)
	_ gofs.NodeOnForgetter    = (*node)(nil)
	_ gofs.NodeFsyncer        = (*node)(nil)
)

// keyLocked returns the node's key; FS.tree is held.
func (n *node) keyLocked() string {
	if n.parent == nil {
		return n.fs.o.Prefix
	}
	var parts []string
	for at := n; at.parent != nil; at = at.parent {
		parts = append(parts, at.name)
	}
	var b strings.Builder
	b.WriteString(n.fs.o.Prefix)
	for i := len(parts) - 1; i >= 0; i-- {
		b.WriteString(parts[i])
		if i > 0 || n.dir {
			b.WriteByte('/')
		}
	}
	return b.String()
}

// place returns the key of the node's directory and its name there; ok is
// false for the root and for what is gone.
func (n *node) place() (dir, name string, ok bool) {
	n.fs.tree.RLock()
	defer n.fs.tree.RUnlock()
	if n.parent == nil || n.gone {
		return "", "", false
	}
	return n.parent.keyLocked(), n.name, true
}

func (n *node) key() string {
	n.fs.tree.RLock()
	defer n.fs.tree.RUnlock()
	return n.keyLocked()
}

func (n *node) nameNow() string {
	n.fs.tree.RLock()
	defer n.fs.tree.RUnlock()
	return n.name
}

// here resolves something in the directory n by its key, and once more if n has
// moved meanwhile: it was looked for where nothing is any more.
func (n *node) here(find func(dir string) error) error {
	for {
		dir := n.key()
		if err := find(dir); n.key() == dir {
			return err
		}
	}
}

// openFile returns the node's file while it is open, else nil.
func (n *node) openFile() *file {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.file
}

// entry resolves the node.
func (n *node) entry(ctx context.Context) (*entry, error) {
	if n.fs.root == n {
		return n.fs.rootEntry(ctx)
	}
	for {
		dir, name, ok := n.place()
		if !ok {
			return nil, fail(syscall.ENOENT)
		}
		e, err := n.fs.overlay.lookup(ctx, dir, name)
		if nowIn, now, _ := n.place(); nowIn == dir && now == name {
			return e, err
		} // it has moved meanwhile, or is gone
	}
}

func (f *FS) rootEntry(ctx context.Context) (*entry, error) {
	e := &entry{key: f.o.Prefix, dir: true, attr: f.rootDefault()}
	if f.o.Prefix != "" {
		if r, err := f.overlay.ofRoot(ctx); err == nil {
			e = r
		}
	}
	err := f.q.View(func(tx *journal.Tx) (err error) { e.names, err = tx.Time(e.key); return err })
	return e, err
}

func (f *FS) rootDefault() object.Attr {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rootAttr
}

// child returns the inode of what e says about name in n.
func (n *node) child(ctx context.Context, name string, e *entry, out *fuse.EntryOut) *gofs.Inode {
	mode := e.typeBits()
	if have := n.GetChild(name); have != nil && have.Mode() == mode {
		if c, ok := have.Operations().(*node); ok && !c.isGone() {
			c.fill(e, &out.Attr)
			return have
		}
	}
	c, inode := n.bear(ctx, name, e, mode)
	c.fill(e, &out.Attr)
	return inode
}

// bear makes the node of name, unless another question for it has just done
// so, whose answer the kernel has not got yet.
func (n *node) bear(ctx context.Context, name string, e *entry, mode uint32) (*node, *gofs.Inode) {
	n.fs.birth.Lock()
	defer n.fs.birth.Unlock()
	for _, c := range n.fs.nodesOf(e.key) {
		if c.isAt(n, name) && c.StableAttr().Mode == mode {
			return c, c.EmbeddedInode()
		}
	}
	c := &node{fs: n.fs, dir: e.dir, parent: n, name: name}
	return c, n.NewInode(ctx, c, gofs.StableAttr{Mode: mode, Ino: n.fs.newIno(c, e.key)})
}

func (n *node) isAt(parent *node, name string) bool {
	n.fs.tree.RLock()
	defer n.fs.tree.RUnlock()
	return n.parent == parent && n.name == name && !n.gone
}

// nodesOf returns the nodes whose numbers may have been drawn for key: others
// that were renamed may have been in the way.
func (f *FS) nodesOf(key string) (out []*node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ino := hash(key); ino < hash(key)+8; ino++ {
		if c := f.inos[ino&(1<<63-1)]; c != nil {
			out = append(out, c)
		}
	}
	return out
}

func (n *node) isGone() bool {
	n.fs.tree.RLock()
	defer n.fs.tree.RUnlock()
	return n.gone
}

// newIno draws an inode number for c: the hash of its key, so that it is the
// same after a remount, unless a live node has that one already.
func (f *FS) newIno(c *node, key string) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ino := hash(key); ; ino++ {
		ino &= 1<<63 - 1 // above are go-fuse's own
		if ino <= 1 || f.inos[ino] != nil {
			continue
		}
		f.inos[ino] = c
		return ino
	}
}

// inoOf is the inode number that a name of a listing has, or will have when it
// is looked up.
func (f *FS) inoOf(dir *node, i item) uint64 {
	if have := dir.GetChild(i.name); have != nil {
		return have.StableAttr().Ino
	}
	ino := hash(dir.key()+i.order()) & (1<<63 - 1)
	if ino <= 1 {
		ino += 2
	}
	return ino
}

// OnForget gives the number back.
func (n *node) OnForget() {
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	if ino := n.StableAttr().Ino; n.fs.inos[ino] == n {
		delete(n.fs.inos, ino)
	}
}

// Lookup implements lookup(name).
func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	return n.lookupIn(ctx, name, nil, out)
}

func (n *node) lookupIn(ctx context.Context, name string, s *dirStream, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	if len(name) > maxName {
		return nil, syscall.ENAMETOOLONG
	}
	n.fs.q.Looked()
	var x *file // its file, if it is open
	c := n.childNode(name)
	if c != nil && !c.isGone() {
		x = c.openFile()
	}
	if x != nil && x.isOwn() { // it knows better than any listing
		x.fillAttr(&out.Attr)
		return c.EmbeddedInode(), 0
	}
	ctx, cancel := n.fs.patient(ctx)
	defer cancel()
	var e *entry
	var key string
	err := n.here(func(dir string) (err error) {
		key = dir + name
		e, err = n.fs.overlay.lookupIn(ctx, dir, name, s)
		return err
	})
	if x != nil && c.keeps(x, key, e, err) {
		x.fillAttr(&out.Attr)
		return c.EmbeddedInode(), 0
	}
	if err != nil {
		return nil, n.fs.errno("lookup", err)
	}
	return n.child(ctx, name, e, out), 0
}

// Getattr implements stat.
func (n *node) Getattr(ctx context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	if x := n.openFile(); x != nil {
		x.fillAttr(&out.Attr)
		return 0
	}
	ctx, cancel := n.fs.patient(ctx)
	defer cancel()
	e, err := n.entry(ctx)
	if n.isGone() { // perhaps meanwhile: its name tells of another now
		return n.fillGone(&out.Attr)
	}
	if err != nil {
		return n.fs.errno("getattr", err)
	}
	if e.typeBits() != n.StableAttr().Mode&object.TypeMask {
		return syscall.ESTALE // somebody else has put another thing there
	}
	n.fill(e, &out.Attr)
	return 0
}

// fillGone shows what was removed and is still held: no name is left of it.
func (n *node) fillGone(out *fuse.Attr) syscall.Errno {
	was := n.entryGone()
	if was == nil {
		return syscall.ESTALE
	}
	n.fill(was, out)
	out.Nlink = 0
	return 0
}

// markGone shows that no name is left, and when the last one went.
func (n *node) markGone(out *fuse.Attr) {
	n.fs.tree.RLock()
	defer n.fs.tree.RUnlock()
	if !n.gone {
		return
	}
	out.Nlink = 0
	if left := time.Unix(0, n.left); left.After(out.ChangeTime()) {
		out.SetTimes(nil, nil, &left)
	}
}

// entryGone returns what the node held when it was removed; nil: it was not, or
// that is not known.
func (n *node) entryGone() *entry {
	n.fs.tree.RLock()
	defer n.fs.tree.RUnlock()
	if !n.gone {
		return nil
	}
	return n.was
}

// typeBits returns the type as st_mode has it.
func (e *entry) typeBits() uint32 {
	if e.dir {
		return object.TypeDir
	}
	return e.attr.Mode & object.TypeMask
}

func (n *node) fill(e *entry, out *fuse.Attr) {
	a := e.attr
	if e.dir {
		a.Mode = a.Mode&^object.TypeMask | object.TypeDir
		if t := max(e.names, n.names.Load()); t != 0 && t > a.Mtime {
			a.Modified(t)
		}
	}
	n.mode.Store(a.Mode)
	n.gid.Store(a.GID)
	fillAttr(out, a, e.size)
	out.Ino = n.StableAttr().Ino
	if e.dir {
		out.Nlink = n.fs.overlay.links(e.key)
	}
}

func fillAttr(out *fuse.Attr, a object.Attr, size int64) {
	out.Mode = a.Mode
	out.Uid, out.Gid = a.UID, a.GID
	out.Size = uint64(size)
	out.Blocks = uint64(size+511) / 512
	out.Blksize = 4096
	out.Nlink = 1
	out.Rdev = a.Rdev
	at := func(ns int64) *time.Time {
		if ns == 0 {
			ns = a.Mtime
		}
		t := time.Unix(0, ns)
		return &t
	}
	out.SetTimes(at(a.Atime), at(a.Mtime), at(a.Ctime))
}

// Statfs shows the cache's real room: that is what a writer can fill.
func (n *node) Statfs(ctx context.Context, out *fuse.StatfsOut) syscall.Errno {
	u, err := n.fs.c.Usage()
	if err != nil {
		return n.fs.errno("statfs", err)
	}
	const block = 4096
	out.Bsize, out.Frsize = block, block
	out.Blocks = uint64(u.Total) / block
	out.Bfree = uint64(u.Free) / block
	out.Bavail = out.Bfree
	out.Files, out.Ffree = u.Files, u.FilesFree
	out.NameLen = 255
	return 0
}
