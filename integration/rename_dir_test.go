package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

// childKey is the name of the i-th of many children beneath a directory, some
// of them in directories of their own.
func childKey(i int) string {
	switch i % 10 {
	case 0:
		return fmt.Sprintf("f%06d", i)
	case 1:
		return fmt.Sprintf("deep/er/%d/f%06d", i/1000, i)
	}
	return fmt.Sprintf("sub%d/f%06d", i%10, i)
}

func childText(i int) string { return fmt.Sprint("child ", i) }

// children puts n objects beneath a prefix, as somebody else would.
func (e *env) children(prefix string, n int) {
	e.Helper()
	var g errgroup.Group
	g.SetLimit(16)
	b := e.bucket()
	for i := range n {
		g.Go(func() error { return b.PutObject(prefix+childKey(i), strings.NewReader(childText(i))) })
	}
	e.ok(g.Wait())
}

// files counts the regular files beneath dir, and fails for a name that no
// child has.
func (e *env) files(dir string, n int) (count int) {
	e.Helper()
	want := map[string]bool{}
	for i := range n {
		want[childKey(i)] = true
	}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		if !want[rel] {
			return fmt.Errorf("%q should not be there", rel)
		}
		delete(want, rel) // and a second time it would not be wanted
		count++
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		e.Fatalf("walk %s: %v", dir, err)
	}
	if count > 0 {
		e.tellMissing(dir, want)
	}
	return count
}

// tellMissing says of some names that a walk has not shown what there is to
// know: os.ReadDir leaves out what Lstat does not find.
func (e *env) tellMissing(dir string, names map[string]bool) {
	told := 0
	for rel := range names {
		if told++; told > 5 {
			return
		}
		_, err := os.Lstat(filepath.Join(dir, rel))
		keys, kerr := e.server.Keys(filepath.Base(dir) + "/" + rel)
		e.Logf("the walk has not shown %q; now Lstat says %v; the bucket has %q, %v", rel, err, keys, kerr)
	}
}

