package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ossmount/ossmount/integration/harness"
)

// at runs f, and fails the test if that takes as long as a hang would.
func (e *env) soonDone(what string, f func() error) {
	e.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		if err != nil {
			e.Errorf("%s: %v", what, err)
		}
	case <-time.After(patience):
		e.Fatalf("%s hangs", what)
	}
}

// state is that of a process in /proc: R, S, D, Z.
func processState(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return rest[:min(1, len(rest))]
}

// While a read waits for OSS, nothing else does: neither what is local, nor other
// files of its directory, nor the file's own attributes. Whoever reads can be
// interrupted and killed, and is in no uninterruptible sleep; who waits on gets EIO
// after --stall. covers H42
func TestNothingHangsBesideAReadThatHangs(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.put("far/f", harness.Random(1, 5<<20))
	e.put("far/g", strings.NewReader("another"))
	m := e.mount("cache", "--stall=10m")
	e.write(m.in("near"), "local bytes")
	m.wait(m.in("near"))
	hang, err := e.server.Fault("delay,op=GetObject,key=far/f")
	e.ok(err)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		cat := exec.Command("cat", m.in("far/f"))
		e.ok(cat.Start())
		ended := make(chan error, 1)
		go func() { ended <- cat.Wait() }()
		e.ok(second(e.server.WaitHeld(e.soon(), hang.ID)))
		e.poll("cat sleeps", patience, func() bool { return processState(cat.Process.Pid) == "S" })
		e.soonDone("what is local", func() error {
			e.reads(m.in("near"), "local bytes")
			return os.WriteFile(m.in("near2"), []byte("more"), 0o644)
		})
		e.soonDone("the attributes of the file", func() error { return second(os.Stat(m.in("far/f"))) })
		e.soonDone("the listing of the directory", func() error { return second(os.ReadDir(m.in("far"))) })
		e.soonDone("another file of the directory", func() error { return second(os.ReadFile(m.in("far/g"))) })
		e.soonDone("a new file of the directory", func() error { return os.WriteFile(m.in("far/new"), []byte("x"), 0o644) })
		e.soonDone("an open and a close of the file", func() error {
			f, err := os.Open(m.in("far/f"))
			if err != nil {
				return err
			}
			return f.Close()
		})
		e.soonDone("a change of its attributes", func() error { return os.Chmod(m.in("far/f"), 0o640) })
		e.poll("the reader sleeps, and can be interrupted", patience, func() bool { return processState(cat.Process.Pid) == "S" })
		e.ok(cat.Process.Signal(sig))
		select {
		case <-ended:
		case <-time.After(patience):
			t.Fatalf("cat does not end by %v: state %s", sig, processState(cat.Process.Pid))
		}
	}
	e.ok(e.server.ClearFaults())
	m.wait(m.Point)
	m.umount(0)

	m = e.mount("another", "--stall=2s")
	e.ok(second(e.server.Fault("delay,op=GetObject,key=far/f")))
	_, err = os.ReadFile(m.in("far/f"))
	e.is(syscall.EIO, err)
	e.ok(e.server.ClearFaults())
	e.soonDone("a read when it is over", func() error { return second(os.ReadFile(m.in("far/f"))) })
	m.umount(0)
}

