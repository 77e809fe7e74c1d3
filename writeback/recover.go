package writeback

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/crash"
	"github.com/ossmount/ossmount/internal/extent"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// What somebody does about what waits for them: rows that are parked or
// interrupted, and contents that no name is known for (lost+found).
//
//	                  publish                    retry           discard
//	interrupted       a row as the disk has it   -               the row goes
//	parked            only damaged, with force   tried again     the row goes
//	found             a new row                  -               the bytes go
//
// Each is one commit. A content that is published goes back among the others
// first, marked as open, so that a start which finds it without its row moves it
// to lost+found again (cache.Reclaim).

var (
	// ErrOpen: a program has the file open.
	ErrOpen = errors.New("it is open: close it first")
	// ErrOccupied: something is there under the name already.
	ErrOccupied = errors.New("something is there already")
)

// Retry has the parked row of key carried once more.
func (q *Queue) Retry(key string) (w Waiting, err error) {
	_, err = q.Change(func(c *Change) error {
		r, err := c.stuck(key)
		if err != nil {
			return err
		}
		w = waitingOf(r)
		switch {
		case r.Parked == "":
			return errors.New("it is interrupted, and not parked: publish it with `ossmount recover publish`, or close it again")
		case strings.HasPrefix(r.Parked, damagedPrefix):
			return fmt.Errorf("%s: to try again changes nothing; %s", r.Parked, w.Remedy)
		}
		r.Parked, r.Due = "", time.Now().UnixNano()
		c.touched[key] = r.Due
		return c.tx.PutRow(r) // with its note: the same request is repeated (R8)
	})
	q.decided("tried again on demand", err, "key", key, "was", w.State, "reason", w.Reason)
	return w, err
}

// decided logs what somebody has had done.
func (q *Queue) decided(what string, err error, attrs ...any) {
	if err == nil {
		q.log.Info(what, attrs...)
	}
}

// stuck returns the row of key, which waits for somebody to act.
func (c *Change) stuck(key string) (*Row, error) {
	r, err := c.tx.Row(key)
	switch {
	case err != nil:
		return nil, err
	case r == nil:
		return nil, ErrNoRow
	case r.Waiting():
		return nil, errors.New("it is pending, and goes by itself: nothing is to be done")
	}
	return r, nil
}

// PublishHeld makes the interrupted file key an intent again, with the bytes that
// the disk has; with force also a damaged one.
func (q *Queue) PublishHeld(key string, force bool) (w Waiting, err error) {
	_, err = q.Change(func(c *Change) error {
		r, err := c.stuck(key)
		if err != nil {
			return err
		}
		w = waitingOf(r)
		damaged := strings.HasPrefix(r.Parked, damagedPrefix)
		switch {
		case damaged && !force:
			return fmt.Errorf("%s: look at the bytes first (ossmount recover export); --force publishes them as they are", r.Parked)
		case !damaged && r.Parked != "":
			return fmt.Errorf("it is parked, and not interrupted: %s", w.Remedy)
		}
		next := *r
		next.Interrupted, next.Parked, next.Open, next.Vouched = false, "", false, 0
		if r.Content != 0 {
			if q.isOpen(r.Content) {
				return ErrOpen
			}
			sign, err := q.c.Stat(r.Content)
			if err != nil {
				return err
			}
			if sign.Size != next.Size {
				q.asFound(&next, sign.Size)
			}
			if damaged || sign.Size != next.SignSize || sign.Mtime != next.SignMtime {
				next.ForgetSum() // of what was closed: it is published as it is
			}
			next.SignSize, next.SignMtime = sign.Size, sign.Mtime
		}
		w.Size = next.Size
		if err := c.Put(&next); err != nil || next.Parked == "" {
			return err
		}
		next.Parked = "" // which another change of a damaged file keeps
		return c.tx.PutRow(&next)
	})
	q.decided("published on demand", err, "key", key, "was", w.State, "size", w.Size)
	return w, err
}

