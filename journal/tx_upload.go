package journal

import (
	"encoding/binary"
	"iter"
	"strings"

	badger "github.com/dgraph-io/badger/v4"
)

// Upload returns the upload of key, or nil.
func (tx *Tx) Upload(key string) (*Upload, error) {
	u := &Upload{}
	ok, err := tx.get(spaced(spaceUpload, key), u)
	if err != nil || !ok {
		return nil, err
	}
	return u, nil
}

// PutUpload sets the upload of key. A zero Num is drawn.
func (tx *Tx) PutUpload(key string, u *Upload) error {
	if u.Num == 0 {
		u.Num = tx.seq
	}
	return tx.set(spaced(spaceUpload, key), u)
}

// DropUpload removes the upload of key and its parts; there need be none.
// Parts are kept under a number, not under the key, so that ten thousand of
// them always fit into one commit.
func (tx *Tx) DropUpload(key string) error {
	u, err := tx.Upload(key)
	if err != nil || u == nil {
		return err
	}
	var numbers []int
	err = tx.each(spaced(spacePart, be64(u.Num)), nil, func(k []byte, _ *badger.Item) (bool, error) {
		numbers = append(numbers, int(binary.BigEndian.Uint32(k[9:])))
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if err := tx.DropPart(u.Num, n); err != nil {
			return err
		}
	}
	return tx.drop(spaced(spaceUpload, key))
}

func partKey(num uint64, number int) []byte {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(number))
	return spaced(spacePart, be64(num), string(b[:]))
}

// PutPart notes an acknowledged part of the upload num.
func (tx *Tx) PutPart(num uint64, p Part) error { return tx.set(partKey(num, p.Number), &p) }

// DropPart forgets a part of the upload num.
func (tx *Tx) DropPart(num uint64, number int) error { return tx.drop(partKey(num, number)) }

// Parts returns the parts noted for the upload num, by number.
func (tx *Tx) Parts(num uint64) (map[int]Part, error) {
	parts := map[int]Part{}
	err := tx.each(spaced(spacePart, be64(num)), nil, func(k []byte, item *badger.Item) (bool, error) {
		var p Part
		if err := item.Value(func(b []byte) error { return decode(b, &p) }); err != nil {
			return false, err
		}
		parts[p.Number] = p
		return true, nil
	})
	return parts, err
}

// Uploads yields the uploads and their keys.
func (tx *Tx) Uploads() iter.Seq2[string, *Upload] {
	return func(yield func(string, *Upload) bool) {
		_ = tx.each([]byte{spaceUpload}, nil, func(k []byte, item *badger.Item) (bool, error) {
			u := &Upload{}
			if err := item.Value(func(b []byte) error { return decode(b, u) }); err != nil {
				return false, err
			}
			return yield(string(k[1:]), u), nil
		})
	}
}

// Doubt returns what is in doubt about key, or nil.
func (tx *Tx) Doubt(key string) (*Doubt, error) {
	d := &Doubt{}
	ok, err := tx.get(spaced(spaceDoubt, key), d)
	if err != nil || !ok {
		return nil, err
	}
	return d, nil
}

// PutDoubt sets what is in doubt about key.
func (tx *Tx) PutDoubt(key string, d *Doubt) error { return tx.set(spaced(spaceDoubt, key), d) }

// DropDoubt ends the doubt about key; there need be none.
func (tx *Tx) DropDoubt(key string) error {
	if ok, err := tx.get(spaced(spaceDoubt, key), nil); err != nil || !ok {
		return err
	}
	return tx.drop(spaced(spaceDoubt, key))
}

// Doubts yields the keys in doubt.
func (tx *Tx) Doubts() iter.Seq[string] {
	return func(yield func(string) bool) {
		_ = tx.each([]byte{spaceDoubt}, nil, func(k []byte, _ *badger.Item) (bool, error) {
			return yield(string(k[1:])), nil
		})
	}
}

// AddDebt adds a debt under a new number.
func (tx *Tx) AddDebt(d Debt) error {
	tx.j.debtID++ // under the journal's lock; a number lost with a failed commit does no harm
	return tx.set(spaced(spaceDebt, be64(tx.j.debtID)), &d)
}

// DropDebt removes a debt that is paid.
func (tx *Tx) DropDebt(id uint64) error { return tx.drop(spaced(spaceDebt, be64(id))) }

// Debts yields the unpaid debts.
func (tx *Tx) Debts() iter.Seq2[Debt, error] {
	return func(yield func(Debt, error) bool) {
		err := tx.each([]byte{spaceDebt}, nil, func(k []byte, item *badger.Item) (bool, error) {
			d := Debt{}
			if err := item.Value(func(b []byte) error { return decode(b, &d) }); err != nil {
				return false, err
			}
			d.ID = binary.BigEndian.Uint64(k[1:])
			return yield(d, nil), nil
		})
		if err != nil {
			yield(Debt{}, err)
		}
	}
}

