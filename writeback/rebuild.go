package writeback

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/crash"
	"github.com/ossmount/ossmount/internal/crc64"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// What is done when the journal is gone, damaged, or has lost its newest states
// (H7). The contents say of themselves what they were last committed as, but a
// witness is no order: it does not know of deletes, nor of what happened to its
// key after it.
//
//	closed, newest of its key,      a row marked as rebuilt: visible at once, but
//	its bytes are sure, and no      published only if HEAD shows what it expected;
//	other name needed what it       OSS has those very bytes: settled; else lost+found
//	replaces
//	clean, dead, empty              dropped
//	all others                      lost+found
//
// Bytes are sure if the machine has not been off since they were committed, if
// the horizon of the lost journal had passed them, or if they have the CRC64 that
// they were written with.

// Rebuilt tells what was taken up from the contents, as the journal did not
// know it.
type Rebuilt struct {
	Why   string `json:"why"`             // what had happened to the journal
	Aside string `json:"aside,omitempty"` // where the damaged one is
	Files int    `json:"files"`           // taken up as pending
	Lost  int    `json:"lost"`            // moved to lost+found
}

// claim is a content that says what it was committed as.
type claim struct {
	n    uint64
	w    cache.Witness
	sign cache.Sign
}

// rebuild takes up what only the contents know of. With a sound journal there
// is nothing of that kind.
func (q *Queue) rebuild() error {
	rec := q.j.Recovered()
	var pick func(w cache.Witness) bool // those that the journal should know, and may not
	switch last := rec.Last; {
	case rec.New:
		pick = func(cache.Witness) bool { return true }
	case rec.PowerCut:
		// What is above the horizon was taken back. But a newer program may have
		// written one of them: then nothing is touched.
		if _, err := q.claims(func(cache.Witness) bool { return false }); errors.Is(err, cache.ErrNewer) {
			return err
		}
		return nil
	default:
		// A close that was cut off may have written the witness of the very
		// next state.
		id, now := q.j.CacheID(), q.j.BootID()
		pick = func(w cache.Witness) bool { return w.CacheID == id && w.Boot == now && w.Seq > last+1 }
	}
	all, err := q.claims(pick)
	if err != nil {
		return err
	}
	if len(all) == 0 && !rec.New {
		return nil
	}
	rows, lost, err := q.sortOut(all, rec)
	if err != nil {
		return err
	}
	// Lost ones leave first: once the rows are committed, a start takes what has
	// no row for garbage.
	if err := q.c.Lose(lost...); err != nil {
		return err
	}
	crash.At("lost ones moved, rows not rebuilt")
	_, err = q.j.Batch(func(tx *journal.Tx) error {
		tx.TakenUp()
		for _, r := range rows {
			if err := putRebuilt(tx, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	crash.At("rows rebuilt")
	q.tellRebuilt(rec, len(all), len(rows), len(lost))
	return nil
}

// putRebuilt sets a rebuilt row. What an older state had under its key, or had
// its content under, goes.
func putRebuilt(tx *journal.Tx, r *Row) error {
	row, clean, _ := tx.Named(r.Content)
	if clean != "" {
		if err := tx.DropClean(clean); err != nil {
			return err
		}
	}
	for _, key := range []string{r.Key, row} {
		u, err := tx.Upload(key)
		if err != nil {
			return err
		}
		if u != nil && (key != r.Key || u.Content != r.Content) {
			if err := oweAbort(tx, key, u); err != nil {
				return err
			}
		}
	}
	if row != "" && row != r.Key {
		if err := tx.DropRow(row); err != nil {
			return err
		}
	}
	return tx.PutRow(r)
}

func (q *Queue) tellRebuilt(rec journal.Recovered, found, rows, lost int) {
	b := &Rebuilt{Aside: rec.Aside, Files: rows, Lost: lost}
	switch {
	case rec.Damaged != "":
		b.Why = "it was damaged: " + rec.Damaged
	case !rec.New:
		b.Why = fmt.Sprintf("it ended at the state %d, and files were committed after that", rec.Last)
	case found == 0:
		return // a cache directory that has nothing in it
	default:
		b.Why = "it was gone"
	}
	q.rebuilt = b
	q.log.Error("the journal had lost what it knew: files that were pending are taken up from the contents of the cache directory, and published if OSS still holds what they replace; deletes, links, attributes and renames of directories that were pending are lost; uploads that were under way may be left on OSS (see ossmount uploads list)",
		"why", b.Why, "files", rows, "lost+found", lost, "kept aside", rec.Aside)
}

// Rebuilt tells what was taken up from the contents at Open; nil: nothing.
func (q *Queue) Rebuilt() *Rebuilt { return q.rebuilt }

// claims returns what the contents say of themselves, as far as pick wants it.
func (q *Queue) claims(pick func(w cache.Witness) bool) (out []claim, err error) {
	numbers := q.c.Numbers()
	size := max(1000, len(numbers)/runtime.GOMAXPROCS(0)+1)
	parts := make([][]claim, len(numbers)/size+1)
	var g errgroup.Group
	at := 0
	for some := range slices.Chunk(numbers, size) {
		part := &parts[at]
		at++
		g.Go(func() (err error) { *part, err = q.claimsOf(some, pick); return err })
	}
	err = g.Wait()
	return slices.Concat(parts...), err
}

func (q *Queue) claimsOf(numbers []uint64, pick func(w cache.Witness) bool) (out []claim, err error) {
	for _, n := range numbers {
		w, ok, err := q.c.Witness(n)
		if err != nil {
			return nil, err
		}
		if !ok { // without a witness: it claims nothing
			w = cache.Witness{State: cache.StateOpen}
		}
		if (!ok && !q.j.Recovered().New) || ok && !pick(w) {
			continue
		}
		sign, err := q.c.Stat(n)
		if err != nil {
			return nil, err
		}
		out = append(out, claim{n, w, sign})
	}
	return out, nil
}

// sortOut decides what becomes of each claim: a row, lost+found, or nothing.
func (q *Queue) sortOut(all []claim, rec journal.Recovered) (rows []*Row, lost []uint64, err error) {
	newest := map[string]uint64{} // the highest sequence that claims a key
	for _, c := range all {
		newest[c.w.Key] = max(newest[c.w.Key], c.w.Seq)
	}
	found, err := q.c.LostAndFound()
	if err != nil {
		return nil, nil, err
	}
	for _, l := range found { // an earlier try may have moved them
		newest[l.Witness.Key] = max(newest[l.Witness.Key], l.Witness.Seq)
	}
	for _, c := range all {
		switch {
		case c.w.State == cache.StateClean || c.w.State == cache.StateDead:
		case c.w.State == cache.StateClosed && c.w.Seq == newest[c.w.Key] && q.isSure(c, rec):
			rows = append(rows, q.rowOf(c))
		case c.sign.Size == 0:
		case rec.New:
			lost = append(lost, c.n)
		default: // a row may name it still; if none does it is found later
		}
	}
	return rows, lost, nil
}

// isSure reports that the bytes of a closed content are those that were closed.
func (q *Queue) isSure(c claim, rec journal.Recovered) bool {
	w := c.w
	if w.Key == "" || w.Seq == 0 || w.Size != c.sign.Size {
		return false
	}
	if w.Needed {
		return false // what it replaces may be the only copy of another name's bytes
	}
	if rec.TookBack(w.CacheID, w.Seq) {
		return false // a change that was taken back: it may be half of one
	}
	if !w.Base.IsZero() && !w.Whole && len(w.Dirty) == 0 {
		return false // of what it is made nobody knows
	}
	// The horizon of a journal that is not lost vouches for what was committed to
	// it, and not for what a power cut has taken back before it could be taken up.
	passed := w.Seq <= rec.Horizon && (rec.Damaged != "" || w.CacheID == q.j.CacheID())
	return passed || w.Boot == q.j.BootID() || w.HasCRC && w.Base.IsZero() && q.hasSum(c)
}

// hasSum reports that the bytes of a content have the sum that they were written
// with: then it does not matter what became of the machine since.
func (q *Queue) hasSum(c claim) bool {
	x, err := q.c.Open(c.n)
	if err != nil {
		return false
	}
	defer x.Close()
	h := crc64.New()
	n, err := io.Copy(h, io.NewSectionReader(x, 0, c.w.Size))
	return err == nil && n == c.w.Size && h.Sum64() == c.w.CRC64
}

func (q *Queue) rowOf(c claim) *Row {
	w, now := c.w, time.Now()
	return &Row{
		Key: w.Key, Kind: journal.Put, Content: c.n, Base: w.Base, Dirty: w.Dirty, Whole: w.Whole,
		Size: w.Size, Attr: w.Attr, Headers: w.Headers, Meta: w.Meta, Expected: w.Expected, Known: w.Known,
		CRC64: w.CRC64, HasCRC: w.HasCRC, SignSize: c.sign.Size, SignMtime: c.sign.Mtime, Unseen: true,
		Closed: now.UnixNano(), Due: now.Add(q.o.Delay).UnixNano(),
		Rebuilt: fmt.Sprintf("%s.%d", w.CacheID, w.Seq),
	}
}

// verify decides by what OSS holds whether a rebuilt row is carried: only in
// the place of what it expected.
func (t *transfer) verify() error {
	row := t.row
	info, err := t.q.remote.Head(t.q.work, row.Key)
	absent := object.IsAbsent(err)
	if err != nil && !absent {
		return err
	}
	switch {
	case absent && row.Expected.IsZero(), !absent && row.Known && info.Ref.Same(row.Expected):
		return t.verified(info.Ref)
	case absent:
		return t.lose(info, "what it replaces is gone")
	}
	same := info.Meta[object.TagMeta] == row.Rebuilt
	if !row.HasHoles() {
		if same = false; info.Size == row.Size {
			if same, err = t.isMade(info); err != nil {
				return err
			}
		}
	}
	if same {
		if err := t.verified(info.Ref); err != nil {
			return err
		}
		if err := t.settle(info.Ref, time.Time{}); err != nil {
			return err
		}
		return errSuperseded // nothing is left to carry
	}
	return t.lose(info, "OSS holds another version")
}

// verified takes the mark from the row.
func (t *transfer) verified(ref object.Ref) error {
	_, err := t.q.j.Update(func(tx *journal.Tx) error {
		cur, err := tx.Row(t.row.Key)
		if err != nil {
			return err
		}
		if cur == nil || cur.Seq != t.row.Seq {
			return errSuperseded
		}
		cur.Rebuilt, cur.Expected, cur.Known = "", ref, true
		t.row = cur
		return tx.PutRow(cur)
	})
	return err
}

// lose takes a rebuilt row back: its bytes go to lost+found, and its name shows
// what OSS holds.
func (t *transfer) lose(info object.Info, why string) error {
	q, n := t.q, t.row.Content
	seq, err := q.Change(func(c *Change) error {
		if q.isOpen(n) {
			return &object.Error{Op: "rebuild", Key: t.row.Key, Kind: object.Again, Fate: object.NotSent,
				Err: errors.New("it is open for writing: once it is closed")}
		}
		cur, err := c.Row(t.row.Key)
		if err != nil {
			return err
		}
		if cur == nil || cur.Seq != t.row.Seq {
			return errSuperseded
		}
		w, ok, err := q.c.Witness(n)
		if err != nil {
			return err
		}
		if ok { // a start that finds it without a name keeps it
			w.State = cache.StateOpen
			if err := q.c.SetWitness(n, w); err != nil {
				return err
			}
		}
		if info.Ref.IsZero() {
			c.tx.BeforeCommit(func() error { q.memos.settled(cur.Key, Memo{}); return nil })
			c.touched[cur.Key] = 0
			return c.tx.DropRow(cur.Key)
		}
		return t.giveWayIn(c, cur, info)
	})
	if err != nil {
		return err
	}
	crash.At("rebuilt row lost, content not moved")
	q.log.Warn("a file that was taken up from its content is not published: its bytes are kept in lost+found", "key", t.row.Key, "content", n, "why", why)
	return q.toLostAndFound(q.work, seq, n)
}

// toLostAndFound moves a content that no state names any more from seq on.
func (q *Queue) toLostAndFound(ctx context.Context, seq, n uint64) error {
	if err := q.j.WaitHorizon(ctx, seq); err != nil {
		return errStopped // the next start does it
	}
	if err := q.c.Lose(n); err != nil {
		return err
	}
	return errSuperseded
}
