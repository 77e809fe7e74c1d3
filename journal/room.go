package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4/table"
	"golang.org/x/sys/unix"
)

var (
	// ErrNoRoom is returned by Update and Batch when the disk has no room for
	// what they might need. Nothing was changed; they go on when there is room.
	ErrNoRoom = errors.New("journal: the cache disk is full: make room on it")
	// ErrReadOnly is returned while the disk accepts no writes.
	ErrReadOnly = errors.New("journal: the cache disk is read-only: mount it for writing again, or check it and start the mount again")
	// ErrGone is returned when the directory is not there any more.
	ErrGone = errors.New("journal: the cache directory is gone: bring it back and start the mount again")
)

const (
	memTableSize = 8 << 20
	// A commit adds this much to a log at most, by Badger's limits.
	mostOfCommit = 2 << 20
	// A log is full at memTableSize and takes one commit more.
	logBlocks = memTableSize + mostOfCommit + 1<<18
	// The log of a start takes this much before there must be room for a table of it.
	firstOfLog = 1 << 20
	// An entry takes this much beside key and value, in log or memory.
	entryExtra = 128
	// What a database needs to be opened: a log, a value log, DISCARD.
	openBlocks = logBlocks + 3<<20

	discardSize  = 1 << 20
	manifestRoom = 256 << 10
	probeSize    = 4096
)

// room sees to it that Badger never writes where the disk has no block (H10).
//
//   - A file that it maps has its blocks first (blocks.go). Where there are none, a
//     new table waits for them; what it shall hold is in a log meanwhile.
//   - The log after the active one is there, empty but with its blocks, before a
//     commit may need it: one that finds none gets ErrNoRoom before it reaches
//     Badger.
//   - A ballast is given up for either when the disk is full, and taken again when
//     it is not.
//   - The log that a start makes takes little until there is room for what a new log
//     needs: else each life on a full disk would leave one more table there, and
//     none could be merged.
//
// Badger's log is full when it, or its table in memory, has memTableSize; filled is
// at least as much as either.
type room struct {
	dir     string // of the journal; the database lies in db
	held    *os.File
	want    int64 // bytes of ballast
	log     *slog.Logger
	closing chan struct{}
	ends    sync.Once
	stuck   chan struct{} // closed when a table waits though the journal shall close
	poke    chan struct{} // to the tender
	tables  func() int64  // bytes of all tables

	mu      sync.Mutex
	filled  int64
	mayFill int64  // of the active log: as much, before the disk is looked at
	spare   string // the next log; "" where there is none
	ballast *os.File
	has     int64 // bytes of ballast that are there
	waiting int   // tables that wait for blocks
	looked  time.Time
	found   error // what the look found
	short   error // why commits are refused, as it was logged
}

// Room tells how the journal stands with the disk.
type Room struct {
	Ballast int64  `json:"ballast"`        // bytes that are kept for it
	Of      int64  `json:"of"`             // and that should be
	Waits   bool   `json:"waits"`          // a table waits for room
	Why     string `json:"why,omitempty"`  // why changes are refused
	Size    int64  `json:"size,omitempty"` // bytes of the database's files
}

