package integration

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ossmount/ossmount/integration/harness"
)

func TestClosedFilesArriveAfterSIGKILL(t *testing.T) {
	t.Parallel()
	for _, delay := range []string{"8s", "0s"} { // killed before, and during the uploads
		t.Run("delay "+delay, func(t *testing.T) {
			t.Parallel()
			e := setup(t, "--latency=5ms")
			m := e.mount("cache", "--write-back-delay="+delay, "--doubt=2s")
			src := e.path("src")
			e.ok(harness.Generate(src, 11, 400))
			e.sh(`cd / && cp -a "$1/." "$2"`, src, m.Point)
			m.kill9()
			if !m.Dead() {
				t.Error("the mount point of a killed daemon should be dead")
			}
			m.Flags = append(m.Flags, "--write-back-delay=0s")
			m.start()
			e.sameTrees(src, m.Point)
			m.wait(m.Point)
			e.verify("", src)
			if s := m.status(); len(s.LostAndFound) > 0 || s.Queue.Interrupted > 0 {
				t.Errorf("nothing was open: %+v", s)
			}
			m.umount(0)
			m = e.mount("another-cache")
			e.sameTrees(src, m.Point)
		})
	}
}

// unforked runs f while no test starts a process: a child has every open file
// for a moment, and its exec closes them, which a mount sees as a close.
func unforked(f func()) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	f()
}

func TestFileThatWasNeverClosedIsFoundNotPublished(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=0s")
	unforked(func() {
		f := e.open(m.in("f"), os.O_CREATE|os.O_WRONLY)
		_, err := f.WriteString(strings.Repeat("half a file ", 100_000))
		e.ok(err)
		m.kill9()
		f.Close()
	})
	m.start()
	if _, err := os.Stat(m.in("f")); !os.IsNotExist(err) {
		t.Errorf("the file that was never closed: %v", err)
	}
	m.wait(m.Point)
	s := m.status()
	if len(s.LostAndFound) != 1 || s.LostAndFound[0].Size != 1_200_000 || s.LostAndFound[0].Witness.Key != "f" {
		t.Fatalf("lost+found: %+v", s.LostAndFound)
	}
	if b, err := os.ReadFile(s.LostAndFound[0].Path); err != nil || string(b) != strings.Repeat("half a file ", 100_000) {
		t.Errorf("the bytes in lost+found: %d, %v", len(b), err)
	}
	keys, err := e.server.Keys("")
	e.ok(err)
	if len(keys) != 0 {
		t.Errorf("published: %q", keys)
	}
	r, err := m.Run(e.soon(), "status", m.Point)
	e.ok(err)
	if !strings.Contains(r.Out, s.LostAndFound[0].Path) {
		t.Errorf("status does not name what was found: %s", r.Out)
	}
	m.umount(0)
}

func TestFileThatWasBeingRewrittenIsInterrupted(t *testing.T) {
	t.Parallel()
	for _, published := range []bool{true, false} {
		t.Run(fmt.Sprint("published ", published), func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			delay := "60s"
			if published {
				delay = "0s"
			}
			m := e.mount("cache", "--write-back-delay="+delay)
			old := strings.Repeat("old ", 50_000)
			e.write(m.in("f"), old)
			if published {
				m.wait(m.in("f"))
			}
			unforked(func() {
				f := e.open(m.in("f"), os.O_WRONLY)
				e.writeAt(f, "NEW", 100)
				m.kill9()
				f.Close()
			})
			m.Flags = append(m.Flags, "--write-back-delay=0s")
			m.start()
			want := old[:100] + "NEW" + old[103:]
			if b, err := os.ReadFile(m.in("f")); err != nil || string(b) != want && string(b) != old {
				t.Errorf("after the kill it reads %d bytes %.20q, %v", len(b), b, err)
			}
			r, err := m.Wait(m.Point, 10*time.Second)
			e.ok(err)
			s := m.status()
			if published && len(s.LostAndFound) == 1 { // no row was needed for it: the old version stands
				e.object("f", old)
				e.reads(m.in("f"), old)
				m.umount(0)
				return
			}
			if r.Code != 4 || s.Queue.Interrupted != 1 || e.state(m.in("f")) != "interrupted" {
				t.Fatalf("want it interrupted: wait %v\n%+v", r, s)
			}
			keys, err := e.server.Keys("")
			e.ok(err)
			if published {
				e.object("f", old)
			} else if len(keys) > 0 {
				t.Errorf("published: %q", keys)
			}
			e.reads(m.in("f"), want)
			m.umount(4)
			m.start()
			e.appends(m.in("f"), "!") // closed again through the mount: goes up
			m.wait(m.Point)
			e.object("f", want+"!")
			m.umount(0)
		})
	}
}

