package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	badger "github.com/dgraph-io/badger/v4"

	"github.com/ossmount/ossmount/internal/crash"
)

// A batch is a state that is too big for one commit of Badger, such as the
// rename of a directory. It is made of several, all with the same timestamp:
//
//	T: z T b    the batch began      in the first of them
//	T: ...
//	T: z T e    the batch ended      in the last
//
// Whoever reads, reads an older timestamp until the last is there. A crash
// between two of them leaves a beginning without an end, and Open sets every
// key back to what it was before T. The mark of the beginning stands in the
// last of the key spaces, so that it goes last, and a crash meanwhile repeats
// the undoing. A power cut undoes it anyway: the horizon is below T.

// Batch is Update without a limit of size. While it runs, other Updates wait
// and Views read the state before.
func (j *Journal) Batch(f func(tx *Tx) error) (seq uint64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	last, err := j.mended()
	if err != nil {
		return 0, err
	}
	tx := j.begin(last, true)
	tx.seq, tx.batch, tx.keys, tx.whole = last+1, true, hashes{}, j.whole
	defer tx.discard()
	done := false
	defer func() { // also when f panics: else the next change would have the same timestamp
		if done || !tx.flushed {
			return
		}
		tx.landed()
		tx.discard()
		j.torn = tx.seq
		if _, uerr := j.mended(); uerr != nil {
			err = errors.Join(err, uerr)
		}
	}()
	if err := j.inBatch(tx, f); err != nil {
		return 0, err
	}
	done = true
	j.committed(tx)
	return tx.seq, nil
}

func (j *Journal) inBatch(tx *Tx, f func(tx *Tx) error) error {
	if err := tx.dropMarks(); err != nil {
		return err
	}
	if err := tx.set(batchMark(tx.seq, 'b'), nil); err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return err
	}
	if err := tx.set(batchMark(tx.seq, 'e'), nil); err != nil {
		return err
	}
	for _, w := range tx.before {
		if err := w(); err != nil {
			return err
		}
	}
	if err := tx.sign(); err != nil {
		return err
	}
	if err := tx.landed(); err != nil {
		return err
	}
	err := tx.j.commitAt(tx.db(), tx.seq, tx.size)
	crash.At("all of a batch committed")
	return err
}

func batchMark(seq uint64, what byte) []byte { return spaced(spaceBatch, be64(seq), string(what)) }

// dropMarks removes the marks of the batches before.
func (tx *Tx) dropMarks() error {
	var old [][]byte
	err := tx.each([]byte{spaceBatch}, nil, func(k []byte, _ *badger.Item) (bool, error) {
		old = append(old, append([]byte(nil), k...))
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, k := range old {
		if err := tx.drop(k); err != nil {
			return err
		}
	}
	return nil
}

// flying is a commit of a batch that Badger is writing while the batch goes on: one at
// a time. The room that it takes is counted when it has landed.
type flying struct {
	done  chan error
	start time.Time
	size  int64
	keys  hashes
}

// flush has Badger write what the batch has so far, and goes on with what comes after.
func (tx *Tx) flush() error {
	if err := tx.landed(); err != nil {
		return err
	}
	if err := tx.j.room.before(); err != nil {
		return err
	}
	f := &flying{done: make(chan error, 1), start: time.Now(), size: tx.size, keys: tx.keys}
	tx.flying, tx.flushed, tx.entries, tx.size, tx.keys = f, true, 0, 0, hashes{}
	if err := tx.db().CommitAt(tx.seq, func(err error) { f.done <- err }); err != nil {
		f.done <- err
	}
	tx.begun, tx.at = nil, tx.seq
	return nil
}

// landed waits for the commit that is on its way. An error of one is an error of the
// whole batch, also for those who have read meanwhile.
func (tx *Tx) landed() error {
	f := tx.flying
	if f == nil {
		return tx.lost
	}
	tx.flying = nil
	if tx.lost = <-f.done; tx.lost != nil {
		return tx.lost
	}
	tx.j.commits.Observe(time.Since(f.start))
	tx.j.room.after(f.size)
	crash.At("some of a batch committed")
	return nil
}

// read is the transaction to read anything from: all that was committed before is there.
func (tx *Tx) read() *badger.Txn {
	tx.landed()
	return tx.db()
}

// readOne is the transaction to read key from.
func (tx *Tx) readOne(key []byte) *badger.Txn {
	if f := tx.flying; f != nil && (isIndex(key[0]) || f.keys.has(key)) {
		tx.landed()
	}
	return tx.db()
}

// hashes stand for the keys of one commit, but for those of the indexes, which are only
// read in ranges.
type hashes map[uint64]struct{}

var keySeed = maphash.MakeSeed()

func (h hashes) add(key []byte) {
	if !isIndex(key[0]) {
		h[maphash.Bytes(keySeed, key)] = struct{}{}
	}
}

func (h hashes) has(key []byte) bool {
	_, ok := h[maphash.Bytes(keySeed, key)]
	return ok
}

// takeBack undoes what was committed of the batch seq; j.mu is held.
func (j *Journal) takeBack(seq uint64) error {
	_, top, err := j.setAllBack(seq-1, seq)
	if err != nil {
		return err
	}
	j.smu.Lock()
	defer j.smu.Unlock()
	j.last = top
	return nil
}

// mended returns the newest state, after what a batch has left in part is taken
// back; j.mu is held. Where the disk has no room for that, there is no newer state
// until it has: what is left is of a later one, which nobody reads.
func (j *Journal) mended() (last uint64, err error) {
	if last, err = j.newest(); err != nil || j.torn == 0 {
		return last, err
	}
	if err := j.takeBack(j.torn); err != nil {
		err = fmt.Errorf("journal: a change could not be taken back: %w", err)
		if !isPassing(err) {
			j.fail(err)
		}
		return 0, err
	}
	j.torn = 0
	return j.newest()
}

// undoTornBatch undoes a batch that a crash has cut short, at Open.
func (j *Journal) undoTornBatch() error {
	torn, err := j.tornBatch()
	if err != nil || torn == 0 {
		return err
	}
	if j.o.ReadOnly {
		j.last = torn - 1 // what recovery would take
		return nil
	}
	n, err := j.undo(torn - 1)
	if err != nil {
		return fmt.Errorf("journal: undo a change that was cut short: %w", err)
	}
	j.recovered.Torn = n
	return nil
}

// tornBatch returns the sequence of a batch that began and did not end, or 0.
func (j *Journal) tornBatch() (uint64, error) {
	tx := j.begin(maxTs, false)
	defer tx.discard()
	began := uint64(0)
	err := tx.each([]byte{spaceBatch}, nil, func(k []byte, _ *badger.Item) (bool, error) {
		seq := binary.BigEndian.Uint64(k[1:9])
		if k[9] == 'b' {
			began = seq
		} else if seq == began {
			began = 0
		}
		return true, nil
	})
	return began, err
}