// openRoom is called before Badger opens the database.
func openRoom(dir string, want int64, log *slog.Logger) (r *room, err error) {
	if err := allocateMappings(); err != nil {
		return nil, err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	r = &room{dir: dir, log: log, want: want, closing: make(chan struct{}), stuck: make(chan struct{}), poke: make(chan struct{}, 1),
		tables: func() int64 { return 0 }, mayFill: firstOfLog}
	if err := r.open(); err != nil {
		r.letGo()
		return nil, err
	}
	rooms.Store(r.db(), r.allocate)
	return r, nil
}

func (r *room) open() (err error) {
	if err := os.MkdirAll(r.db(), 0o700); err != nil {
		return err
	}
	if err := dropUnbegunLogs(r.db()); err != nil { // the spare of a life before
		return err
	}
	if r.held, err = os.Open(r.dir); err != nil {
		return err
	}
	if r.ballast, err = os.OpenFile(filepath.Join(r.dir, "ballast"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600); err != nil {
		return err
	}
	if st, err := r.ballast.Stat(); err == nil {
		r.has = max(0, st.Size()-probeSize)
	}
	if err := r.makeReady(); err != nil {
		return fmt.Errorf("open %s: %w", r.dir, err)
	}
	return nil
}

func (r *room) db() string { return filepath.Join(r.dir, "db") }

// makeReady makes sure that there is room to open the database: Badger ends the
// process at some errors on the way.
func (r *room) makeReady() error {
	try := func() error {
		if err := r.tryDiscard(); err != nil {
			return err
		}
		f, err := os.CreateTemp(r.dir, ".new-*")
		if err != nil {
			return err
		}
		defer f.Close()
		defer os.Remove(f.Name())
		return unsupported(fallocate(int(f.Fd()), 0, openBlocks))
	}
	err := try()
	if isFull(err) {
		if err := dropUnnamedTables(r.db(), r.log); err != nil {
			return err
		}
		err = try()
	}
	if isFull(err) && r.giveUp() {
		err = try()
	}
	if isFull(err) {
		return fmt.Errorf("%w: %d MiB of it must be free (%w)", ErrNoRoom, openBlocks>>20+1, err)
	}
	return err
}

// dropUnnamedTables removes the tables that the manifest does not name, as Badger
// will when it is open: a merge that a crash cut short has left them, and they can be
// as many as those that it names.
func dropUnnamedTables(dir string, log *slog.Logger) error {
	m, err := manifestOf(dir, badgerOptions(dir, log))
	if err != nil {
		return nil // who opens the database looks into that
	}
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	for _, path := range tables {
		id, ok := table.ParseFileID(path)
		if _, named := m.Tables[id]; ok && !named {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}

// tryDiscard makes Badger's file DISCARD, which it would make sparse.
func (r *room) tryDiscard() error {
	path := filepath.Join(r.db(), "DISCARD")
	if st, err := os.Stat(path); err == nil && st.Size() > 0 {
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unsupported(fallocate(int(f.Fd()), 0, discardSize)); err != nil {
		return err
	}
	return f.Truncate(discardSize)
}

// unsupported forgives a file system that cannot reserve blocks.
func unsupported(err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// letGo gives everything back but the ballast, which the next start will want.
func (r *room) letGo() {
	rooms.Delete(r.db())
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spare != "" {
		os.Remove(r.spare)
	}
	select {
	case <-r.stuck:
		return // a merge that will never end looks at the disk by these files
	default:
	}
	if r.ballast != nil {
		r.ballast.Close()
	}
	if r.held != nil {
		r.held.Close()
	}
}

// before is asked before each commit of Badger. One goroutine at a time calls it.
func (r *room) before() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.mayCommitLocked()
	r.sayLocked(err)
	if err != nil {
		nudge(r.poke)
	}
	return err
}

func (r *room) mayCommitLocked() error {
	if err := r.lookLocked(); err != nil {
		return err
	}
	if r.filled < r.mayFill {
		return nil
	}
	if r.mayFill < memTableSize {
		if err := r.freeLocked(r.tables() + logBlocks); err != nil {
			return err
		}
		r.mayFill = memTableSize
		return nil
	}
	if r.waiting > 0 { // there would be one more
		return ErrNoRoom
	}
	if r.spare != "" {
		return nil
	}
	return r.makeSpareLocked()
}

// after takes note of a commit of size bytes at most.
func (r *room) after(size int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	full := r.filled >= memTableSize
	r.filled += size
	if full && r.spare != "" {
		if st, err := os.Stat(r.spare); err == nil && st.Size() > 0 {
			r.filled, r.spare = size, "" // it has become the active one
			nudge(r.poke)
		}
	}
	if r.spare == "" && r.filled >= memTableSize/2 {
		nudge(r.poke)
	}
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// sayLocked logs when commits begin to be refused, and when they go on.
func (r *room) sayLocked(err error) {
	switch {
	case err != nil && r.short == nil:
		r.log.Error("journal: no change is accepted; what was accepted is kept", "err", err)
	case err == nil && r.short != nil:
		r.log.Info("journal: changes are accepted again")
	}
	r.short = err
}

// lookFor is how long a look is believed.
const lookFor = 5 * time.Millisecond

// lookLocked finds out whether the disk is there and takes writes: a store into
// a mapping would end the process where it does not.
func (r *room) lookLocked() error {
	if now := time.Now(); now.Sub(r.looked) > lookFor {
		r.looked, r.found = now, r.look()
	}
	return r.found
}

func (r *room) look() error {
	var at, held unix.Stat_t
	err := unix.Stat(r.dir, &at)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return ErrGone
	}
	if err == nil {
		err = unix.Fstat(int(r.held.Fd()), &held)
	}
	if err == nil && (at.Dev != held.Dev || at.Ino != held.Ino) {
		return ErrGone
	}
	if err == nil { // its first block is always there
		_, err = r.ballast.WriteAt([]byte{0}, 0)
	}
	switch {
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w (%w)", ErrReadOnly, unix.EROFS)
	case isFull(err):
		return nil // copy on write; what was reserved may be there all the same
	case err != nil:
		return fmt.Errorf("journal: the cache disk failed: check it and start the mount again: %w", err)
	}
	return nil
}

// makeSpareLocked makes the log that Badger will make next: empty, so that it
// takes it for its own, and with its blocks.
//
// Room for one is not enough: the one before becomes a table, and tables are merged
// into new ones before they go. A journal that filled the disk with what it no more
// needs could not drop it.
func (r *room) makeSpareLocked() error {
	if err := r.freeLocked(r.tables() + 2*logBlocks); err != nil {
		return err
	}
	path, err := r.nextLog()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if isFull(err) {
		return fmt.Errorf("%w (%w)", ErrNoRoom, err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	err = unsupported(fallocate(int(f.Fd()), 0, logBlocks))
	if isFull(err) && r.giveUpLocked() {
		err = fallocate(int(f.Fd()), 0, logBlocks)
	}
	if err != nil {
		os.Remove(path)
		if isFull(err) {
			err = fmt.Errorf("%w (%w)", ErrNoRoom, err)
		}
		return err
	}
	r.spare = path
	return nil
}

// freeLocked returns an error unless need bytes are free, or would be without the
// ballast, which is given up then.
func (r *room) freeLocked(need int64) error {
	if r.free() < need && r.has > 0 && r.free()+r.has >= need {
		r.giveUpLocked()
	}
	if free := r.free(); free < need {
		return fmt.Errorf("%w (%d MiB are free, it needs %d)", ErrNoRoom, free>>20, need>>20)
	}
	return nil
}

// nextLog is the path of the log after the active one, which is the last.
func (r *room) nextLog() (string, error) {
	names, err := os.ReadDir(r.db())
	if err != nil {
		return "", err
	}
	last := 0
	for _, e := range names {
		if id, ok := strings.CutSuffix(e.Name(), ".mem"); ok {
			if n, err := strconv.Atoi(id); err == nil {
				last = max(last, n)
			}
		}
	}
	return filepath.Join(r.db(), fmt.Sprintf("%05d.mem", last+1)), nil
}

// allocate reserves the blocks of a new file that Badger maps. A table waits for
// them: Badger forgets a table that it could not make when it merges others, and
// what was in it is lost then.
func (r *room) allocate(fd int, length int64, name string) error {
	if strings.HasSuffix(name, ".mem") {
		length = min(length, logBlocks)
	}
	for waited := false; ; waited = true {
		err := unsupported(fallocate(fd, 0, length))
		if isFull(err) && r.giveUp() {
			err = unsupported(fallocate(fd, 0, length))
		}
		if err == nil && waited {
			r.waits(-1, nil)
		}
		if err == nil || !strings.HasSuffix(name, ".sst") {
			return err
		}
		if !waited {
			r.waits(1, err)
		}
		select {
		case <-r.closing:
			r.stuckNow()
			select {} // with the database that is left as it is
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (r *room) waits(n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting += n
	if n > 0 {
		r.log.Warn("journal: no room for a table: it waits, and its log is kept", "err", err)
	}
}

func (r *room) stuckNow() {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.stuck:
	default:
		close(r.stuck)
	}
}

// giveUp gives the ballast up; false: there is none.
func (r *room) giveUp() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.giveUpLocked()
}

func (r *room) giveUpLocked() bool {
	if r.has == 0 {
		return false
	}
	if err := r.ballast.Truncate(probeSize); err != nil {
		return false
	}
	r.has = 0
	r.log.Warn("journal: the cache disk is full: the ballast is given up")
	return true
}

// tend does what need not be done within a commit: it makes the next log, takes the
// ballast again, and reserves blocks for the list of tables.
func (r *room) tend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lookLocked() != nil {
		return
	}
	if r.spare == "" && r.filled >= memTableSize/2 {
		if err := r.makeSpareLocked(); err != nil && !errors.Is(err, ErrNoRoom) {
			r.log.Debug("journal: the next log could not be made", "err", err)
		}
	}
	if r.has < r.want && r.waiting == 0 && r.free() > 2*r.want+2*logBlocks {
		if err := unsupported(unix.Fallocate(int(r.ballast.Fd()), 0, 0, probeSize+r.want)); err == nil {
			r.has = r.want
		} else {
			_ = r.ballast.Truncate(probeSize + r.has)
		}
	}
	_ = r.manifest()
}

// free returns how many bytes the disk has; 0 where it cannot tell.
func (r *room) free() int64 {
	var st unix.Statfs_t
	if unix.Fstatfs(int(r.held.Fd()), &st) != nil {
		return 0
	}
	return int64(st.Bavail) * st.Bsize
}

// manifest reserves blocks behind the end of Badger's list of tables: half a line
// at its end is overwritten by no later one, and the database cannot be opened.
func (r *room) manifest() error {
	f, err := os.OpenFile(filepath.Join(r.db(), "MANIFEST"), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return unsupported(fallocate(int(f.Fd()), st.Size(), manifestRoom))
}

// inodes reports whether the disk can take some more files for sure.
func (r *room) inodes() bool {
	var st unix.Statfs_t
	if unix.Fstatfs(int(r.held.Fd()), &st) != nil {
		return false
	}
	return st.Files == 0 || st.Ffree > mostFiles
}

// mostFiles is more than a merge of tables makes, and another program meanwhile.
const mostFiles = 1024

func (r *room) status() Room {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Room{Ballast: r.has, Of: r.want, Waits: r.waiting > 0}
	if r.short != nil {
		s.Why = r.short.Error()
	}
	return s
}

// end lets no table wait any longer.
func (r *room) end() { r.ends.Do(func() { close(r.closing) }) }

// closeDB closes the database. Where the disk has no room for what Badger writes
// then, it is left as a crash would leave it: its logs are all there.
func (j *Journal) closeDB() error {
	r := j.room
	defer r.letGo()
	r.end()
	if err := r.mayClose(); err != nil {
		return fmt.Errorf("%w; the journal is left as it is, and replayed at the next start", err)
	}
	done := make(chan error, 1)
	go func() { done <- j.db.Close() }()
	select {
	case err := <-done:
		return err
	case <-r.stuck:
		return fmt.Errorf("%w; the journal is left as it is, and replayed at the next start", ErrNoRoom)
	}
}

// mayClose returns an error unless there is room for the table that Badger makes of its
// log at the end.
func (r *room) mayClose() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.look(); err != nil {
		return err
	}
	if r.waiting > 0 {
		return ErrNoRoom
	}
	if r.spare != "" {
		os.Remove(r.spare)
		r.spare = ""
	}
	need := r.filled + r.filled/4 + manifestRoom
	if r.free() < need {
		r.giveUpLocked()
	}
	if r.free() < need {
		return ErrNoRoom
	}
	return nil
}
