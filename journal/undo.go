package journal

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	badger "github.com/dgraph-io/badger/v4"
)

// recover reads the horizon and, if the machine has been off since, undoes
// what is above it. It leaves slot and last set.
//
//  1. read the newest slot                     a cut here: nothing has changed
//  2. write each key that is newer than the
//     horizon anew, as it was at the horizon,
//     2^32 above all that is there             a cut here: step 1 finds the old slot, and again
//  3. barrier                                  the same
//  4. the slot names the new state             a cut here: one slot or the other
func (j *Journal) recover() error {
	s, ok, err := readSlot(j.horizonPath())
	j.last = j.db.MaxVersion()
	switch {
	case errors.Is(err, fs.ErrNotExist) && j.last == 0:
		return j.begins()
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case !ok && j.last == 0:
		return j.begins() // a cut while the very first horizon was written: nothing was promised yet
	case !ok:
		return fmt.Errorf("journal: %s holds changes but its horizon file is missing or damaged: keep the directory aside and mount with another --cache-dir; the files under contents/ hold the bytes", j.dir)
	}
	j.slot = s
	j.last = max(j.last, s.Horizon)
	j.recovered = Recovered{Horizon: s.Horizon, Last: j.last}
	j.recovered.PowerCut = s.BootID != j.o.BootID
	if !j.recovered.PowerCut {
		return j.undoTornBatch()
	}
	if j.o.ReadOnly {
		j.last = s.Horizon // what recovery would take
		return nil
	}
	n, err := j.undo(s.Horizon)
	if err != nil {
		return fmt.Errorf("journal: go back to the horizon: %w", err)
	}
	j.recovered.Undone = n
	if err := j.barrier(); err != nil {
		return err
	}
	if j.slot.CacheID, err = drawID(); err != nil {
		return err
	}
	j.slot.Gen++
	j.slot.Horizon = j.last
	j.slot.BootID = j.o.BootID
	if err := writeSlot(j.horizonPath(), j.slot); err != nil {
		return err
	}
	j.db.SetDiscardTs(j.last)
	return nil
}

// begins writes the first horizon of an empty journal.
func (j *Journal) begins() error {
	j.recovered = Recovered{New: true}
	id, err := drawID()
	if err != nil {
		return err
	}
	j.slot = slot{Gen: 1, BootID: j.o.BootID, CacheID: id}
	if j.o.ReadOnly {
		return nil
	}
	if err := writeSlot(j.horizonPath(), j.slot); err != nil {
		return err
	}
	d, err := os.Open(j.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func drawID() (string, error) {
	b := make([]byte, 8)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	return hex.EncodeToString(b), nil
}

// undo writes every key that was changed after horizon as it was at horizon,
// in the order of keys, and returns how many there were.
func (j *Journal) undo(horizon uint64) (n int, err error) {
	n, j.last, err = j.setAllBack(horizon, j.last)
	return n, err
}

// setAllBack is undo above all that is there, last; top is the newest state
// then.
func (j *Journal) setAllBack(horizon, last uint64) (n int, top uint64, err error) {
	keys, err := j.changedSince(horizon)
	if err != nil || len(keys) == 0 {
		return 0, last, err
	}
	then := j.db.NewTransactionAt(horizon, false)
	defer then.Discard()
	at := last + 1<<32
	total := len(keys)
	for len(keys) > 0 {
		n, err := j.setBack(then, keys, at)
		if err != nil {
			return 0, last, err
		}
		keys = keys[n:]
		at++
	}
	return total, at - 1, nil
}

// setBack writes as many of keys as go into one commit as they were then, and
// returns how many.
func (j *Journal) setBack(then *badger.Txn, keys [][]byte, at uint64) (n int, err error) {
	now := j.db.NewTransactionAt(maxTs, true)
	defer now.Discard()
	for _, k := range keys {
		err := setOneBack(then, now, k)
		if n > 0 && errors.Is(err, badger.ErrTxnTooBig) {
			break
		}
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, now.CommitAt(at, nil)
}

func setOneBack(then, now *badger.Txn, k []byte) error {
	item, err := then.Get(k)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return now.Delete(k)
	}
	if err != nil {
		return err
	}
	v, err := item.ValueCopy(nil)
	if err != nil {
		return err
	}
	return now.Set(k, v)
}

func (j *Journal) changedSince(ts uint64) ([][]byte, error) {
	txn := j.db.NewTransactionAt(maxTs, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{AllVersions: true, SinceTs: ts})
	defer it.Close()
	var keys [][]byte
	for it.Rewind(); it.Valid(); it.Next() {
		k := it.Item().KeyCopy(nil)
		if len(keys) == 0 || string(keys[len(keys)-1]) != string(k) {
			keys = append(keys, k)
		}
	}
	return keys, nil
}
