package writeback

import (
	"slices"
	"time"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// What R8 needs to remember of requests without an answer.
//
//	row noted ──send──> answered            nothing is in doubt
//	    │                 (no effect)       the note is taken back
//	    └──> no answer: Note.Lost           the same row sends the same again
//	           │
//	           ├── same row settles         doubt {its tag} for Options.Doubt
//	           └── another row replaces it  doubt {its tag}, from when it ended
//
// A row that is published while its key is in doubt stays, answered, until the
// doubtful request must have landed; then a HEAD decides.

// doubtAfter returns what is in doubt about a key when its row old is replaced,
// given what was in doubt before; nil for nothing.
func (q *Queue) doubtAfter(d *journal.Doubt, old *Row) *journal.Doubt {
	if old.Note == nil || q.o.rules.noR8 {
		return d
	}
	if old.Note.Answered && old.Note.Lost == 0 {
		return d // its request has ended; what was in doubt before still is
	}
	if d == nil {
		d = &journal.Doubt{}
	}
	addDoubt(d, old)
	q.mu.Lock()
	defer q.mu.Unlock()
	if t := q.running[old.Key]; t != nil && t.first.Seq == old.Seq {
		d.Flying = old.Seq
		d.Since = later(d.Since, time.Now()) // at the earliest; its end moves it on
	} else if old.Note.Lost != 0 {
		d.Since = later(d.Since, time.Unix(0, old.Note.Lost))
	} else {
		d.Since = later(d.Since, time.Now())
	}
	return d
}

// otherTag keeps in doubt what r was about to publish under the tag that it
// has, as it now gets another: its upload was begun anew.
func (q *Queue) otherTag(tx *journal.Tx, r *Row) error {
	if r.Note == nil || r.Note.Lost == 0 || q.o.rules.noR8 {
		return nil
	}
	d, err := tx.Doubt(r.Key)
	if err != nil {
		return err
	}
	if d == nil {
		d = &journal.Doubt{}
	}
	addDoubt(d, r)
	d.Since = later(d.Since, time.Unix(0, r.Note.Lost))
	return tx.PutDoubt(r.Key, d)
}

func addDoubt(d *journal.Doubt, r *Row) {
	if r.Kind == journal.Delete {
		d.Older, d.Delete = d.Delete, true
	} else if !slices.Contains(d.Tags, r.Note.Tag) {
		d.Tags = append(d.Tags, r.Note.Tag)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// ended updates what is in doubt about key when the request of row, which has
// been replaced, has ended: with an answer, or without any effect (effect
// false), or lost.
func endDoubt(tx *journal.Tx, row *Row, lost bool) error {
	d, err := tx.Doubt(row.Key)
	if err != nil || d == nil || d.Flying != row.Seq {
		return err
	}
	d.Flying = 0
	switch {
	case lost:
		d.Since = later(d.Since, time.Now())
	case row.Note != nil && row.Note.Lost != 0:
		// This request ended well, an earlier one of the same row did not.
		d.Since = later(d.Since, time.Unix(0, row.Note.Lost))
	default:
		if row.Kind == journal.Delete {
			d.Delete = d.Older // an earlier one may still land
		} else if row.Note != nil {
			d.Tags = slices.DeleteFunc(d.Tags, func(t string) bool { return t == row.Note.Tag })
		}
		if !d.Delete && len(d.Tags) == 0 {
			return tx.DropDoubt(row.Key)
		}
	}
	return tx.PutDoubt(row.Key, d)
}

// confirm asks, when every older request of the key must have landed, what the
// key holds now (R8).
func (t *transfer) confirm() error {
	q, note := t.q, t.row.Note
	info, err := q.remote.Head(q.work, t.row.Key)
	absent := object.IsAbsent(err)
	if err != nil && !absent {
		return err
	}
	var d *journal.Doubt
	if err := q.j.View(func(tx *journal.Tx) error { d, err = tx.Doubt(t.row.Key); return err }); err != nil {
		return err
	}
	holds := ""
	if !absent {
		holds = info.Meta[object.TagMeta]
	}
	overtaken := false // the doubtful request has landed over ours
	theirs := false    // somebody else has replaced what we published
	switch {
	case absent:
		overtaken = t.row.Kind == journal.Put
	case t.row.Kind == journal.Put && holds == note.Tag && isVersion(info.Ref, note.Published):
	default:
		overtaken = d != nil && contains(d.Tags, holds)
		theirs = !overtaken
	}
	if theirs {
		q.log.Warn("somebody else has replaced the object that we published", "key", t.row.Key)
		return t.giveWay(info)
	}
	_, err = q.j.Update(func(tx *journal.Tx) error {
		cur, err := tx.Row(t.row.Key)
		if err != nil {
			return err
		}
		if cur == nil || cur.Seq != t.row.Seq {
			return errSuperseded
		}
		if err := tx.DropDoubt(t.row.Key); err != nil {
			return err
		}
		if overtaken {
			cur.Note, cur.Due = nil, time.Now().UnixNano()
			cur.Expected, cur.Known = info.Ref, true // a Delete of it is not for nothing
		}
		t.row = cur
		return tx.PutRow(cur)
	})
	if err != nil {
		return err
	}
	if overtaken {
		return errAgainNow
	}
	return t.settle(info.Ref, time.Now())
}

// isVersion reports that OSS holds now, under our tag, what a request of ours
// made: others may keep the tag on what they rewrite, and ours may have landed
// twice. Where OSS tells no checksum, the tag must do.
func isVersion(now, made object.Ref) bool {
	return now.Same(made) || sameBytes(now, made) || !now.HasCRC || !made.HasCRC
}

func contains(tags []string, tag string) bool {
	for _, t := range tags {
		if t == tag && tag != "" {
			return true
		}
	}
	return false
}