func TestEmptiedAndNotClosedKeepsTheObject(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=0s")
	e.write(m.in("f"), "the version that counts")
	m.wait(m.in("f"))
	unforked(func() {
		f := e.open(m.in("f"), os.O_WRONLY|os.O_TRUNC)
		f.WriteString("to")
		m.kill9()
		f.Close()
	})
	m.start()
	r, err := m.Wait(m.Point, 5*time.Second)
	e.ok(err)
	e.object("f", "the version that counts")
	b, err := os.ReadFile(m.in("f"))
	e.ok(err)
	s := m.status()
	t.Logf("in the mount it is %q now, wait says %d, interrupted %d, lost+found %d", b, r.Code, s.Queue.Interrupted, len(s.LostAndFound))
	if s.Queue.Interrupted+len(s.LostAndFound) != 1 {
		t.Errorf("the half-written bytes are nowhere: %+v", s)
	}
}

func TestKillBetweenRenamesLeavesOldOrNewNames(t *testing.T) {
	t.Parallel()
	e := setup(t, "--latency=20ms")
	m := e.mount("cache", "--write-back-delay=0s")
	for i := range 20 {
		e.ok(os.MkdirAll(m.in(fmt.Sprintf("d%02d/sub", i)), 0o755))
		e.write(m.in(fmt.Sprintf("d%02d/uploaded", i)), fmt.Sprint("uploaded ", i))
		e.ok(os.Symlink("uploaded", m.in(fmt.Sprintf("d%02d/sub/link", i))))
	}
	m.wait(m.Point)
	for i := range 20 {
		e.write(m.in(fmt.Sprintf("d%02d/sub/pending", i)), fmt.Sprint("pending ", i))
	}
	done := make(chan int) // how many renames have returned
	go func() {
		n := 0
		for ; n < 20 && os.Rename(m.in(fmt.Sprintf("d%02d", n)), m.in(fmt.Sprintf("n%02d", n))) == nil; n++ {
		}
		done <- n
	}()
	e.poll("some directories are renamed", patience, func() bool {
		_, err := os.Stat(m.in("n05"))
		return err == nil
	})
	m.kill9()
	renamed := <-done
	m.start()
	check := func(m *mount) {
		for i := range 20 {
			o, n := m.in(fmt.Sprintf("d%02d", i)), m.in(fmt.Sprintf("n%02d", i))
			_, oldErr := os.Stat(o)
			_, newErr := os.Stat(n)
			if (oldErr == nil) == (newErr == nil) {
				t.Fatalf("directory %d: old name %v, new name %v", i, oldErr, newErr)
			}
			at := n
			if oldErr == nil {
				at = o
				if i < renamed {
					t.Errorf("rename %d had returned, and is undone", i)
				}
			}
			e.reads(at+"/uploaded", fmt.Sprint("uploaded ", i))
			e.reads(at+"/sub/pending", fmt.Sprint("pending ", i))
			if s, err := os.Readlink(at + "/sub/link"); err != nil || s != "uploaded" {
				t.Errorf("the symlink of %s: %q %v", at, s, err)
			}
		}
	}
	check(m)
	m.wait(m.Point)
	check(m)
	m.umount(0)
	m = e.mount("another-cache")
	check(m)
	keys, err := e.server.Keys("")
	e.ok(err)
	if len(keys) != 20*5 {
		t.Errorf("%d objects, want 100: %q", len(keys), keys)
	}
}

func TestOldNamesStayGoneWhileTheirObjectsAreDeleted(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=0s", "--upload-concurrency=1", "--meta-ttl=10m")
	for i := range 4 {
		e.ok(os.MkdirAll(m.in(fmt.Sprintf("d%d/sub", i)), 0o755))
		e.write(m.in(fmt.Sprintf("d%d/a", i)), "a")
		e.write(m.in(fmt.Sprintf("d%d/sub/b", i)), "b")
	}
	m.wait(m.Point)
	e.ok(e.server.Latency(30 * time.Millisecond))
	for i := range 4 {
		d := m.in(fmt.Sprintf("d%d", i))
		if i%2 == 0 {
			e.ok(os.RemoveAll(d))
		} else {
			e.ok(os.Rename(d, m.in(fmt.Sprintf("n%d", i))))
		}
		gone := func() {
			if _, err := os.Stat(d); !os.IsNotExist(err) {
				t.Fatalf("%s is gone, but stat says %v", d, err)
			}
			list, err := os.ReadDir(m.Point)
			e.ok(err)
			for _, at := range list {
				if at.Name() == fmt.Sprintf("d%d", i) {
					t.Fatalf("%s is gone, but readdir lists it", d)
				}
			}
		}
		for gone(); m.status().Queue.Pending > 0; gone() {
		}
		gone()
	}
	e.ok(e.server.Latency(0))
	if out := e.sh(`cd "$1" && find . | sort`, m.Point); out != ".\n./n1\n./n1/a\n./n1/sub\n./n1/sub/b\n./n3\n./n3/a\n./n3/sub\n./n3/sub/b\n" {
		t.Errorf("find: %q", out)
	}
}

