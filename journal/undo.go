package journal

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	badger "github.com/dgraph-io/badger/v4"

	"github.com/ossmount/ossmount/internal/crash"
)

// recover takes the newest slot s, if one was found, and if the machine has
// been off since, undoes what is above its horizon. It leaves slot, last and
// the sum set, or says what is missing.
//
//  1. read the newest slot                     a cut here: nothing has changed
//  2. write each key that is newer than the
//     horizon anew, as it was at the horizon,
//     2^32 above all that is there             a cut here: step 1 finds the old slot, and again
//  3. barrier                                  the same
//  4. the slot names the new state             a cut here: one slot or the other
func (j *Journal) recover(s slot, found bool) error {
	j.last = j.db.MaxVersion()
	switch {
	case !found && j.last == 0:
		// Nothing is there, or a cut came while the very first horizon was
		// written: nothing was promised yet.
		return j.begins()
	case !found:
		return j.withoutHorizon()
	case j.last < s.Horizon:
		return damage("it ends at %d, and had come to %d", j.last, s.Horizon)
	}
	j.slot = s
	j.recovered = Recovered{Horizon: s.Horizon, Last: j.last}
	j.recovered.PowerCut = s.BootID != j.o.BootID
	switch {
	case !j.recovered.PowerCut:
		if err := j.undoTornBatch(); err != nil {
			return err
		}
	case j.o.ReadOnly:
		j.last = s.Horizon // what recovery would take
	default:
		if err := j.backToHorizon(); err != nil {
			return err
		}
	}
	return j.takeSum()
}

// backToHorizon is what a power cut makes necessary.
func (j *Journal) backToHorizon() (err error) {
	cut := undone{j.slot.CacheID, j.slot.Horizon}
	before := j.slot.Undone[max(0, len(j.slot.Undone)+1-mostUndone):]
	j.slot.Undone = append(slices.Clone(before), cut)
	if j.slot.CacheID, err = drawID(); err != nil {
		return err
	}
	n, err := j.undo(j.slot.Horizon)
	if err != nil {
		return fmt.Errorf("journal: go back to the horizon: %w", err)
	}
	j.recovered.Undone = n
	crash.At("set back, not synced")
	if err := j.barrier(); err != nil {
		return err
	}
	crash.At("set back, horizon not moved")
	j.slot.Gen++
	j.slot.Horizon = j.last
	j.slot.BootID = j.o.BootID
	if err := writeSlot(j.horizonPath(), j.slot); err != nil {
		return err
	}
	crash.At("horizon moved after a cut")
	j.db.SetDiscardTs(j.last)
	return nil
}

// takeSum adds up what there is.
func (j *Journal) takeSum() error {
	if err := j.scan(); err != nil {
		return damaged(err)
	}
	j.recovered.New = j.whole.New
	j.recovered.undone = j.slot.Undone
	return nil
}

// withoutHorizon goes on from the newest state although the horizon file is
// gone, if the machine has not been off since. The next step writes it anew. A
// new journal that holds nothing has promised nothing: it begins again.
func (j *Journal) withoutHorizon() error {
	tx := j.begin(j.last, false)
	defer tx.discard()
	w, ok, err := tx.wholeAt()
	switch {
	case err != nil:
		return damaged(err)
	case ok && w.New && w.Keys == 0:
		return j.begins() // a cut between the first commit and the first horizon
	case !ok || w.Boot != j.o.BootID:
		return damage("its horizon file is missing or unreadable, and the machine may have been off since")
	}
	j.o.Log.Warn("journal: the horizon file is missing or unreadable; the machine has not been off since: it is written anew", "dir", j.dir)
	j.slot = slot{BootID: j.o.BootID, CacheID: w.Cache}
	j.recovered = Recovered{Last: j.last}
	if err := j.undoTornBatch(); err != nil {
		return err
	}
	return j.takeSum()
}

// begins makes an empty journal, above all that anybody knows of.
func (j *Journal) begins() error {
	j.recovered = Recovered{New: true}
	id, err := drawID()
	if err != nil {
		return err
	}
	j.slot = slot{Gen: 1, BootID: j.o.BootID, CacheID: id}
	j.whole, j.tally, j.few = whole{New: true}, tally{}, few{}
	if j.o.ReadOnly {
		return nil
	}
	if j.o.After != nil {
		above, err := j.o.After()
		if err != nil {
			return fmt.Errorf("journal: %w", err)
		}
		if above > 0 {
			j.last = max(j.last, above+1<<32)
		}
	}
	tx := j.begin(j.last, true)
	defer tx.discard()
	tx.seq, tx.whole = j.last+1, j.whole
	if err := tx.sign(); err != nil {
		return err
	}
	if err := j.commitAt(tx.db(), tx.seq, tx.size); err != nil {
		return err
	}
	j.last = tx.seq
	crash.At("journal begun, not durable")
	if err := j.barrier(); err != nil {
		return err
	}
	crash.At("journal begun, no horizon")
	j.slot.Horizon = j.last
	if err := writeSlot(j.horizonPath(), j.slot); err != nil {
		return err
	}
	crash.At("first horizon written")
	return syncFile(j.dir, unix.Fsync)
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
	then := j.begin(horizon, false)
	defer then.discard()
	w, ok, err := then.wholeAt()
	if err != nil {
		return 0, last, err
	}
	if !ok {
		return 0, last, damage("there is nothing of the state %d", horizon)
	}
	at := last + 1<<32
	total := len(keys)
	for len(keys) > 0 {
		n, err := j.setBack(then.db(), keys, at)
		if err != nil {
			return 0, last, err
		}
		crash.At("some keys set back")
		keys = keys[n:]
		at++
	}
	// The sum last: it is what makes it whole, and no table without a living
	// key would remember the sequence.
	now := j.begin(maxTs, true)
	defer now.discard()
	now.whole = w
	if err := now.sign(); err != nil {
		return 0, last, err
	}
	return total, at, j.commitAt(now.db(), at, now.size)
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
	return n, j.commitAt(now, at, mostOfCommit)
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
