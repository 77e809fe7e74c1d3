package journal

import (
	"maps"
	"slices"
)

// recent keeps what of the newest state was asked for last, or set: a program that works
// on a file asks for its row with each call, and for the times of its directory. Who asks
// gets a copy. Most are small; recentMost of them take some MiB.
type recent map[string]any // *Row, *Attrs, *int64 or encoded, by the key of the database; nil: there is none

// encoded is a value as it was written. It is decoded when somebody asks for it.
type encoded []byte

const (
	recentMost   = 4096
	recentRanges = 64      // a row that is read and has more of them is read anew
	recentBytes  = 4 << 10 // and so is a value that is set and is longer
)

// recall returns what key was found to hold, nil: nothing; ok is false where that is not
// known, or where tx reads another state, or has set key itself.
func recall[T any](tx *Tx, key []byte) (v *T, ok bool) {
	got, ok := tx.lookBack(key)
	switch got := got.(type) {
	case *T:
		return got, ok
	case encoded:
		v = new(T)
		if decodeOf(key, got, v) != nil {
			return nil, false // who reads it says why
		}
		tx.remember(key, v)
		return v, true
	}
	return nil, ok
}

func (tx *Tx) lookBack(key []byte) (v any, ok bool) {
	if tx.hasSet(key) {
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

// remember notes what key was found to hold: nil, or what nobody else has.
func (tx *Tx) remember(key []byte, v any) {
	if tx.hasSet(key) {
		return
	}
	tx.j.smu.Lock()
	defer tx.j.smu.Unlock()
	if tx.at == tx.j.last {
		tx.j.rememberLocked(string(key), v)
	}
}

func (j *Journal) rememberLocked(key string, v any) {
	if j.recent == nil || len(j.recent) >= recentMost {
		j.recent = make(recent, recentMost/4)
	}
	j.recent[key] = v
}

// anew is a key that a state sets, and what it holds then; nil: nothing.
type anew struct {
	key   string
	value []byte
}

// setAnew notes that the state which tx makes holds value under key.
func (tx *Tx) setAnew(key, value []byte) {
	if tx.batch {
		return // all is forgotten
	}
	switch key[0] {
	case spaceRow, spaceAttr, spaceTime:
		tx.anew = append(tx.anew, anew{string(key), value})
	}
}

// hasSet reports that tx may have set key: it looks through a few changes only.
func (tx *Tx) hasSet(key []byte) bool {
	if !tx.changed {
		return false
	}
	const few = 16
	return tx.batch || len(tx.anew) > few || slices.ContainsFunc(tx.anew, func(a anew) bool { return a.key == string(key) })
}

// rememberAnewLocked remembers what tx, which was just committed, has set; j.smu is held.
func (j *Journal) rememberAnewLocked(tx *Tx) {
	if tx.batch {
		j.recent = nil
	}
	for _, a := range tx.anew {
		switch {
		case a.value == nil:
			j.rememberLocked(a.key, nil)
		case len(a.value) <= recentBytes:
			j.rememberLocked(a.key, encoded(a.value))
		default:
			delete(j.recent, a.key)
		}
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
