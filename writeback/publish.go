package writeback

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// ErrPublishing is returned by BeforeWrite while somebody waits for the content
// to be on OSS as it is (AwaitPublished).
var ErrPublishing = errors.New("writeback: the content is being published as it is")

// Publish carries the row that names content n at once, also while the content
// is open for writing (H40), and returns when no row names it any more: its bytes
// are on OSS. Who writes to it meanwhile waits (ErrPublishing). An error says why
// it is not there: the row is parked, OSS refuses it, or there was no progress for
// as long as stall. The row stays in the journal then, and is carried on.
func (q *Queue) Publish(ctx context.Context, n uint64, stall time.Duration) error {
	q.urge(n, 1)
	defer q.urge(n, -1)
	patience := time.NewTimer(stall)
	defer patience.Stop()
	look := time.NewTicker(min(stall/4+1, time.Second))
	defer look.Stop()
	was := int64(-1)
	for first := true; ; first = false {
		changed, progress := q.progress()
		row, err := q.hasten(n, first)
		if err != nil || row == nil {
			return err
		}
		if err := q.refusal(row); err != nil {
			return err
		}
		if progress != was {
			was = progress
			patience.Reset(stall)
		}
		select {
		case <-changed:
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
			if q.isPaused(row.Key) {
				return fmt.Errorf("%q is not on OSS yet: uploads are paused; it stays pending", row.Key)
			}
			return fmt.Errorf("%q is not on OSS yet: no progress for %s; it stays pending", row.Key, stall)
		case <-q.work.Done():
			return errStopped
		}
	}
}

// urge counts those who wait for content n.
func (q *Queue) urge(n uint64, by int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.urgent[n] += by; q.urgent[n] == 0 {
		delete(q.urgent, n)
		q.announceLocked()
	}
}

// progress is something that changes with everything that OSS takes.
func (q *Queue) progress() (changed chan struct{}, n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.changed, q.stats.BytesSent + q.stats.Objects
}

// hasten has the row that names content n considered now, and returns it; nil:
// there is none. With anew it is forgotten that carrying it has failed before: what
// OSS has refused then it may take now.
func (q *Queue) hasten(n uint64, anew bool) (row *Row, err error) {
	err = q.j.View(func(tx *journal.Tx) error {
		key, _, _ := tx.Named(n)
		row, err = tx.Row(key)
		return err
	})
	if err != nil || row == nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if anew {
		delete(q.retries, row.Key)
	}
	if b, blocked := q.blocked[row.Key]; blocked && (anew || b.why == notDue || b.why == openForWriting) {
		q.unblockLocked(row.Key)
	} else if !blocked && q.running[row.Key] == nil {
		q.again[row.Key] = struct{}{}
	}
	q.poke()
	return row, nil
}

// refusal is why the row is not going to be on OSS soon.
func (q *Queue) refusal(row *Row) error {
	if row.Parked != "" {
		return &object.Error{Op: "publish", Key: row.Key, Kind: object.Parked, Fate: object.Answered, Err: errors.New(row.Parked)}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if r := q.retries[row.Key]; r != nil && r.last != nil {
		if k := object.KindOf(r.last); k == object.Denied || k == object.Wait {
			return r.last
		}
	}
	return nil
}

// AwaitPublished returns when nobody waits any more for content n to be
// published as it is.
func (q *Queue) AwaitPublished(ctx context.Context, n uint64) error {
	for {
		q.mu.Lock()
		changed, busy := q.changed, q.urgent[n] > 0
		q.mu.Unlock()
		if !busy {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// IsUrgent reports that somebody waits for content n to be published as it is.
func (q *Queue) IsUrgent(n uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.urgent[n] > 0
}
