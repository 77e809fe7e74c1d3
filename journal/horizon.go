package journal

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	badger "github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/internal/crash"
	"github.com/ossmount/ossmount/internal/private"
)

// The horizon file has two slots of slotSize bytes, written in turn. A slot is
//
//	0        4        8             8+n
//	| crc32c | length | JSON (n)    | zeros
//
// with both numbers little-endian and the checksum over length and JSON. The
// valid slot of the higher generation counts; a torn write of one leaves the
// other.
const slotSize = 4096

type slot struct {
	Format  int    `json:"format"`
	Gen     uint64 `json:"gen"`
	Horizon uint64 `json:"horizon"` // the state that is on the disk
	BootID  string `json:"boot"`
	CacheID string `json:"cache"` // drawn anew after each power cut

	Undone []undone `json:"undone,omitempty"` // the last of them
}

// undone is a power cut: what was committed with its cache ID above a state was
// taken back.
type undone struct {
	CacheID string `json:"cache"`
	Above   uint64 `json:"above"`
}

// mostUndone is how many cuts in a row are remembered; each takes some 50 bytes.
const mostUndone = 16

const horizonFormat = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (j *Journal) horizonPath() string { return filepath.Join(j.dir, "horizon") }

// readSlot returns the newest valid slot; ok is false when there is none.
func readSlot(path string) (s slot, ok bool, err error) {
	b, err := private.ReadFile(path)
	if err != nil {
		return slot{}, false, err
	}
	return parseSlots(b, path)
}

// parseSlots reads the file's bytes; path is for the error.
func parseSlots(b []byte, path string) (s slot, ok bool, err error) {
	for i := 0; i+slotSize <= len(b); i += slotSize {
		raw := b[i : i+slotSize]
		n := int(binary.LittleEndian.Uint32(raw[4:]))
		if n > slotSize-8 || crc32.Checksum(raw[4:8+n], castagnoli) != binary.LittleEndian.Uint32(raw) {
			continue
		}
		var t slot
		if json.Unmarshal(raw[8:8+n], &t) != nil {
			continue
		}
		if t.Format > horizonFormat {
			return slot{}, false, fmt.Errorf("%s has format %d, this program knows %d: use the newer ossmount that wrote it (%w)", path, t.Format, horizonFormat, ErrNewer)
		}
		if t.Format < 1 {
			continue // nothing of ours
		}
		if !ok || t.Gen > s.Gen {
			s, ok = t, true
		}
	}
	return s, ok, nil
}

// writeSlot makes s durable in the slot that its generation selects.
func writeSlot(path string, s slot) error {
	s.Format = horizonFormat
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if len(b) > slotSize-8 {
		return fmt.Errorf("journal: horizon of %d bytes", len(b))
	}
	raw := make([]byte, slotSize)
	binary.LittleEndian.PutUint32(raw[4:], uint32(len(b)))
	copy(raw[8:], b)
	binary.LittleEndian.PutUint32(raw, crc32.Checksum(raw[4:8+len(b)], castagnoli))
	f, err := private.Open(path, os.O_WRONLY|os.O_CREATE)
	if err != nil {
		return err
	}
	defer f.Close()
	_ = fallocate(int(f.Fd()), 0, 2*slotSize) // so that the other slot finds room too
	if _, err := f.WriteAt(raw, int64(s.Gen%2)*slotSize); err != nil {
		return err
	}
	return unix.Fdatasync(int(f.Fd()))
}

// keep moves the horizon until ctx ends.
func (j *Journal) keep(ctx context.Context) {
	t := time.NewTicker(j.o.Step)
	defer t.Stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-j.wake:
		case <-j.join:
			j.gather(ctx, last.Add(gatherFor))
		}
		err := j.guardedStep()
		last = time.Now()
		if err != nil && j.room.passes(err) {
			j.standsStill(err)
			continue
		}
		if err != nil && ctx.Err() == nil {
			j.o.Log.Error("journal: the disk failed; no change is accepted any more", "err", err)
			j.fail(fmt.Errorf("journal: the disk failed: %w", err))
			return
		}
	}
}

