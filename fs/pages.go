package fs

import (
	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/object"
)

// The kernel keeps the pages of a file from one open to the next if it is told that
// the bytes are the same. While a file is open every change goes through its pages;
// so they are good when it is opened with what it was closed with. Of what the kernel
// has served itself (passthrough.go) it has no pages that count.

// bytesOf names the bytes of a file that is not open: those of a version, or those of
// a content, as long as it has the same size and time.
type bytesOf struct {
	ref     object.Ref
	content uint64
	sign    cache.Sign
}

// bytes names what x has; zero: it has holes, or pages of it do not count.
func (x *file) bytes() (b bytesOf) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	switch {
	case x.isPassed() || x.content == nil && x.base == nil:
	case x.content == nil:
		b.ref = x.base.version()
	case x.base == nil:
		sign, err := x.content.Sign()
		if err == nil && !x.fs.c.MayDiffer(sign) {
			b.content, b.sign = x.content.Number(), sign
		}
	}
	return b
}

// isAsSeen reports that the kernel has pages of just these bytes.
func (x *file) isAsSeen() bool {
	b := x.bytes()
	x.n.mu.Lock()
	defer x.n.mu.Unlock()
	return x.n.seen == b && b != (bytesOf{})
}
