package integration

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

// growing is a file that is written as fast as a server takes it.
type growing struct {
	*env
	m      *mount
	source string
	size   int64
}

func grows(t *testing.T, flags ...string) *growing {
	g := &growing{size: 96 << 20}
	bandwidth := "80000000"
	flags = append([]string{"--part-size=1MiB", "--upload-concurrency=8"}, flags...)
	if *full {
		g.size, bandwidth, flags = 1<<30, "200000000", flags[2:]
	}
	g.env = setup(t, "--bandwidth="+bandwidth)
	g.source = g.path("src")
	g.ok(os.Mkdir(g.source, 0o755))
	g.ok(harness.WriteFile(g.source+"/"+bigKey, 1, uint64(g.size)))
	g.m = g.mount("cache", flags...)
	return g
}

// copyRange writes the bytes of the source from off up to end to f, at their place.
func (g *growing) copyRange(f *held, off, end int64) {
	g.Helper()
	b, err := os.ReadFile(g.source + "/" + bigKey)
	g.ok(err)
	const step = 4 << 20
	for ; off < end; off += step {
		f.writeAt(string(b[off:min(off+step, end)]), off)
	}
}

// writeSlowly copies the source into the mount as fast as the server takes it,
// and calls end before it closes the file.
func (g *growing) writeSlowly(end func(f *os.File)) {
	g.Helper()
	b, err := os.ReadFile(g.source + "/" + bigKey)
	g.ok(err)
	f := g.open(g.m.in(bigKey), os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	const step = 1 << 20
	behind := max(g.size/8, 48<<20)
	for off := int64(0); off < g.size; off += step {
		_, err := f.Write(b[off:min(off+step, g.size)])
		g.ok(err)
		if off%(8*step) == 0 {
			g.poll("the server keeps up", time.Minute, func() bool { return off-g.partsSent() < behind })
		}
	}
	if end != nil {
		end(f)
	}
	g.ok(f.Close())
}

func (g *growing) partsSent() int64 {
	g.Helper()
	return g.counts().Ops["UploadPart"].BytesIn
}

// A file that grows is on OSS, but for its last parts, when it is closed.
func TestGrowingFilesAreSentBeforeTheyAreClosed(t *testing.T) {
	t.Parallel()
	g := grows(t)
	g.writeSlowly(nil)
	closed := time.Now()
	atClose := g.partsSent()
	g.m.wait(g.m.in(bigKey))
	g.Logf("%.1f of %.1f MiB were sent before close; all was there %v after it", mib(atClose), mib(g.size), time.Since(closed))
	if atClose < g.size*4/10 {
		g.Errorf("only %d bytes were sent before close", atClose)
	}
	if sent := g.partsSent(); sent > g.size+8<<20 {
		g.Errorf("%d bytes were sent of %d", sent, g.size)
	}
	g.verify("", g.source)
}

// Writers of mp4 and zip come back to the beginning at the end.
func TestGrowingFilesWhoseBeginningIsRewritten(t *testing.T) {
	t.Parallel()
	g := grows(t)
	head := strings.Repeat("moov atom ", 1000)
	g.writeSlowly(func(f *os.File) { g.writeAt(f, head, 4) })
	g.ok(patched(head, 4)(g.source + "/" + bigKey))
	g.m.wait(g.m.in(bigKey))
	g.verify("", g.source)
	if sent := g.partsSent(); sent > g.size+16<<20 {
		g.Errorf("%d bytes were sent of %d", sent, g.size)
	}
}

// What was sent before the close survives a kill after it.
func TestGrowingFilesSurviveSIGKILL(t *testing.T) {
	t.Parallel()
	g := grows(t, "--write-back-delay=10s")
	g.writeSlowly(nil)
	g.m.kill9()
	before := g.partsSent()
	g.m.start()
	g.m.umount(0, "--drain=2m")
	g.verify("", g.source)
	g.Logf("%.1f MiB before the kill, %.1f in all of %.1f", mib(before), mib(g.partsSent()), mib(g.size))
	if sent := g.partsSent(); before < g.size*4/10 || sent > g.size+32*8<<20 {
		g.Errorf("%d bytes were sent before the kill, %d in all of %d", before, sent, g.size)
	}
}

// A file that is killed, renamed or removed while it grows leaves no upload.
func TestGrowingFilesThatNeverGetTheirName(t *testing.T) {
	for _, s := range []struct {
		name string
		do   func(g *growing, f *held)
		want string // where the bytes are in the end
	}{
		{"killed", func(g *growing, _ *held) { g.m.kill9(); g.m.start() }, ""},
		{"removed", func(g *growing, _ *held) { g.ok(os.Remove(g.m.in("d/" + bigKey))) }, ""},
		{"renamed", func(g *growing, _ *held) { g.ok(os.Rename(g.m.in("d/"+bigKey), g.m.in(bigKey))) }, bigKey},
		{"its directory renamed", func(g *growing, _ *held) { g.ok(os.Rename(g.m.in("d"), g.m.in("e"))) }, "e/" + bigKey},
		{"emptied", func(g *growing, f *held) {
			f.truncate(0)
			g.copyRange(f, 0, g.size/2)
		}, "d/" + bigKey},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			g := grows(t)
			g.ok(os.Mkdir(g.m.in("d"), 0o755))
			b, err := os.ReadFile(g.source + "/" + bigKey)
			g.ok(err)
			f := g.holdOpen(g.m.in("d/"+bigKey), os.O_RDWR|os.O_CREATE)
			g.copyRange(f, 0, g.size/2)
			g.poll("parts are sent", time.Minute, func() bool { return g.partsSent() > 0 })
			s.do(g, f)
			if s.want != "" {
				g.copyRange(f, g.size/2, g.size)
			}
			f.end()
			g.m.wait(g.m.Point)
			g.ok(g.noUploads(20 * time.Second))
			if s.want != "" {
				g.object(s.want, string(b))
				return
			}
			keys, err := g.server.Keys("")
			g.ok(err)
			for _, k := range keys {
				if strings.HasSuffix(k, bigKey) {
					g.Errorf("%q is there", k)
				}
			}
		})
	}
}

