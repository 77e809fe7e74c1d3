package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/ristretto/v2/z"
	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/internal/crash"
)

// ErrDamaged is wrapped by the errors of a journal that has lost something.
var ErrDamaged = errors.New("the journal is damaged")

// damageError says what is wrong with a journal, and what its horizon was.
type damageError struct {
	why      string
	horizon  uint64 // 0: not known
	panicked bool
}

func (e *damageError) Error() string { return ErrDamaged.Error() + ": " + e.why }
func (e *damageError) Unwrap() error { return ErrDamaged }

func damage(format string, a ...any) error { return &damageError{why: fmt.Sprintf(format, a...)} }

// damaged makes err a damage, unless it is something that goes away by itself
// or by another program: then the journal must not be touched.
func damaged(err error) error {
	var e *damageError
	if err == nil || errors.As(err, &e) || errors.Is(err, ErrNewer) || isPassing(err) {
		return err
	}
	return damage("%s", strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; "))
}

// isPassing reports that err says something of the machine, not of the bytes.
func isPassing(err error) bool {
	if errors.Is(err, ErrNoRoom) || errors.Is(err, ErrReadOnly) || errors.Is(err, ErrGone) {
		return true
	}
	for _, e := range []unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EACCES, unix.EPERM, unix.EMFILE, unix.ENFILE,
		unix.ENOMEM, unix.EIO, unix.EAGAIN, unix.EINTR, unix.ENXIO, unix.ENODEV, unix.ESTALE, unix.EBUSY} {
		if errors.Is(err, e) || strings.Contains(err.Error(), e.Error()) { // of some Badger keeps the text only
			return true
		}
	}
	return strings.Contains(err.Error(), "Cannot acquire directory lock") // Badger gives it no type
}

func withHorizon(err error, s slot) error {
	if e := (*damageError)(nil); errors.As(err, &e) {
		e.horizon = s.Horizon
	}
	return err
}

// guard turns a panic in f, which Badger answers damaged bytes with, into an
// error, and so an access beyond the end of a mapped file.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = &damageError{why: fmt.Sprint(p), panicked: true}
		}
	}()
	return f()
}

// openSound opens the database, after a look at all that Badger would end the
// process for, or leave out without a word. cut: the machine has been off.
func openSound(dir string, log *slog.Logger, cut bool) (db *badger.DB, err error) {
	if cut {
		if err := dropTornEntry(filepath.Join(dir, badger.ManifestFilename)); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
	}
	o := badgerOptions(dir, log)
	try := func() error {
		if err := checkTables(dir, o); err != nil {
			return damaged(err)
		}
		var err error
		db, err = badger.OpenManaged(o)
		return damaged(err)
	}
	err = guard(try)
	if e := (*damageError)(nil); errors.As(err, &e) && !e.panicked { // else Badger's lock is still held
		log.Warn("journal: its database does not open; once more without the files in which nothing of ours stands", "dir", dir, "err", err)
		if derr := dropHelpers(dir); derr != nil {
			return nil, fmt.Errorf("journal: %w", derr)
		}
		err = guard(try)
	}
	if err != nil && strings.Contains(err.Error(), unix.ENOSPC.Error()) {
		err = fmt.Errorf("%w: %w", ErrNoRoom, err)
	}
	if err != nil {
		return nil, fmt.Errorf("journal: open %s: %w", dir, err)
	}
	return db, nil
}

// dropHelpers removes the files of Badger that hold nothing of ours, and that it
// makes again: nothing is encrypted, and every value stands beside its key, so
// that the value log is empty.
func dropHelpers(dir string) error {
	for _, pattern := range []string{badger.KeyRegistryFileName, "DISCARD", "*.vlog"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, path := range files {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// tornMost is what a power cut can have torn of a manifest: its last entry.
const tornMost = 4096

// dropTornEntry removes the end of a manifest that is no whole entry. Badger
// syncs an entry before it acts on it, so what a cut has torn has no
// consequences; but it refuses a manifest in which the end of an entry is
// there and its beginning is not, as may be where it lies in two sectors. Had
// the damage another cause, the sum tells.
func dropTornEntry(path string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	whole := wholeEntries(b)
	if whole == len(b) || len(b)-whole > tornMost {
		return nil
	}
	if err := os.Truncate(path, int64(whole)); err != nil {
		return err
	}
	return syncFile(path, unix.Fsync)
}

// wholeEntries is where the whole entries of a manifest end: 8 bytes of magic,
// then for each entry its length, its CRC-32C and itself, big-endian.
func wholeEntries(b []byte) int {
	at := min(8, len(b))
	for at+8 <= len(b) {
		n, sum := binary.BigEndian.Uint32(b[at:]), binary.BigEndian.Uint32(b[at+4:])
		if int64(n) > int64(len(b)-at-8) || crc32.Checksum(b[at+8:at+8+int(n)], castagnoli) != sum {
			break
		}
		at += 8 + int(n)
	}
	return at
}

// checkTables reads every table that the manifest names. Badger opens them in
// goroutines of its own, where nobody can catch a panic, and goes on without
// one whose checksum is wrong.
func checkTables(dir string, o badger.Options) error {
	m, err := manifestOf(dir, o)
	if errors.Is(err, fs.ErrNotExist) {
		return noTables(dir)
	}
	if err != nil {
		return err
	}
	for id := range m.Tables {
		if err := checkTable(table.NewFilename(id, dir), o); err != nil {
			return fmt.Errorf("table %d: %w", id, err)
		}
	}
	return nil
}

// manifestOf reads Badger's list of tables.
func manifestOf(dir string, o badger.Options) (badger.Manifest, error) {
	f, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if err != nil {
		return badger.Manifest{}, err
	}
	defer f.Close()
	m, _, err := badger.ReplayManifestFile(f, 0, o)
	if err != nil {
		err = fmt.Errorf("manifest: %w", err)
	}
	return m, err
}

// noTables is an error if there is anything that a manifest must name: Badger
// would make a new one, and remove them.
func noTables(dir string) error {
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err == nil && len(tables) > 0 {
		err = fmt.Errorf("%d tables, and no manifest", len(tables))
	}
	return err
}

func checkTable(path string, o badger.Options) error {
	f, err := z.OpenMmapFile(path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	t, err := table.OpenTable(f, table.Options{ReadOnly: true, BlockSize: o.BlockSize, ChkMode: options.OnTableAndBlockRead})
	if err != nil {
		return err
	}
	err = t.VerifyChecksum()
	return errors.Join(err, t.Close(-1))
}

// openAnew moves the damaged journal aside and opens a new one in its place.
func openAnew(dir string, o Options, bad *damageError) (*Journal, error) {
	aside, err := setAside(dir)
	if err != nil {
		return nil, fmt.Errorf("journal: %w; it could not be moved aside: %w", bad, err)
	}
	crash.At("journal moved aside, none begun")
	j, err := openOnce(dir, o)
	if err != nil {
		return nil, err
	}
	j.recovered.Damaged, j.recovered.Aside = bad.why, aside
	j.recovered.Horizon = bad.horizon
	return j, nil
}

// setAside renames the directory to one that tells when that was.
func setAside(dir string) (aside string, err error) {
	name := dir + ".damaged-" + time.Now().UTC().Format("20060102T150405Z")
	for i := 1; ; i++ {
		if aside = name; i > 1 {
			aside = fmt.Sprintf("%s-%d", name, i)
		}
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err := os.Rename(dir, aside); err != nil {
		return "", err
	}
	return aside, syncFile(filepath.Dir(dir), unix.Fsync)
}
