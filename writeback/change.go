package writeback

import (
	"errors"
	"strings"
	"time"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/crash"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// ErrTooBig is returned by Change when it does not fit into one commit.
var ErrTooBig = journal.ErrTooBig

// ErrNoRow is returned by Change.Move and SetAttr when the key holds nothing.
var ErrNoRow = errors.New("writeback: the name holds nothing")

// damagedPrefix begins the reason of a row whose bytes may be damaged. Such a
// row stays parked whatever happens to its name.
const damagedPrefix = "damaged: "

// Change is a set of changes that become visible at one moment, and after a
// crash are there all or not at all (H1).
type Change struct {
	q       *Queue
	tx      *journal.Tx
	batch   bool             // of any size; witnesses are not rewritten (H7)
	touched map[string]int64 // keys whose rows it changes, with when they are due
	freed   []string         // keys that may have waited for a hole of such a row
	dropped []uint64         // contents that such a row named
}

// Change commits what f changes as one state and returns its sequence. f runs
// under the journal's lock and must not wait.
func (q *Queue) Change(f func(c *Change) error) (seq uint64, err error) {
	return q.change(&Change{q: q}, q.j.Update, f)
}

// Batch is Change without a limit of size, such as the rename of a directory.
// Other changes wait while it runs.
func (q *Queue) Batch(f func(c *Change) error) (seq uint64, err error) {
	return q.change(&Change{q: q, batch: true}, q.j.Batch, f)
}

func (q *Queue) change(c *Change, update func(f func(tx *journal.Tx) error) (uint64, error), f func(c *Change) error) (seq uint64, err error) {
	crash.At("before a change")
	seq, err = update(func(tx *journal.Tx) error {
		c.tx, c.touched, c.freed, c.dropped = tx, map[string]int64{}, nil, nil
		return f(c)
	})
	crash.At("changed")
	if err != nil {
		return 0, err
	}
	q.afterChange(seq, c)
	return seq, nil
}

func (q *Queue) afterChange(seq uint64, c *Change) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.yield.changed(time.Now())
	for _, key := range c.freed {
		q.unblockLocked(key)
	}
	for key, due := range c.touched {
		q.memos.dirHas(key)
		if q.unblockLocked(key); due <= q.looked.due {
			q.again[key] = struct{}{}
		}
		delete(q.deletes, key)
		delete(q.retries, key)
		if t := q.running[key]; t != nil {
			t.superseded.Store(true)
			if t.eager != nil {
				nudge(t.eager.wake)
			}
		}
	}
	for _, n := range c.dropped {
		q.unneedLocked(n, seq)
	}
	q.announceLocked()
	q.poke()
}

// DirsIn grows with each directory that comes to, or goes from, the directory key,
// here or on OSS by our doing.
func (q *Queue) DirsIn(key string) int64 { return q.memos.dirsIn(key) }

// Row returns the row of key, or nil.
func (c *Change) Row(key string) (*Row, error) { return c.tx.Row(key) }

// Seq returns the sequence that this change will have.
func (c *Change) Seq() uint64 { return c.tx.Seq() }

// Put makes r the intent for its key. Expected and Known say what OSS is known
// to hold under the key, if there is no older intent that knows better.
func (c *Change) Put(r *Row) error {
	r.Kind = journal.Put
	if r.Whole && r.Size <= c.q.o.Threshold {
		r.Rootless() // it is sent whole
	}
	if r.Closed == 0 {
		r.Closed = time.Now().UnixNano()
	}
	if err := c.set(r); err != nil {
		return err
	}
	if r.Content != 0 && !c.batch {
		st := cache.StateClosed
		if r.Open && r.Unseen { // nobody is going to say when it changes again
			st = cache.StateOpen
		}
		c.tx.BeforeCommit(func() error { return c.q.witness(c.tx, r, st) })
	}
	return nil
}

func (q *Queue) witness(tx *journal.Tx, r *Row, st cache.State) error {
	defer crash.At("witness written, not committed")
	return q.c.SetWitness(r.Content, cache.Witness{
		CacheID: q.j.CacheID(), Boot: q.j.BootID(), Key: r.Key, Seq: r.Seq, Size: r.Size, Attr: r.Attr, Headers: r.Headers, Meta: r.Meta, CRC64: r.CRC64, HasCRC: r.HasCRC,
		Expected: r.Expected, Known: r.Known, Base: r.Base, Dirty: r.Dirty, Whole: r.Whole, State: st,
		Needed: looked(tx, r.Key),
	})
}

// Delete makes nothing the intent for key.
func (c *Change) Delete(key string, expected object.Ref, known bool) error {
	return c.set(&Row{Key: key, Kind: journal.Delete, Expected: expected, Known: known,
		Closed: time.Now().UnixNano()})
}

