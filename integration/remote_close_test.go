package integration

import (
	"bytes"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// With --close=remote a file is on OSS when its close returns, also while others
// have it open for writing, and what cannot be there is the error of close.
// covers H40
func TestCloseWaitsForOSS(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--close=remote", "--write-back-delay=1h")
	for name, text := range map[string]string{"small": "a few bytes", "big": strings.Repeat("0123456789abcdef", 1<<20)} {
		e.write(m.in(name), text)
		e.object(name, text)
		e.appends(m.in(name), "more")
		e.object(name, text+"more")
	}
	f := e.open(m.in("shared"), os.O_RDWR|os.O_CREATE)
	g := e.open(m.in("shared"), os.O_WRONLY)
	e.writeAt(f, "first", 0)
	e.ok(f.Close())
	e.object("shared", "first")
	e.writeAt(g, "later", 5)
	e.ok(g.Close())
	e.object("shared", "firstlater")
	m.umount(0)
}

func TestFsyncWaitsForOSS(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--fsync=remote", "--write-back-delay=1h")
	f := e.open(m.in("log"), os.O_RDWR|os.O_CREATE)
	text := ""
	for i := range 20 {
		line := strings.Repeat("line ", i*i+1)
		_, err := f.WriteString(line)
		e.ok(err)
		text += line
		e.ok(f.Sync())
		e.object("log", text)
	}
	e.writeAt(f, "LINE", 0)
	e.ok(f.Close())
	e.object("log", text) // close alone does not wait
	m.umount(0)
	e.object("log", "LINE"+text[4:])
}

// Writes go on while close waits for OSS, and what is published is what was
// there at that close.
func TestWritesWhileCloseWaitsForOSS(t *testing.T) {
	t.Parallel()
	e := setup(t, "--bandwidth=30000000")
	m := e.mount("cache", "--close=remote", "--part-size=1MiB", "--eager=off")
	unforked(func() { // a child would close its copies, and what it closes goes to OSS
		f := e.open(m.in("f"), os.O_RDWR|os.O_CREATE)
		g := e.open(m.in("f"), os.O_RDWR)
		old := bytes.Repeat([]byte("a"), 24<<20)
		_, err := f.Write(old)
		e.ok(err)
		closed := make(chan error, 1)
		go func() { closed <- f.Close() }()
		e.poll("the upload has begun", time.Minute, func() bool { return e.counts().Ops["UploadPart"].Requests > 0 })
		_, err = g.WriteAt([]byte("b"), 20<<20)
		e.ok(err)
		e.ok(<-closed)
		e.object("f", string(old))
		e.ok(g.Close())
		old[20<<20] = 'b'
		e.object("f", string(old))
	})
	m.umount(0)
}

// What OSS refuses is the error of close; the bytes stay, and arrive when it is
// mended.
func TestErrorsOfClose(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--close=remote", "--stall=2s")
	e.ok(second(e.server.Fault("error,code=AccessDenied,op=PutObject")))
	f := e.open(m.in("refused"), os.O_RDWR|os.O_CREATE)
	_, err := f.WriteString("kept")
	e.ok(err)
	if err := f.Close(); err == nil {
		t.Error("close has not told that OSS refuses")
	} else {
		e.is(syscall.EACCES, err)
	}
	e.ok(e.server.ClearFaults())
	m.wait(m.Point)
	e.object("refused", "kept")
	e.ok(e.server.Kill())
	f = e.open(m.in("away"), os.O_RDWR|os.O_CREATE)
	_, err = f.WriteString("kept too")
	e.ok(err)
	if err := f.Close(); err == nil {
		t.Error("close has not told that OSS is away")
	} else {
		e.is(syscall.EIO, err)
	}
	e.ok(e.server.Start(e.soon()))
	m.wait(m.Point)
	e.object("away", "kept too")
	m.umount(0)
}

// The mount ends while a close waits for OSS: that close fails, but what was to be
// closed is not interrupted, and arrives from the next mount.
func TestTheEndWhileCloseWaits(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--close=remote", "--stall=2m")
	f := e.open(m.in("f"), os.O_RDWR|os.O_CREATE)
	e.writeAt(f, "written", 0)
	e.ok(second(e.server.Fault("error,code=InternalError,op=PutObject")))
	closed := make(chan error, 1)
	go func() { closed <- f.Close() }()
	e.poll("a request of the close", time.Minute, func() bool { return e.counts().Ops["PutObject"].Requests > 0 })
	m.umount(3, "--force", "--drain=1s")
	e.is(syscall.EIO, <-closed)
	e.ok(e.server.ClearFaults())
	m.start()
	m.wait(m.Point)
	e.object("f", "written")
	m.umount(0)
}
