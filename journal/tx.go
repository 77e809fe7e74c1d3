package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"

	badger "github.com/dgraph-io/badger/v4"
)

// First bytes of the database's keys; docs/format.md has the table.
const (
	spaceRow     = 'r' // key → Row
	spaceDue     = 'd' // due (8 bytes, big-endian), key → nothing
	spaceStuck   = 's' // key of a parked or interrupted row → nothing
	spaceBase    = 'b' // key of the base, 0, key → nothing
	spaceContent = 'n' // content number (8 bytes), what names it → nothing
	spaceUpload  = 'u' // key → Upload
	spacePart    = 'p' // number of the upload (8 bytes), part number (4 bytes) → Part
	spaceDoubt   = 'q' // key → Doubt
	spaceDebt    = 'x' // number (8 bytes) → Debt
	spaceClean   = 'c' // key → Clean
	spaceAttr    = 'a' // key → Attrs
	spaceTime    = 't' // key of a directory → when its names last changed
	spaceSum     = 'm' // nothing → what the state holds in all (sum.go)
	spaceBatch   = 'z' // sequence (8 bytes), 'b' or 'e': a batch began, ended; the last space of all (batch.go)
)

// Tx is one state of the journal, and within Update the next one.
type Tx struct {
	j       *Journal
	begun   *badger.Txn // of Badger; nil until it is needed (db)
	writes  bool
	at      uint64 // the state it reads
	seq     uint64 // the state it makes, 0 in a View
	changed bool
	size    int64 // what its commit adds to a log of Badger at most

	batch   bool   // may take several commits of Badger (batch.go)
	entries int    // in the commit that is being made
	keys    hashes // of that commit
	flushed bool   // an earlier one was made, or is being made
	flying  *flying
	lost    error // what one that was made has failed of

	before   []func() error
	contents map[uint64]struct{}
	delta    Counts
	moves    map[string]int  // rows that came (1) or went (-1), by key
	few      few             // how many came, less those that went
	anew     []anew          // what it has set of what is kept in recent
	bare     map[string]bool // directories: nothing was learnt of what is in them
	whole    whole           // what the state that it makes holds
}

func (tx *Tx) discard() {
	if tx.begun != nil {
		tx.begun.Discard()
	}
}

// db is the transaction of Badger: most Views are answered from what is remembered, and
// never need it. It reads the same state whenever it is begun.
func (tx *Tx) db() *badger.Txn {
	if tx.begun == nil {
		tx.begun = tx.j.db.NewTransactionAt(tx.at, tx.writes)
	}
	return tx.begun
}

// Seq returns the sequence of the state that this Update makes.
func (tx *Tx) Seq() uint64 { return tx.seq }

// At returns the sequence of the state that is read.
func (tx *Tx) At() uint64 { return tx.at }

// BeforeCommit has f called when all rows are set and their sequence is sure,
// just before they are committed. An error of f takes the Update back.
func (tx *Tx) BeforeCommit(f func() error) { tx.before = append(tx.before, f) }

func (tx *Tx) get(key []byte, v any) (bool, error) {
	if tx.lacks(key[0]) {
		return false, nil
	}
	item, err := tx.readOne(key).Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("journal: get %q: %w", key, err)
	}
	if v == nil {
		return true, nil
	}
	err = item.Value(func(b []byte) error { return decodeOf(key, b, v) })
	if err != nil {
		return false, fmt.Errorf("journal: get %q: %w", key, err)
	}
	return true, nil
}

// decodeOf is decode of what key holds, with what only the key says.
func decodeOf(key, b []byte, v any) error {
	switch v := v.(type) {
	case *Row:
		err := decode(b, v)
		v.Key, v.digest = string(key[1:]), digest(key, b)
		return err
	case *Attrs:
		err := decode(b, v)
		v.Key = string(key[1:])
		return err
	}
	return decode(b, v)
}

func (tx *Tx) set(key []byte, v any) error {
	var b []byte
	if v != nil {
		var err error
		if b, err = encode(v); err != nil {
			return err
		}
	}
	if err := tx.replace(key, b); err != nil {
		return err
	}
	tx.setAnew(key, b)
	return tx.write(key, len(b), func() error { return tx.db().Set(key, b) })
}

