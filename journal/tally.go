package journal

import (
	"iter"
	"maps"
	"strings"
)

// tally counts the rows of the newest state by the directories that they lie in, so
// that nobody looks for rows in the database where there are none: most directories
// that are read have none. It costs some 100 bytes for each directory that has.
type tally map[string]tallied

type tallied struct {
	rows int // of the directory itself and of all beneath it
	deep int // of these, those of directories in it, and of what is in those
}

// DirsOf yields the directories that key lies in, from "" down.
func DirsOf(key string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if !yield("") {
			return
		}
		for i := 0; i < len(key)-1; i++ {
			if key[i] == '/' && !yield(key[:i+1]) {
				return
			}
		}
	}
}

// add counts n rows of key.
func (t tally) add(key string, n int) {
	for dir := range DirsOf(key) {
		by := tallied{rows: n}
		if strings.Contains(key[len(dir):], "/") {
			by.deep = n
		}
		t.plus(dir, by)
	}
	if strings.HasSuffix(key, "/") {
		t.plus(key, tallied{rows: n})
	}
}

func (t tally) plus(dir string, by tallied) {
	now := tallied{t[dir].rows + by.rows, t[dir].deep + by.deep}
	if now.rows == 0 {
		delete(t, dir)
		return
	}
	t[dir] = now
}

// tallied returns the tally of the directory key in the state that tx reads; ok is
// false where nobody has counted: tx has changed something, or is not the newest.
func (tx *Tx) tallied(dir string) (n tallied, ok bool) {
	if tx.changed {
		return n, false
	}
	tx.j.smu.Lock()
	defer tx.j.smu.Unlock()
	return tx.j.tally[dir], tx.j.tally != nil && tx.at == tx.j.last
}

// tallyNow returns the whole tally, if it is that of the state that tx reads.
func (tx *Tx) tallyNow() tally {
	tx.j.smu.Lock()
	defer tx.j.smu.Unlock()
	if tx.at != tx.j.last {
		return nil
	}
	return maps.Clone(tx.j.tally)
}

// None reports that there is surely no row of the directory key, or beneath it; key is
// "" or ends in "/".
func (tx *Tx) None(key string) bool {
	n, ok := tx.tallied(key)
	return ok && n.rows == 0
}

// NoDirs reports that there is surely no row of a directory in the directory key, nor
// of anything in one.
func (tx *Tx) NoDirs(key string) bool {
	n, ok := tx.tallied(key)
	return ok && n.deep == 0
}

// noRow reports that there is surely no row of key: in a change, that none was in its
// directory before, and that it has not come since.
func (tx *Tx) noRow(key string) bool {
	if key == "" {
		return true
	}
	dir := key[:strings.LastIndexByte(key[:len(key)-1], '/')+1]
	if !tx.changed {
		return tx.None(dir)
	}
	if tx.moves[key] > 0 {
		return false
	}
	tx.j.smu.Lock()
	defer tx.j.smu.Unlock()
	return tx.isNextLocked() && tx.j.tally[dir].rows == 0
}

// isNextLocked reports that tx makes the state after the newest one, which was counted.
func (tx *Tx) isNextLocked() bool { return tx.seq == tx.j.last+1 && tx.j.tally != nil }

// few counts what each change looks for, and mostly is not there.
type few struct{ based, uploads, doubts int }

func (f *few) plus(o few) {
	f.based, f.uploads, f.doubts = f.based+o.based, f.uploads+o.uploads, f.doubts+o.doubts
}

// entry counts n entries of a space.
func (f *few) entry(space byte, n int) {
	switch space {
	case spaceUpload:
		f.uploads += n
	case spaceDoubt:
		f.doubts += n
	}
}

// row counts n rows like r, which may be nil.
func (f *few) row(r *Row, n int) {
	if r != nil && !r.Base.IsZero() {
		f.based += n
	}
}

// fewNow returns how many there are in the state that tx reads, or makes; ok is false
// where nobody has counted.
func (tx *Tx) fewNow() (f few, ok bool) {
	tx.j.smu.Lock()
	defer tx.j.smu.Unlock()
	f = tx.j.few
	f.plus(tx.few)
	return f, tx.isNextLocked() || tx.seq == 0 && tx.at == tx.j.last && tx.j.tally != nil
}

// lacks reports that there is surely nothing in a space.
func (tx *Tx) lacks(space byte) bool {
	if space != spaceBase && space != spaceUpload && space != spaceDoubt {
		return false
	}
	f, ok := tx.fewNow()
	return ok && (space == spaceBase && f.based == 0 || space == spaceUpload && f.uploads == 0 || space == spaceDoubt && f.doubts == 0)
}

// noRows reports that there is surely no row whose key begins with prefix.
func (tx *Tx) noRows(prefix string) bool {
	return tx.None(prefix[:strings.LastIndexByte(prefix, '/')+1])
}
