package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	badger "github.com/dgraph-io/badger/v4"
	"golang.org/x/sync/errgroup"

	"github.com/ossmount/ossmount/internal/crash"
	"github.com/ossmount/ossmount/internal/meter"
	"github.com/ossmount/ossmount/internal/private"
)

// ErrTooBig is returned by Update when its rows do not fit into one commit
// (some thousands of rows). Nothing was changed.
var ErrTooBig = errors.New("journal: too many changes for one commit")

// ErrClosed is returned by calls after Close.
var ErrClosed = errors.New("journal: closed")

// Contents makes the bytes of contents durable before the horizon passes the
// rows that name them. SyncContents returns the contents that could not be
// synced, each with its error; a failed fsync is final (H11).
type Contents interface {
	SyncContents(numbers []uint64) map[uint64]error
}

// Options for Open.
type Options struct {
	// Contents is asked before the horizon moves. Required.
	Contents Contents
	// BootID tells one boot of the machine from the next; another one than at
	// the last horizon counts as a power cut. Default: the kernel's
	// /proc/sys/kernel/random/boot_id.
	BootID string
	// Step is the time between two moves of the horizon that nobody waits
	// for. Default 1 s; this is what a power cut may cost.
	Step time.Duration
	// SyncFailed is told of each content that could not be synced, before the
	// horizon moves on. It may call Update.
	SyncFailed func(content uint64, err error)
	// Log gets what an operator would want tomorrow. Default: nothing.
	Log *slog.Logger
	// ReadOnly opens without moving the horizon or undoing: for looking at
	// the journal of a mount that does not run. Nothing of ours is written.
	ReadOnly bool
	// After returns the highest sequence that anything outside of the journal
	// knows of: a new one goes on above it. Default: none does.
	After func() (uint64, error)
	// BatchPart is how many entries of a batch go into one commit of Badger.
	// Default 1000: Badger writes some while the next are made. Tests have fewer.
	BatchPart int
	// Ballast is how many bytes are kept for the journal alone, to be given up
	// when the disk is full. Default 0: none.
	Ballast int64
}