// DiscardHeld gives the parked or interrupted row of key up: the name shows what
// OSS holds, and the bytes are dropped once a power cut cannot bring the row back.
// Where the row was a rename, and the object under the old name is still to be
// deleted, that is taken back, too: nothing else has its bytes. back is that key.
func (q *Queue) DiscardHeld(key string) (w Waiting, back string, err error) {
	_, err = q.Change(func(c *Change) error {
		back = ""
		r, err := c.stuck(key)
		if err != nil {
			return err
		}
		if q.isInUse(r.Content) {
			return ErrOpen
		}
		w = waitingOf(r)
		del, err := c.deleteBehind(r)
		if err != nil {
			return err
		}
		if del != nil {
			back = del.Key
			if err := c.giveUp(del); err != nil {
				return err
			}
		}
		return c.giveUp(r)
	})
	q.decided("discarded on demand", err, "key", key, "was", w.State, "size", w.Size)
	return w, back, err
}

// deleteBehind returns the Delete of the object that r has its bytes from, if it
// waits for r (R2).
func (c *Change) deleteBehind(r *Row) (*Row, error) {
	if r.Base.IsZero() || r.Whole || r.Base.Key == r.Key || isGone(r) {
		return nil, nil
	}
	del, err := c.tx.Row(r.Base.Key)
	if err != nil || del == nil || del.Kind != journal.Delete {
		return nil, err
	}
	for k := range c.tx.BasedOn(r.Base.Key) {
		if k != r.Key {
			return nil, nil // another name has the bytes
		}
	}
	return del, nil
}

// isInUse reports that somebody has content n open.
func (q *Queue) isInUse(n uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return n != 0 && (q.open[n] > 0 || len(q.follows[n]) > 0)
}

// giveUp drops the row r, and nothing takes its place. What OSS holds is not
// touched; a request of r that may still land stays in doubt (R8).
func (c *Change) giveUp(r *Row) error {
	d, err := c.tx.Doubt(r.Key)
	if err != nil {
		return err
	}
	if d = c.q.doubtAfter(d, r); d != nil {
		if err := c.tx.PutDoubt(r.Key, d); err != nil {
			return err
		}
	}
	u, err := c.tx.Upload(r.Key)
	if err != nil {
		return err
	}
	if u != nil {
		if err := oweAbort(c.tx, r.Key, u); err != nil {
			return err
		}
	}
	if r.Content != 0 {
		c.dropped = append(c.dropped, r.Content)
	}
	if !r.Base.IsZero() {
		c.freed = append(c.freed, r.Base.Key)
	}
	c.touched[r.Key] = 0
	if err := c.Names(dirOf(r.Key)); err != nil {
		return err
	}
	return c.tx.DropRow(r.Key)
}

// dirOf is the key of the directory that key lies in.
func dirOf(key string) string {
	dir, _ := path.Split(strings.TrimSuffix(key, "/"))
	return dir
}

// DiscardFound removes content n of lost+found.
func (q *Queue) DiscardFound(n uint64) (cache.Lost, error) {
	l, err := q.c.Lost(n)
	if err != nil {
		return l, err
	}
	err = q.c.DropLost(n)
	q.decided("found bytes are discarded on demand", err, "content", n, "was", l.Key(), "size", l.Size)
	return l, err
}

// Publishable returns why a content of lost+found cannot be published, or nil. One
// with holes can only where it is known which of its bytes are its own (H7).
func Publishable(l *cache.Lost) error {
	if l.HasHoles() && len(foundDirty(l)) == 0 {
		return fmt.Errorf("it has parts of %q only, and where they belong is not known: take them out with `ossmount recover export`", l.Witness.Base.Key)
	}
	return nil
}

// foundDirty is what a content with holes is known to have of its own: what its
// last close or fsync said, and what has been added at its end since.
func foundDirty(l *cache.Lost) (own extent.Set) {
	if !l.HasHoles() || len(l.Witness.Dirty) == 0 {
		return nil
	}
	return l.Witness.Dirty.Clip(l.Size).Add(min(l.Witness.Size, l.Size), l.Size)
}

