package journal

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"

	badger "github.com/dgraph-io/badger/v4"
	"golang.org/x/sync/errgroup"
)

// ErrNewer is returned for bytes of a format that this program does not know.
var ErrNewer = errors.New("made by a newer version")

// Badger cuts a log at the first entry whose checksum is wrong, leaves out a
// table whose checksum is wrong, and does not miss a log that is gone: the
// journal would be shorter, and nobody would know. So every state carries the
// sum of what it holds, and a start adds up again.

// whole is the value of the one key in spaceSum: what a state holds in all.
type whole struct {
	Sum  uint64 `json:"s"` // of the digests of every key and value that counts, modulo 2^64
	Keys int64  `json:"n"`
	// What the horizon file says too, in case it is lost.
	Boot  string `json:"b"`
	Cache string `json:"id"`
	// New: nobody has taken the contents up yet (Tx.TakenUp).
	New bool `json:"new,omitempty"`
}

func sumKey() []byte { return []byte{spaceSum} }

// counts reports that what is kept in a space cannot be made again from
// anything else. Indexes are compared with the rows; attributes and times are
// learnt again.
func counts(space byte) bool {
	switch space {
	case spaceRow, spaceUpload, spacePart, spaceDoubt, spaceDebt, spaceClean:
		return true
	}
	return false
}

func digest(key, value []byte) uint64 {
	b := make([]byte, 0, 512)
	b = binary.BigEndian.AppendUint32(b, uint32(len(key)))
	b = append(append(b, key...), value...)
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:])
}

func (w *whole) add(key, value []byte) { w.Sum += digest(key, value); w.Keys++ }

// replace takes what key holds out of the sum, and value in; nil: nothing.
func (tx *Tx) replace(key, value []byte) error {
	if !counts(key[0]) {
		return nil
	}
	old, had, err := tx.digestOf(key)
	if err != nil {
		return err
	}
	tx.whole.replace(old, had, key, value)
	if had {
		tx.few.entry(key[0], -1)
	}
	if value != nil {
		tx.few.entry(key[0], 1)
	}
	return nil
}

func (w *whole) replace(old uint64, had bool, key, value []byte) {
	if had {
		w.Sum, w.Keys = w.Sum-old, w.Keys-1
	}
	if value != nil {
		w.add(key, value)
	}
}

func (tx *Tx) digestOf(key []byte) (d uint64, had bool, err error) {
	item, err := tx.readOne(key).Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return 0, false, nil
	}
	if err == nil {
		err = item.Value(func(value []byte) error { d = digest(key, value); return nil })
	}
	if err != nil {
		return 0, false, fmt.Errorf("journal: get %q: %w", key, err)
	}
	return d, true, nil
}

// sign writes the sum of the state that tx makes: the last that it writes.
func (tx *Tx) sign() error {
	tx.whole.Boot, tx.whole.Cache = tx.j.o.BootID, tx.j.CacheID()
	b, err := encode(&tx.whole)
	if err != nil {
		return err
	}
	return tx.write(sumKey(), len(b), func() error { return tx.db().Set(sumKey(), b) })
}

// TakenUp says that whoever opened a new journal has put into it what is known
// from elsewhere. Until that is committed, every Open finds it new.
func (tx *Tx) TakenUp() { tx.whole.New, tx.changed = false, true }

// wholeAt reads the sum of the state that tx reads; ok is false if it has none.
func (tx *Tx) wholeAt() (w whole, ok bool, err error) {
	ok, err = tx.get(sumKey(), &w)
	return w, ok, err
}