func (o *Options) fill() error {
	if o.BootID == "" {
		o.BootID = crash.Boot()
	}
	if o.BootID == "" {
		b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return fmt.Errorf("journal: read the boot ID: %w", err)
		}
		o.BootID = strings.TrimSpace(string(b))
	}
	if o.Step == 0 {
		o.Step = time.Second
	}
	if o.BatchPart == 0 {
		o.BatchPart = 1000
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Journal is an open journal. All methods may be called concurrently.
type Journal struct {
	dir string
	o   Options
	db  *badger.DB

	room *room

	mu       sync.Mutex // held from the assignment of a timestamp to its commit
	unsynced map[uint64]struct{}
	whole    whole  // what the newest state holds
	torn     uint64 // a batch that is to be taken back; 0: none

	smu    sync.Mutex     // the newest state; taken after mu where both are needed, never held for long
	last   uint64         // timestamp of the newest commit; moves under mu too
	counts Counts         // the same
	tally  tally          // the same; nil until Open has counted
	few    few            // the same
	recent recent         // of the newest state
	broken error          // the journal's own disk failed, or it is closed
	views  sync.WaitGroup // Views under way; added to under smu while not closed

	hmu      sync.Mutex // horizon state; taken after mu where both are needed
	slot     slot
	stepping uint64        // target of the step under way, 0 if none
	still    error         // why the last step failed, if it may succeed later
	moved    chan struct{} // closed and replaced when the horizon moves, stands still, or the journal breaks

	recovered Recovered
	debtID    uint64
	commits   meter.Histogram

	wake   chan struct{} // for a step at once
	join   chan struct{} // for one that others share
	cancel context.CancelFunc
	group  *errgroup.Group
}

// Counts tells how much is in the journal.
type Counts struct {
	Pending     int   // rows the engine will carry
	Bytes       int64 // of their Puts
	Here        int64 // of these, in contents
	Parked      int
	Interrupted int
	Stuck       int64 // bytes in contents of parked and interrupted rows
}

// Recovered tells what Open found.
type Recovered struct {
	New      bool   // there was no journal, or nobody has taken up yet what is known from elsewhere (Tx.TakenUp)
	Damaged  string // what was wrong with the one that was there; empty: nothing was
	Aside    string // directory that it was moved to
	PowerCut bool   // the state went back to the horizon
	Undone   int    // keys that were set back
	Torn     int    // keys of a change that a crash had cut short, set back
	Horizon  uint64 // the horizon that Open found, also that of a damaged journal; 0: none
	Last     uint64 // the newest commit that Open found

	undone []undone
}

// TookBack reports that a power cut has taken back what was committed with a cache
// ID as the state seq: by this start, or by one before it that got no further.
func (r Recovered) TookBack(cacheID string, seq uint64) bool {
	for _, u := range r.undone {
		if u.CacheID == cacheID && seq > u.Above {
			return true
		}
	}
	return false
}

// Open opens or makes the journal in dir and, after a power cut, sets it back
// to the durable horizon before it returns. A damaged journal is moved aside,
// and a new one made (Recovered.Damaged); with ReadOnly it is ErrDamaged.
func Open(ctx context.Context, dir string, o Options) (*Journal, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	j, err := openOnce(dir, o)
	if bad := (*damageError)(nil); errors.As(err, &bad) && !o.ReadOnly {
		if j, err = openAnew(dir, o, bad); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	j.cancel = cancel
	j.group, run = errgroup.WithContext(run)
	if !o.ReadOnly {
		j.group.Go(func() error { j.keep(run); return nil })
		j.group.Go(func() error { j.guarded(func() { j.tend(run) }); return nil })
	}
	return j, nil
}

func openOnce(dir string, o Options) (*Journal, error) {
	if err := checkPrivate(dir); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j := &Journal{
		dir: dir, o: o,
		unsynced: map[uint64]struct{}{},
		moved:    make(chan struct{}),
		wake:     make(chan struct{}, 1),
		join:     make(chan struct{}, 1),
	}
	s, found, err := readSlot(j.horizonPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if j.room, err = openRoom(dir, o.Ballast, o.Log); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j.dir = j.room.dir
	if j.db, err = openSound(j.room.db(), o.Log, found && s.BootID != o.BootID); err != nil {
		j.room.letGo()
		return nil, withHorizon(err, s)
	}
	j.room.tables = j.tables
	if err := guard(func() error { return j.recover(s, found) }); err != nil {
		_ = guard(j.closeDB)
		if isFull(err) && !errors.Is(err, ErrNoRoom) { // the horizon found none
			err = fmt.Errorf("%w (%w)", ErrNoRoom, err)
		}
		return nil, withHorizon(err, s)
	}
	return j, nil
}

// checkPrivate makes the journal's directories, and refuses anything in them that is
// no file of ours: Badger would follow a link.
func checkPrivate(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	for _, d := range []string{dir, filepath.Join(dir, "db")} {
		if err := private.Dir(d); err != nil {
			return err
		}
		names, err := os.ReadDir(d)
		if err != nil {
			return err
		}
		for _, e := range names {
			if e.IsDir() && e.Name() == "db" && d == dir {
				continue
			}
			if err := private.File(filepath.Join(d, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropUnbegunLogs removes memtable logs of no length: a crash came between
// their creation and their first byte. They hold nothing, and Badger (4.9)
// refuses to open beside one.
func dropUnbegunLogs(dir string) error {
	logs, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil {
		return err
	}
	for _, path := range logs {
		if st, err := os.Lstat(path); err == nil && st.Mode().IsRegular() && st.Size() == 0 {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// badgerOptions keeps Badger small: the defaults hold 64 MiB memtables, five
// of them, and a 256 MiB block cache. Rows are small and always inline, so the
// value log stays empty.
func badgerOptions(dir string, log *slog.Logger) badger.Options {
	return badger.DefaultOptions(dir).
		WithMemTableSize(memTableSize).
		WithNumMemtables(2).
		WithNumLevelZeroTables(1).
		WithNumLevelZeroTablesStall(1 << 20). // merging is ours (merge.go)
		WithNumCompactors(0).
		WithValueLogFileSize(1 << 20).
		WithBlockCacheSize(0).
		WithIndexCacheSize(8 << 20).
		WithCompression(0).
		WithMetricsEnabled(false).
		WithDetectConflicts(false).
		WithLogger(badgerLog{log.With("room", "badger")})
}

// scan counts the rows and finds the contents that must be synced again
// because the horizon has not passed the rows that name them.
func (j *Journal) scan() error {
	h := j.slot.Horizon
	tx := j.begin(j.last, false)
	defer tx.discard()
	var err error
	j.tally = tally{}
	j.whole, j.few, err = tx.addUp(func(r *Row) {
		j.counts.add(r, 1)
		j.tally.add(r.Key, 1)
		if r.Content != 0 && r.Seq > h {
			j.unsynced[r.Content] = struct{}{}
		}
	})
	if err != nil {
		return err
	}
	for d, err := range tx.Debts() {
		if err != nil {
			return err
		}
		j.debtID = max(j.debtID, d.ID)
	}
	return nil
}

func (c *Counts) add(r *Row, n int) {
	here := int64(n) * r.here()
	switch {
	case r.Parked != "":
		c.Parked += n
		c.Stuck += here
	case r.Interrupted:
		c.Interrupted += n
		c.Stuck += here
	default:
		c.Pending += n
		c.Here += here
		if r.Kind == Put {
			c.Bytes += int64(n) * r.Size
		}
	}
}

// Update runs f on the newest state and commits what it changed as one state.
// It returns the sequence of that state, or the newest one if f changed
// nothing. Updates run one at a time: f must be short and must not wait.
func (j *Journal) Update(f func(tx *Tx) error) (seq uint64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	last, err := j.mended()
	if err != nil {
		return 0, err
	}
	tx := j.begin(last, true)
	tx.seq, tx.whole = last+1, j.whole
	defer tx.discard()
	if err := f(tx); err != nil {
		return 0, err
	}
	if !tx.changed {
		return last, nil
	}
	if err := j.room.before(); err != nil {
		return 0, err
	}
	for _, w := range tx.before {
		if err := w(); err != nil {
			return 0, err
		}
	}
	if err := tx.sign(); err != nil {
		return 0, err
	}
	if err := j.commitInRoom(tx.db(), tx.seq, tx.size); err != nil {
		return 0, tooBig(err)
	}
	crash.At("committed")
	j.committed(tx)
	return tx.seq, nil
}

// newest returns the newest state, or why there can be no newer one.
func (j *Journal) newest() (last uint64, err error) {
	j.smu.Lock()
	defer j.smu.Unlock()
	return j.last, j.broken
}

// committed makes tx the newest state; j.mu is held.
func (j *Journal) committed(tx *Tx) {
	for n := range tx.contents {
		j.unsynced[n] = struct{}{}
	}
	j.whole = tx.whole
	j.smu.Lock()
	defer j.smu.Unlock()
	j.last = tx.seq
	j.counts.Pending += tx.delta.Pending
	j.counts.Bytes += tx.delta.Bytes
	j.counts.Here += tx.delta.Here
	j.counts.Stuck += tx.delta.Stuck
	j.counts.Parked += tx.delta.Parked
	j.counts.Interrupted += tx.delta.Interrupted
	j.few.plus(tx.few)
	j.rememberAnewLocked(tx)
	for key, n := range tx.moves {
		j.tally.add(key, n)
	}
}

// View runs f on the newest state.
func (j *Journal) View(f func(tx *Tx) error) error {
	last, err := j.enter()
	if err != nil {
		return err
	}
	defer j.views.Done()
	tx := j.begin(last, false)
	defer tx.discard()
	return f(tx)
}

// enter keeps the database open until views.Done.
func (j *Journal) enter() (last uint64, err error) {
	j.smu.Lock()
	defer j.smu.Unlock()
	if errors.Is(j.broken, ErrClosed) {
		return 0, j.broken
	}
	j.views.Add(1)
	return j.last, nil
}

func (j *Journal) begin(at uint64, update bool) *Tx {
	return &Tx{j: j, writes: update, at: at}
}

// Last returns the sequence of the newest state.
func (j *Journal) Last() uint64 {
	j.smu.Lock()
	defer j.smu.Unlock()
	return j.last
}

// Counts returns how many rows there are.
func (j *Journal) Counts() Counts {
	j.smu.Lock()
	defer j.smu.Unlock()
	return j.counts
}

// Recovered tells what Open found.
func (j *Journal) Recovered() Recovered { return j.recovered }

// Close moves the horizon a last time and closes the database.
func (j *Journal) Close() error { return j.close(true) }

// Abandon closes the database without moving the horizon, as a crash would
// leave it. For tests.
func (j *Journal) Abandon() error { return j.close(false) }

func (j *Journal) close(step bool) error {
	j.cancel()
	j.awaitGroup()
	var err error
	if step && !j.o.ReadOnly {
		err = j.step()
	}
	j.fail(ErrClosed)
	j.views.Wait()
	return errors.Join(err, j.closeDB())
}

// awaitGroup returns when the journal's goroutines have ended, or when one never
// will: a table for which there is no room is left half made (room.go).
func (j *Journal) awaitGroup() {
	j.room.end()
	ended := make(chan struct{})
	go func() { _ = j.group.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-j.room.stuck:
	}
}

// fail ends the journal's work: every later Update and wait returns err.
func (j *Journal) fail(err error) {
	j.breaks(err)
	j.hmu.Lock()
	defer j.hmu.Unlock()
	close(j.moved)
	j.moved = make(chan struct{})
}

func (j *Journal) breaks(err error) {
	j.smu.Lock()
	defer j.smu.Unlock()
	if j.broken == nil || errors.Is(err, ErrClosed) {
		j.broken = err
	}
}

func tooBig(err error) error {
	if errors.Is(err, badger.ErrTxnTooBig) {
		return ErrTooBig
	}
	return err
}

// maxTs reads the newest version there is.
const maxTs = math.MaxUint64

type badgerLog struct{ l *slog.Logger }

func (b badgerLog) Errorf(f string, a ...any)   { b.l.Error(strings.TrimSpace(fmt.Sprintf(f, a...))) }
func (b badgerLog) Warningf(f string, a ...any) { b.l.Warn(strings.TrimSpace(fmt.Sprintf(f, a...))) }
func (b badgerLog) Infof(f string, a ...any)    { b.l.Debug(strings.TrimSpace(fmt.Sprintf(f, a...))) }
func (b badgerLog) Debugf(string, ...any)       {}

var _ io.Closer = (*Journal)(nil)