// gatherFor is how long those who are one of many wait for others after a step. With
// 5,000 small files to be sent there was a step for each 4 of them, at a tenth of the
// processor's time, and is one for each 30.
const gatherFor = 5 * time.Millisecond

// gather waits until then, or until somebody is in a hurry.
func (j *Journal) gather(ctx context.Context, then time.Time) {
	d := time.Until(then)
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-j.wake:
	case <-t.C:
	}
}

// guarded runs f; a panic in it ends the journal's work, and not the process: nothing
// is known of it then.
func (j *Journal) guarded(f func()) {
	defer func() {
		if what := recover(); what != nil {
			j.o.Log.Error("journal: an internal error; no change is accepted any more; please report it", "what", fmt.Sprint(what), "stack", string(debug.Stack()))
			j.fail(fmt.Errorf("journal: internal error: %v", what))
		}
	}()
	f()
}

// guardedStep is step. After a panic in it nothing is known of the journal's disk,
// which counts as its failure.
func (j *Journal) guardedStep() (err error) {
	defer func() {
		if what := recover(); what != nil {
			err = fmt.Errorf("internal error: %v at %s", what, debug.Stack())
		}
	}()
	return j.step()
}

// step moves the horizon to the newest state: contents first, then the
// journal, then the slot.
func (j *Journal) step() error {
	target, contents := j.target()
	if target == 0 {
		return nil
	}
	err := j.stepTo(target, contents)
	if err != nil {
		j.unsync(contents)
	}
	return err
}

// unsync takes back that contents are about to be synced.
func (j *Journal) unsync(contents []uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, n := range contents {
		j.unsynced[n] = struct{}{}
	}
}

func (j *Journal) stepTo(target uint64, contents []uint64) error {
	if err := j.room.look(); errors.Is(err, ErrGone) { // a content that is not found needs no sync
		return err
	}
	if len(contents) > 0 {
		for n, err := range j.o.Contents.SyncContents(contents) {
			j.o.Log.Error("journal: a content could not be made durable; its file is parked", "content", n, "err", err)
			if j.o.SyncFailed != nil {
				j.o.SyncFailed(n, err)
			}
		}
	}
	crash.At("contents synced")
	if err := j.room.look(); errors.Is(err, ErrGone) {
		return err
	}
	if err := j.barrier(); err != nil {
		return err
	}
	crash.At("journal synced, horizon not moved")
	j.hmu.Lock()
	s := j.slot
	j.hmu.Unlock()
	s.Gen++
	s.Horizon = target
	s.BootID = j.o.BootID
	if err := writeSlot(j.horizonPath(), s); err != nil {
		return err
	}
	crash.At("horizon moved")
	j.db.SetDiscardTs(target)
	j.hmu.Lock()
	defer j.hmu.Unlock()
	j.slot = s
	j.stepping = 0
	j.still = nil
	close(j.moved)
	j.moved = make(chan struct{})
	return nil
}

// passes reports that a step failed for a reason that may go: it is tried again.
func (r *room) passes(err error) bool {
	return isFull(err) || errors.Is(err, unix.EROFS) || errors.Is(err, ErrGone) || errors.Is(r.look(), ErrGone)
}

// standsStill tells those who wait for the horizon that it does not move now.
func (j *Journal) standsStill(err error) {
	j.hmu.Lock()
	defer j.hmu.Unlock()
	if j.still == nil {
		j.o.Log.Error("journal: the disk takes no writes; what is asked to be durable fails until it does", "err", err)
	}
	j.still = err
	close(j.moved)
	j.moved = make(chan struct{})
}

// target returns the state that a step shall make durable and the contents
// that it must sync, or 0 if the horizon is there already.
func (j *Journal) target() (uint64, []uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.hmu.Lock()
	defer j.hmu.Unlock()
	last, err := j.newest()
	if j.slot.Horizon >= last || err != nil {
		return 0, nil
	}
	contents := make([]uint64, 0, len(j.unsynced))
	for n := range j.unsynced {
		contents = append(contents, n)
	}
	clear(j.unsynced)
	j.stepping = last
	return last, contents
}

