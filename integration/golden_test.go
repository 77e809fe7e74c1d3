package integration

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

var goldenUpdate = flag.Bool("golden.update", false, "write testdata/format-N.tar.gz anew: for a format that no release has written")

// The directories in testdata were left by daemons that were killed with everything
// in them that there can be: rows of every kind, an upload with parts, a doubt, a
// debt, clean copies, attributes, contents with each state of a witness, one beside
// its content, and lost+found; and with them the objects of the server. Each format
// that a release has written stays, and is read for ever.

// goldenFormat is the newest.
const goldenFormat = 1

// goldenTold is what a directory must come to: it stands in it, as expected.json.
type goldenTold struct {
	Objects     map[string]string // key: SHA-256
	Reads       map[string]string // what is to be read through the mount at once
	Parked      []string
	Interrupted []string
	Lost        []string // of lost+found: what is in them
}

func TestDirectoriesOfEachFormatAreTakenUp(t *testing.T) {
	t.Parallel()
	now := filepath.Join(t.TempDir(), fmt.Sprintf("format-%d.tar.gz", goldenFormat))
	makeGolden(t, now)
	kept := filepath.Join("testdata", filepath.Base(now))
	if *goldenUpdate {
		b, err := os.ReadFile(now)
		if err == nil {
			err = errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(kept, b, 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	all, err := filepath.Glob("testdata/format-*.tar.gz")
	if err != nil || !slices.Contains(all, kept) {
		t.Fatalf("%s is not there: make it with -golden.update (%v)", kept, err)
	}
	for _, file := range append(all, now) {
		for _, boot := range []bool{false, true} {
			name := filepath.Base(file)
			if file == now {
				name = "as it is written now"
			}
			t.Run(fmt.Sprintf("%s, another boot %v", name, boot), func(t *testing.T) { takeUpGolden(t, file, boot) })
		}
	}
}

const goldenPart = 100 << 10

func goldenFlags(more ...string) []string {
	return append([]string{"--multipart-threshold=150K", fmt.Sprint("--part-size=", goldenPart), "--eager=off", "--meta-ttl=0s", "--stall=5s"}, more...)
}

// makeGolden leaves a directory with everything in it, and packs it.
func makeGolden(t *testing.T, file string) {
	t.Helper()
	e := setup(t)
	e.leaves(uploads, "they are what is packed")
	e.leaves(nameless, "the daemons are killed")
	text := func(name string, n int) string {
		return strings.Repeat(name+" and what is in it, ", n/(len(name)+20)+1)[:n]
	}
	told := goldenTold{Objects: map[string]string{}, Reads: map[string]string{}}
	holds := func(key, s string) { told.Objects[key], _ = harness.Sum(strings.NewReader(s)) }
	is := func(name, s string) { told.Reads[name] = s; holds(name, s) }
	long := strings.Repeat(strings.Repeat("a name that is long ", 12)+"/", 3) + "file" // a witness that needs a file

	// What OSS has, and the daemon knows of.
	a := e.mount("cache", goldenFlags("--write-back-delay=0s", "--doubt=1h")...)
	big := text("big", 3*goldenPart)
	e.ok(os.MkdirAll(filepath.Dir(a.in(long)), 0o755))
	e.ok(os.Mkdir(a.in("from"), 0o755))
	for _, name := range []string{"clean", "to be renamed", "to be chmodded", "to be removed", "from/one", "from/two"} {
		e.write(a.in(name), text(name, 1000))
	}
	e.write(a.in("changed"), big)
	e.write(a.in(long), big)
	a.wait(a.Point)
	e.sh(`ls -lR "$1" > /dev/null; cat "$1/clean" > /dev/null`, a.Point)
	is("clean", text("clean", 1000))

	// What cannot go on.
	for _, fault := range []string{
		"error,code=InvalidArgument,status=400,op=PutObject,key=parked",
		"error,code=AccessDenied,op=AbortMultipartUpload",
		"error,code=AccessDenied,op=UploadPart,key=owed,part=2-",
		"error,code=AccessDenied,op=UploadPart,key=uploading,part=3-",
		"late,op=PutObject,key=doubtful",
	} {
		e.ok(second(e.server.Fault(fault)))
	}
	parts := func(key string, n int) {
		t.Helper()
		e.poll(fmt.Sprint(n, " parts of ", key), patience, func() bool {
			all, err := e.server.Uploads()
			return err == nil && slices.ContainsFunc(all, func(u harness.Upload) bool { return u.Key == key && u.Parts == n })
		})
	}
	e.write(a.in("parked"), "parked")
	e.write(a.in("owed"), text("owed", 4*goldenPart))
	e.write(a.in("uploading"), text("uploading", 4*goldenPart+7))
	parts("owed", 1)
	parts("uploading", 2)
	e.ok(os.Remove(a.in("owed")))
	e.poll("an upload is owed, and something parked", patience, func() bool {
		q := a.status().Queue
		return q.Debts == 1 && q.Parked == 1
	})
	told.Reads["parked"], told.Parked = "parked", []string{"parked"}
	is("uploading", text("uploading", 4*goldenPart+7))
	e.write(a.in("doubtful"), "the first version, which may land")
	e.poll("a request of it was lost", patience, func() bool { return e.counts().Ops["PutObject"].Status["0"] > 0 || a.status().Queue.Away != "" })
	e.write(a.in("doubtful"), "the second version")
	is("doubtful", "the second version")
	e.poll("a key is in doubt", patience, func() bool { return a.status().Queue.Doubts == 1 })
	unforked(func() {
		f := e.open(a.in("lost"), os.O_CREATE|os.O_WRONLY)
		e.writeAt(f, "lost at the first crash", 0)
		a.kill9()
		f.Close()
	})
	told.Lost = append(told.Lost, "lost at the first crash")

	// What has not been sent yet.
	b := a
	b.Flags = append(e.usual(), goldenFlags("--write-back-delay=1h", "--doubt=1h")...)
	b.start()
	e.write(b.in("new"), text("new", 5000))
	is("new", text("new", 5000))
	e.write(b.in("empty"), "")
	is("empty", "")
	e.ok(os.Mkdir(b.in("directory"), 0o750))
	holds("directory/", "")
	e.ok(os.Symlink("new", b.in("link")))
	holds("link", "new")
	e.ok(unix.Mkfifo(b.in("fifo"), 0o600))
	holds("fifo", "")
	e.ok(os.Rename(b.in("to be renamed"), b.in("renamed")))
	is("renamed", text("to be renamed", 1000))
	e.ok(os.Chmod(b.in("to be chmodded"), 0o600))
	is("to be chmodded", text("to be chmodded", 1000))
	e.ok(os.Remove(b.in("to be removed")))
	for _, name := range []string{"changed", long} {
		e.ok(patched("other bytes", goldenPart+1)(b.in(name)))
		is(name, big[:goldenPart+1]+"other bytes"+big[goldenPart+12:])
	}
	e.ok(os.Rename(b.in("from"), b.in("moved")))
	is("moved/one", text("from/one", 1000))
	is("moved/two", text("from/two", 1000))
	holds("moved/", "")
	for dir := filepath.Dir(long); dir != "."; dir = filepath.Dir(dir) {
		holds(dir+"/", "")
	}
	e.write(b.in("interrupted"), "closed once")
	if s := b.status().Queue; s.Pending < 15 || s.Parked != 1 || s.Debts != 1 || s.Doubts != 1 {
		t.Fatalf("there is not everything: %+v", s)
	}
	unforked(func() {
		f := e.open(b.in("interrupted"), os.O_WRONLY)
		e.writeAt(f, "and opened", 0)
		never := e.open(b.in("never closed"), os.O_CREATE|os.O_WRONLY)
		e.writeAt(never, "never closed", 0)
		d, err := os.Open(b.Point)
		e.ok(err)
		e.ok(d.Sync()) // one step of the horizon: all is there after another boot, too
		d.Close()
		b.kill9()
		f.Close()
		never.Close()
	})
	told.Reads["interrupted"], told.Interrupted = "and opened\x00"[:10]+"e", []string{"interrupted"}
	told.Lost = append(told.Lost, "never closed")
	e.ok(harness.Detach(b.Point))
	e.ok(e.server.Stop())
	sidecars, err := filepath.Glob(filepath.Join(b.Cache, "contents", "*", "*.x"))
	e.ok(err)
	if len(sidecars) == 0 {
		t.Error("no witness stands beside its content")
	}

	scene := filepath.Join(e.dir, "scene")
	e.ok(os.Mkdir(scene, 0o700))
	e.ok(os.Rename(b.Cache, filepath.Join(scene, "cache")))
	e.ok(os.Rename(e.server.Dir, filepath.Join(scene, "objects")))
	j, err := json.MarshalIndent(told, "", "  ")
	e.ok(err)
	e.ok(os.WriteFile(filepath.Join(scene, "expected.json"), j, 0o600))
	e.ok(harness.Pack(scene, file))
	st, err := os.Stat(file)
	e.ok(err)
	if t.Logf("%d bytes packed", st.Size()); st.Size() > 500<<10 {
		t.Error("that is too much to keep")
	}
	e.mounts, e.server.P = nil, nil
}

// takeUpGolden mounts what was packed, and looks what becomes of it.
func takeUpGolden(t *testing.T, file string, boot bool) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "scene")
	if err := harness.Unpack(file, dir); err != nil {
		t.Fatal(err)
	}
	e := setupOn(t, filepath.Join(dir, "objects"))
	e.leaves(nameless, "what is parked keeps its bytes")
	var told goldenTold
	j, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	e.ok(err)
	e.ok(json.Unmarshal(j, &told))
	e.ok(os.Rename(filepath.Join(dir, "cache"), e.path("cache")))
	e.atEndpoint(e.path("cache/identity.json"))
	if !boot {
		e.ok(asOfThisBoot(e.path("cache/journal/horizon")))
	}
	m := e.mount("cache", goldenFlags("--write-back-delay=0s", "--doubt=1s")...)
	for _, name := range slices.Sorted(maps.Keys(told.Reads)) {
		e.reads(m.in(name), told.Reads[name])
	}
	m.umount(4, "--drain=100s") // what was due an hour later goes at once
	s, err := m.CacheStatus()
	e.ok(err)
	var parked, interrupted, lost []string
	for _, k := range s.Queue.Kept {
		if k.State == "parked" {
			parked = append(parked, k.Key)
		} else {
			interrupted = append(interrupted, k.Key)
		}
	}
	for _, l := range s.LostAndFound {
		b, err := os.ReadFile(l.Path)
		e.ok(err)
		lost = append(lost, string(b))
	}
	slices.Sort(lost)
	if !slices.Equal(parked, told.Parked) || !slices.Equal(interrupted, told.Interrupted) || !slices.Equal(lost, told.Lost) {
		t.Errorf("parked %q, interrupted %q, lost+found %q; want %+v", parked, interrupted, lost, told)
	}
	keys, err := e.server.Keys("")
	e.ok(err)
	if want := slices.Sorted(maps.Keys(told.Objects)); !slices.Equal(keys, want) {
		t.Errorf("objects %q, want %q", keys, want)
	}
	for key, want := range told.Objects {
		if sum, size, err := e.server.ObjectSum(key); err != nil || sum != want {
			t.Errorf("object %q: %d bytes %.12s, want %.12s, %v", key, size, sum, want, err)
		}
	}
	e.check(e.noUploads(patience)) // what was owed is paid
}

// setupOn is setup with objects that are there already.
func setupOn(t *testing.T, objects string) *env {
	t.Helper()
	e := &env{T: t, dir: filepath.Dir(filepath.Dir(objects)), server: &harness.Server{Bin: binary, Dir: objects}}
	t.Cleanup(e.cleanup)
	e.ok(e.server.Start(e.soon()))
	return e
}

// atEndpoint has an identity.json name the server of this test, which has another
// port each time.
func (e *env) atEndpoint(path string) {
	e.Helper()
	var id map[string]any
	b, err := os.ReadFile(path)
	e.ok(err)
	e.ok(json.Unmarshal(b, &id))
	id["endpoint"] = e.server.URL
	b, err = json.Marshal(id)
	e.ok(err)
	e.ok(os.WriteFile(path, b, 0o600))
}

// asOfThisBoot has a horizon file say that the machine has not been off since.
func asOfThisBoot(path string) error {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	return harness.EachSlot(path, func(slot map[string]any) { slot["boot"] = strings.TrimSpace(string(b)) })
}

// What a newer program has written is refused, by each of the versions that there
// are, and nothing of it is changed.
func TestNewerFormatsAreRefused(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=1h", "--drain=0s")
	e.write(m.in("pending"), "pending")
	e.ok(os.Symlink("target", m.in("link")))
	m.umount(3)
	witness := func(path string, f func(w map[string]any)) {
		buf := make([]byte, 4096)
		n, err := unix.Lgetxattr(path, "user.ossmount.witness", buf)
		e.ok(err)
		var w map[string]any
		e.ok(json.Unmarshal(buf[:n], &w))
		f(w)
		b, err := json.Marshal(w)
		e.ok(err)
		e.ok(unix.Lsetxattr(path, "user.ossmount.witness", b, 0))
	}
	contents, err := filepath.Glob(filepath.Join(m.Cache, "contents", "*", "*"))
	e.ok(err)
	if len(contents) != 1 {
		t.Fatalf("contents: %q", contents)
	}
	content := contents[0]
	for name, c := range map[string]struct {
		newer func(dir string)
		says  string
	}{
		"identity": {func(dir string) {
			e.ok(os.WriteFile(filepath.Join(dir, "identity.json"), []byte(`{"format":2,"bucket":{"name":"bkt"}}`), 0o600))
		}, "format 2"},
		"horizon": {func(dir string) {
			e.ok(harness.EachSlot(filepath.Join(dir, "journal", "horizon"), func(slot map[string]any) { slot["format"] = 2 }))
		}, "format 2"},
		"witness": {func(dir string) {
			path := filepath.Join(dir, strings.TrimPrefix(content, m.Cache))
			st, err := os.Stat(path)
			e.ok(err)
			witness(path, func(w map[string]any) { w["v"], w["k"] = 2, []string{"pending"} })
			e.ok(harness.SetMtime(path, st.ModTime()))
		}, "format 2"},
	} {
		dir := e.path("newer " + name)
		e.sh(`cp -a "$1" "$2"`, m.Cache, dir)
		c.newer(dir)
		was := ours(e, dir)
		for _, args := range [][]string{
			append([]string{"mount", m.Source, m.Point, "--cache-dir=" + dir}, append(m.Flags, "--log-level=error")...),
			{"drain", "--cache-dir=" + dir, "--timeout=1s"},
			{"status", "--cache-dir=" + dir},
		} {
			r, err := m.Run(e.soon(), args...)
			e.ok(err)
			if args[0] == "status" && name == "witness" && r.Code == 0 {
				continue // it looks at the rows, and at no content that has one
			}
			if r.Code != 1 || !strings.Contains(r.Err, c.says) || !strings.Contains(r.Err, "use the newer ossmount that wrote it") || strings.Count(r.Err, "\n") != 1 {
				t.Errorf("%s of a newer %s: %v", args[0], name, r)
			}
			if lines := harness.Diff(was, ours(e, dir)); len(lines) > 0 {
				t.Errorf("%s of a newer %s has changed:\n%s", args[0], name, strings.Join(lines, "\n"))
			}
		}
	}
	e.mount("cache").umount(0) // the one that was copied is good
}

// ours is what of a cache directory is written by us: the files of Badger's change
// whenever it opens them.
func ours(e *env, dir string) map[string]harness.Entry {
	e.Helper()
	all, err := harness.Snapshot(dir)
	e.ok(err)
	for name, entry := range all {
		entry.Mtime = 0 // of directories, in which something is tried
		all[name] = entry
		if strings.HasPrefix(name, "journal/db/") {
			delete(all, name)
		}
	}
	return all
}