// Take returns what key holds, as a Put that can be given another name, and
// what OSS holds under key. clean stands for what it holds if no row says it: a
// Put with a hole over the version there, or with a content that was never
// committed (its Expected and Known then tell of key). ErrNoRow: it holds
// nothing.
func (c *Change) Take(key string, clean *Row) (r *Row, was object.Ref, known bool, err error) {
	old, err := c.tx.Row(key)
	if err != nil {
		return nil, was, false, err
	}
	r = &Row{}
	switch {
	case old != nil && old.Kind == journal.Put && (clean == nil || clean.Content == 0):
		*r = *old
		keepVouched(r)
		was, known = old.Expected, old.Known
	case clean != nil && clean.Content != 0: // bytes that no row has named yet
		*r = *clean
		was, known = clean.Expected, clean.Known
	case old != nil && !isImplied(key, clean), clean == nil:
		return nil, was, false, ErrNoRow
	default:
		*r = *clean
		was, known = clean.Base, true
		if was.IsZero() { // its bytes are not those of the version there
			was = clean.Expected
		}
		if err := c.isStale(key, clean); err != nil {
			return nil, was, false, err
		}
		if err := c.remember(r); err != nil {
			return nil, was, false, err
		}
	}
	keepParked(r)
	return r, was, known, nil
}

// isImplied reports a directory that has no object of its own, or shall have
// none any more, and is there by what lies in it.
func isImplied(key string, clean *Row) bool {
	return strings.HasSuffix(key, "/") && clean != nil && clean.Base.IsZero() && clean.Content == 0
}

// isStale returns ErrNoRow if a row of key has settled since clean was looked
// up: it must be looked up again.
func (c *Change) isStale(key string, clean *Row) error {
	if clean.AsOf == 0 {
		return nil
	}
	a, err := c.tx.Attrs(key)
	if err == nil && a != nil && a.Settled > clean.AsOf {
		return ErrNoRow
	}
	return err
}

// remember takes over what is known of the base of r, if nothing was asked
// about it yet.
func (c *Change) remember(r *Row) error {
	if !r.Unlearnt {
		return nil
	}
	a, err := c.tx.Attrs(r.Base.Key)
	if err != nil || a == nil || !a.Ref.Same(r.Base) {
		return err
	}
	learnt(r, object.Info{Ref: a.Ref, LastModified: a.LastModified, Meta: a.Meta, Headers: a.Headers})
	return nil
}

// Move gives what from holds the name to; clean is as for Take. expected and
// known say what OSS holds under to, as for Put.
func (c *Change) Move(from, to string, clean *Row, expected object.Ref, known bool) error {
	next, was, wasKnown, err := c.Take(from, clean)
	if err != nil {
		return err
	}
	next.Key, next.Expected, next.Known = to, expected, known
	if !c.batch && next.Attr.Mode != 0 {
		next.Attr.Ctime = time.Now().UnixNano()
	}
	if err := c.Put(next); err != nil {
		return err
	}
	return c.Delete(from, was, wasKnown)
}

// Swap gives each of two names what the other holds; the clean rows are as for
// Take.
func (c *Change) Swap(a, b string, cleanA, cleanB *Row) error {
	ra, wasA, knownA, err := c.Take(a, cleanA)
	if err != nil {
		return err
	}
	rb, wasB, knownB, err := c.Take(b, cleanB)
	if err != nil {
		return err
	}
	ra.Key, ra.Expected, ra.Known = b, wasB, knownB
	rb.Key, rb.Expected, rb.Known = a, wasA, knownA
	if err := c.Put(ra); err != nil {
		return err
	}
	return c.Put(rb)
}

// SetAttr gives key new attributes. clean stands for what key holds if it has
// no row.
func (c *Change) SetAttr(key string, attr object.Attr, clean *Row) error {
	return c.Alter(key, clean, func(r *Row) { r.Attr = attr })
}

// Alter changes what is published beside the bytes of key. clean stands for
// what key holds if it has no row.
func (c *Change) Alter(key string, clean *Row, f func(r *Row)) error {
	old, err := c.tx.Row(key)
	if err != nil {
		return err
	}
	var next Row
	switch {
	case old != nil && old.Kind == journal.Put:
		next = *old
		keepVouched(&next)
		keepParked(&next)
	case old != nil && !isImplied(key, clean), clean == nil:
		return ErrNoRow
	default:
		if err := c.isStale(key, clean); err != nil {
			return err
		}
		next = *clean
	}
	f(&next)
	return c.Put(&next)
}

// Times keeps times of key that are never published: in its row, or with what
// is remembered of its object.
func (c *Change) Times(key string, attr object.Attr) error {
	cur, err := c.tx.Row(key)
	if err != nil {
		return err
	}
	if cur != nil {
		cur.Attr.Ctime, cur.Attr.Atime = attr.Ctime, attr.Atime
		return c.tx.PutRow(cur)
	}
	a, err := c.tx.Attrs(key)
	if err != nil || a == nil {
		return err
	}
	a.Ctime, a.Atime = attr.Ctime, attr.Atime
	return c.tx.PutAttrs(a)
}

// Names says that a name came to the directory key, or went from it, now.
func (c *Change) Names(key string) error { return c.tx.SetTime(key, time.Now().UnixNano()) }

// ForgetNames says that the directory key has times of its own, or is gone.
func (c *Change) ForgetNames(key string) error { return c.tx.DropTime(key) }