// barrier makes Badger's logs durable: every memtable's and the value log's.
// Badger's own Sync covers the active memtable only, not one that has been
// rotated and not yet flushed. A file that vanishes meanwhile was flushed to a
// table, which Badger syncs itself before it forgets the log.
func (j *Journal) barrier() error {
	dir := filepath.Join(j.dir, "db")
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		if !strings.HasSuffix(e.Name(), ".mem") && !strings.HasSuffix(e.Name(), ".vlog") {
			continue
		}
		if err := syncFile(filepath.Join(dir, e.Name()), unix.Fdatasync); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syncFile(dir, unix.Fsync)
}

func syncFile(path string, sync func(fd int) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := sync(int(f.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

// Horizon returns the newest state that a power cut keeps.
func (j *Journal) Horizon() uint64 {
	j.hmu.Lock()
	defer j.hmu.Unlock()
	return j.slot.Horizon
}

// Covered reports whether a power cut may leave the state seq: the horizon has
// passed it, or is about to.
func (j *Journal) Covered(seq uint64) bool {
	j.hmu.Lock()
	defer j.hmu.Unlock()
	return j.slot.Horizon >= seq || j.stepping >= seq
}

// Needed reports whether content n is named in the newest state, or in one that a power
// cut may go back to: what only that names must stay on the disk (H2). Nobody may be
// about to name it anew.
func (j *Journal) Needed(n uint64) (now, later bool, err error) {
	last, err := j.enter()
	if err != nil {
		return false, false, err
	}
	defer j.views.Done()
	if now, err = j.names(last, n); now || err != nil {
		return now, false, err
	}
	// A step that begins from now on goes to the newest state, or further.
	for _, at := range j.mayReturnTo() {
		if at < last && !later && err == nil {
			later, err = j.names(at, n)
		}
	}
	return false, later, err
}

func (j *Journal) mayReturnTo() []uint64 {
	j.hmu.Lock()
	defer j.hmu.Unlock()
	return []uint64{j.slot.Horizon, j.stepping}
}

// names reports whether the state at names content n.
func (j *Journal) names(at, n uint64) (yes bool, err error) {
	tx := j.begin(at, false)
	defer tx.discard()
	err = tx.each(spaced(spaceContent, be64(n)), nil, func([]byte, *badger.Item) (bool, error) {
		yes = true
		return false, nil
	})
	return yes, err
}

// CacheID tells this life of the cache directory from those that a power cut
// has taken back.
func (j *Journal) CacheID() string {
	j.hmu.Lock()
	defer j.hmu.Unlock()
	return j.slot.CacheID
}

// BootID names the boot of the machine, in short.
func (j *Journal) BootID() string { return j.o.BootID[:min(8, len(j.o.BootID))] }

// WaitHorizon returns when the state seq is on the disk, with the bytes of all
// contents that it names.
func (j *Journal) WaitHorizon(ctx context.Context, seq uint64) error {
	return j.waitHorizon(ctx, seq, j.wake)
}

// JoinHorizon is WaitHorizon for one of many: they share a step, at some milliseconds
// more for each.
func (j *Journal) JoinHorizon(ctx context.Context, seq uint64) error {
	return j.waitHorizon(ctx, seq, j.join)
}

func (j *Journal) waitHorizon(ctx context.Context, seq uint64, wake chan<- struct{}) error {
	for tried := false; ; tried = true {
		_, broken := j.newest()
		j.hmu.Lock()
		at, moved, still := j.slot.Horizon, j.moved, j.still
		j.hmu.Unlock()
		if at >= seq {
			return nil
		}
		if broken != nil {
			return broken
		}
		if tried && still != nil {
			return fmt.Errorf("journal: %w", still)
		}
		select {
		case wake <- struct{}{}:
		default:
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
