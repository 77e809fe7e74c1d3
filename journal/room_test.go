package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"go.uber.org/goleak"
)

// small mounts a file system in memory, which the test has for itself.
func small(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatalf("mount a tmpfs (these tests need root): %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

const childDir = "OSSMOUNT_TEST_JOURNAL"

func TestMain(m *testing.M) {
	dir, hog := os.Getenv(childDir), os.Getenv("OSSMOUNT_TEST_CLOSE")
	switch {
	case hog != "":
		closeFull(dir, hog)
	case dir != "":
		update(dir)
	}
	// Whoever opens the room closes it. Badger (4.9) does not end these two where its
	// Open fails; of a database that is only not closed there are others.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/dgraph-io/badger/v4.(*DB).monitorCache"),
		goleak.IgnoreAnyFunction("github.com/dgraph-io/ristretto/v2/z.(*AllocatorPool).freeupAllocators"))
}

// update changes rows for ever, and says each that was accepted.
func update(dir string) {
	j, err := Open(context.Background(), dir, Options{Contents: &synced{map[uint64]int{}}, Step: 50 * time.Millisecond, Ballast: 2 << 20})
	for errors.Is(err, ErrNoRoom) {
		time.Sleep(10 * time.Millisecond)
		j, err = Open(context.Background(), dir, Options{Contents: &synced{map[uint64]int{}}, Step: 50 * time.Millisecond, Ballast: 2 << 20})
	}
	if err != nil && isPassing(err) { // Badger has kept its lock: begin anew, as a daemon would
		err = syscall.Exec(os.Args[0], os.Args, os.Environ())
	}
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	out := bufio.NewWriter(os.Stdout)
	for n := 1; ; n++ {
		key := fmt.Sprintf("k%03d", n%500)
		_, err := j.Update(func(tx *Tx) error {
			return tx.PutRow(&Row{Key: key, Kind: Put, Size: int64(n), Text: strings.Repeat("x", 3000+n%300)})
		})
		switch {
		case err == nil:
			fmt.Fprintln(out, n)
		case errors.Is(err, ErrNoRoom):
			fmt.Fprintln(out, "full")
			time.Sleep(time.Millisecond)
		default:
			fmt.Fprintln(out, "failed:", err)
			out.Flush()
			os.Exit(1)
		}
		if n%20 == 0 || err != nil {
			out.Flush()
		}
	}
}

// covers H10: others fill the disk and make room at any moment, while rows change.
// The process does not die of it, and a kill leaves every row that was accepted.
func TestOthersFillTheDiskWhileRowsChange(t *testing.T) {
	t.Parallel()
	disk := small(t, "size=64m")
	dir := filepath.Join(disk, "journal")
	full := 0
	for range 3 {
		full += fillWhile(t, disk, dir)
	}
	t.Logf("refused %d times", full)
	if full == 0 {
		t.Error("the disk was never full")
	}
}

func fillWhile(t *testing.T, disk, dir string) (full int) {
	t.Helper()
	u := startUpdates(t, dir)
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() { defer close(ended); hog(filepath.Join(disk, "hog"), stop) }()
	defer time.AfterFunc(time.Minute, u.kill).Stop() // a busy machine takes as long
	for u.next(t) {
		if u.full > 20 && u.last > 4000 {
			u.kill()
		}
	}
	u.wait(t)
	close(stop)
	<-ended
	os.Remove(filepath.Join(disk, "hog"))
	j := open(t, dir, "")
	defer j.Abandon()
	u.compare(t, j)
	return u.full
}

// updates are changes by another process, and what it said of them.
type updates struct {
	child  *exec.Cmd
	out    *bufio.Scanner
	stderr strings.Builder
	rows   map[string]int // the newest size that was accepted
	last   int            // how many changes there were
	full   int            // how many were refused
}

func startUpdates(t *testing.T, dir string) *updates {
	t.Helper()
	u := &updates{child: exec.Command(os.Args[0]), rows: map[string]int{}}
	u.child.Env = append(os.Environ(), childDir+"="+dir, "GOMAXPROCS=2")
	u.child.Stderr = &u.stderr
	out, err := u.child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := u.child.Start(); err != nil {
		t.Fatal(err)
	}
	u.out = bufio.NewScanner(out)
	return u
}

// next reads a line; false: the process has ended.
func (u *updates) next(t *testing.T) bool {
	t.Helper()
	if !u.out.Scan() {
		return false
	}
	n := 0
	switch _, err := fmt.Sscan(u.out.Text(), &n); {
	case err == nil:
		u.rows[fmt.Sprintf("k%03d", n%500)], u.last = n, n
	case u.out.Text() == "full":
		u.full++
	default:
		t.Fatal(u.out.Text())
	}
	return true
}

func (u *updates) kill() { u.child.Process.Kill() }

func (u *updates) wait(t *testing.T) {
	t.Helper()
	if err := u.child.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the process ended by itself after %d rows: %v\n%.2000s", u.last, err, &u.stderr)
	}
}

