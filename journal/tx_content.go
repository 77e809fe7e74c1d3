package journal

import (
	"encoding/binary"
	"iter"

	badger "github.com/dgraph-io/badger/v4"
)

// RowOf returns the row that names the content n, or nil. key is whose row may be it,
// for that is found at once.
func (tx *Tx) RowOf(n uint64, key string) (*Row, error) {
	r, err := tx.Row(key)
	if err != nil || r != nil && r.Content == n {
		return r, err
	}
	if key, _, _ = tx.Named(n); key == "" {
		return nil, nil
	}
	r, err = tx.Row(key)
	if err != nil || r == nil || r.Content != n {
		return nil, err
	}
	return r, nil
}

// Named tells what names the content n: the key of a row, the key of a clean
// copy, or neither.
func (tx *Tx) Named(n uint64) (row, clean string, ok bool) {
	prefix := spaced(spaceContent, be64(n))
	_ = tx.each(prefix, nil, func(k []byte, _ *badger.Item) (bool, error) {
		ok = true
		if k[len(prefix)] == 'r' {
			row = string(k[len(prefix)+1:])
		} else {
			clean = string(k[len(prefix)+1:])
		}
		return true, nil
	})
	return row, clean, ok
}

// Contents yields the contents that anything names, in order.
func (tx *Tx) Contents() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		last := uint64(0)
		_ = tx.each([]byte{spaceContent}, nil, func(k []byte, _ *badger.Item) (bool, error) {
			n := binary.BigEndian.Uint64(k[1:9])
			if n == last {
				return true, nil
			}
			last = n
			return yield(n), nil
		})
	}
}

// MaxContent returns the highest content number that anything names.
func (tx *Tx) MaxContent() (top uint64) {
	it := tx.read().NewIterator(badger.IteratorOptions{Reverse: true})
	defer it.Close()
	it.Seek([]byte{spaceContent + 1})
	if it.Valid() && it.Item().Key()[0] == spaceContent && isWhole(it.Item().Key()) {
		top = binary.BigEndian.Uint64(it.Item().Key()[1:9])
	}
	return top
}
