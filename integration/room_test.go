package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

// memoryDisk is a small file system in memory. It is asked for before setup, and so
// outlives what is mounted.
func memoryDisk(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// loopDisk is an ext4 of its own, made with the flags of mkfs.
func loopDisk(t *testing.T, size string, mkfs ...string) (dir, device string) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	dir = t.TempDir()
	run := func(name string, args ...string) string {
		t.Helper()
		r, err := harness.Run(context.Background(), nil, name, args...)
		if err != nil || r.Code != 0 {
			t.Fatalf("%s %q: %v %v", name, args, r, err)
		}
		return strings.TrimSpace(r.Out)
	}
	run("truncate", "-s", size, image)
	run("mkfs.ext4", append(append([]string{"-q", "-F"}, mkfs...), image)...)
	device = run("losetup", "--find", "--show", image)
	t.Cleanup(func() {
		unix.Unmount(dir, unix.MNT_DETACH)
		run("losetup", "-d", device)
	})
	run("mount", "-o", "errors=remount-ro", device, dir)
	return dir, device
}

// mountOn mounts the bucket with its cache on the disk.
func (e *env) mountOn(disk string, flags ...string) *mount {
	e.Helper()
	m := &mount{e: e, Mount: &harness.Mount{Bin: binary, Source: "oss://" + harness.Bucket, Point: e.path("mnt"), Cache: filepath.Join(disk, "cache"),
		Flags: append(e.usual(), flags...)}}
	e.ok(os.MkdirAll(m.Point, 0o755))
	m.start()
	return m
}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	r.Read(b)
	return b
}

// hold has OSS answer no upload.
func (e *env) hold() {
	e.Helper()
	for _, op := range []string{"PutObject", "UploadPart"} {
		_, err := e.server.Fault("delay,op=" + op)
		e.ok(err)
	}
}

// hog takes what is left of a disk.
func hog(t *testing.T, disk string) {
	t.Helper()
	f, err := os.Create(filepath.Join(disk, "hog"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 256<<10); len(chunk) > 0; {
		if _, err := f.Write(chunk); err != nil {
			chunk = chunk[:len(chunk)/2]
		}
	}
}

func unhog(t *testing.T, disk string) {
	t.Helper()
	if err := os.Remove(filepath.Join(disk, "hog")); err != nil {
		t.Fatal(err)
	}
}

// writeFull writes files of n bytes until one fails; it returns those that were
// closed.
func writeFull(m *mount, n int) (closed []string, err error) {
	body := random(n)
	for i := range 10_000 {
		path := m.in(fmt.Sprintf("f%04d", i))
		if err := os.WriteFile(path, body, 0o644); err != nil {
			return closed, err
		}
		closed = append(closed, path)
	}
	return closed, errors.New("the disk is never full")
}

// covers H44: more is written than the quota has; the writer is as slow as the
// uploads, and gets no error.
func TestWritersWaitForTheUploads(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--cache-size=12M", "--upload-limit=8M")
	src := e.path("src")
	e.ok(os.Mkdir(src, 0o755))
	most := int64(0)
	for i := range 20 {
		name := fmt.Sprintf("f%02d", i)
		e.ok(harness.WriteFile(filepath.Join(src, name), uint64(i), 2<<20))
		e.sh(`cp -p "$1" "$2"`, filepath.Join(src, name), m.in(name))
		most = max(most, m.status().Room.Used)
	}
	m.wait(m.Point)
	e.verify("", src)
	t.Logf("the cache held at most %d MiB of 12", most>>20)
	if most > 13<<20 {
		t.Errorf("the cache held %d bytes, its quota is %d", most, 12<<20)
	}
	e.sameTrees(src, m.Point)
	m.umount(0)
}

// covers H44: ENOSPC comes after a time without progress, and only to writers. All
// that was closed arrives later, and what waits can be interrupted (H42).
func TestNoProgressIsNoSpace(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--cache-size=8M", "--room-wait=1s", "--stall=5s")
	e.write(m.in("other"), "uploaded")
	m.wait(m.Point)
	e.hold()
	closed, err := writeFull(m, 1<<20)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("after %d files: %v", len(closed), err)
	}
	if n := len(closed); n < 4 || n > 8 {
		t.Errorf("%d files of 1 MiB fit into 8 MiB", n)
	}
	if s := m.status(); s.Room.Why == "" || s.Room.Pending < int64(len(closed))<<20 {
		t.Errorf("status: %+v", s.Room)
	}
	// Other files can be used.
	e.reads(closed[1], string(random(1<<20)))
	e.ok(os.Rename(closed[0], m.in("renamed")))
	e.ok(os.Remove(m.in("other")))
	e.ok(e.server.ClearFaults())
	m.wait(m.Point)
	want := string(random(1 << 20))
	for _, path := range append(closed[1:], m.in("renamed")) {
		e.object(filepath.Base(path), want)
	}
	e.write(m.in("after"), string(random(5<<20)))
	m.wait(m.Point)
	m.umount(0)
}

