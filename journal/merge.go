package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	badger "github.com/dgraph-io/badger/v4"

	"github.com/ossmount/ossmount/internal/meter"
)

// Badger merges tables in goroutines of its own, whenever it likes. A table that
// it cannot create then (no inode, no file descriptor, an error of the disk) it
// leaves out, and drops those that it was made of: the error stays in a variable
// that was read before it was set (levels.go, subcompact, 4.9). So its own
// merging is switched off. Ours is begun when there is room for all of it, and
// what it made is compared with what was there, which is held until then.

// mergeFrom is how many new tables are left alone while there is much room.
const mergeFrom = 4

// tend makes room for commits, merges tables, and tells of what ends.
func (j *Journal) tend(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-j.room.poke:
		}
		j.room.tend()
		if err := j.merge(); err != nil {
			j.o.Log.Error("journal: tables could not be merged", "err", err)
		}
	}
}

// merge brings the tables together if there are many new ones and there is room.
func (j *Journal) merge() error {
	levels := j.db.Levels()
	all := j.tables()
	free := j.room.free()
	if n := levels[0].NumTables; n < 2 || n <= mergeFrom && free > 4*(all+logBlocks) {
		return nil
	}
	if j.room.look() != nil || j.room.isWaiting() || free < all+discardSize || !j.room.inodes() || j.room.manifest() != nil {
		return nil // later: what there is can be read as it is
	}
	held := j.everything()
	defer held.close()
	if err := j.db.Flatten(1); err != nil {
		j.o.Log.Debug("journal: merge of tables", "err", err)
	}
	return j.compare(held)
}

func (r *room) isWaiting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting > 0
}

// versions is an iterator over all that a database has; the tables that it reads
// stay until it is closed.
type versions struct {
	txn *badger.Txn
	it  *badger.Iterator
}

func (j *Journal) everything() *versions {
	txn := j.db.NewTransactionAt(maxTs, false)
	it := txn.NewIterator(badger.IteratorOptions{AllVersions: true})
	it.Rewind()
	return &versions{txn, it}
}

func (v *versions) close() {
	v.it.Close()
	v.txn.Discard()
}

// compare puts back what was held and is missing now, unless it had to go: the
// versions below the newest that the horizon covers, and that one too if it says
// that there is nothing.
func (j *Journal) compare(held *versions) error {
	now := j.everything()
	defer now.close()
	horizon := j.Horizon()
	var key []byte
	var done bool // the versions of key that follow may be missing
	missing := 0
	for ; held.it.Valid(); held.it.Next() {
		item := held.it.Item()
		if !bytes.Equal(item.Key(), key) {
			key, done = item.KeyCopy(key), false
		}
		may := done
		if item.Version() <= horizon {
			done = true
			may = may || item.IsDeletedOrExpired()
		}
		for now.it.Valid() && before(now.it.Item(), item) {
			now.it.Next()
		}
		if now.it.Valid() && bytes.Equal(now.it.Item().Key(), item.Key()) && now.it.Item().Version() == item.Version() || may {
			continue
		}
		if err := j.putBack(item); err != nil {
			err = fmt.Errorf("journal: what a merge of tables has lost could not be put back: %w", err)
			j.fail(err)
			return err
		}
		missing++
	}
	if missing > 0 {
		j.o.Log.Warn("journal: a merge of tables had lost entries; they have been put back", "entries", missing)
	}
	return nil
}

// before reports that a comes before b where all versions are listed.
func before(a, b *badger.Item) bool {
	if c := bytes.Compare(a.Key(), b.Key()); c != 0 {
		return c < 0
	}
	return a.Version() > b.Version()
}

// putBack writes item anew, in the state that it was of.
func (j *Journal) putBack(item *badger.Item) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.newest(); errors.Is(err, ErrClosed) {
		return err
	}
	txn := j.db.NewTransactionAt(maxTs, true)
	defer txn.Discard()
	v, err := item.ValueCopy(nil)
	if err != nil {
		return err
	}
	if item.IsDeletedOrExpired() {
		err = txn.Delete(item.KeyCopy(nil))
	} else {
		err = txn.Set(item.KeyCopy(nil), v)
	}
	if err != nil {
		return err
	}
	return j.commitAt(txn, item.Version(), int64(2*entryExtra+len(item.Key())+len(v)))
}

// commitAt is a commit of Badger, which adds size bytes at most.
func (j *Journal) commitAt(txn *badger.Txn, seq uint64, size int64) error {
	if err := j.room.before(); err != nil {
		return err
	}
	return j.commitInRoom(txn, seq, size)
}

// commitInRoom is commitAt after room.before.
func (j *Journal) commitInRoom(txn *badger.Txn, seq uint64, size int64) error {
	start := time.Now()
	if err := txn.CommitAt(seq, nil); err != nil {
		return err
	}
	j.commits.Observe(time.Since(start))
	j.room.after(size)
	return nil
}

// Commits returns how long the commits since Open took.
func (j *Journal) Commits() meter.Reading { return j.commits.Read() }

// Room tells how the journal stands with the disk.
func (j *Journal) Room() Room {
	s := j.room.status()
	if _, err := j.enter(); err != nil {
		return s
	}
	defer j.views.Done()
	s.Size = j.tables()
	return s
}

func (j *Journal) tables() (sum int64) {
	for _, l := range j.db.Levels() {
		sum += l.Size
	}
	return sum
}