// drawn is a source of random numbers whose seed is printed, and can be given.
func drawn(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("OSSMOUNT_SEED"); s != "" {
		fmt.Sscan(s, &seed)
	}
	t.Logf("OSSMOUNT_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 3))
}

// Ten thousand objects are enough for the machine: it runs alone.
func TestRenameOfALargeDirectoryReturnsAfterItsListing(t *testing.T) {
	n := 10_000
	if *full {
		n = 100_000
	}
	e := setup(t)
	e.children("old/", n)
	m := e.mount("cache", "--meta-ttl=inf", "--write-back-delay=5s")
	e.ok(e.server.Reset())
	e.ok(os.Rename(m.in("old"), m.in("new")))
	c := e.spent("until the rename has returned", int64(n/1000+20))
	if c.Ops["CopyObject"].Requests > 0 {
		t.Errorf("copies were made before it returned: %v", c)
	}
	e.is(syscall.ENOENT, second(os.Lstat(m.in("old"))))
	if got := e.files(m.in("new"), n); got != n {
		t.Errorf("%d files in the new place, want %d", got, n)
	}
	for _, i := range []int{0, 1, 2, n / 2, n - 1} {
		e.reads(m.in("new/"+childKey(i)), childText(i))
	}
	m.wait(m.Point)
	m.umount(0)
	c = e.counts()
	t.Logf("in all: %v", c)
	keys, err := e.server.Keys("")
	e.ok(err)
	if slices.ContainsFunc(keys, func(k string) bool { return !strings.HasPrefix(k, "new/") }) {
		t.Errorf("keys elsewhere: %.10q", keys)
	}
	if len(keys) < n {
		t.Errorf("%d objects on OSS, want %d", len(keys), n)
	}
	m = e.mount("another-cache")
	if got := e.files(m.in("new"), n); got != n {
		t.Errorf("another mount shows %d files, want %d", got, n)
	}
	for i := 0; i < n; i += n / 100 {
		e.reads(m.in("new/"+childKey(i)), childText(i))
	}
}

func TestRenameOfADirectorySurvivesSIGKILLAtAnyMoment(t *testing.T) {
	t.Parallel()
	n, rounds := 2000, 8
	if *full {
		n, rounds = 10_000, 100
	}
	r := drawn(t)
	e := setup(t)
	e.children("a/", n)
	m := e.mount("cache", "--write-back-delay=0s", "--doubt=1s", "--meta-ttl=1s")
	names, moved := [2]string{"a", "b"}, 0
	for round := range rounds {
		from, to := names[moved%2], names[(moved+1)%2]
		ended := make(chan error, 1)
		go func() { ended <- os.Rename(m.in(from), m.in(to)) }()
		// Within the call, or, more and more rarely, a while after it.
		wait := time.Duration(r.Int64N(int64(20 * time.Millisecond)))
		for r.IntN(3) > 0 && wait < 5*time.Second {
			wait *= 3
		}
		<-time.After(wait)
		m.kill9()
		err := <-ended
		m.start()
		inOld, inNew := e.files(m.in(from), n), e.files(m.in(to), n)
		t.Logf("round %d, killed after %v: rename says %v; %d old names, %d new names", round, wait, err, inOld, inNew)
		switch {
		case inOld+inNew != n || inOld > 0 && inNew > 0:
			t.Fatalf("%d old and %d new names of %d", inOld, inNew, n)
		case err == nil && inNew == 0:
			t.Fatal("the rename had returned, and is forgotten")
		case inNew == n:
			moved++
			e.is(syscall.ENOENT, second(os.Lstat(m.in(from))))
		default:
			e.is(syscall.ENOENT, second(os.Lstat(m.in(to))))
		}
		now := names[moved%2]
		for range 20 {
			i := r.IntN(n)
			e.reads(m.in(now+"/"+childKey(i)), childText(i))
		}
		if r.IntN(2) == 0 {
			m.wait(m.Point)
		}
	}
	m.wait(m.Point)
	m.umount(0)
	now := names[moved%2]
	keys, err := e.server.Keys("")
	e.ok(err)
	files := 0
	for _, k := range keys {
		if !strings.HasPrefix(k, now+"/") {
			t.Fatalf("%q is left of the old names, or of something hidden", k)
		}
		if !strings.HasSuffix(k, "/") {
			files++
		}
	}
	if files != n {
		t.Errorf("%d objects, want %d", files, n)
	}
	m = e.mount("another-cache")
	for i := range n {
		e.reads(m.in(now+"/"+childKey(i)), childText(i))
	}
}

// TestLifeGoesOnInADirectoryThatMoves does with a large directory what
// programs do while its objects are still copied, beside a plain directory.
func TestLifeGoesOnInADirectoryThatMoves(t *testing.T) {
	t.Parallel()
	stories := []struct {
		name string
		do   func(w *both)
	}{
		{"new files in it", func(w *both) {
			w.rename("a", "b")
			w.write("b/new", "new")
			w.write("b/sub2/new", "new")
			w.write("b/"+childKey(2), "overwritten")
			w.appends("b/"+childKey(3), " and more")
			w.chmod("b/"+childKey(4), 0o600)
			w.rename("b/"+childKey(5), "b/"+childKey(6))
			w.remove("b/" + childKey(7))
			w.mkdir("b/dir")
			w.rename("b/sub8", "b/dir/sub8")
		}},
		{"a new directory at the old name", func(w *both) {
			w.rename("a", "b")
			w.mkdir("a")
			w.write("a/f000000", "another")
			w.mkdir("a/sub2")
			w.write("a/"+childKey(2), "another")
			w.rename("b/"+childKey(12), "a/sub2/taken")
		}},
		{"renamed again and again", func(w *both) {
			w.rename("a", "b")
			w.crash()
			w.rename("b", "c")
			w.rename("c", "d")
			w.crash()
			w.rename("d", "a")
			w.rename("a", "e")
		}},
		{"there and back", func(w *both) {
			w.rename("a", "b")
			w.rename("b", "a")
		}},
		{"removed half-way", func(w *both) {
			w.rename("a", "b")
			w.removeAll("b/sub2")
			w.removeAll("b/sub3")
			w.removeAll("b/deep")
			w.crash()
			w.removeAll("b/sub4")
		}},
		{"removed altogether", func(w *both) {
			w.rename("a", "b")
			w.removeAll("b")
		}},
		{"swapped by three renames", func(w *both) {
			w.rename("a", "t")
			w.rename("other", "a")
			w.crash()
			w.rename("t", "other")
		}},
		{"exchanged", func(w *both) {
			w.exchange("a", "other")
			w.crash()
			w.exchange("a/deep", "other/sub2")
		}},
		{"parts of it moved elsewhere, and it moved after them", func(w *both) {
			w.mkdir("z")
			w.rename("a/sub2", "z/s")
			w.rename("a", "z/a")
			w.rename("z/s", "z/a/back")
			w.rename("z", "y")
			w.rename("y/a/deep/er", "er")
		}},
		{"moved over an empty one, and onto a file's name", func(w *both) {
			w.mkdir("empty")
			w.rename("a", "empty")
			w.write("a", "a file now")
			w.remove("a")
			w.rename("empty", "a")
		}},
		{"with an open file in it", func(w *both) {
			w.openThen("a/"+childKey(2), func() { w.rename("a", "b") })
			w.openThen("b/created", func() { w.rename("b", "c") })
			w.crash()
		}},
	}
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			const n = 1100
			e := setup(t)
			w := &both{env: e, plain: e.path("plain")}
			e.children("a/", n)
			e.put("other/one", strings.NewReader("1"))
			e.put("other/f000000", strings.NewReader("other"))
			for i := range n {
				path := filepath.Join(w.plain, "a", childKey(i))
				e.ok(os.MkdirAll(filepath.Dir(path), 0o755))
				e.write(path, childText(i))
			}
			e.ok(os.Mkdir(w.plain+"/other", 0o755))
			e.write(w.plain+"/other/one", "1")
			e.write(w.plain+"/other/f000000", "other")
			w.m = e.mount("cache", "--write-back-delay=0s", "--doubt=1s", "--meta-ttl=inf", "--upload-concurrency=4")
			e.ok(e.server.Latency(20 * time.Millisecond)) // the copies take a while
			s.do(w)
			if t.Failed() {
				return
			}
			e.ok(e.server.Latency(time.Millisecond))
			w.same()
			w.m.wait(w.m.Point)
			w.same()
			w.m.umount(0)
			w.onOSS()
			w.m = e.mount("another-cache")
			w.same()
		})
	}
}

