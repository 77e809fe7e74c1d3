package writeback

import (
	"errors"
	"io"
	"io/fs"
	"time"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/crc64"
	"github.com/ossmount/ossmount/journal"
)

// A content that the kernel serves itself (Row.Unseen) is written without a word to
// this program, and may go on being written after its last close: by a mapping, or
// by the programs of a daemon that was killed (H12). It is final when the kernel
// says that nobody can write it any more, and the row is what it is then:
//
//	close ──> row ──> quiet? ──> as the row has it? ──> sealed ──> transfer
//	                    │ no              │ no                       │ asks both
//	                    └─ again, later   └─ a new row               │ questions again,
//	                                                                 └ before it publishes
//
// A sum that does not match at the seal is the program's doing; later it is damage.

const (
	stillWritten = "a program still has it mapped or open for writing"

	firstQuiet = time.Millisecond
	lastQuiet  = time.Second
)

// mostQuiet is of how many contents it is remembered that they are final; the others
// are asked about once more.
const mostQuiet = 10_000

// SealFinal is Seal for a content of which the caller has seen that nobody can write
// it, and that it is as its row says.
func (q *Queue) SealFinal(n uint64, key string) {
	q.setQuiet(n)
	q.Seal(n, key)
}

func (q *Queue) setQuiet(n uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open[n] > 1 { // somebody else is going to seal it
		return
	}
	if len(q.quiet) >= mostQuiet {
		clear(q.quiet)
	}
	q.quiet[n] = struct{}{}
}

// isQuiet reports that content n was final when it was sealed. Who wants to write it
// since must say so first (OpenForWrite).
func (q *Queue) isQuiet(n uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, yes := q.quiet[n]
	return yes
}

// SealUnseen is Seal for a content that the kernel has served, as soon as nobody can
// write it any more.
func (q *Queue) SealUnseen(n uint64, key string) {
	q.group.Go(func() error {
		return q.guarded(func() {
			if q.awaitQuiet(n) {
				q.SealFinal(n, key)
			}
		})
	})
}

// awaitQuiet returns true when content n is final and its row says what it is, and
// false when the queue ends before.
func (q *Queue) awaitQuiet(n uint64) bool {
	for wait := firstQuiet; ; wait = min(2*wait, lastQuiet) {
		quiet, err := q.c.Quiet(n)
		if quiet || errors.Is(err, fs.ErrNotExist) {
			break
		}
		select {
		case <-time.After(wait):
		case <-q.work.Done():
			return false
		}
	}
	row, err := q.rowWith(n)
	switch {
	case err != nil || row == nil:
	case row.HasCRC:
		_, err = q.asItIs(row, true)
	default:
		err = q.summed(row)
	}
	if err != nil && stillOpen(err) {
		q.log.Warn("a file that the kernel has written could not be looked at after its close", "content", n, "err", err)
	}
	return true
}

// summed gives the row of a content that nobody can write the sum of its bytes:
// nothing else is published from now on (sum.go).
func (q *Queue) summed(row *Row) error {
	if changed, err := q.asItIs(row, false); err != nil || changed {
		return err
	}
	n := row.Content
	if !row.Unseen || row.Open || row.Interrupted || row.Parked != "" || row.HasHoles() {
		return nil
	}
	crc, err := q.sumOf(n, row.Size)
	if err != nil {
		return err
	}
	sign, err := q.c.Stat(n)
	if err != nil || sign != (cache.Sign{Size: row.SignSize, Mtime: row.SignMtime}) {
		return err // somebody has it again
	}
	_, err = q.j.Update(func(tx *journal.Tx) error {
		cur, err := tx.Row(row.Key)
		if err != nil || cur == nil || cur.Seq != row.Seq || cur.Open {
			return err
		}
		cur.CRC64, cur.HasCRC = crc, true
		return tx.PutRow(cur)
	})
	return err
}

