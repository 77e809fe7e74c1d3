package remote

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/ossmount/ossmount/internal/crc64"
)

var errSealed = errors.New("the call has returned")

// body is the body of one request: size bytes of from, hashed as they go and
// held back to the rate limit. net/http may still read it, on a goroutine of
// its own, when the answer is there already; after seal it gets nothing more,
// so the caller may do with its reader what it likes, and how much was handed
// over is settled. seal waits for a Read of the caller's reader that is under
// way, so that reader must not block for long.
type body struct {
	ctx   context.Context
	size  int64
	limit *throttle
	moved *atomic.Int64 // grows with what is read; nil: nobody counts

	mu     sync.Mutex
	from   io.Reader
	sent   int64
	crc    uint64
	err    error // of from
	sealed bool
}

func (b *body) Read(p []byte) (int, error) {
	if b.limit != nil && len(p) > 0 {
		// Wait for what will be read at most, before the lock is taken:
		// seal must not wait for the limiter.
		n, err := b.limit.wait(b.ctx, min(int64(len(p)), b.left()))
		if err != nil {
			return 0, err
		}
		if n > 0 {
			p = p[:n]
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	left := b.size - b.sent
	switch {
	case left == 0:
		return 0, io.EOF // also after seal: an error would cost the connection
	case b.sealed:
		return 0, errSealed
	case b.err != nil:
		return 0, b.err
	}
	if int64(len(p)) > left {
		p = p[:left]
	}
	n, err := b.from.Read(p)
	b.crc = crc64.Update(b.crc, p[:n])
	b.sent += int64(n)
	if b.moved != nil {
		b.moved.Add(int64(n))
	}
	switch {
	case b.sent == b.size:
		err = nil // an error behind the last byte that counts is none of ours
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	b.err = err
	return n, err
}

// Close is for net/http; the reader belongs to the caller.
func (b *body) Close() error { return nil }

func (b *body) left() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.size - b.sent
}

// seal ends the reading and says what was read: whether all was handed to
// the transport, its CRC64, and the error of the caller's reader, if any.
func (b *body) seal() (whole bool, crc uint64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sealed = true
	return b.sent == b.size, b.crc, b.err
}
