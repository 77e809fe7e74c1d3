package integration

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ossmount/ossmount/integration/harness"
)

// crashBinary is an ossmount that dies or panics where a test says (internal/crash).
var crashBinary = sync.OnceValues(func() (string, error) {
	return harness.Build(context.Background(), filepath.Dir(binary), "crash")
})

// broken is a mistake of the program at one point, and what comes of it.
type broken struct {
	at  string // the point, and which passing of it
	act func(dir string) error
	// fails: act ends with EIO. parked: one change is parked, under this name, and
	// these are the bytes that are kept of it.
	fails  bool
	parked string
	kept   string
}

// A mistake in one call or in the carrying of one change: that fails or is parked,
// everything else goes on, and nothing that was acknowledged is lost.
func TestPanicFailsOneCallOrParksOneChange(t *testing.T) {
	t.Parallel()
	bin, err := crashBinary()
	if err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("0123456789abcdef", 2*mebi/16)
	for name, b := range map[string]broken{
		"in a write":                            {at: "written:1", act: write("f", "text"), fails: true},
		"in a create":                           {at: "content made:1", act: write("f", "text"), fails: true},
		"in a commit":                           {at: "before a change:1", act: write("f", "text"), fails: true},
		"before the commit of a close":          {at: "witness written, not committed:1", act: write("f", "text"), fails: true},
		"before a small file is sent":           {at: "noted, not sent:1", act: write("f", "text"), parked: "f", kept: "text"},
		"after a small file is sent":            {at: "published, not settled:1", act: write("f", "text"), parked: "f", kept: "text"},
		"in one of several parts":               {at: "part sent, not noted:2", act: write("f", big), parked: "f", kept: big},
		"before the parts of a file are joined": {at: "all parts there:1", act: write("f", big), parked: "f", kept: big},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			e.leaves(panics, "the test asks for one")
			m := &mount{e: e, Mount: &harness.Mount{Bin: bin, Source: "oss://" + harness.Bucket, Point: e.path("mnt"), Cache: e.path("cache"),
				Env:   append(harness.Credentials(), "OSSMOUNT_PANIC="+b.at),
				Flags: append(e.usual(), "--multipart-threshold=1M", "--part-size=256K", "--doubt=1s", "--write-back-delay=0s", "--eager=off", "--passthrough=off")}} // which leaves no write to break
			e.ok(os.Mkdir(m.Point, 0o755))
			m.start()
			err := b.act(m.Point)
			if b.fails != errors.Is(err, syscall.EIO) || !b.fails && err != nil {
				t.Fatalf("the program got: %v", err)
			}
			e.poll("the mistake is counted", patience, func() bool { return m.status().InternalErrors == 1 })
			if b.parked != "" {
				e.poll("it is parked", patience, func() bool { return m.status().Queue.Parked == 1 })
				kept := m.status().Queue.Kept[0]
				if kept.Key != b.parked || !strings.Contains(kept.Reason, "internal error: as asked for at: ") || !strings.Contains(kept.Reason, "please report it") {
					t.Errorf("parked: %+v", kept)
				}
				e.reads(m.in(b.parked), b.kept)
			}
			// All else goes on, also under the same name.
			e.write(m.in("other"), "other")
			e.ok(os.Mkdir(m.in("dir"), 0o755))
			e.ok(os.Rename(m.in("other"), m.in("dir/other")))
			e.write(m.in("f"), "written again")
			m.wait(m.Point)
			e.object("dir/other", "other")
			e.object("f", "written again")
			// And nothing of it is left that a new daemon would stumble over.
			m.umount(0)
			m.start()
			e.reads(m.in("f"), "written again")
			if s := m.status(); s.InternalErrors != 0 || s.Queue.Parked != 0 || len(s.LostAndFound) > 1 {
				t.Errorf("after another start: %+v", s)
			}
			line := ""
			for l := range strings.Lines(e.mounts[0].P.Err.String()) {
				if strings.Contains(l, "level=ERROR") && strings.Contains(l, "internal error") {
					line = l
				}
			}
			if !strings.Contains(line, "stack=") || !strings.Contains(line, "please report it") {
				t.Errorf("the log does not say where: %s", line)
			}
		})
	}
}

// A Delete that panics in its batch is parked; the others of the batch too, and each
// goes again when it is given anew.
func TestPanicInABatchOfDeletes(t *testing.T) {
	t.Parallel()
	bin, err := crashBinary()
	if err != nil {
		t.Fatal(err)
	}
	e := setup(t)
	e.leaves(panics, "the test asks for one")
	m := &mount{e: e, Mount: &harness.Mount{Bin: bin, Source: "oss://" + harness.Bucket, Point: e.path("mnt"), Cache: e.path("cache"),
		Env: append(harness.Credentials(), "OSSMOUNT_PANIC=deletes noted, not sent:1"), Flags: append(e.usual(), "--doubt=1s")}}
	e.ok(os.Mkdir(m.Point, 0o755))
	m.start()
	names := []string{"a", "b", "c"}
	for _, name := range names {
		e.write(m.in(name), name)
	}
	m.wait(m.Point)
	for _, name := range names {
		e.ok(os.Remove(m.in(name)))
	}
	e.poll("they are parked", patience, func() bool { s := m.status(); return s.Queue.Parked == len(names) && s.InternalErrors == 1 })
	for _, name := range names {
		if _, err := os.Lstat(m.in(name)); !os.IsNotExist(err) {
			t.Errorf("%s is shown again: %v", name, err)
		}
		e.write(m.in(name), "new "+name)
	}
	m.wait(m.Point)
	for _, name := range names {
		e.object(name, "new "+name)
	}
}
