package fs

import (
	"syscall"

	"github.com/ossmount/ossmount/internal/object"
)

// What is open keeps its version. Where somebody else has replaced or removed
// that, the name gets another inode, as if they had done it here; what is open
// goes on without a name.

// keeps reports that the open file x of c is what its name, key, holds; e and
// err are what was found there. If not, c has lost its name.
func (c *node) keeps(x *file, key string, e *entry, err error) bool {
	switch {
	case err != nil && c.fs.errno("lookup", err) != syscall.ENOENT:
		return true // nothing is known of it
	case err == nil && (e.row != nil || !e.known || e.ours || x.holds(e.ref)):
		return true
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.ownLocked() {
		return true
	}
	c.fs.tree.Lock()
	defer c.fs.tree.Unlock()
	if c.gone || c.keyLocked() != key {
		return true // we have moved or removed it meanwhile
	}
	c.fs.goneLocked(c, &entry{key: key, attr: x.attr, size: x.size, ref: x.versionLocked(), headers: x.headers, meta: x.meta})
	return false
}

// isOwn reports that the file has what no row says yet, or is going to.
func (x *file) isOwn() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.ownLocked()
}

func (x *file) ownLocked() bool {
	return x.writers > 0 || x.changed || x.attrOnly || !x.named
}

// holds reports that the file's bytes are those of ref, wherever that lies.
func (x *file) holds(ref object.Ref) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	v := x.versionLocked()
	return v.Size == ref.Size && object.SameETag(v.ETag, ref.ETag)
}

// versionLocked is the version that was opened, or its successor.
func (x *file) versionLocked() object.Ref {
	if x.content == nil && x.base != nil {
		return x.base.version()
	}
	if ref, seq, ok := x.follow.Published(); ok && seq == x.seq {
		return ref
	}
	return x.expected
}