// both does the same in a mount and in a plain directory.
type both struct {
	*env
	m     *mount
	plain string
}

func (w *both) do(what string, f func(root string) error) {
	w.Helper()
	want, got := f(w.plain), f(w.m.Point)
	if errname(want) != errname(got) {
		w.Errorf("%s: %s in a plain directory, %s in the mount", what, errname(want), errname(got))
	}
}

func (w *both) rename(a, b string) {
	w.Helper()
	w.do("rename "+a+" "+b, func(root string) error { return syscall.Rename(root+"/"+a, root+"/"+b) })
}

func (w *both) exchange(a, b string) {
	w.Helper()
	w.do("exchange "+a+" "+b, func(root string) error {
		return unix.Renameat2(unix.AT_FDCWD, root+"/"+a, unix.AT_FDCWD, root+"/"+b, unix.RENAME_EXCHANGE)
	})
}

func (w *both) write(name, s string) {
	w.Helper()
	w.do("write "+name, func(root string) error { return os.WriteFile(root+"/"+name, []byte(s), 0o644) })
}

func (w *both) appends(name, s string) {
	w.Helper()
	w.do("append to "+name, func(root string) error {
		return change(root, name, os.O_APPEND|os.O_WRONLY, func(f *os.File) error { return second(f.WriteString(s)) })
	})
}

func (w *both) chmod(name string, mode os.FileMode) {
	w.Helper()
	w.do("chmod "+name, func(root string) error { return os.Chmod(root+"/"+name, mode) })
}