// covers H42, H44: who waits for room can be interrupted, and holds nobody up.
func TestWaitForRoomIsInterrupted(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--cache-size=4M", "--room-wait=10m")
	e.ok(e.server.Kill())
	_, err := harness.Run(e.soon(), nil, "/bin/sh", "-c", `timeout -s INT 3 dd if=/dev/zero of="$1" bs=64k count=200 2>/dev/null`, "sh", m.in("big"))
	e.ok(err)
	st, err := os.Stat(m.in("big"))
	e.ok(err)
	if st.Size() == 0 || st.Size() >= 200*64<<10 {
		t.Errorf("%d bytes were written", st.Size())
	}
	waits := make(chan error, 1)
	go func() { waits <- os.WriteFile(m.in("waits"), random(2<<20), 0o644) }()
	e.poll("the writer waits", patience, func() bool { return len(m.status().Room.Waiting) > 0 })
	e.ok(os.Remove(m.in("big"))) // makes room by itself
	e.ok(<-waits)
	e.ok(e.server.Start(e.soon()))
	m.wait(m.Point)
	e.object("waits", string(random(2<<20)))
	m.umount(0)
}

// covers H44: a file that is larger than the quota while it is open ends with ENOSPC;
// close works, and what was written is kept.
func TestOpenFileLargerThanTheQuota(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--cache-size=8M", "--room-wait=1s", "--eager=off")
	f, err := os.Create(m.in("big"))
	e.ok(err)
	body := random(16 << 20)
	n, err := f.Write(body)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("%d bytes: %v", n, err)
	}
	e.ok(f.Close())
	m.wait(m.Point)
	st, err := os.Stat(m.in("big"))
	e.ok(err)
	if st.Size() < 4<<20 || st.Size() > 8<<20 {
		t.Errorf("it has %d bytes", st.Size())
	}
	e.object("big", string(body[:st.Size()]))
	if !strings.Contains(m.P.Err.String(), "no room: writers get ENOSPC") {
		t.Error("the log says nothing")
	}
	e.write(m.in("next"), string(random(4<<20)))
	m.umount(0)
}

// covers H44: what nobody carries takes more than half of the quota: nobody waits
// for it.
func TestStuckFilesTakeHalfOfTheQuota(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--cache-size=8M", "--room-wait=10m")
	f, err := os.Create(m.in("stuck"))
	e.ok(err)
	_, err = f.Write(random(5 << 20))
	e.ok(err)
	e.ok(f.Sync())
	_, err = f.Write([]byte("more"))
	e.ok(err)
	m.kill9()
	f.Close()
	m.start()
	closed, err := writeFull(m, 512<<10)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("after %d files: %v", len(closed), err)
	}
	s := m.status().Room
	if s.Stuck < 5<<20 || !strings.Contains(s.Why, "half of the quota") {
		t.Errorf("status: %+v", s)
	}
	e.sh(`: >> "$1"`, m.in("stuck")) // closed again: it is carried
	m.wait(m.Point)
	e.write(m.in("after"), string(random(5<<20)))
	m.umount(0)
}

// covers H44: reads go on without room.
func TestReadsWithoutRoomInTheCache(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--cache-size=8M", "--room-wait=1s")
	big := random(6 << 20)
	e.write(m.in("big"), string(big))
	m.wait(m.Point)
	m.umount(0)
	e.ok(os.RemoveAll(m.Cache))
	m.start()
	e.hold()
	if _, err := writeFull(m, 1<<20); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	got, err := os.ReadFile(m.in("big"))
	e.ok(err)
	if !bytes.Equal(got, big) {
		t.Error("it reads as something else")
	}
	e.ok(e.server.ClearFaults())
	m.wait(m.Point)
	m.umount(0)
}