func TestDeletesSurviveSIGKILL(t *testing.T) {
	t.Parallel()
	e := setup(t, "--latency=10ms")
	m := e.mount("cache", "--write-back-delay=0s")
	for i := range 60 {
		e.write(m.in(fmt.Sprint("f", i)), fmt.Sprint(i))
	}
	m.wait(m.Point)
	for i := range 60 {
		if i%2 == 0 {
			e.ok(os.Remove(m.in(fmt.Sprint("f", i))))
		}
		if i%20 == 19 {
			m.kill9()
			m.start()
		}
	}
	list, err := os.ReadDir(m.Point)
	e.ok(err)
	if len(list) != 30 {
		t.Errorf("%d files are there, want 30", len(list))
	}
	m.wait(m.Point)
	m.umount(0)
	keys, err := e.server.Keys("")
	e.ok(err)
	if len(keys) != 30 {
		t.Errorf("%d objects, want 30: %q", len(keys), keys)
	}
}

func TestDrainFinishesWithoutAMount(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=60s")
	src := e.path("src")
	e.ok(harness.Generate(src, 5, 50))
	e.ok(harness.WriteFile(src+"/big", 6, 30<<20))
	e.sh(`cd / && cp -a "$1/." "$2"`, src, m.Point)
	m.umount(3, "--drain=0s")
	s, err := m.CacheStatus()
	e.ok(err)
	if s.Queue.Pending == 0 {
		t.Errorf("status of the cache directory: %+v", s)
	}
	r, err := m.Run(e.soon(), "drain", "--cache-dir="+m.Cache, "--region="+harness.Region)
	e.ok(err)
	if r.Code != 0 {
		t.Fatalf("drain: %v", r)
	}
	e.verify("", src)
	e.ok(e.noUploads(5 * time.Second))
	if s, err = m.CacheStatus(); err != nil || s.Queue.Pending != 0 {
		t.Errorf("after drain: %+v, %v", s, err)
	}
}

// covers H46
func TestUmountWithOpenFiles(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache")
	f := e.holdOpen(m.in("open for writing"), os.O_CREATE|os.O_WRONLY)
	f.writeAt("half", 0)
	r := m.umount(1)
	if !strings.Contains(r.Err, "open for writing") || !strings.Contains(r.Err, "busy") {
		t.Errorf("it does not name the open file: %v", r)
	}
	f.writeAt("half and ", 0)
	f.writeAt("more", 9) // the mount still serves
	r = m.umount(3, "--force")
	if !strings.Contains(r.Err, "open for writing") {
		t.Errorf("it does not name the open file: %v", r)
	}
	f.end()
	m.start()
	if s := m.status(); s.Queue.Interrupted != 1 && len(s.LostAndFound) != 1 {
		t.Errorf("the open file is neither interrupted nor found: %+v", s)
	}
	keys, err := e.server.Keys("")
	e.ok(err)
	if len(keys) > 0 {
		t.Errorf("published: %q", keys)
	}
}

func TestUmountWithReadersAndACurrentDirectory(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache")
	e.write(m.in("f"), "read me")
	f := e.open(m.in("f"), os.O_RDONLY)
	defer f.Close()
	m.umount(0) // readers do not keep it
	e.object("f", "read me")
}

func TestSIGTERMDrainsAndUnmounts(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=60s")
	e.ok(harness.WriteFile(m.in("f"), 1, 1<<20))
	m.P.Signal(syscall.SIGTERM)
	code, err := m.P.Wait(patience)
	e.ok(err)
	if code != 0 {
		t.Errorf("exit %d", code)
	}
	if sum, _, err := e.server.ObjectSum("f"); err != nil {
		t.Error(err)
	} else if want, _ := harness.Sum(harness.Random(1, 1<<20)); sum != want {
		t.Error("the object is wrong")
	}
	m.start()
	e.ok(e.server.Kill())
	e.write(m.in("g"), "x")
	m.P.Signal(syscall.SIGTERM)
	e.ok(m.P.Err.Say(e.soon(), "msg=ending")) // so that the signals are two
	m.P.Signal(syscall.SIGTERM)               // no time to drain
	if code, err = m.P.Wait(patience); err != nil || code != 3 {
		t.Errorf("second SIGTERM with the server away: exit %d, %v", code, err)
	}
}