func (w *both) remove(name string) {
	w.Helper()
	w.do("remove "+name, func(root string) error { return os.Remove(root + "/" + name) })
}

func (w *both) removeAll(name string) {
	w.Helper()
	w.do("remove all of "+name, func(root string) error { return os.RemoveAll(root + "/" + name) })
}

func (w *both) mkdir(name string) {
	w.Helper()
	w.do("mkdir "+name, func(root string) error { return os.Mkdir(root+"/"+name, 0o755) })
}

// openThen has a file open, and writes to it before and after.
func (w *both) openThen(name string, then func()) {
	w.Helper()
	var open []*os.File
	for _, root := range []string{w.plain, w.m.Point} {
		f := w.env.open(root+"/"+name, os.O_CREATE|os.O_RDWR)
		w.writeAt(f, "before", 3)
		open = append(open, f)
	}
	then()
	for _, f := range open {
		w.writeAt(f, "after", 20)
		w.ok(f.Close())
	}
}

func (w *both) crash() {
	w.Helper()
	w.m.kill9()
	w.m.start()
}

// same compares the mount with the plain directory, without times.
func (w *both) same() {
	w.Helper()
	want, err := harness.Snapshot(w.plain)
	w.ok(err)
	got, err := harness.Snapshot(w.m.Point)
	w.ok(err)
	forgetTimes(want, false)
	forgetTimes(got, false)
	w.noLines(harness.Diff(want, got))
}

// onOSS compares the bucket with the plain directory. A directory that
// somebody else's objects imply needs no object of its own.
func (w *both) onOSS() {
	w.Helper()
	want, err := harness.Snapshot(w.plain)
	w.ok(err)
	keys, err := w.server.Keys("")
	w.ok(err)
	there := map[string]bool{}
	var g errgroup.Group
	g.SetLimit(8)
	for _, key := range keys {
		name := strings.TrimSuffix(key, "/")
		entry, ok := want[name]
		if !ok || entry.Mode.IsDir() != strings.HasSuffix(key, "/") {
			w.Errorf("the object %q has no source", key)
			continue
		}
		for dir := name; dir != "."; dir = filepath.Dir(dir) {
			there[dir] = true
		}
		if entry.Mode.IsRegular() {
			g.Go(func() error {
				sum, size, err := w.server.ObjectSum(key)
				if err == nil && sum != entry.Sum {
					err = fmt.Errorf("it has %d other bytes", size)
				}
				if err != nil {
					w.Errorf("the object %q: %v", key, err)
				}
				return nil
			})
		}
	}
	w.ok(g.Wait())
	for name := range want {
		if !there[name] {
			w.Errorf("%q is not on OSS", name)
		}
	}
}

// A directory that only its objects' names imply has no row of its own when it
// moves with them.
func TestDirectoriesThatMovedNamesImplyAreThere(t *testing.T) {
	t.Parallel()
	for _, delay := range []string{"0s", "60s"} {
		for _, ttl := range []string{"0s", "5s"} {
			e := setup(t)
			for _, key := range []string{"f", "sub/f", "sub/deep/er/f"} {
				e.put("old/"+key, strings.NewReader("x"))
			}
			m := e.mount("cache", "--meta-ttl="+ttl, "--write-back-delay="+delay, "--doubt=1s")
			e.ok(os.Rename(m.in("old"), m.in("new")))
			look := func(when string) {
				t.Helper()
				const want = "d d new d new/sub d new/sub/deep d new/sub/deep/er f new/f f new/sub/deep/er/f f new/sub/f "
				if got := e.sh(`find "$1" -printf '%y %P
' | sort | tr '
' ' ' | sed 's/  / /g'`, m.Point); got != want {
					t.Errorf("delay %s, ttl %s, %s: %q", delay, ttl, when, got)
				}
			}
			look("at once")
			m.kill9()
			m.start()
			look("after a crash")
			e.ok(os.Rename(m.in("new/sub"), m.in("new/sib")))
			e.ok(os.Rename(m.in("new/sib"), m.in("new/sub")))
			look("after renames within it")
			e.is(syscall.ENOTEMPTY, syscall.Rmdir(m.in("new/sub/deep")))
			m.umount(0)
			m.start()
			look("after a remount")
		}
	}
}