// Who looks at files needs no room, though something might be noted of them: when they
// were modified, as OSS says.
func TestLooksNeedNoRoom(t *testing.T) {
	t.Parallel()
	disk := memoryDisk(t, "size=96m")
	e := setup(t)
	m := e.mountOn(disk, "--room-wait=100ms", "--cache-min-free=1M", "--meta-ttl=1s")
	e.forest(m.in("tree"), 1, 20)
	m.wait(m.Point)
	e.hold()
	hog(t, disk)
	full := error(nil)
	for n := 0; full == nil && n < 100_000; n++ {
		if full = os.Mkdir(m.in(fmt.Sprintf("d%06d", n)), 0o755); full == nil {
			full = os.Chtimes(m.in(fmt.Sprintf("d%06d", n)), time.Now(), time.Now())
		}
	}
	e.is(syscall.ENOSPC, full)
	for n := range 20 {
		if _, err := os.Stat(m.in(fmt.Sprintf("tree/dir000/file%04d", n))); err != nil {
			t.Fatalf("a look at a file: %v", err)
		}
	}
	unhog(t, disk)
	e.ok(e.server.ClearFaults())
	m.umount(0, "--drain=1m")
}

// covers H10, H44: another program fills the disk. Calls say so, nothing that was
// closed is lost, and all goes on when there is room.
func TestDiskFullOfOthers(t *testing.T) {
	t.Parallel()
	disk := memoryDisk(t, "size=96m")
	e := setup(t)
	m := e.mountOn(disk, "--room-wait=1s", "--cache-min-free=1M")
	e.hold()
	e.write(m.in("before"), string(random(1<<20)))
	hog(t, disk)
	closed, err := writeFull(m, 256<<10)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("after %d files: %v", len(closed), err)
	}
	// Small changes too, until the journal has no room left.
	made := 0
	for err = nil; err == nil && made < 100_000; made++ {
		err = os.Mkdir(m.in(fmt.Sprintf("d%06d", made)), 0o755)
		if err == nil {
			err = os.Chtimes(m.in(fmt.Sprintf("d%06d", made)), time.Now(), time.Now())
		}
	}
	t.Logf("%d directories, then %v", made-1, err)
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a directory: %v", err)
	}
	e.reads(m.in("before"), string(random(1<<20)))
	unhog(t, disk)
	e.poll("there is room again", patience, func() bool { return os.WriteFile(m.in("after"), []byte("x"), 0o644) == nil })
	m.kill9()
	hog(t, disk) // the disk is full at the next start, too: what that frees may do, or may not
	if err := m.Start(e.soon()); err == nil {
		e.reads(m.in("after"), "x")
		m.kill9()
	} else if !strings.Contains(err.Error(), "full") {
		t.Errorf("a start on a full disk: %v", err)
	}
	unhog(t, disk)
	m.start()
	e.ok(e.server.ClearFaults())
	m.wait(m.Point)
	for _, path := range closed {
		e.object(filepath.Base(path), string(random(256<<10)))
	}
	e.object("before", string(random(1<<20)))
	e.object("after", "x")
	m.umount(0)
}

// covers H44: no inode is left. Copies of what is on OSS make room for others.
func TestInodesRunOut(t *testing.T) {
	t.Parallel()
	disk, _ := loopDisk(t, "128M", "-N", "800")
	e := setup(t)
	m := e.mountOn(disk, "--room-wait=1s", "--cache-min-free=1M")
	e.hold()
	closed, err := writeFull(m, 100)
	if !errors.Is(err, syscall.ENOSPC) || len(closed) < 100 {
		t.Fatalf("after %d files: %v", len(closed), err)
	}
	e.ok(e.server.ClearFaults())
	m.wait(m.Point)
	for _, path := range []string{closed[0], closed[len(closed)/2], closed[len(closed)-1]} {
		e.object(filepath.Base(path), string(random(100)))
	}
	for i := range 300 {
		e.write(m.in(fmt.Sprintf("later%d", i)), "x")
	}
	m.wait(m.Point)
	m.umount(0)
}

