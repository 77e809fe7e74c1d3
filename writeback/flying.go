package writeback

import (
	"io"
	"sync/atomic"
)

// flight counts what is read of a body while its request is under way, so that
// somebody who looks on sees an upload move between two parts.
type flight struct {
	io.Reader
	n  int64
	to *atomic.Int64
}

// flies returns body, counted until land.
func (t *transfer) flies(body io.Reader) *flight { return &flight{Reader: body, to: &t.flying} }

func (f *flight) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	f.n += int64(n)
	f.to.Add(int64(n))
	return n, err
}

// land ends the counting, when no more is read: what OSS has taken counts elsewhere.
func (f *flight) land() { f.to.Add(-f.n) }