// Each error that pauses the engine, on every request: what is local goes on, status
// says why, since when, and when OSS is asked again, the log has one line that names
// what mends it, few requests are made; and when it is mended all goes on.
func TestPausesAndGoesOnWhenMended(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "SecurityTokenExpired",
		"NoSuchBucket", "UserDisable", "AccessDenied", "TotalQpsLimitExceeded", "ServiceUnavailable", "InternalError"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			m := e.mount("cache", "--part-size=131072", "--multipart-threshold=262144", "--stall=2s", "--meta-ttl=1h", "--doubt=500ms")
			e.write(m.in("before"), "uploaded")
			e.write(m.in("removed"), "uploaded too")
			m.wait(m.Point)
			e.ok(second(os.ReadDir(m.Point)))
			e.ok(second(e.server.Fault("error,code=" + code)))
			e.ok(e.server.Reset())
			began := time.Now()
			want := map[string]string{"before": "uploaded"}
			for i := range 100 {
				name := fmt.Sprintf("f%d", i)
				want[name] = strings.Repeat(name, 100)
				e.write(m.in(name), want[name])
			}
			for i := range 3 {
				name := fmt.Sprintf("big%d", i)
				want[name] = strings.Repeat(name+" ", 100_000)
				e.write(m.in(name), want[name])
			}
			e.ok(os.Rename(m.in("f0"), m.in("renamed")))
			want["renamed"] = want["f0"]
			delete(want, "f0")
			e.ok(os.Remove(m.in("removed")))
			for name, text := range want {
				e.reads(m.in(name), text)
			}
			e.poll("status says why", patience, func() bool {
				q := m.status().Queue
				return strings.Contains(q.Away, code) && q.AwayNext > 0 || len(q.Denied) > 0 && strings.Contains(q.Denied[0].Why, code) ||
					code == "TotalQpsLimitExceeded" && q.Requests.Limit == 1
			})
			// Long enough that the backoff shows: a hot loop makes thousands.
			e.poll("some seconds of it", patience, func() bool { return time.Since(began) > 8*time.Second })
			n, took := e.counts().Requests, time.Since(began)
			t.Logf("%d requests in %s", n, took.Round(time.Second))
			if limit := 250 + int64(10*took.Seconds()); n > limit {
				t.Errorf("%d requests in %s, want %d at most: %v", n, took, limit, e.counts())
			}
			said := 0
			for line := range strings.Lines(m.P.Err.String()) {
				if strings.Contains(line, "level=WARN") && strings.Contains(line, code) && !strings.Contains(line, "a call failed") {
					said++
				}
			}
			if said > 3 || said == 0 && code != "TotalQpsLimitExceeded" {
				t.Errorf("%d lines of the log warn of it", said)
			}
			if s := m.status().Queue; s.Parked != 0 {
				t.Errorf("parked: %+v", s.Kept)
			}
			e.ok(e.server.ClearFaults())
			r, err := m.Run(e.soon(), "retry", "--all", "--mountpoint="+m.Point)
			if err != nil || r.Code != 0 {
				t.Errorf("retry: %v, %v", r, err)
			}
			m.wait(m.Point)
			for name, text := range want {
				e.object(name, text)
			}
			if q := m.status().Queue; q.Away != "" || len(q.Denied) != 0 {
				t.Errorf("after it is mended: %+v", q)
			}
			m.umount(0)
		})
	}
}

// One missing permission stops what needs it, and nothing else. covers H41
func TestMissingPermissionsStopWhatNeedsThem(t *testing.T) {
	t.Parallel()
	e := setup(t)
	for i := range 12 {
		e.put(fmt.Sprintf("old/%d", i), strings.NewReader("old"))
	}
	e.put("secret/f", strings.NewReader("nobody reads this"))
	m := e.mount("cache", "--part-size=131072", "--multipart-threshold=262144", "--eager=off")
	for _, spec := range []string{
		"error,code=AccessDenied,op=DeleteObject|DeleteMultipleObjects",
		"error,code=AccessDenied,op=PutObject|InitiateMultipartUpload,key=locked/.*",
		"error,code=AccessDenied,op=GetObject,key=secret/.*",
		"error,code=AccessDenied,op=ListParts|AbortMultipartUpload|ListMultipartUploads",
	} {
		e.ok(second(e.server.Fault(spec)))
	}
	e.ok(os.Mkdir(m.in("free"), 0o755))
	e.ok(os.Mkdir(m.in("locked"), 0o755))
	for i := range 12 {
		e.ok(os.Remove(m.in(fmt.Sprintf("old/%d", i))))
	}
	e.write(m.in("locked/f"), "waits")
	e.write(m.in("free/small"), "goes on")
	big := strings.Repeat("0123456789abcdef", 40_000)
	e.write(m.in("free/big"), big)
	_, err := os.ReadFile(m.in("secret/f"))
	e.is(syscall.EACCES, err)
	e.write(m.in("secret/f"), "replaced") // writes go on
	// A daemon that dies in the middle of an upload goes on without ListParts.
	hold, err := e.server.Fault("delay,op=UploadPart,key=free/resumed,part=4-")
	e.ok(err)
	e.write(m.in("free/resumed"), big)
	e.ok(second(e.server.WaitHeld(e.soon(), hold.ID)))
	e.poll("parts are noted", patience, func() bool { _, _, done, _ := m.Progress("free/resumed"); return done >= 3 })
	m.kill9()
	e.ok(second(e.server.RemoveFault(hold.ID)))
	m.start()
	for _, f := range []string{"free/small", "free/big", "free/resumed", "secret/f"} {
		m.wait(m.in(f))
	}
	e.object("free/small", "goes on")
	e.object("free/big", big)
	e.object("free/resumed", big)
	e.reads(m.in("locked/f"), "waits")
	e.poll("status says what is denied", patience, func() bool { // but for the one that is being tried now and then
		r, err := m.Run(e.soon(), "status", m.Point)
		e.ok(err)
		for _, text := range []string{`cannot delete, 12 changes beneath "old/"`, "oss:DeleteObject", "cannot write", "oss:PutObject"} {
			if !strings.Contains(r.Out, text) {
				return false
			}
		}
		return true
	})
	e.ok(e.server.ClearFaults())
	m.wait(m.Point) // by itself
	e.object("locked/f", "waits")
	e.object("secret/f", "replaced")
	if keys, err := e.server.Keys("old/"); err != nil || len(keys) > 1 || len(keys) == 1 && keys[0] != "old/" {
		t.Errorf("left: %q, %v", keys, err)
	}
	m.umount(0)
}

