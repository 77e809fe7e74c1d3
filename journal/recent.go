package journal

import (
	"maps"
	"slices"
)

// recent keeps what of the newest state was asked for last: a program that works on a
// file asks for its row with each call, and for the times of its directory. Who asks
// gets a copy. Most are small; recentMost of them take some MiB.
type recent map[string]any // *Row, *Attrs or int64, by the key of the database; nil: there is none

const (
	recentMost   = 4096
	recentRanges = 64 // a row with more of them is read anew
)

// recall returns what key was found to hold; ok is false where that is not known, or
// where tx reads another state.
func (tx *Tx) recall(key []byte) (v any, ok bool) {
	if tx.changed {
		return nil, false
	}
	tx.j.smu.Lock()
	defer tx.j.smu.Unlock()
	if tx.at != tx.j.last {
		return nil, false
	}
	v, ok = tx.j.recent[string(key)]
	return v, ok
}

// remember notes what key was found to hold.
func (tx *Tx) remember(key []byte, v any) {
	if tx.changed {
		return
	}
	tx.j.smu.Lock()
	defer tx.j.smu.Unlock()
	if tx.at != tx.j.last {
		return
	}
	if tx.j.recent == nil || len(tx.j.recent) >= recentMost {
		tx.j.recent = make(recent, recentMost/4)
	}
	tx.j.recent[string(key)] = v
}

// setAnew notes that the state which tx makes holds something else under key.
func (tx *Tx) setAnew(key []byte) {
	if tx.batch {
		return // all is forgotten
	}
	switch key[0] {
	case spaceRow, spaceAttr, spaceTime:
		tx.anew = append(tx.anew, string(key))
	}
}

// forgetAnew forgets what tx, which was just committed, has set; j.smu is held.
func (j *Journal) forgetAnew(tx *Tx) {
	if tx.batch {
		j.recent = nil
	}
	for _, key := range tx.anew {
		delete(j.recent, key)
	}
}

// clone returns a copy that shares nothing with r.
func (r *Row) clone() *Row {
	c := *r
	c.Tags, c.Dirty = slices.Clone(r.Tags), slices.Clone(r.Dirty)
	c.Headers, c.Meta = maps.Clone(r.Headers), maps.Clone(r.Meta)
	if r.Note != nil {
		n := *r.Note
		if n.Begun != nil {
			b := *n.Begun
			b.Headers, b.Meta = maps.Clone(b.Headers), maps.Clone(b.Meta)
			n.Begun = &b
		}
		c.Note = &n
	}
	return &c
}

func (a *Attrs) clone() *Attrs {
	c := *a
	c.Headers, c.Meta = maps.Clone(a.Headers), maps.Clone(a.Meta)
	return &c
}
