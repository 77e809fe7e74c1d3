package journal

import (
	"encoding/binary"
	"fmt"
	"maps"

	badger "github.com/dgraph-io/badger/v4"
)

// Check returns an error if the sum is not that of what is there, and for each
// place where an index and the rows disagree, or a part has no upload: every test
// ends with it.
func (j *Journal) Check() error {
	return j.View(func(tx *Tx) error {
		_, some, err := tx.addUp(func(*Row) {})
		if err != nil {
			return err
		}
		if now, ok := tx.fewNow(); ok && now != some {
			return fmt.Errorf("journal: counted %+v, there are %+v", now, some)
		}
		return tx.check()
	})
}

func (tx *Tx) check() error {
	rows := map[string]*Row{}
	var count Counts
	sum := tally{}
	for r, err := range tx.stored("", "") {
		if err != nil {
			return err
		}
		rows[r.Key] = r
		count.add(r, 1)
		sum.add(r.Key, 1)
	}
	indexed := map[string]bool{}
	check := func(space byte, key string, ok bool) error {
		if !ok {
			return fmt.Errorf("journal: index %c of %q has no row", space, key)
		}
		indexed[string(space)+key] = true
		return nil
	}
	err := tx.each([]byte{spaceDue}, nil, func(k []byte, _ *badger.Item) (bool, error) {
		r := rows[string(k[9:])]
		return true, check(spaceDue, string(k[9:]), r != nil && r.Waiting() && uint64(r.Due) == binary.BigEndian.Uint64(k[1:9]))
	})
	if err != nil {
		return err
	}
	for key := range tx.Stuck() {
		if err := check(spaceStuck, key, rows[key] != nil && !rows[key].Waiting()); err != nil {
			return err
		}
	}
	for base, key := range tx.AnyBased() {
		if err := check(spaceBase, key, rows[key] != nil && rows[key].Base.Key == base); err != nil {
			return err
		}
	}
	err = tx.each([]byte{spaceContent}, nil, func(k []byte, _ *badger.Item) (bool, error) {
		n, key := binary.BigEndian.Uint64(k[1:9]), string(k[10:])
		if k[9] == 'r' {
			return true, check(spaceContent, key, rows[key] != nil && rows[key].Content == n)
		}
		c, err := tx.Clean(key)
		if err == nil && (c == nil || c.Content != n) {
			err = fmt.Errorf("journal: content %d is indexed for the clean copy of %q", n, key)
		}
		return true, err
	})
	if err != nil {
		return err
	}
	for key, r := range rows {
		if r.Waiting() != indexed[string(spaceDue)+key] || r.Waiting() == indexed[string(spaceStuck)+key] ||
			!r.Base.IsZero() && !indexed[string(spaceBase)+key] ||
			r.Content != 0 && !indexed[string(spaceContent)+key] {
			return fmt.Errorf("journal: row of %q lacks an index", key)
		}
		if r.Seq == 0 || r.Seq > tx.at {
			return fmt.Errorf("journal: row of %q has sequence %d at state %d", key, r.Seq, tx.at)
		}
	}
	if tx.at == tx.j.Last() && count != tx.j.Counts() {
		return fmt.Errorf("journal: counts %+v, rows %+v", tx.j.Counts(), count)
	}
	if t := tx.tallyNow(); t != nil && !maps.Equal(t, sum) {
		return fmt.Errorf("journal: tally %+v, rows %+v", t, sum)
	}
	nums := map[uint64]bool{}
	for _, u := range tx.Uploads() {
		nums[u.Num] = true
	}
	return tx.each([]byte{spacePart}, nil, func(k []byte, _ *badger.Item) (bool, error) {
		if num := binary.BigEndian.Uint64(k[1:9]); !nums[num] {
			return false, fmt.Errorf("journal: parts of upload %d, which is not there", num)
		}
		return true, nil
	})
}