// covers H46
func TestStaleMountsOfKilledDaemonsAreCleaned(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache")
	e.write(m.in("f"), "x")
	for range 3 {
		// Something inside keeps the dead mount busy.
		f := e.open(m.in("f"), os.O_RDONLY)
		defer f.Close()
		m.kill9()
		m.start()
		e.reads(m.in("f"), "x")
	}
	if at, err := harness.Mounted(m.Point); err != nil || len(at) != 1 {
		t.Errorf("mounts: %q %v", at, err)
	}
	m.kill9()
	r, err := m.Run(e.soon(), "umount", m.Point)
	e.ok(err)
	if at, err := harness.Mounted(m.Point); err != nil || len(at) != 0 {
		t.Errorf("after umount of a dead mount (%v): %q %v", r, at, err)
	}
}

func TestLocalDirectoryIsABucket(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mountSource("local:"+e.path("local"), "mnt", "cache", "--log-level=debug")
	src := e.path("src")
	e.ok(harness.Generate(src, 8, 100))
	e.ok(harness.WriteFile(src+"/big", 6, 30<<20))
	e.sh(`cd / && cp -a "$1/." "$2"`, src, m.Point)
	m.kill9()
	m.start()
	e.sameTrees(src, m.Point)
	m.wait(m.Point)
	m.umount(0)
	m.Cache = e.path("another-cache")
	m.start()
	e.sameTrees(src, m.Point)
	m.umount(0)
}

// TestWritersNeverTearAnObject kills the daemon while one file is rewritten
// again and again, also while it is sent: what OSS holds is always one of the versions
// that were closed, whole. A file that is rewritten without any pause is never closed
// for long enough to be sent, so it is rewritten in bursts.
func TestWritersNeverTearAnObject(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=0s", "--doubt=1s", "--part-size=256KiB", "--multipart-threshold=512KiB")
	closed := 0
	const (
		size  = 3 << 20
		burst = 8
	)
	for range 4 {
		resume := make(chan struct{})
		done := make(chan int)
		go func(n int) {
			defer func() { done <- n }()
			for range resume {
				for range burst {
					f, err := os.OpenFile(m.in("f"), os.O_CREATE|os.O_WRONLY, 0o644)
					if err != nil {
						return
					}
					_, err = f.Write([]byte(strings.Repeat(string(rune('a'+(n+1)%26)), size)))
					if cerr := f.Close(); err != nil || cerr != nil {
						return
					}
					n++
				}
			}
		}(closed)
		for _, op := range []string{"UploadPart", "CompleteMultipartUpload", "UploadPart", "UploadPart", "CompleteMultipartUpload", "UploadPart"} {
			before := e.counts().Ops[op].Requests
			resume <- struct{}{}
			e.poll(op+" of a rewritten file", patience, func() bool {
				e.oneVersion("f", size)
				return e.counts().Ops[op].Requests > before
			})
		}
		m.kill9()
		close(resume)
		closed = <-done
		e.ok(e.server.Reset())
		m.start()
	}
	_, err := os.ReadFile(m.in("f"))
	e.ok(err)
	e.ok(os.WriteFile(m.in("f"), []byte(strings.Repeat("Z", size)), 0o644))
	m.wait(m.Point)
	e.object("f", strings.Repeat("Z", size))
	t.Logf("%d versions were closed", closed)
	m.umount(0)
}

// oneVersion fails unless the object, if it is there, is size times one byte.
func (e *env) oneVersion(key string, size int) {
	body, err := e.bucket().GetObject(key)
	if err != nil {
		return
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	e.ok(err)
	if len(b) != size || strings.Trim(string(b), string(b[:1])) != "" {
		e.Errorf("object %s is torn: %d bytes, begins %.10q", key, len(b), b)
	}
}

// A daemon that is killed as soon as its mount is to be seen is gone then, and whoever
// mounts next finds the cache directory free: nothing of it waits for itself.
// covers H42
func TestDaemonsKilledWhileTheyMountAreGone(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache")
	for i := range 60 {
		m.kill9()
		e.ok(harness.Detach(m.Point))
		p, err := harness.Start(harness.Credentials(), m.Bin, append([]string{"mount", m.Source, m.Point, "--cache-dir=" + m.Cache}, m.Flags...)...)
		e.ok(err)
		for deadline := time.Now().Add(patience); ; {
			at, err := harness.Mounted(m.Point)
			e.ok(err)
			if len(at) > 0 {
				break
			}
			if time.Now().After(deadline) || p.Ended() {
				t.Fatalf("it does not mount: %s", p.Err)
			}
		}
		for begin := time.Now(); time.Since(begin) < time.Duration(i)*20*time.Microsecond; { // each time a bit later
		}
		m.P = p // which kill9 waits for
	}
	m.kill9()
	m.start()
	e.write(m.in("f"), "the mount works")
	e.reads(m.in("f"), "the mount works")
	m.umount(0)
}