// MoveNames gives what is remembered of the directories at and beneath key to
// those at and beneath to.
func (c *Change) MoveNames(key, to string) error {
	return c.tx.EachTime(key, func(dir string, ns int64) error {
		if err := c.tx.DropTime(dir); err != nil {
			return err
		}
		return c.tx.SetTime(to+dir[len(key):], ns)
	})
}

// SwapNames exchanges what is remembered of the directories at and beneath two
// keys; of files nothing is.
func (c *Change) SwapNames(a, b string) error {
	times := map[string]int64{}
	for _, side := range [][2]string{{a, b}, {b, a}} {
		err := c.tx.EachTime(side[0], func(dir string, ns int64) error {
			times[side[1]+dir[len(side[0]):]] = ns
			return c.tx.DropTime(dir)
		})
		if err != nil {
			return err
		}
	}
	for dir, ns := range times {
		if err := c.tx.SetTime(dir, ns); err != nil {
			return err
		}
	}
	return nil
}

// keepVouched remembers since when a row vouches for the bytes of r, as r gets
// a sequence or a name of its own.
func keepVouched(r *Row) {
	if r.Vouched == 0 {
		r.Vouched = r.Seq
	}
}

func keepParked(r *Row) {
	if !strings.HasPrefix(r.Parked, damagedPrefix) {
		r.Parked = ""
	}
}

// set replaces the row of next.Key by next, which gets a sequence of its own,
// and keeps what the older one knew: what OSS held when the intent began, and
// that a request of it may still land.
func (c *Change) set(next *Row) error {
	key := next.Key
	old, err := c.tx.Row(key)
	if err != nil {
		return err
	}
	d, err := c.tx.Doubt(key)
	if err != nil {
		return err
	}
	next.Seq, next.Note = 0, nil
	if old != nil {
		next.Expected, next.Known = old.Expected, old.Known
		if old.IsAnswered() {
			next.Expected, next.Known = old.Note.Published, true
		}
		if old.Content != 0 && old.Content == next.Content && !old.Base.IsZero() && !next.Base.IsZero() {
			// Its base may have been replaced by bytes of its own since.
			next.Base, next.Tags = old.Base, old.Tags
		}
		if old.Content != 0 && old.Content == next.Content && !next.HasCRC && strings.HasPrefix(old.Parked, damagedPrefix) {
			next.Parked = old.Parked // a change of some of the bytes mends none of the others
		}
		if old.Kind == next.Kind && old.Closed != 0 {
			next.Closed = min(next.Closed, old.Closed)
		}
		if d = c.q.doubtAfter(d, old); d != nil {
			if err := c.tx.PutDoubt(key, d); err != nil {
				return err
			}
		}
	} else if next.Expected.IsZero() {
		// We may have published here since the caller looked.
		a, err := c.tx.Attrs(key)
		if err != nil {
			return err
		}
		if a != nil {
			next.Expected, next.Known = a.Ref, true
		}
	}
	next.Due = next.Closed + int64(c.q.o.Delay)
	c.touched[key] = next.Due
	if old != nil && !old.Base.IsZero() {
		c.freed = append(c.freed, old.Base.Key)
	}
	if err := c.dropUnusedUpload(next, old); err != nil {
		return err
	}
	nothing := next.Kind == journal.Delete && next.Known && next.Expected.IsZero() && d == nil
	if nothing {
		err = c.tx.DropRow(key)
	} else {
		err = c.tx.PutRow(next)
	}
	if err != nil {
		return err
	}
	if old != nil && old.Content != 0 && old.Content != next.Content {
		c.dropped = append(c.dropped, old.Content)
	}
	return nil
}

// dropUnusedUpload turns the upload of next's key into a debt unless its parts
// are of use to next. One that may have been completed is not: its object would
// carry the tag of next with the bytes of old (R8).
func (c *Change) dropUnusedUpload(next, old *Row) error {
	u, err := c.tx.Upload(next.Key)
	if err != nil || u == nil {
		return err
	}
	completed := old != nil && old.Note != nil && old.Note.Tag == u.Tag
	if !completed && next.Kind == journal.Put && u.Content == next.Content && u.Base == next.Base && (u.Content != 0 || !u.Base.IsZero()) {
		return nil
	}
	return oweAbort(c.tx, next.Key, u)
}

// oweAbort ends the upload u of key in the journal and owes its Abort.
func oweAbort(tx *journal.Tx, key string, u *journal.Upload) error {
	if err := tx.DropUpload(key); err != nil {
		return err
	}
	return tx.AddDebt(journal.Debt{Key: key, Upload: u.ID, Asked: time.Unix(0, u.Asked), Since: time.Now()})
}

// View runs f on the newest state of the rows.
func (q *Queue) View(f func(tx *journal.Tx) error) error { return q.j.View(f) }

// Row returns the row of key, or nil.
func (q *Queue) Row(key string) (r *Row, err error) {
	err = q.j.View(func(tx *journal.Tx) error { r, err = tx.Row(key); return err })
	return r, err
}