// compare looks for the rows that were accepted.
func (u *updates) compare(t *testing.T, j *Journal) {
	t.Helper()
	lost := 0
	err := j.View(func(tx *Tx) error {
		for key, n := range u.rows {
			if r, err := tx.Row(key); err != nil || r == nil || r.Size < int64(n) {
				lost++
			}
		}
		return nil
	})
	if err != nil || lost > 0 {
		t.Fatalf("%d of %d rows are lost after %d changes: %v", lost, len(u.rows), u.last, err)
	}
}

// covers H10: a start that finds room for the database and none for the horizon says so,
// and the next one goes on.
func TestNoRoomForTheHorizon(t *testing.T) {
	t.Parallel()
	full, dir := small(t, "size=1m"), filepath.Join(t.TempDir(), "journal")
	hogged := filepath.Join(full, "hog")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "horizon"), nil, 0o600), os.WriteFile(filepath.Join(full, "horizon"), nil, 0o600),
		unix.Mount(filepath.Join(full, "horizon"), filepath.Join(dir, "horizon"), "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(filepath.Join(dir, "horizon"), unix.MNT_DETACH) })
	if err := os.WriteFile(hogged, make([]byte, 2<<20), 0o600); !isFull(err) {
		t.Fatal(err)
	}
	for range 2 {
		if j, err := Open(t.Context(), dir, Options{Contents: &synced{map[uint64]int{}}, BootID: "boot1"}); !errors.Is(err, ErrNoRoom) {
			if err == nil {
				j.Abandon()
			}
			t.Fatalf("opened without room for the horizon: %v", err)
		}
	}
	if err := os.Remove(hogged); err != nil {
		t.Fatal(err)
	}
	j := open(t, dir, "boot1")
	if err := j.WaitHorizon(t.Context(), put(t, j, &Row{Key: "a", Kind: Put, Content: 1})); err != nil {
		t.Error(err)
	}
}

// covers H10: a journal that is killed and begun again on a disk where there is just
// room enough to begin does not take what is left of it, life by life, for tables that
// are never merged.
func TestLivesOnAFullDiskTakeNoMoreOfIt(t *testing.T) {
	t.Parallel()
	disk := small(t, "size=80m")
	dir, hog := filepath.Join(disk, "journal"), filepath.Join(disk, "hog")
	var u *updates
	for life := range 10 {
		leave(t, disk, hog, openBlocks+1<<20)
		u = startUpdates(t, dir)
		stop := time.AfterFunc(2*time.Minute, u.kill)
		for u.full < 200 && u.next(t) {
		}
		if !stop.Stop() {
			t.Fatalf("life %d: %d changes, and only %d were refused", life, u.last, u.full)
		}
		u.kill()
		for u.next(t) {
		}
		u.wait(t)
		if err := os.Remove(hog); err != nil {
			t.Fatal(err)
		}
		t.Logf("life %d: %d changes, the journal takes %d MiB", life, u.last, taken(t, dir)>>20)
	}
	most := int64(4 * logBlocks)
	if n := taken(t, dir); n > most {
		t.Errorf("the journal takes %d MiB, more than %d", n>>20, most>>20)
	}
	j := open(t, dir, "")
	defer j.Abandon()
	u.compare(t, j)
}