func (tx *Tx) drop(key []byte) error {
	if err := tx.replace(key, nil); err != nil {
		return err
	}
	tx.setAnew(key, nil)
	return tx.write(key, 0, func() error { return tx.db().Delete(key) })
}

// write has one write key, with a value of so many bytes.
func (tx *Tx) write(key []byte, value int, one func() error) error {
	tx.changed = true
	if !tx.batch {
		tx.size += int64(len(key) + value + entryExtra)
		return tooBig(one())
	}
	err := ErrTooBig
	if tx.entries < tx.j.o.BatchPart {
		err = tooBig(one())
	}
	if err == ErrTooBig {
		if err = tx.flush(); err != nil {
			return err
		}
		err = tooBig(one())
	}
	tx.entries++
	tx.size += int64(len(key) + value + entryExtra)
	tx.keys.add(key)
	return err
}

// each calls f for every key that begins with prefix, from the key start on,
// until f returns false. f's slices are valid during the call only. No value is
// fetched ahead: it stands beside its key, and Badger starts a goroutine for each.
func (tx *Tx) each(prefix, start []byte, f func(key []byte, item *badger.Item) (bool, error)) error {
	if tx.lacks(prefix[0]) {
		return nil
	}
	it := tx.read().NewIterator(badger.IteratorOptions{Prefix: prefix})
	defer it.Close()
	if start == nil {
		start = prefix
	}
	for it.Seek(start); it.ValidForPrefix(prefix); it.Next() {
		if !isWhole(it.Item().Key()) {
			continue // nothing of ours; it must not hide those behind it
		}
		more, err := f(it.Item().Key(), it.Item())
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// isWhole reports that a key has all that stands before its variable part.
func isWhole(key []byte) bool {
	switch key[0] {
	case spaceDue, spaceDebt:
		return len(key) >= 9
	case spaceContent, spaceBatch:
		return len(key) >= 10
	case spacePart:
		return len(key) >= 13
	}
	return true
}

func spaced(space byte, parts ...string) []byte {
	n := 1
	for _, p := range parts {
		n += len(p)
	}
	b := make([]byte, 1, n)
	b[0] = space
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func be64(n uint64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	return string(b[:])
}

// dueBytes orders due times, which may be negative only by mistake.
func dueBytes(ns int64) string { return be64(uint64(max(ns, 0))) }

// --- rows ---

// Row returns the row of key, or nil.
func (tx *Tx) Row(key string) (*Row, error) {
	if tx.noRow(key) {
		return nil, nil
	}
	k := spaced(spaceRow, key)
	if v, ok := recall[Row](tx, k); ok {
		if v == nil {
			return nil, nil
		}
		return v.clone(), nil
	}
	r := &Row{}
	ok, err := tx.get(k, r)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		tx.remember(k, nil)
		return nil, nil
	}
	if len(r.Dirty) <= recentRanges {
		tx.remember(k, r.clone())
	}
	return r, nil
}

// PutRow sets the row of r.Key. A zero Seq becomes the sequence of this state;
// a row that the engine notes or moves keeps its own.
func (tx *Tx) PutRow(r *Row) error {
	if r.Key == "" || r.Kind != Put && r.Kind != Delete {
		return fmt.Errorf("journal: row of key %q, kind %d", r.Key, r.Kind)
	}
	if r.Seq == 0 {
		r.Seq = tx.seq
	}
	old, err := tx.Row(r.Key)
	if err != nil {
		return err
	}
	if old != nil {
		if err := tx.unindex(old); err != nil {
			return err
		}
	}
	if err := tx.setRow(spaced(spaceRow, r.Key), old, r); err != nil {
		return err
	}
	tx.delta.add(r, 1)
	for _, k := range indexKeys(r) {
		if err := tx.set(k, nil); err != nil {
			return err
		}
	}
	if r.Content != 0 {
		if tx.contents == nil {
			tx.contents = map[uint64]struct{}{}
		}
		tx.contents[r.Content] = struct{}{}
	}
	return nil
}

// DropRow removes the row of key; there need be none.
func (tx *Tx) DropRow(key string) error {
	old, err := tx.Row(key)
	if err != nil || old == nil {
		return err
	}
	if err := tx.unindex(old); err != nil {
		return err
	}
	return tx.setRow(spaced(spaceRow, key), old, nil)
}

// setRow replaces old, which was just read, by r; nil: nothing.
func (tx *Tx) setRow(key []byte, old, r *Row) (err error) {
	var b []byte
	if r != nil {
		if b, err = encode(r); err != nil {
			return err
		}
	}
	was := uint64(0)
	if old != nil {
		was = old.digest
	}
	tx.whole.replace(was, old != nil, key, b)
	tx.few.row(old, -1)
	tx.few.row(r, 1)
	tx.setAnew(key, b)
	tx.moved(string(key[1:]), old != nil, r != nil)
	if r == nil {
		return tx.write(key, 0, func() error { return tx.db().Delete(key) })
	}
	return tx.write(key, len(b), func() error { return tx.db().Set(key, b) })
}

func (tx *Tx) unindex(r *Row) error {
	tx.delta.add(r, -1)
	for _, k := range indexKeys(r) {
		if err := tx.drop(k); err != nil {
			return err
		}
	}
	return nil
}

// indexKeys are the index entries of a row.
func indexKeys(r *Row) [][]byte {
	keys := append(make([][]byte, 0, 3), orderKey(r))
	if !r.Base.IsZero() {
		keys = append(keys, spaced(spaceBase, r.Base.Key, "\x00", r.Key))
	}
	if r.Content != 0 {
		keys = append(keys, spaced(spaceContent, be64(r.Content), "r", r.Key))
	}
	return keys
}

// orderKey is where a row stands: among those to be carried, by due time, or
// among those that are stuck.
func orderKey(r *Row) []byte {
	if r.Waiting() {
		return spaced(spaceDue, dueBytes(r.Due), r.Key)
	}
	return spaced(spaceStuck, r.Key)
}

// Stuck yields the keys of the parked and interrupted rows.
func (tx *Tx) Stuck() iter.Seq[string] {
	return func(yield func(string) bool) {
		_ = tx.each([]byte{spaceStuck}, nil, func(k []byte, _ *badger.Item) (bool, error) {
			return yield(string(k[1:])), nil
		})
	}
}

// moved notes that a row came or went.
func (tx *Tx) moved(key string, was, is bool) {
	if was == is {
		return
	}
	if tx.moves == nil {
		tx.moves = map[string]int{}
	}
	if tx.moves[key]--; is {
		tx.moves[key] += 2
	}
}

// Rows yields the rows whose key begins with prefix and is greater than or
// equal to from, in byte order.
func (tx *Tx) Rows(prefix, from string) iter.Seq2[*Row, error] {
	return func(yield func(*Row, error) bool) {
		if !tx.noRows(prefix) {
			tx.stored(prefix, from)(yield)
		}
	}
}

// stored is Rows by what the database holds, whatever was counted.
func (tx *Tx) stored(prefix, from string) iter.Seq2[*Row, error] {
	return func(yield func(*Row, error) bool) {
		start := spaced(spaceRow, max(prefix, from))
		err := tx.each(spaced(spaceRow, prefix), start, func(k []byte, item *badger.Item) (bool, error) {
			r := &Row{}
			if err := item.Value(func(b []byte) error { return decode(b, r) }); err != nil {
				return false, err
			}
			r.Key = string(k[1:])
			return yield(r, nil), nil
		})
		if err != nil {
			yield(nil, err)
		}
	}
}

// Children yields the rows of the names directly in the directory prefix
// ("" or ending in "/"), from the key from on: the files, and the directories'
// own rows. What lies deeper is jumped over; a directory without a Put of its
// own in which a Put lies is yielded as one without attributes.
func (tx *Tx) Children(prefix, from string) iter.Seq2[*Row, error] {
	return func(yield func(*Row, error) bool) {
		if tx.noRows(prefix) {
			return
		}
		space := spaced(spaceRow, prefix)
		it := tx.read().NewIterator(badger.IteratorOptions{Prefix: space})
		defer it.Close()
		it.Seek(spaced(spaceRow, max(prefix, from)))
		for it.ValidForPrefix(space) {
			r, err := rowAt(it)
			if err == nil && r.Key == prefix { // the directory's own row
				it.Next()
				continue
			}
			if err == nil {
				if slash := strings.IndexByte(r.Key[len(prefix):], '/'); slash >= 0 {
					r, err = dirAt(it, r, r.Key[:len(prefix)+slash+1])
				} else {
					it.Next()
				}
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if r != nil && !yield(r, nil) {
				return
			}
		}
	}
}

// ChildNames yields the names in the directory prefix of which rows tell, those of
// directories with a "/" at the end, and whether they are there. It is Children for
// who asks for no more: a directory whose own row is a Delete counts as gone without
// a look at what rows tell of beneath it.
func (tx *Tx) ChildNames(prefix string) iter.Seq2[string, bool] {
	return func(yield func(string, bool) bool) {
		if tx.noRows(prefix) {
			return
		}
		space := spaced(spaceRow, prefix)
		it := tx.read().NewIterator(badger.IteratorOptions{Prefix: space})
		defer it.Close()
		for it.Seek(space); it.ValidForPrefix(space); {
			name := string(it.Item().Key()[len(space):])
			slash := strings.IndexByte(name, '/')
			switch {
			case name == "": // the directory's own row
				it.Next()
				continue
			case slash < 0:
				if !yield(name, true) {
					return
				}
				it.Next()
				continue
			}
			put := true // by what lies in it
			if name = name[:slash+1]; len(it.Item().Key()) == len(space)+len(name) {
				r, err := rowAt(it)
				put = err == nil && r.Kind == Put
			}
			if !yield(name, put) {
				return
			}
			it.Seek(spaced(spaceRow, prefix, name[:slash], "0")) // "0" follows "/"
		}
	}
}

func rowAt(it *badger.Iterator) (*Row, error) {
	r := &Row{}
	err := it.Item().Value(func(b []byte) error { return decode(b, r) })
	r.Key = string(it.Item().Key()[1:])
	return r, err
}

// dirAt returns what the rows say of the directory key, of which r is the
// first, and goes past them all; nil: nothing.
func dirAt(it *badger.Iterator, r *Row, key string) (own *Row, err error) {
	if r.Key == key {
		own = r
		it.Next()
	}
	if own == nil || own.Kind != Put {
		for ; it.ValidForPrefix(spaced(spaceRow, key)); it.Next() {
			if r, err = rowAt(it); err != nil {
				return nil, err
			}
			if r.Kind == Put {
				own = &Row{Key: key, Kind: Put}
				break
			}
		}
	}
	it.Seek(spaced(spaceRow, key[:len(key)-1], "0")) // "0" follows "/"
	return own, nil
}

// Due yields the keys that may be carried at the time until (Unix
// nanoseconds), earliest first, with their due times: those that stand after
// the due time and key given.
func (tx *Tx) Due(after int64, key string, until int64) iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		start := spaced(spaceDue, dueBytes(after), key)
		_ = tx.each([]byte{spaceDue}, start, func(k []byte, _ *badger.Item) (bool, error) {
			due := binary.BigEndian.Uint64(k[1:9])
			if due > uint64(until) {
				return false, nil
			}
			if string(k) == string(start) {
				return true, nil
			}
			return yield(string(k[9:]), int64(min(due, math.MaxInt64))), nil
		})
	}
}

// NextDue returns the earliest due time after now, or false.
func (tx *Tx) NextDue(now int64) (due int64, ok bool) {
	_ = tx.each([]byte{spaceDue}, spaced(spaceDue, dueBytes(now+1)), func(k []byte, _ *badger.Item) (bool, error) {
		due, ok = int64(binary.BigEndian.Uint64(k[1:9])), true
		return false, nil
	})
	return due, ok
}

// BasedOn yields the keys of the rows with a hole over the object at key.
func (tx *Tx) BasedOn(key string) iter.Seq[string] {
	return func(yield func(string) bool) {
		prefix := spaced(spaceBase, key, "\x00")
		_ = tx.each(prefix, nil, func(k []byte, _ *badger.Item) (bool, error) {
			return yield(string(k[len(prefix):])), nil
		})
	}
}

// AnyBased yields the keys of all rows that have a hole.
func (tx *Tx) AnyBased() iter.Seq2[string, string] {
	return func(yield func(base, key string) bool) {
		_ = tx.each([]byte{spaceBase}, nil, func(k []byte, _ *badger.Item) (bool, error) {
			base, key, _ := strings.Cut(string(k[1:]), "\x00")
			return yield(base, key), nil
		})
	}
}
