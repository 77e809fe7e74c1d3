package journal

import (
	badger "github.com/dgraph-io/badger/v4"
)

// Time returns when a name last came to the directory key or went from it, in
// Unix nanoseconds; 0: nothing is remembered (H30).
func (tx *Tx) Time(key string) (ns int64, err error) {
	k := spaced(spaceTime, key)
	if v, ok := recall[int64](tx, k); ok {
		if v != nil {
			ns = *v
		}
		return ns, nil
	}
	ok, err := tx.get(k, &ns)
	switch {
	case err != nil:
		return 0, err
	case !ok:
		tx.remember(k, nil)
		return 0, nil
	}
	v := ns
	tx.remember(k, &v)
	return ns, nil
}

// SetTime remembers when the names of the directory key changed.
func (tx *Tx) SetTime(key string, ns int64) error { return tx.set(spaced(spaceTime, key), ns) }

// DropTime forgets it; there need be none.
func (tx *Tx) DropTime(key string) error {
	if ns, err := tx.Time(key); err != nil || ns == 0 {
		return err
	}
	return tx.drop(spaced(spaceTime, key))
}

// EachTime calls f for what is remembered of the directories at and beneath
// key.
func (tx *Tx) EachTime(key string, f func(dir string, ns int64) error) error {
	type one struct {
		dir string
		ns  int64
	}
	var all []one
	err := tx.each(spaced(spaceTime, key), nil, func(k []byte, item *badger.Item) (bool, error) {
		o := one{dir: string(k[1:])}
		err := item.Value(func(b []byte) error { return decode(b, &o.ns) })
		all = append(all, o)
		return true, err
	})
	if err != nil {
		return err
	}
	for _, o := range all {
		if err := f(o.dir, o.ns); err != nil {
			return err
		}
	}
	return nil
}