// Names that are there for a while only are not sent while they are.
func TestTemporaryNamesAreNotSentAhead(t *testing.T) {
	t.Parallel()
	g := grows(t, "--write-back-delay=5s")
	g.sh(`rsync -a "$1" "$2"`, g.source+"/"+bigKey, g.m.in(bigKey))
	g.m.umount(0, "--drain=2m")
	n := g.counts()
	if n.Ops["InitiateMultipartUpload"].Requests != 1 || n.Ops["CopyObject"].Requests+n.Ops["UploadPartCopy"].Requests > 0 || n.Ops["UploadPart"].BytesIn != g.size {
		g.Errorf("rsync made %v", n)
	}
	g.verify("", g.source)
}

func TestNothingIsSentAheadWithEagerOff(t *testing.T) {
	t.Parallel()
	g := grows(t, "--eager=off", "--write-back-delay=5s")
	b, err := os.ReadFile(g.source + "/" + bigKey)
	g.ok(err)
	f := g.open(g.m.in(bigKey), os.O_RDWR|os.O_CREATE)
	_, err = f.Write(b)
	g.ok(err)
	if n := g.counts(); n.Ops["InitiateMultipartUpload"].Requests > 0 {
		g.Errorf("requests before the close: %v", n)
	}
	g.ok(f.Close())
	g.m.umount(0, "--drain=2m")
	g.verify("", g.source)
}

// What is set beside the bytes after an upload has begun is published too.
// covers H21
func TestAttributesSetWhileAFileIsSent(t *testing.T) {
	t.Parallel()
	g := grows(t)
	g.writeSlowly(func(f *os.File) {
		g.ok(f.Chmod(0o640))
		g.ok(unix.Fsetxattr(int(f.Fd()), "user.color", []byte("blue"), 0))
	})
	g.m.wait(g.m.Point)
	g.m.umount(0)
	g.m = g.mount("another-cache")
	st, err := os.Stat(g.m.in(bigKey))
	g.ok(err)
	v := make([]byte, 10)
	n, err := unix.Getxattr(g.m.in(bigKey), "user.color", v)
	if st.Mode().Perm() != 0o640 || err != nil || string(v[:n]) != "blue" {
		t.Errorf("mode %v, color %q, %v", st.Mode(), v[:max(n, 0)], err)
	}
	g.verify("", g.source)
}