// OSS lets through twenty requests a second: the number of requests at once goes
// down, is shown, and comes back when it may.
func TestThrottlingLowersWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--upload-concurrency=16")
	limit, err := e.server.Fault("error,code=TotalQpsLimitExceeded,above=20,op=PutObject")
	e.ok(err)
	write := func(dir string, n int) {
		e.ok(os.Mkdir(m.in(dir), 0o755))
		for i := range n {
			e.write(m.in(fmt.Sprintf("%s/%d", dir, i)), dir)
		}
	}
	write("slow", 150)
	lowest := 16
	e.poll("the limit goes down", patience, func() bool {
		r := m.status().Queue.Requests
		lowest = min(lowest, r.Limit)
		return r.Limit <= 4 && r.Throttled > 0 && r.Max == 16
	})
	m.wait(m.Point)
	f, err := e.server.RemoveFault(limit.ID)
	e.ok(err)
	t.Logf("%d of %d requests were refused; the limit was %d at least", f.Fired, f.Matched, lowest)
	write("fast", 300)
	m.wait(m.Point)
	if r := m.status().Queue.Requests; r.Limit != 16 {
		t.Errorf("nothing is refused any more, and the limit is %d", r.Limit)
	}
	m.umount(0)
}

// What comes damaged from OSS is no byte of a file: a whole object is compared with
// its checksum before anything of it is given out; of a piece the length, the place
// and the version are compared.
func TestDamagedAnswersAreNotRead(t *testing.T) {
	t.Parallel()
	e := setup(t)
	big := new(bytes.Buffer)
	e.ok(second(big.ReadFrom(harness.Random(7, 24<<20))))
	cases := []struct {
		spec string
		size int
	}{
		{"corrupt,what=body,bytes=10", 1 << 20}, // at the beginning: long read by the time that the end tells
		{"corrupt,what=body", 1 << 20},
		{"corrupt,what=crc", 1 << 20},
		{"corrupt,what=length,bytes=1000", 1 << 20},
		{"close,at=answer,bytes=300000", 1 << 20},
		{"corrupt,what=length,bytes=1000000", 24 << 20},
		{"corrupt,what=etag", 24 << 20},
		{"reset,at=answer,bytes=1000000", 24 << 20},
	}
	for i, c := range cases {
		e.put(fmt.Sprint("f", i), bytes.NewReader(big.Bytes()[:c.size]))
	}
	e.put("never", bytes.NewReader(big.Bytes()[:1<<20]))
	m := e.mount("cache", "--stall=2s")
	for i, c := range cases {
		name := fmt.Sprint("f", i)
		f, err := e.server.Fault(c.spec + ",op=GetObject,count=2,key=" + name)
		e.ok(err)
		got, err := os.ReadFile(m.in(name))
		switch {
		case err != nil && strings.Contains(c.spec, "etag"):
			e.is(syscall.ESTALE, err)
		case err != nil:
			t.Errorf("%s: %v", c.spec, err)
		case !bytes.Equal(got, big.Bytes()[:c.size]):
			t.Errorf("%s: %d bytes were read that are not those of the object", c.spec, len(got))
		}
		if f, err = e.server.RemoveFault(f.ID); err != nil || f.Fired == 0 {
			t.Errorf("%s has not happened: %v", c.spec, err)
		}
	}
	// Where it never ends: EIO, and when it has ended the bytes.
	f, err := e.server.Fault("corrupt,what=body,bytes=10,op=GetObject,key=never")
	e.ok(err)
	_, err = os.ReadFile(m.in("never"))
	e.is(syscall.EIO, err)
	e.ok(second(e.server.RemoveFault(f.ID)))
	e.poll("the bytes", patience, func() bool {
		got, err := os.ReadFile(m.in("never"))
		return err == nil && bytes.Equal(got, big.Bytes()[:1<<20])
	})
	m.umount(0)
}