// PublishFound gives content n of lost+found the name key. Where something is
// there already, force replaces it, as a rename would. A content with holes is
// published only if the version that has the rest is still the one on OSS.
func (q *Queue) PublishFound(ctx context.Context, n uint64, key string, force bool) error {
	l, err := q.c.Lost(n)
	if err != nil {
		return err
	}
	if err := q.mayBeFile(key); err != nil {
		return err
	}
	if err := Publishable(&l); err != nil {
		return err
	}
	row := &Row{Key: key, Size: l.Size, Content: n, Attr: l.Witness.Attr, Headers: l.Witness.Headers, Meta: l.Witness.Meta,
		SignSize: l.Size, SignMtime: l.Mtime}
	if row.Attr.Mode != 0 {
		row.Attr.Mtime, row.Attr.Ctime = l.Mtime, time.Now().UnixNano()
	}
	at, err := q.occupied(ctx, key, force)
	if err != nil {
		return err
	}
	row.Expected, row.Known = at.info.Ref, at.known
	if row.Attr.Mode == 0 && !at.info.Ref.IsZero() { // nothing is known of it: what it replaces
		learnt(row, at.info)
		row.Base = object.Ref{}
	}
	if l.HasHoles() {
		if err := q.rootFound(ctx, &l, row); err != nil {
			return err
		}
	}
	return q.nameFound(row, at)
}

// rootFound makes the base of l that of row, if OSS still holds it.
func (q *Queue) rootFound(ctx context.Context, l *cache.Lost, row *Row) error {
	base := l.Witness.Base
	instead := "take what was written out with `ossmount recover export`"
	info, err := q.remote.Head(ctx, base.Key)
	if object.IsAbsent(err) || err == nil && !info.Ref.Same(base) {
		return fmt.Errorf("the version of %q that has the rest of its bytes is gone from OSS: %s", base.Key, instead)
	}
	if err != nil {
		return fmt.Errorf("ask OSS for the version that has the rest of its bytes: %w", err)
	}
	err = q.j.View(func(tx *journal.Tx) error {
		r, err := tx.Row(base.Key)
		if err == nil && r != nil {
			err = fmt.Errorf("%q, which has the rest of its bytes, is about to be changed: %s", base.Key, instead)
		}
		return err
	})
	if err != nil {
		return err
	}
	if row.Headers == nil && row.Meta == nil { // it was never closed: what it was made from
		learnt(row, info)
		if row.Attr.Mode != 0 {
			row.Meta = row.Meta.Foreign()
		}
	}
	row.Base = info.Ref
	row.Dirty = foundDirty(l)
	return nil
}

// nameFound moves the content of row back among the others and commits row, if
// nothing has come to its key since it was looked for.
func (q *Queue) nameFound(row *Row, at occupant) error {
	if err := q.c.Reclaim(row.Content); err != nil {
		return err
	}
	crash.At("found moved, not committed")
	_, err := q.Change(func(c *Change) error {
		cur, err := c.Row(row.Key)
		if err != nil {
			return err
		}
		a, err := c.tx.Attrs(row.Key)
		if err != nil {
			return err
		}
		moved := a != nil && a.Settled > at.asOf
		if cur != nil {
			moved = moved || cur.Seq != at.seq
			if q.isOpen(cur.Content) {
				return ErrOpen
			}
		} else {
			moved = moved || at.seq != 0
		}
		if moved {
			return fmt.Errorf("%q has changed meanwhile: try again", row.Key)
		}
		if err := c.Names(dirOf(row.Key)); err != nil {
			return err
		}
		return c.Put(row)
	})
	if err != nil {
		return errors.Join(err, q.c.Lose(row.Content))
	}
	q.log.Info("found bytes have got a name again", "content", row.Content, "key", row.Key)
	return nil
}