// covers H10: tables of a merge that a crash cut short are no reason not to begin.
func TestStartDropsWhatAMergeLeft(t *testing.T) {
	t.Parallel()
	disk := small(t, "size=64m")
	dir := filepath.Join(disk, "journal")
	j := open(t, dir, "boot1")
	put(t, j, &Row{Key: "a", Kind: Put, Size: 1})
	if err := j.Close(); err != nil { // a table of its own
		t.Fatal(err)
	}
	left := filepath.Join(dir, "db", "000077.sst")
	if err := os.WriteFile(left, make([]byte, 20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	leave(t, disk, filepath.Join(disk, "hog"), 1<<20)
	if got := keys(t, open(t, dir, "boot1"), ""); len(got) != 1 {
		t.Fatalf("rows %v", got)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what the merge left: %v", err)
	}
}

// leave fills the disk up to n bytes.
func leave(t *testing.T, disk, hog string, n int64) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(disk, &st); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(hog)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if most := int64(st.Bavail)*st.Bsize - n; most > 0 {
		if err := fallocate(int(f.Fd()), 0, most); err != nil {
			t.Fatal(err)
		}
	}
}

// hog takes all of the disk and gives some of it back, again and again.
func hog(path string, stop <-chan struct{}) {
	f, err := os.Create(path)
	if err != nil {
		return
	}
	defer f.Close()
	chunk := make([]byte, 256<<10)
	for at := int64(0); ; {
		select {
		case <-stop:
			return
		default:
		}
		n, err := f.WriteAt(chunk, at)
		if at += int64(n); err != nil {
			time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
			at -= min(at, int64(rand.IntN(30<<20)))
			f.Truncate(at)
		}
	}
}

// The database does not grow with the number of changes.
func TestManyChangesOfFewRowsTakeLittleRoom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, err := Open(context.Background(), dir, Options{Contents: &synced{map[uint64]int{}}, Step: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Abandon()
	most, changes := int64(0), 200_000
	if raceDetector { // ten times as slow
		changes /= 10
	}
	for n := range changes {
		put(t, j, &Row{Key: fmt.Sprintf("k%02d", n%50), Kind: Put, Size: int64(n), Text: strings.Repeat("x", 300)})
		if n%5000 == 0 {
			most = max(most, taken(t, dir))
		}
	}
	t.Logf("at most %d MiB", most>>20)
	if most > 100<<20 {
		t.Errorf("the journal takes %d MiB", most>>20)
	}
	checkNow(t, j)
}

func taken(t *testing.T, dir string) (sum int64) {
	t.Helper()
	err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil {
			sum += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// covers H10: a full disk refuses changes before they reach Badger; when there is
// room they go on.
func TestChangesGoOnWhenThereIsRoomAgain(t *testing.T) {
	t.Parallel()
	disk := small(t, "size=64m")
	j, err := Open(context.Background(), filepath.Join(disk, "journal"), Options{Contents: &synced{map[uint64]int{}}, Step: 50 * time.Millisecond, Ballast: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Abandon()
	fill(t, filepath.Join(disk, "hog"))
	accepted := 0
	change := func(n int) error {
		_, err := j.Update(func(tx *Tx) error {
			return tx.PutRow(&Row{Key: fmt.Sprintf("k%03d", n%300), Kind: Put, Size: int64(n), Text: strings.Repeat("x", 500)})
		})
		return err
	}
	for ; err == nil; accepted++ {
		err = change(accepted)
	}
	if !errors.Is(err, ErrNoRoom) {
		t.Fatalf("after %d changes: %v", accepted, err)
	}
	if r := j.Room(); r.Why == "" || r.Ballast != 0 {
		t.Errorf("status: %+v", r)
	}
	os.Remove(filepath.Join(disk, "hog"))
	for n := range 30_000 {
		err := change(n)
		for end := time.Now().Add(time.Minute); errors.Is(err, ErrNoRoom) && time.Now().Before(end); err = change(n) {
			time.Sleep(time.Millisecond) // a table is on its way
		}
		if err != nil {
			t.Fatalf("with room again, change %d: %v", n, err)
		}
	}
	t.Logf("%d changes on the full disk", accepted)
	checkNow(t, j)
}

func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 64<<10); len(chunk) > 0; {
		if _, err := f.Write(chunk); err != nil {
			chunk = chunk[:len(chunk)/2]
		}
	}
}

// covers H10: Badger leaves out a table that it cannot make when it merges others.
func TestWhatAMergeLosesIsPutBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, err := Open(context.Background(), dir, Options{Contents: &synced{map[uint64]int{}}, Step: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Abandon()
	for n := range 2000 {
		put(t, j, &Row{Key: fmt.Sprintf("k%04d", n), Kind: Put, Size: int64(n), Text: strings.Repeat("x", 3000)})
	}
	held := j.everything()
	defer held.close()
	rows := keys(t, j, "")
	if err := j.db.DropPrefix([]byte{spaceRow, 'k', '1'}); err != nil {
		t.Fatal(err)
	}
	if n := len(keys(t, j, "")); n != 1000 {
		t.Fatalf("%d rows are left", n)
	}
	if err := j.compare(held); err != nil {
		t.Fatal(err)
	}
	if n := len(keys(t, j, "")); n != len(rows) {
		t.Fatalf("%d rows of %d", n, len(rows))
	}
	checkNow(t, j)
}

// covers H10: a disk that is full at the end, also in the middle of a merge of tables,
// leaves the journal as a crash would.
func TestClosedOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk := small(t, "size=64m")
	dir := filepath.Join(disk, "journal")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir, "OSSMOUNT_TEST_CLOSE="+filepath.Join(disk, "hog"))
	out, err := child.CombinedOutput()
	if err != nil || !strings.Contains(string(out), ErrNoRoom.Error()) {
		t.Fatalf("close on a full disk: %v\n%.2000s", err, out)
	}
	os.Remove(filepath.Join(disk, "hog"))
	if n := len(keys(t, open(t, dir, ""), "")); n != 2000 {
		t.Fatalf("%d rows of 2000", n)
	}
}

// closeFull changes rows, has the disk filled, and closes the journal.
func closeFull(dir, hog string) {
	j, err := Open(context.Background(), dir, Options{Contents: &synced{map[uint64]int{}}, Step: time.Hour})
	for n := 0; n < 2000 && err == nil; n++ {
		_, err = j.Update(func(tx *Tx) error {
			return tx.PutRow(&Row{Key: fmt.Sprintf("k%04d", n), Kind: Put, Text: strings.Repeat("x", 500)})
		})
	}
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	if f, err := os.Create(hog); err == nil {
		for chunk := make([]byte, 64<<10); len(chunk) > 0; {
			if _, err := f.Write(chunk); err != nil {
				chunk = chunk[:len(chunk)/2]
			}
		}
	}
	// A merge of tables is in the middle of making one.
	f, err := os.Create(filepath.Join(j.room.db(), "999999.sst"))
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	j.group.Go(func() error { return j.room.allocate(int(f.Fd()), 8<<20, "999999.sst") })
	for !j.room.isWaiting() {
		time.Sleep(time.Millisecond)
	}
	fmt.Println(j.Close())
	os.Exit(0)
}

// A start on a full disk says so, and takes nothing for damaged.
func TestStartOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk := small(t, "size=64m")
	dir := filepath.Join(disk, "journal")
	j := open(t, dir, "boot1")
	put(t, j, &Row{Key: "a", Kind: Put, Size: 1})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	fill(t, filepath.Join(disk, "hog"))
	_, err := Open(context.Background(), dir, Options{Contents: &synced{map[uint64]int{}}, BootID: "boot1"})
	if !errors.Is(err, ErrNoRoom) {
		t.Fatalf("on a full disk: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(disk, "*.damaged*")); len(left) > 0 {
		t.Fatalf("moved aside: %v", left)
	}
	os.Remove(filepath.Join(disk, "hog"))
	if got := keys(t, open(t, dir, "boot1"), ""); len(got) != 1 {
		t.Fatalf("rows %v", got)
	}
}

// covers H10: a batch for which there is no room is taken back, at the latest when
// there is some.
func TestBatchOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk := small(t, "size=64m")
	dir := filepath.Join(disk, "journal")
	j := open(t, dir, "boot1")
	put(t, j, &Row{Key: "a", Kind: Put, Size: 1})
	fill(t, filepath.Join(disk, "hog"))
	_, err := j.Batch(func(tx *Tx) error {
		for n := range 40_000 {
			if err := tx.PutRow(&Row{Key: fmt.Sprintf("b%06d", n), Kind: Put, Text: strings.Repeat("x", 500)}); err != nil {
				return err
			}
		}
		return nil
	})
	if !errors.Is(err, ErrNoRoom) {
		t.Fatalf("the batch: %v", err)
	}
	if got := keys(t, j, ""); len(got) != 1 {
		t.Fatalf("%d rows can be seen", len(got))
	}
	if _, err := j.Update(func(tx *Tx) error { return tx.PutRow(&Row{Key: "c", Kind: Put}) }); !errors.Is(err, ErrNoRoom) {
		t.Errorf("a change before there is room: %v", err)
	}
	os.Remove(filepath.Join(disk, "hog"))
	for end := time.Now().Add(time.Minute); err != nil && time.Now().Before(end); time.Sleep(time.Millisecond) {
		_, err = j.Update(func(tx *Tx) error { return tx.PutRow(&Row{Key: "c", Kind: Put}) })
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := keys(t, j, ""); len(got) != 2 {
		t.Fatalf("%d rows", len(got))
	}
	checkNow(t, j)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if got := keys(t, open(t, dir, "boot1"), ""); len(got) != 2 {
		t.Fatalf("%d rows after a start", len(got))
	}
}
