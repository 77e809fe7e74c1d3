package writeback

import (
	"context"
	"iter"
	"time"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// What fs asks of the journal beside its rows.

// Learn keeps what HEAD said of a version, asked in the state asOf, unless a row
// has become another since; what only we know of it stays.
func (q *Queue) Learn(a *journal.Attrs, asOf uint64) error {
	_, err := q.j.Update(func(tx *journal.Tx) error {
		old, err := tx.Attrs(a.Key)
		if err != nil {
			return err
		}
		if old != nil && old.Settled > asOf {
			return nil
		}
		if old != nil && old.Ref.Same(a.Ref) {
			a.Ctime, a.Atime, a.Settled = old.Ctime, old.Atime, old.Settled
		}
		return tx.PutAttrs(a)
	})
	return err
}

// Dated notes when the versions that we have made were modified, as a listing shows
// (H23). All else stays as it is by then.
func (q *Queue) Dated(seen []object.Entry) error {
	if len(seen) == 0 {
		return nil
	}
	_, err := q.j.Update(func(tx *journal.Tx) error {
		for _, e := range seen {
			a, err := tx.Attrs(e.Key)
			if err != nil {
				return err
			}
			if a == nil || !a.Ref.Same(e.Ref()) || !a.LastModified.IsZero() {
				continue
			}
			a.LastModified = e.LastModified
			if err := tx.PutAttrs(a); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// CleanCopy returns the content that holds exactly the bytes of ref, or 0.
func (q *Queue) CleanCopy(ref object.Ref) (content uint64, err error) {
	err = q.j.View(func(tx *journal.Tx) error {
		c, err := tx.Clean(ref.Key)
		if err == nil && c != nil && c.Ref.Same(ref) {
			content = c.Content
		}
		return err
	})
	return content, err
}

// NoCopy is told that content n, which is the clean copy of ref or was a moment ago,
// has not the size of that. Where it still counts as the copy, it does no longer, and
// stays for the next start to look at.
func (q *Queue) NoCopy(ref object.Ref, n uint64) error {
	was := false
	_, err := q.j.Update(func(tx *journal.Tx) error {
		c, err := tx.Clean(ref.Key)
		if was = err == nil && c != nil && c.Content == n && c.Ref.Same(ref); !was {
			return err
		}
		return tx.DropClean(ref.Key)
	})
	if was && err == nil {
		q.log.Error("the copy of an object has not its size: it is not used, and the object is fetched; please report it", "key", ref.Key, "content", n, "size", ref.Size)
	}
	return err
}

// WaitDurable returns when a power cut keeps the state seq (fsync, sync).
func (q *Queue) WaitDurable(ctx context.Context, seq uint64) error { return q.j.WaitHorizon(ctx, seq) }

// Newest returns the sequence of the newest state.
func (q *Queue) Newest() uint64 { return q.j.Last() }

// Again returns another handle on the same moment, which must not be done yet.
func (w *Moment) Again() *Moment {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	w.m.inUse[w.at]++
	return &Moment{m: w.m, at: w.at}
}

// Rows yields the rows whose key begins with prefix, as this change finds
// them.
func (c *Change) Rows(prefix string) iter.Seq2[*Row, error] { return c.tx.Rows(prefix, "") }

// Away reports that OSS could not be used when the engine last tried, and that this
// is no matter of a moment: it gives no answer, or has refused for some seconds.
func (q *Queue) Away() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	h := &q.health
	return h.away != nil && (statusOf(h.away) == 0 || time.Since(h.since) > aMoment)
}

// aMoment is how long OSS may answer with errors until nobody waits for better ones.
const aMoment = 3 * time.Second

// ill reports that OSS could not be used when the engine last tried.
func (q *Queue) ill() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.health.away != nil
}

// Stats returns what the engine has counted since it was opened.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stats
}

// Remembered returns how many settles are remembered for the sake of answers of
// OSS that are older.
func (q *Queue) Remembered() int {
	q.memos.mu.Lock()
	defer q.memos.mu.Unlock()
	return len(q.memos.known)
}

// Heard tells the engine how a request to OSS ended that was not its own: it
// need not find out by itself that OSS is away.
func (q *Queue) Heard(err error) { q.hear(opOf(err), time.Now(), err) }