// mayBeFile reports why no file can have the name key in the mount.
func (q *Queue) mayBeFile(key string) error {
	name, in := strings.CutPrefix(key, q.o.Prefix)
	bad := !in || !utf8.ValidString(name) || len(key) > maxKey || strings.ContainsRune(name, 0) || strings.HasPrefix(name, `\`)
	for i, part := range strings.Split(name, "/") {
		bad = bad || part == "" || part == "." || part == ".." || len(part) > maxName || i == 0 && part == ".ossmount"
	}
	if bad {
		return fmt.Errorf("%q is no name that a file of the mount can have: give it another", name)
	}
	return nil
}

// occupant is what a name was found to hold.
type occupant struct {
	asOf  uint64      // the state that was read
	seq   uint64      // of the row, 0: none
	info  object.Info // zero: OSS holds nothing, or was not asked
	known bool        // it was
}

// occupied looks for what holds key. A file there is an error unless force is
// set; a directory always is, and so is a file in the place of a directory that
// key lies in.
func (q *Queue) occupied(ctx context.Context, key string, force bool) (at occupant, err error) {
	var row *Row
	var above []string // directories of key that only OSS can tell of
	err = q.j.View(func(tx *journal.Tx) error {
		at.asOf = tx.At()
		if row, err = tx.Row(key); err != nil {
			return err
		}
		for r, err := range tx.Rows(key+"/", "") {
			if err != nil {
				return err
			}
			if r.Kind == journal.Put {
				return fmt.Errorf("%w under that name: a directory", ErrOccupied)
			}
		}
		for dir := dirOf(key); len(dir) > len(q.o.Prefix); dir = dirOf(dir) {
			r, err := tx.Row(strings.TrimSuffix(dir, "/"))
			switch {
			case err != nil:
				return err
			case r == nil:
				above = append(above, strings.TrimSuffix(dir, "/"))
			case r.Kind == journal.Put:
				return fmt.Errorf("%q is a file, and no directory", r.Key)
			}
		}
		return nil
	})
	if err != nil {
		return at, err
	}
	if row != nil {
		at.seq = row.Seq
		at.info.Ref, at.known = row.Expected, row.Known
		if row.Kind == journal.Put && !force {
			return at, ErrOccupied
		}
	}
	err = q.occupiedThere(ctx, key, above, &at, row == nil, force)
	var failed *object.Error
	if force && errors.As(err, &failed) && failed.Kind == object.Again {
		return at, nil // OSS does not answer: what it holds is found when it is replaced (H24)
	}
	return at, err
}

// occupiedThere asks OSS.
func (q *Queue) occupiedThere(ctx context.Context, key string, above []string, at *occupant, itself, force bool) error {
	for _, k := range above {
		_, err := q.remote.Head(ctx, k)
		if err == nil {
			return fmt.Errorf("%q is a file, and no directory", k)
		}
		if !object.IsAbsent(err) {
			return fmt.Errorf("ask OSS what is there: %w", err)
		}
	}
	page, err := q.remote.List(ctx, object.ListQuery{Prefix: key + "/", Max: 100})
	if err != nil {
		return fmt.Errorf("ask OSS what is there: %w", err)
	}
	if page.Next != "" {
		return fmt.Errorf("%w under that name: a directory", ErrOccupied)
	}
	for _, e := range page.Entries {
		if r, err := q.Row(e.Key); err != nil || r == nil {
			return errors.Join(err, fmt.Errorf("%w under that name: a directory", ErrOccupied))
		} // else it is going, or OSS has not got it yet
	}
	if !itself {
		return nil
	}
	switch info, err := q.remote.Head(ctx, key); {
	case object.IsAbsent(err):
		at.known = true
	case err != nil:
		return fmt.Errorf("ask OSS what is there: %w", err)
	case !force:
		return ErrOccupied
	default:
		at.info, at.known = info, true
	}
	return nil
}

// IsNotFound reports that lost+found has no such content.
func IsNotFound(err error) bool { return errors.Is(err, os.ErrNotExist) }
