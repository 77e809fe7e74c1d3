package writeback

import (
	"context"

	"github.com/ossmount/ossmount/internal/crash"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// One part of a multipart upload: when it may go, and sending it.

// partSlot waits for room for one more request with a body of n bytes.
func (t *transfer) partSlot(ctx context.Context, body bool, n int64) (release func(), err error) {
	q := t.q
	if t.superseded.Load() || t.isStopped() {
		return nil, errStopped
	}
	if err := q.pace.acquire(ctx); err != nil {
		return nil, err
	}
	if t.isPaused() {
		q.pace.release()
		return nil, errPaused
	}
	if !body {
		return func() { q.pace.release() }, nil
	}
	n = min(n, q.o.InFlight)
	if err := q.bodies.Acquire(ctx, n); err != nil {
		q.pace.release()
		return nil, err
	}
	return func() { q.bodies.Release(n); q.pace.release() }, nil
}

func (t *transfer) sendPart(u *journal.Upload, s span, src *source) (journal.Part, error) {
	q, key := t.q, t.row.Key
	var got object.Part
	var err error
	if s.copy {
		got, err = q.remote.UploadPartCopy(q.send, key, u.ID, s.number, t.row.Base, s.off, s.n)
	} else {
		body := src.body(s.off, s.n)
		flight := t.flies(body)
		got, err = q.remote.UploadPart(q.send, key, u.ID, s.number, flight, s.n)
		flight.land()
		body.Close()
		err = src.why(err)
	}
	if err != nil {
		return journal.Part{}, err
	}
	if !s.copy {
		q.sentPart(s.n)
	}
	crash.At("part sent, not noted")
	p := journal.Part{Number: s.number, Off: s.off, Size: s.n, Copied: s.copy, ETag: got.ETag, CRC64: got.CRC64, HasCRC: got.HasCRC}
	_, err = q.j.Update(func(tx *journal.Tx) error {
		cur, err := tx.Upload(key)
		if err != nil || cur == nil || cur.Num != u.Num {
			return err
		}
		return tx.PutPart(u.Num, p)
	})
	crash.At("part noted")
	return p, err
}
