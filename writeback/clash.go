package writeback

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// What happens when OSS holds under a key what neither the intent expected nor
// we have made (H24):
//
//	a new name      published with forbid-overwrite; 409: HEAD
//	                (in a versioned bucket HEAD before: OSS does not forbid there)
//	a known object  HEAD before it is replaced; a listing before it is deleted
//
//	our tag                          it is ours: go on
//	theirs, older than our close     the last writer wins: go on (not with KeepBoth)
//	theirs, newer, or KeepBoth       ours gets another name
//	a Delete                         theirs stays
//
// OSS has no compare-and-swap for an object that exists: between the look and
// the request somebody may still slip in.

// isNew reports that the key is thought to hold nothing, and that OSS forbids
// an overwrite where it is asked to.
func (t *transfer) isNew() bool {
	return t.row.Expected.IsZero() && !t.q.o.Alone && !t.q.o.Versioned && !strings.HasSuffix(t.row.Key, "/")
}

func (t *transfer) newOptions(tag string) object.PutOptions {
	o := t.options(tag)
	o.ForbidOverwrite = t.isNew()
	return o
}

func isTaken(err error) bool {
	var e *object.Error
	return errors.As(err, &e) && e.Kind == object.Conflict && e.Code == codeExists
}

// codeExists is what OSS answers where x-oss-forbid-overwrite forbids.
const codeExists = "FileAlreadyExists"

// look asks what OSS holds under a key that the row is about to replace.
func (t *transfer) look() error {
	row := t.row
	if t.q.o.Alone || row.Expected.IsZero() && !t.q.o.Versioned || strings.HasSuffix(row.Key, "/") || row.IsHole() && row.Base.Key == row.Key {
		return nil // a copy onto itself has the condition in the request
	}
	info, err := t.q.remote.Head(t.q.work, row.Key)
	if object.IsAbsent(err) || err == nil && info.Ref.Same(row.Expected) {
		return nil
	}
	if isDenied(err) && !t.q.o.KeepBoth {
		t.q.sayBlind(err)
		return nil // the last writer wins, whoever that is
	}
	if err != nil {
		return err
	}
	return t.clash(info)
}

// sayBlind says once that conflicts are not seen.
func (q *Queue) sayBlind(err error) {
	q.blind.Do(func() {
		q.log.Warn("without permission to look at objects it is not seen whether somebody else has changed one that is replaced: the last writer wins (--conflict=keep-both waits instead)", "err", err)
	})
}

// taken deals with err where it says that a new name is there already.
func (t *transfer) taken(err error) error {
	if !isTaken(err) {
		return err
	}
	info, err := t.q.remote.Head(t.q.work, t.row.Key)
	if object.IsAbsent(err) {
		return errAgainNow
	}
	if err != nil {
		return err
	}
	if info.Meta[object.TagMeta] == t.tag() { // an earlier request of it has landed
		if done, err := t.alreadyThere(); done || err != nil {
			return err
		}
	}
	if err := t.clash(info); err != nil {
		return err
	}
	if err := t.expect(info.Ref); err != nil {
		return err
	}
	return errAgainNow
}

// clash decides what becomes of the row beside info; nil: it goes on.
func (t *transfer) clash(info object.Info) error {
	ours, err := t.isOurs(info)
	if err != nil || ours {
		return err
	}
	// A Date of OSS has one second: in the same one we are the later.
	if !t.q.o.KeepBoth && !info.LastModified.After(time.Unix(0, t.row.Closed)) {
		t.q.conflict()
		t.q.log.Warn("somebody else had changed the object: the last writer wins", "key", t.row.Key)
		return t.expect(info.Ref)
	}
	return t.moveAside(info)
}

func (q *Queue) conflict() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats.Conflicts++
}

// isOurs reports that we have published info. The tag alone does not say so:
// others keep the metadata of what they rewrite. It is that of a request of
// ours that may have landed, or the journal remembers that we made this very
// version.
func (t *transfer) isOurs(info object.Info) (ours bool, err error) {
	tag := info.Meta[object.TagMeta]
	if tag == t.tag() || contains(t.row.Tags, tag) {
		return true, nil
	}
	err = t.q.j.View(func(tx *journal.Tx) error {
		d, err := tx.Doubt(t.row.Key)
		if err != nil {
			return err
		}
		a, err := tx.Attrs(t.row.Key)
		ours = d != nil && contains(d.Tags, tag) ||
			a != nil && a.Settled != 0 && (a.Ref.Same(info.Ref) || sameBytes(a.Ref, info.Ref))
		return err
	})
	return ours, err
}

// expect notes which version the row is going to replace.
func (t *transfer) expect(ref object.Ref) error {
	_, err := t.q.j.Update(func(tx *journal.Tx) error {
		cur, err := tx.Row(t.row.Key)
		if err != nil {
			return err
		}
		if cur == nil || cur.Seq != t.row.Seq {
			return errSuperseded
		}
		cur.Expected, cur.Known = ref, true
		t.row = cur
		return tx.PutRow(cur)
	})
	return err
}

// moveAside gives the row another name, and its own back to whoever has it.
func (t *transfer) moveAside(info object.Info) error {
	q := t.q
	var to string
	_, err := q.Change(func(c *Change) error {
		if t.row.Content != 0 && q.isOpen(t.row.Content) {
			return &object.Error{Op: "conflict", Key: t.row.Key, Kind: object.Again, Fate: object.NotSent,
				Err: errors.New("its writer knows it by this name: once it is closed")}
		}
		cur, err := c.Row(t.row.Key)
		if err != nil {
			return err
		}
		if cur == nil || cur.Seq != t.row.Seq {
			return errSuperseded
		}
		if to, err = q.freeName(c, cur.Key); err != nil {
			return err
		}
		next := *cur
		keepVouched(&next)
		next.Key, next.Expected, next.Known = to, object.Ref{}, false
		if err := c.Put(&next); err != nil {
			return err
		}
		return t.giveWayIn(c, cur, info)
	})
	if err != nil {
		return err
	}
	q.log.Warn("somebody else has changed the object: both are kept", "key", t.row.Key, "ours", to)
	return errSuperseded
}