// addUp reads everything there is in the state that tx reads, calls each with
// its rows, and returns an error if it is not what its sum says, cannot be read,
// or if rows and indexes disagree.
func (tx *Tx) addUp(each func(r *Row)) (want whole, some few, err error) {
	want, ok, err := tx.wholeAt()
	if err != nil {
		return want, some, damaged(err)
	}
	var got, rows, indexes whole
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	err = tx.pieces(func(pairs []pair) {
		g.Go(func() error {
			var a addends
			if err := a.addUp(pairs); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			got.plus(a.got)
			rows.plus(a.rows)
			indexes.plus(a.indexes)
			some.plus(a.few)
			for _, r := range a.all {
				each(r)
			}
			return nil
		})
	})
	if err = errors.Join(err, g.Wait()); err != nil {
		return want, some, damaged(err)
	}
	switch {
	case !ok && got.Keys == 0:
		want.New = true
	case !ok:
		return want, some, damage("it has no sum of its %d entries", got.Keys)
	case got.Sum != want.Sum || got.Keys != want.Keys:
		return want, some, damage("it holds %d entries, and should hold %d others", got.Keys, want.Keys)
	}
	if rows != indexes {
		return want, some, damage("%d index entries do not fit the rows, which need %d", indexes.Keys, rows.Keys)
	}
	return want, some, nil
}

// pair is an entry of the database.
type pair struct{ key, value []byte }

const piece = 256 // entries that are added up at once

// pieces reads everything there is but for what was learnt, which is the first space.
func (tx *Tx) pieces(f func(some []pair)) error {
	it := tx.read().NewIterator(badger.IteratorOptions{})
	defer it.Close()
	var some []pair
	var kept shelf
	for it.Seek([]byte{spaceAttr + 1}); it.Valid(); it.Next() {
		p := pair{key: kept.keep(it.Item().Key())}
		if !isIndex(p.key[0]) {
			err := it.Item().Value(func(value []byte) error { p.value = kept.keep(value); return nil })
			if err != nil {
				return fmt.Errorf("%q: %w", p.key, err)
			}
		}
		if some = append(some, p); len(some) == piece {
			f(some)
			some = make([]pair, 0, piece)
		}
	}
	f(some)
	return nil
}

// shelf keeps copies of small things beside each other.
type shelf []byte

const shelfSize = 64 << 10

func (s *shelf) keep(b []byte) []byte {
	if len(*s)+len(b) > cap(*s) {
		*s = make([]byte, 0, max(shelfSize, len(b)))
	}
	n := len(*s)
	*s = append(*s, b...)
	return (*s)[n:len(*s):len(*s)]
}

// addends is what some entries add to the sums.
type addends struct {
	got, rows, indexes whole
	few                few
	all                []*Row
}

func (a *addends) addUp(some []pair) error {
	for _, p := range some {
		if isIndex(p.key[0]) {
			a.indexes.add(p.key, nil)
			continue
		}
		if counts(p.key[0]) {
			a.got.add(p.key, p.value)
		}
		a.few.entry(p.key[0], 1)
		err := addIndexes(&a.rows, p.key, p.value, func(r *Row) {
			a.few.row(r, 1)
			a.all = append(a.all, r)
		})
		if err != nil {
			return fmt.Errorf("%q: %w", p.key, err)
		}
	}
	return nil
}

func (w *whole) plus(o whole) { w.Sum += o.Sum; w.Keys += o.Keys }

// addIndexes adds the index entries that the value of key must have, and calls
// each if that is a row.
func addIndexes(w *whole, key, value []byte, each func(r *Row)) error {
	switch key[0] {
	case spaceRow:
		r := &Row{}
		if err := decode(value, r); err != nil {
			return err
		}
		r.Key = string(key[1:])
		for _, k := range indexKeys(r) {
			w.add(k, nil)
		}
		each(r)
	case spaceClean:
		c := &Clean{}
		if err := decode(value, c); err != nil {
			return err
		}
		w.add(spaced(spaceContent, be64(c.Content), "c", string(key[1:])), nil)
	}
	return nil
}

func isIndex(space byte) bool {
	return strings.IndexByte(string([]byte{spaceDue, spaceStuck, spaceBase, spaceContent}), space) >= 0
}