func TestRenameOfADirectoryTakesWhatNoPathCanName(t *testing.T) {
	t.Parallel()
	e := setup(t)
	odd := []string{"/twice", "a//b", "./dot", "../up", "x/", "x/file", "both", "both/in", strings.Repeat("n", 300)}
	for _, key := range odd {
		e.put("old/"+key, strings.NewReader("of "+key))
	}
	m := e.mount("cache")
	e.ok(os.Rename(m.in("old"), m.in("new")))
	m.wait(m.Point)
	m.umount(0)
	keys, err := e.server.Keys("")
	e.ok(err)
	for _, key := range odd {
		e.object("new/"+key, "of "+key)
	}
	if slices.ContainsFunc(keys, func(k string) bool { return strings.HasPrefix(k, "old/") }) {
		t.Errorf("old names are left: %q", keys)
	}
}

func TestRenameOfADirectoryThatCannotBeChangesNothing(t *testing.T) {
	t.Parallel()
	e := setup(t)
	deep := strings.Repeat(strings.Repeat("d", 200)+"/", 4)
	e.put("old/"+deep+strings.Repeat("f", 200), strings.NewReader("x")) // 1,008 bytes
	e.put("old/f", strings.NewReader("x"))
	e.put("full/f", strings.NewReader("x"))
	before, err := e.server.Keys("")
	e.ok(err)
	m := e.mount("cache")
	e.is(syscall.ENAMETOOLONG, syscall.Rename(m.in("old"), m.in("a name with which a key has too many bytes")))
	e.is(syscall.ENOTEMPTY, syscall.Rename(m.in("old"), m.in("full")))
	e.reads(m.in("old/f"), "x")
	m.wait(m.Point)
	m.umount(0)
	after, err := e.server.Keys("")
	e.ok(err)
	if !slices.Equal(before, after) {
		t.Errorf("before: %.300q\nafter: %.300q", before, after)
	}
}

// Who asks what the attributes are of a file that moved with its directory may get the
// answer when the engine has moved the object too, and its old name is gone (R9).
func TestRenamedWithItsDirectoryAndCarriedWhileItIsLookedAt(t *testing.T) {
	t.Parallel()
	e := setup(t)
	for _, name := range []string{"f", "g"} {
		e.put("old/"+name, strings.NewReader("of "+name))
	}
	m := e.mount("cache")
	e.command(0, "uploads", "pause", m.Point)
	e.ok(os.Rename(m.in("old"), m.in("new")))
	calls := map[string]func() error{
		"f": func() error { return os.Chmod(m.in("new/f"), 0o604) },
		"g": func() error { _, err := os.Lstat(m.in("new/g")); return err },
	}
	var g errgroup.Group
	var holds []harness.Fault
	for name, call := range calls {
		hold, err := e.server.Fault("delay,op=HeadObject,key=old/" + name + ",count=1")
		e.ok(err)
		holds = append(holds, hold)
		g.Go(call)
	}
	e.poll("all are asked about", patience, func() bool {
		faults, err := e.server.Faults()
		e.ok(err)
		return !slices.ContainsFunc(faults, func(f harness.Fault) bool { return f.Held == 0 })
	})
	e.command(0, "uploads", "resume", m.Point)
	e.poll("the old names are gone", patience, func() bool {
		keys, err := e.server.Keys("old/")
		e.ok(err)
		return len(keys) == 0
	})
	for _, hold := range holds {
		e.ok(second(e.server.RemoveFault(hold.ID)))
	}
	e.ok(g.Wait())
	m.wait(m.Point)
	if st, err := os.Lstat(m.in("new/f")); err != nil || st.Mode() != 0o604 {
		t.Errorf("%v %v", st, err)
	}
	m.umount(0)
	for _, name := range []string{"f", "g"} {
		e.object("new/"+name, "of "+name)
	}
}