// freeName is where the loser of a conflict goes.
func (q *Queue) freeName(c *Change, key string) (string, error) {
	dir, name := path.Split(key)
	tail := fmt.Sprintf(".conflict-%s-%s", q.o.Host, time.Now().UTC().Format("20060102T150405Z"))
	for i := 1; ; i++ {
		end := tail
		if i > 1 {
			end = fmt.Sprintf("%s-%d", tail, i)
		}
		room := min(maxName, maxKey-len(dir)) - len(end)
		if room < 1 {
			return "", &object.Error{Op: "conflict", Key: key, Kind: object.Parked, Fate: object.Answered,
				Err: errors.New("somebody else has changed the object, and the name is too long to keep ours beside it: rename it")}
		}
		to := dir + strings.ToValidUTF8(name[:min(len(name), room)], "") + end
		if row, err := c.Row(to); err != nil || row == nil {
			return to, err
		}
	}
}

// Longest name and key, in bytes (NAME_MAX; OSS).
const (
	maxName = 255
	maxKey  = 1023
)

// giveWay settles the row without doing what it says: OSS holds info, which is
// somebody else's.
func (t *transfer) giveWay(info object.Info) error {
	_, err := t.q.Change(func(c *Change) error {
		cur, err := c.Row(t.row.Key)
		if err != nil {
			return err
		}
		if cur == nil || cur.Seq != t.row.Seq {
			return errSuperseded
		}
		if cur.Content != 0 {
			c.dropped = append(c.dropped, cur.Content)
		}
		return t.giveWayIn(c, cur, info)
	})
	return err
}

func (t *transfer) giveWayIn(c *Change, cur *Row, info object.Info) error {
	q, tx, key := t.q, c.tx, cur.Key
	d, err := tx.Doubt(key)
	if err != nil {
		return err
	}
	if cur.Note != nil && cur.Note.Lost != 0 {
		if d == nil {
			d = &journal.Doubt{}
		}
		addDoubt(d, cur)
		d.Since = later(d.Since, time.Unix(0, cur.Note.Lost))
		if err := tx.PutDoubt(key, d); err != nil {
			return err
		}
	} else if cur.IsAnswered() { // they came after what was in doubt
		if err := tx.DropDoubt(key); err != nil {
			return err
		}
	}
	u, err := tx.Upload(key)
	if err != nil {
		return err
	}
	if u != nil {
		if err := oweAbort(tx, key, u); err != nil {
			return err
		}
	}
	attrs := &journal.Attrs{Key: key, Ref: info.Ref, LastModified: info.LastModified, Meta: info.Meta, Headers: info.Headers,
		Type: info.Type, Class: info.Class, Link: info.Link}
	if err := tx.PutAttrs(attrs); err != nil {
		return err
	}
	tx.BeforeCommit(func() error {
		q.memos.settled(key, Memo{Ref: info.Ref, Attrs: attrs})
		q.conflict() // before anybody sees that the row is gone
		return nil
	})
	c.touched[key] = 0
	return tx.DropRow(key)
}

// attrsTaken deals with new attributes for a version that somebody else has
// replaced: they are for the new one, if that was there before them.
func (t *transfer) attrsTaken() error {
	info, err := t.q.remote.Head(t.q.work, t.row.Key)
	gone := object.IsAbsent(err)
	if err != nil && !gone {
		return err
	}
	if gone || info.LastModified.After(time.Unix(0, t.row.Closed)) {
		t.q.log.Warn("somebody else has replaced the object since its attributes were changed here: theirs stay", "key", t.row.Key)
		return t.drop(info)
	}
	t.q.conflict()
	t.q.log.Warn("somebody else had replaced the object: it gets the attributes that were set here", "key", t.row.Key)
	_, err = t.q.j.Update(func(tx *journal.Tx) error {
		cur, err := tx.Row(t.row.Key)
		if err != nil {
			return err
		}
		if cur == nil || cur.Seq != t.row.Seq {
			return errSuperseded
		}
		learnt(cur, info)
		cur.Tags, cur.Size = nil, info.Size
		cur.Expected, cur.Known = info.Ref, true
		return tx.PutRow(cur)
	})
	if err != nil {
		return err
	}
	return errAgainNow
}

// drop settles a row of attributes whose object is somebody else's now, or
// nobody's.
func (t *transfer) drop(info object.Info) error {
	if !info.Ref.IsZero() {
		if err := t.giveWay(info); err != nil {
			return err
		}
		return errSuperseded
	}
	_, err := t.q.Change(func(c *Change) error {
		cur, err := c.Row(t.row.Key)
		if err != nil {
			return err
		}
		if cur == nil || cur.Seq != t.row.Seq {
			return errSuperseded
		}
		u, err := c.tx.Upload(cur.Key)
		if err != nil {
			return err
		}
		if u != nil {
			if err := oweAbort(c.tx, cur.Key, u); err != nil {
				return err
			}
		}
		c.tx.BeforeCommit(func() error {
			t.q.memos.settled(cur.Key, Memo{})
			t.q.conflict()
			return nil
		})
		c.touched[cur.Key] = 0
		return c.tx.DropRow(cur.Key)
	})
	if err != nil {
		return err
	}
	return errSuperseded
}