// Clean returns the clean copy of key, or nil.
func (tx *Tx) Clean(key string) (*Clean, error) {
	c := &Clean{}
	ok, err := tx.get(spaced(spaceClean, key), c)
	if err != nil || !ok {
		return nil, err
	}
	c.Key = key
	return c, nil
}

// PutClean records that a content equals a version.
func (tx *Tx) PutClean(c *Clean) error {
	if err := tx.DropClean(c.Key); err != nil {
		return err
	}
	if err := tx.set(spaced(spaceContent, be64(c.Content), "c", c.Key), nil); err != nil {
		return err
	}
	return tx.set(spaced(spaceClean, c.Key), c)
}

// DropClean forgets the clean copy of key; there need be none.
func (tx *Tx) DropClean(key string) error {
	old, err := tx.Clean(key)
	if err != nil || old == nil {
		return err
	}
	if err := tx.drop(spaced(spaceContent, be64(old.Content), "c", key)); err != nil {
		return err
	}
	return tx.drop(spaced(spaceClean, key))
}

// Cleans yields the clean copies.
func (tx *Tx) Cleans() iter.Seq2[*Clean, error] {
	return func(yield func(*Clean, error) bool) {
		err := tx.each([]byte{spaceClean}, nil, func(k []byte, item *badger.Item) (bool, error) {
			c := &Clean{}
			if err := item.Value(func(b []byte) error { return decode(b, c) }); err != nil {
				return false, err
			}
			c.Key = string(k[1:])
			return yield(c, nil), nil
		})
		if err != nil {
			yield(nil, err)
		}
	}
}

// Attrs returns the attributes learnt of key, or nil. The caller compares the
// version.
func (tx *Tx) Attrs(key string) (*Attrs, error) {
	if tx.batch && tx.nothingLearnt(key) {
		return nil, nil
	}
	k := spaced(spaceAttr, key)
	if v, ok := recall[Attrs](tx, k); ok {
		if v == nil {
			return nil, nil
		}
		return v.clone(), nil
	}
	a := &Attrs{}
	ok, err := tx.get(k, a)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		tx.remember(k, nil)
		return nil, nil
	}
	tx.remember(k, a.clone())
	return a, nil
}

// nothingLearnt reports that there are no attributes in the directory of key, nor
// beneath it. It looks once for each directory: a batch asks for thousands of names.
func (tx *Tx) nothingLearnt(key string) bool {
	dir := key[:strings.LastIndexByte(key[:max(len(key)-1, 0)], '/')+1]
	if none, ok := tx.bare[dir]; ok {
		return none
	}
	none := true
	for range tx.AttrsIn(dir) {
		none = false
		break
	}
	if tx.bare == nil {
		tx.bare = map[string]bool{}
	}
	tx.bare[dir] = none
	return none
}

// PutAttrs notes the attributes learnt of a version.
func (tx *Tx) PutAttrs(a *Attrs) error {
	clear(tx.bare)
	return tx.set(spaced(spaceAttr, a.Key), a)
}

// DropAttrs forgets what was learnt of key.
func (tx *Tx) DropAttrs(key string) error {
	if ok, err := tx.get(spaced(spaceAttr, key), nil); err != nil || !ok {
		return err
	}
	return tx.drop(spaced(spaceAttr, key))
}

// AttrsIn yields the attributes learnt of the names directly in the directory
// prefix ("" or ending in "/"); of what lies deeper, only the directory's key,
// ending in "/", with nil.
func (tx *Tx) AttrsIn(prefix string) iter.Seq2[string, *Attrs] { return tx.AttrsFrom(prefix, prefix) }

// AttrsFrom is AttrsIn from the key from on.
func (tx *Tx) AttrsFrom(prefix, from string) iter.Seq2[string, *Attrs] {
	return func(yield func(string, *Attrs) bool) {
		space := spaced(spaceAttr, prefix)
		it := tx.read().NewIterator(badger.IteratorOptions{Prefix: space})
		defer it.Close()
		for it.Seek(spaced(spaceAttr, from)); it.ValidForPrefix(space); {
			key := string(it.Item().Key()[1:])
			slash := strings.IndexByte(key[len(prefix):], '/')
			if slash >= 0 {
				dir := key[:len(prefix)+slash+1]
				if !yield(dir, nil) {
					return
				}
				it.Seek(spaced(spaceAttr, dir[:len(dir)-1], "0"))
				continue
			}
			a := &Attrs{}
			if it.Item().Value(func(b []byte) error { return decode(b, a) }) == nil && key != prefix {
				a.Key = key
				if !yield(key, a) {
					return
				}
			}
			it.Next()
		}
	}
}