// awaitOrphans brings the rows of contents that the programs of a daemon before have
// open still up to what they leave.
func (q *Queue) awaitOrphans() {
	defer func() { q.orphans = nil }()
	for _, n := range q.orphans {
		if quiet, err := q.c.Quiet(n); err == nil && !quiet {
			q.log.Info("a program that was there before the mount still has a file open for writing, or mapped", "content", n)
			q.group.Go(func() error { return q.guarded(func() { q.awaitQuiet(n) }) })
		}
		if q.work.Err() != nil {
			return
		}
	}
}

// asItIs gives the content of row a new row if it is not what that one says. With sum
// its bytes are compared as well, where the row has their sum.
func (q *Queue) asItIs(row *Row, sum bool) (changed bool, err error) {
	n := row.Content
	if !row.Unseen || row.Parked != "" {
		return false, nil
	}
	sign, err := q.c.Stat(n)
	if err != nil {
		return false, err
	}
	same := sign == cache.Sign{Size: row.SignSize, Mtime: row.SignMtime}
	if same && sum && row.HasCRC {
		crc, err := q.sumOf(n, row.Size)
		if err != nil {
			return false, err
		}
		same = crc == row.CRC64
	}
	if same {
		return false, nil
	}
	_, err = q.Change(func(c *Change) error {
		cur, err := c.Row(row.Key)
		if err != nil || cur == nil || cur.Seq != row.Seq {
			return err
		}
		if cur.Open && !cur.Interrupted {
			return nil // somebody has it open again, says so (BeforeWrite), and will say what it is
		}
		if cur.Interrupted {
			q.asFound(cur, sign.Size)
			cur.SignSize, cur.SignMtime = sign.Size, sign.Mtime
			return c.tx.PutRow(cur)
		}
		next := *cur
		next.Size, next.SignSize, next.SignMtime = sign.Size, sign.Size, sign.Mtime
		next.Open, next.Vouched = false, 0
		next.ForgetSum()
		next.Rootless()
		next.Attr.Modified(sign.Mtime)
		return c.Put(&next)
	})
	return true, err
}

// rowWith returns the row that names content n, or nil.
func (q *Queue) rowWith(n uint64) (row *Row, err error) {
	err = q.View(func(tx *journal.Tx) error {
		key, _, _ := tx.Named(n)
		if key == "" {
			return nil
		}
		r, err := tx.Row(key)
		if r != nil && r.Content == n {
			row = r
		}
		return err
	})
	return row, err
}

// sumOf sums the first size bytes of content n.
func (q *Queue) sumOf(n uint64, size int64) (uint64, error) {
	x, err := q.c.Open(n)
	if err != nil {
		return 0, err
	}
	defer x.Close()
	h := crc64.New()
	if _, err := io.CopyBuffer(h, io.NewSectionReader(x, 0, size), make([]byte, max(1, min(size, 32<<10)))); err != nil {
		return 0, err
	}
	return h.Sum64(), nil
}

// final returns nil if the bytes of the row can be published: nobody can write them,
// and they are those that the row is about.
func (t *transfer) final() error {
	row := t.row
	if !row.Unseen || row.Content == 0 || t.q.isQuiet(row.Content) {
		return nil
	}
	quiet, err := t.q.c.Quiet(row.Content)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // that the file is gone is found by who reads it
		return err
	}
	if err == nil && !quiet {
		t.q.block(row.Key, time.Now().Add(lastQuiet), stillWritten)
		return errStopped
	}
	if t.changedUnseen() {
		return errSuperseded
	}
	return nil
}

// changedUnseen reports that the content has been changed since the row was
// committed, and has given it another row. What else is the matter with it is found
// by who reads it.
func (t *transfer) changedUnseen() bool {
	if !t.row.Unseen || t.row.Content == 0 || t.q.isQuiet(t.row.Content) {
		return false
	}
	changed, _ := t.q.asItIs(t.row, false)
	return changed
}

// SendsWhole reports that a changed file of size bytes is sent whole: which of them
// have changed is of no use.
func (q *Queue) SendsWhole(size int64) bool { return size <= q.o.Threshold }