// covers H44: the file system of the cache goes read-only by an error of its disk.
// Writers are told so, the mount lives, and what was durable goes up after a
// restart.
func TestDiskThatGoesReadOnly(t *testing.T) {
	t.Parallel()
	disk, device := loopDisk(t, "128M")
	e := setup(t)
	m := e.mountOn(disk, "--room-wait=1s")
	e.hold()
	e.write(m.in("durable"), string(random(1<<20)))
	f, err := os.Open(m.in("durable"))
	e.ok(err)
	e.ok(f.Sync())
	f.Close()
	e.ok(os.WriteFile("/sys/fs/ext4/"+filepath.Base(device)+"/trigger_fs_error", []byte("1"), 0))
	e.poll("writes are refused", patience, func() bool {
		err = os.WriteFile(m.in("late"), []byte("x"), 0o644)
		return err != nil
	})
	if !errors.Is(err, syscall.EROFS) {
		t.Errorf("a write: %v", err)
	}
	e.reads(m.in("durable"), string(random(1<<20)))
	e.poll("status says it", patience, func() bool { return m.status().Room.Journal.Why != "" })
	m.kill9()
	e.ok(harness.Detach(m.Point))
	e.sh(`umount "$1"; fsck.ext4 -y "$2" || [ $? -le 2 ]; mount "$2" "$1"`, disk, device)
	m.start()
	e.ok(e.server.ClearFaults())
	m.wait(m.Point)
	e.object("durable", string(random(1<<20)))
	m.umount(0)
}

// covers H44: the cache directory is moved away beneath the mount, and comes back.
func TestCacheDirectoryThatIsGone(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--room-wait=1s")
	e.hold()
	e.write(m.in("before"), "closed")
	e.ok(os.Rename(m.Cache, m.Cache+"-aside"))
	if err := os.WriteFile(m.in("late"), []byte("x"), 0o644); !errors.Is(err, syscall.EIO) {
		t.Errorf("create without a cache directory: %v", err)
	}
	n := 0
	e.poll("a change is refused", patience, func() bool {
		n++
		return errors.Is(os.Mkdir(m.in(fmt.Sprint("dir", n)), 0o755), syscall.EIO)
	})
	e.poll("the log says it", patience, func() bool { return strings.Contains(m.P.Err.String(), "the cache directory is gone") })
	e.ok(os.Rename(m.Cache+"-aside", m.Cache))
	e.poll("it goes on", patience, func() bool { return os.WriteFile(m.in("after"), []byte("again"), 0o644) == nil })
	e.ok(e.server.ClearFaults())
	m.wait(m.Point)
	e.object("before", "closed")
	e.object("after", "again")
	m.umount(0)
}

// More is copied in, on a disk that holds but a part of it, than OSS takes as fast:
// cp is slow and gets no error, and all arrives. Then OSS is away: cp gets ENOSPC
// after a time without progress, and what was closed before is not lost. covers H44
func TestCopyThroughASmallDisk(t *testing.T) {
	t.Parallel()
	size, files := "100m", 160
	if *full {
		size, files = "200m", 1024
	}
	disk := memoryDisk(t, "size="+size)
	e := setup(t, "--bandwidth=20000000")
	m := e.mountOn(disk, "--room-wait=2s")
	src := e.path("src")
	e.ok(os.Mkdir(src, 0o755))
	for i := range files {
		e.ok(harness.WriteFile(filepath.Join(src, fmt.Sprintf("f%04d", i)), uint64(i), 1<<20))
	}
	started := time.Now()
	e.sh(`cp -r "$1" "$2"`, src, m.in("copy"))
	took := time.Since(started)
	m.wait(m.Point)
	e.verify("copy/", src)
	t.Logf("%d files of 1 MiB through a disk of %s: cp took %v, no ENOSPC; all are on OSS", files, size, took.Round(time.Millisecond))
	e.hold()
	started = time.Now()
	closed, err := writeFull(m, 1<<20)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("after %d files: %v", len(closed), err)
	}
	t.Logf("OSS away: ENOSPC after %d more files and %v, with --room-wait=2s", len(closed), time.Since(started).Round(time.Millisecond))
	m.kill9()
	m.start()
	e.ok(e.server.ClearFaults())
	m.wait(m.Point)
	for _, path := range closed {
		e.object(filepath.Base(path), string(random(1<<20)))
	}
	m.umount(0)
}
