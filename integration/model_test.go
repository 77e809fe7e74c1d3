package integration

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/ossmount/ossmount/integration/harness"
)

var modelTime = flag.Duration("model.time", time.Minute, "how long the model test of the mount looks for something wrong")

// TestMountEqualsAModel does random work in a mount and in a plain directory
// side by side: the same results, the same errors, the same trees; the daemon
// is killed and mounted again in between, also with nothing local left; and in
// the end, after a drain, the bucket holds exactly the model: names, bytes,
// modes, owners and times.
//
// What is wrong is made smaller before it is told. -rapid.seed plays a run
// again, -model.time looks for longer, -rapid.steps makes runs longer.
func TestMountEqualsAModel(t *testing.T) {
	t.Parallel()
	e := setup(t, "--latency=2ms")
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.steps" })
	if !given {
		flag.Set("rapid.steps", "100")
	}
	flag.Set("rapid.nofailfile", "true") // the seed is enough
	end := time.Now().Add(*modelTime)
	runs, steps, wrong := 0, map[string]int{}, false
	for time.Now().Before(end) && !t.Failed() {
		rapid.Check(t, func(t *rapid.T) {
			if !wrong && !time.Now().Before(end) {
				return
			}
			runs++
			right := false
			defer func() { wrong = wrong || !right }() // what is made smaller takes its own time
			w := &model{T: t, e: e, n: runs, steps: steps, born: time.Now()}
			defer w.clean()
			w.begin()
			t.Repeat(map[string]func(*rapid.T){"step": w.step})
			w.end()
			right = true
		})
	}
	t.Logf("%d runs, %v", runs, steps)
}

// model is one run: a mount of a prefix of its own, and a plain directory.
type model struct {
	*rapid.T
	e     *env
	n     int
	m     *harness.Mount
	plain string
	open  []*pair
	steps map[string]int
	last  []string // what was done
	born  time.Time
}

// pair is a file that is open on both sides.
type pair struct {
	name         string
	plain, mount *os.File
}

func (w *model) must(err error) {
	if err != nil {
		w.wrong("%v", err)
	}
}

func (w *model) wrong(format string, args ...any) {
	w.Helper()
	s := ""
	if w.m != nil && w.m.P != nil {
		s = "\nthe daemon said last:\n" + lastWords(w.m.P.Err.String())
	}
	w.Fatalf("%s\nlast:\n%s%s", fmt.Sprintf(format, args...), strings.Join(w.last, "\n"), s)
}

func (w *model) begin() {
	at := func(s string) string { return w.e.path(fmt.Sprint(s, "-", w.n)) }
	w.plain = at("plain")
	w.m = &harness.Mount{Bin: binary, Source: fmt.Sprintf("oss://%s/%s", harness.Bucket, w.prefix()), Point: at("mnt"), Cache: at("cache"),
		Flags: append(w.e.usual(), "--write-back-delay=50ms", "--part-size=100KiB", "--multipart-threshold=200KiB", "--meta-ttl=1s", "--doubt=500ms")}
	w.must(os.Mkdir(w.plain, 0o755))
	w.must(os.Mkdir(w.m.Point, 0o755))
	w.start()
}

func (w *model) prefix() string { return fmt.Sprint("run-", w.n) }

func (w *model) start() { w.must(w.m.Start(w.e.soon())) }

func (w *model) clean() {
	w.shut()
	for _, path := range []string{w.m.Cache, w.plain} {
		defer os.RemoveAll(path)
	}
	if err := w.m.Destroy(); err != nil {
		w.e.Error(err)
	}
}

// sound fails for what a daemon that has ended must not have said.
func (w *model) sound() {
	for _, bad := range []string{"DATA RACE", "panic:"} {
		if strings.Contains(w.m.P.Err.String(), bad) {
			w.wrong("the daemon says:\n%s", w.m.P.Err.Tail(100))
		}
	}
}

// shut closes what is open.
func (w *model) shut() {
	for _, p := range w.open {
		p.plain.Close()
		p.mount.Close()
	}
	w.open = nil
}

// do does the same on both sides.
func (w *model) do(what string, f func(root string) error) {
	w.Helper()
	w.steps[strings.Fields(what)[0]]++
	want, got := errname(f(w.plain)), errname(f(w.m.Point))
	w.last = append(w.last, what+": "+want)
	if want != got {
		w.wrong("%s: %s in a plain directory, %s in the mount", what, want, got)
	}
}

var (
	segments = rapid.SampledFrom([]string{"a", "b", "c", "d", "ü \n"})
	sizes    = []int{0, 1, 100, 5000, 150_000, 250_000, 500_000}
	offsets  = []int64{0, 1, 99, 4096, 100_000, 102_400, 210_001}
	modes    = []uint32{0o600, 0o644, 0o755, 0o4711, 0o1777, 0o400}
)

// path draws a name: mostly one that is there, or one in a directory that is.
func (w *model) path() string {
	names, dirs := []string{}, []string{""}
	filepath.WalkDir(w.plain, func(path string, d os.DirEntry, err error) error {
		if name := strings.TrimPrefix(path, w.plain+"/"); err == nil && path != w.plain && strings.Count(name, "/") < 4 {
			names = append(names, name)
			if d.IsDir() {
				dirs = append(dirs, name+"/")
			}
		}
		return nil
	})
	switch k := pick(w, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, "kind of path"); {
	case k < 5 && len(names) > 0:
		return pick(w, names, "name")
	case k < 9:
		return pick(w, dirs, "directory") + segments.Draw(w.T, "new name")
	}
	return strings.Join(rapid.SliceOfN(segments, 1, 3).Draw(w.T, "path"), "/")
}

// pick draws one of list, each as often as another; rapid by itself prefers
// the first.
func pick[T any](w *model, list []T, label string) T {
	x := rapid.Uint64().Draw(w.T, label) * 0x9e3779b97f4a7c15
	return list[(x>>32)%uint64(len(list))]
}

// data is bytes that no other step writes.
func (w *model) data() []byte {
	n := pick(w, sizes, "size")
	b := []byte(fmt.Sprintf("<step %d>", len(w.last)))
	return bytes.Repeat(b, n/len(b)+1)[:n]
}

// step does one thing.
func (w *model) step(t *rapid.T) {
	old := w.T
	w.T = t
	defer func() { w.T = old }()
	all := w.actions()
	all[pick(w, slices.Sorted(maps.Keys(all)), "action")]()
}

func (w *model) actions() map[string]func() {
	return map[string]func(){
		"write": func() {
			a, b := w.path(), w.data()
			w.do(fmt.Sprint("write ", a, " ", len(b)), func(root string) error {
				return change(root, a, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, func(f *os.File) error { return second(f.Write(b)) })
			})
		},
		"write more": func() {
			a, b := w.path(), w.data()
			w.do(fmt.Sprint("write ", a, " ", len(b)), func(root string) error {
				return change(root, a, os.O_CREATE|os.O_TRUNC|os.O_RDWR, func(f *os.File) error { return second(f.Write(b)) })
			})
		},
		"append": func() {
			a, b := w.path(), w.data()
			w.do(fmt.Sprint("append ", a, " ", len(b)), func(root string) error {
				return change(root, a, os.O_WRONLY|os.O_APPEND, func(f *os.File) error { return second(f.Write(b)) })
			})
		},
		"overwrite": func() {
			a, b, off := w.path(), w.data(), pick(w, offsets, "offset")
			w.do(fmt.Sprint("overwrite ", a, " ", len(b), " at ", off), func(root string) error {
				return change(root, a, os.O_RDWR, func(f *os.File) error { return second(f.WriteAt(b, off)) })
			})
		},
		"create": func() {
			a := w.path()
			w.do("create "+a, func(root string) error {
				f, err := os.OpenFile(root+"/"+a, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
				if err != nil {
					return err
				}
				return f.Close()
			})
		},
		"truncate": func() {
			a, off := w.path(), pick(w, offsets, "size")
			w.do(fmt.Sprint("truncate ", a, " ", off), func(root string) error { return syscall.Truncate(root+"/"+a, off) })
		},
		"punch": func() {
			a, off := w.path(), pick(w, offsets, "offset")
			w.do(fmt.Sprint("punch ", a, " ", off), func(root string) error {
				return change(root, a, os.O_RDWR, func(f *os.File) error {
					return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, 5000)
				})
			})
		},
		"rename":     func() { w.rename("rename", 0) },
		"move":       func() { w.rename("rename", 0) },
		"no replace": func() { w.rename("rename-noreplace", unix.RENAME_NOREPLACE) },
		"exchange":   func() { w.rename("exchange", unix.RENAME_EXCHANGE) },
		"swap":       func() { w.rename("exchange", unix.RENAME_EXCHANGE) },
		"unlink": func() {
			a := w.path()
			w.do("unlink "+a, func(root string) error { return syscall.Unlink(root + "/" + a) })
		},
		"rmdir": func() {
			a := w.path()
			w.do("rmdir "+a, func(root string) error { return syscall.Rmdir(root + "/" + a) })
		},
		"remove a tree": func() {
			a := w.path()
			w.do("rm-r "+a, func(root string) error {
				if st, err := os.Stat(root + "/" + filepath.Dir(a)); err == nil && !st.IsDir() {
					return syscall.ENOTDIR // RemoveAll would open a FIFO there, and wait for a writer
				}
				return os.RemoveAll(root + "/" + a)
			})
		},
		"mkdir": func() {
			a := w.path()
			w.do("mkdir "+a, func(root string) error { return syscall.Mkdir(root+"/"+a, 0o755) })
		},
		"mkdir deep": func() {
			a := w.path()
			w.do("mkdirs "+a, func(root string) error { return os.MkdirAll(root+"/"+a, 0o755) })
		},
		"symlink": func() {
			a, b := w.path(), w.path()
			w.do("symlink "+a+" "+b, func(root string) error { return syscall.Symlink(b, root+"/"+a) })
		},
		"mkfifo": func() {
			a := w.path()
			w.do("mkfifo "+a, func(root string) error { return unix.Mkfifo(root+"/"+a, 0o640) })
		},
		"chmod": func() {
			a, mode := w.path(), pick(w, modes, "mode")
			w.do(fmt.Sprintf("chmod %s %o", a, mode), func(root string) error { return unix.Chmod(root+"/"+a, mode) })
		},
		"chown": func() {
			a, id := w.path(), rapid.IntRange(0, 3).Draw(w.T, "id")
			w.do(fmt.Sprint("chown ", a, " ", id), func(root string) error { return unix.Lchown(root+"/"+a, id, id*10) })
		},
		"utimes": func() {
			a, at := w.path(), time.Unix(rapid.Int64Range(-1000, 1_700_000_000).Draw(w.T, "s"), rapid.Int64Range(0, 999_999_999).Draw(w.T, "ns"))
			w.do(fmt.Sprint("utimes ", a, " ", at.UnixNano()), func(root string) error { return harness.SetMtime(root+"/"+a, at) })
		},
		"set an attribute": func() {
			a, name, n := w.path(), "user."+segments.Draw(w.T, "name"), rapid.IntRange(0, 200).Draw(w.T, "size")
			flags := rapid.IntRange(0, 2).Draw(w.T, "flags")
			w.do(fmt.Sprint("setxattr ", a, " ", name, " ", n, " ", flags), func(root string) error {
				return unix.Lsetxattr(root+"/"+a, name, bytes.Repeat([]byte{byte(n)}, n), flags)
			})
		},
		"remove an attribute": func() {
			a, name := w.path(), "user."+segments.Draw(w.T, "name")
			w.do(fmt.Sprint("removexattr ", a, " ", name), func(root string) error { return unix.Lremovexattr(root+"/"+a, name) })
		},
		"look":           w.look,
		"list":           w.list,
		"open":           w.openOne,
		"write open":     func() { w.withOpen("write", w.writeOpen) },
		"read open":      func() { w.withOpen("read", w.readOpen) },
		"sync open":      func() { w.withOpen("sync", func(p *pair) { w.must(p.mount.Sync()) }) },
		"stat open":      func() { w.withOpen("stat", w.statOpen) },
		"close":          func() { w.withOpen("close", w.closeOne) },
		"close more":     func() { w.withOpen("close", w.closeOne) },
		"end the daemon": w.interrupt,
	}
}

func (w *model) rename(what string, flags uint) {
	a, b := w.path(), w.path()
	w.do(what+" "+a+" "+b, func(root string) error {
		return unix.Renameat2(unix.AT_FDCWD, root+"/"+a, unix.AT_FDCWD, root+"/"+b, flags)
	})
}

// look compares all that can be asked of one name.
func (w *model) look() {
	a := w.path()
	var seen [2]string
	for i, root := range []string{w.plain, w.m.Point} {
		seen[i] = w.line(root, a)
	}
	w.steps["look"]++
	w.last = append(w.last, "look "+a)
	if seen[0] != seen[1] {
		w.wrong("%q is\n%s\nand should be\n%s", a, seen[1], seen[0])
	}
}

// line is a name with all that it has.
func (w *model) line(root, name string) string {
	path := root + "/" + name
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return errname(err)
	}
	s := attributes(&st)
	// A time that somebody has set. Directories' are moved by names that come and
	// go, and OSS does not hear of that.
	if at := time.Unix(st.Mtim.Unix()); at.Before(w.born.Add(-time.Hour)) && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		s += fmt.Sprint(" of ", at.UnixNano())
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		b, err := os.ReadFile(path)
		s += " " + brief(b) + " " + errname(err)
	case unix.S_IFLNK:
		to, err := os.Readlink(path)
		s += fmt.Sprintf(" %q %s", to, errname(err))
	}
	for _, attr := range xattrs(path) {
		v := make([]byte, 1000)
		n, err := unix.Lgetxattr(path, attr, v)
		s += fmt.Sprintf(" %s=%s %s", attr, brief(v[:max(n, 0)]), errname(err))
	}
	return s
}

func (w *model) list() {
	a := w.path()
	if rapid.IntRange(0, 3).Draw(w.T, "root") == 0 {
		a = "."
	}
	var seen [2]string
	for i, root := range []string{w.plain, w.m.Point} {
		list, err := os.ReadDir(root + "/" + a)
		seen[i] = errname(err)
		for _, d := range list {
			seen[i] += fmt.Sprintf(" %q %v", d.Name(), d.Type())
		}
	}
	w.steps["list"]++
	w.last = append(w.last, "list "+a)
	if seen[0] != seen[1] {
		w.wrong("%q lists\n%s\nand should list\n%s", a, seen[1], seen[0])
	}
}

// openOne keeps a file open on both sides.
func (w *model) openOne() {
	a := w.path()
	flags := os.O_RDWR
	if rapid.Bool().Draw(w.T, "create") {
		flags |= os.O_CREATE
	}
	p := &pair{name: a}
	w.do("open "+a, func(root string) error {
		f, err := os.OpenFile(root+"/"+a, flags|syscall.O_NONBLOCK, 0o644)
		if root == w.plain {
			p.plain = f
		} else {
			p.mount = f
		}
		return err
	})
	if p.plain == nil {
		return
	}
	w.open = append(w.open, p)
	if fi, err := p.plain.Stat(); err != nil || !fi.Mode().IsRegular() || len(w.open) > 4 {
		w.closeOne(p) // a FIFO can be opened, and nothing more
	}
}

func (w *model) withOpen(what string, f func(p *pair)) {
	if len(w.open) == 0 {
		w.openOne()
	}
	if len(w.open) == 0 {
		return
	}
	p := pick(w, w.open, "open")
	w.steps[what+"-open"]++
	w.last = append(w.last, what+" what was opened as "+p.name)
	f(p)
}

func (w *model) closeOne(p *pair) {
	w.must(p.plain.Close())
	w.must(p.mount.Close())
	w.open = slices.DeleteFunc(w.open, func(q *pair) bool { return p == q })
}

func (w *model) writeOpen(p *pair) {
	b, off := w.data(), pick(w, offsets, "offset")
	for _, f := range []*os.File{p.plain, p.mount} {
		w.must(second(f.WriteAt(b, off)))
		if len(b) == 1 {
			w.must(f.Truncate(off))
		}
	}
}

func (w *model) readOpen(p *pair) {
	off := pick(w, offsets, "offset")
	a, b := make([]byte, 200_000), make([]byte, 200_000)
	n, _ := p.plain.ReadAt(a, off)
	k, err := p.mount.ReadAt(b, off)
	if n != k || !bytes.Equal(a[:n], b[:k]) {
		w.wrong("the handle of %s reads %d bytes %s (%v), and should read %d bytes %s", p.name, k, brief(b[:k]), err, n, brief(a[:n]))
	}
}

func (w *model) statOpen(p *pair) {
	var st [2]unix.Stat_t
	for i, f := range []*os.File{p.plain, p.mount} {
		w.must(unix.Fstat(int(f.Fd()), &st[i]))
	}
	if want, got := attributes(&st[0]), attributes(&st[1]); want != got {
		w.wrong("the handle of %s is %s, and should be %s", p.name, got, want)
	}
}

// interrupt ends the daemon in one of several ways and starts it again. Files
// are closed before: what is open at a crash may come back as it was or as it
// is, and there is no model for that.
func (w *model) interrupt() {
	how := pick(w, []string{"kill", "kill", "umount", "wait", "empty cache"}, "how")
	w.steps[how]++
	w.last = append(w.last, how)
	w.shut()
	switch how {
	case "kill":
		w.must(w.m.Kill9())
		w.sound()
		w.start()
	case "umount":
		w.umount("--drain=0s", 0, 3)
		w.start()
	case "wait":
		w.wait()
	case "empty cache":
		w.wait()
		w.umount("--drain=1m", 0)
		w.must(os.RemoveAll(w.m.Cache))
		w.start()
	}
	w.same()
}

func (w *model) wait() {
	r, err := w.m.Wait(w.m.Point, patience)
	w.must(err)
	if r.Code != 0 {
		s, _ := w.m.Status()
		w.wrong("wait: %v\n%+v", r, s)
	}
}

func (w *model) umount(drain string, codes ...int) {
	r, err := w.m.Umount(w.e.soon(), drain)
	w.must(err)
	if !slices.Contains(codes, r.Code) {
		w.wrong("umount: %v", r)
	}
	w.sound()
}

// same compares all names, and all that they have.
func (w *model) same() {
	want, got := w.tree(w.plain), w.tree(w.m.Point)
	for name, line := range want {
		if got[name] != line {
			w.wrong("%q is\n%s\nand should be\n%s", name, got[name], line)
		}
	}
	for name, line := range got {
		if want[name] == "" {
			w.wrong("%q should not be there: %s", name, line)
		}
	}
}

func (w *model) tree(root string) map[string]string {
	tree := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name := strings.TrimPrefix(path, root+"/")
		tree[name] = w.line(root, name)
		return nil
	})
	w.must(err)
	return tree
}

// end compares once more: as it is, what is on OSS by a client of its own, and
// what a mount makes of that.
func (w *model) end() {
	w.shut()
	w.same()
	w.wait()
	w.same()
	times := map[string]int64{}
	for name := range w.tree(w.plain) {
		var st unix.Stat_t
		w.must(unix.Lstat(w.m.Point+"/"+name, &st))
		times[name] = st.Mtim.Nano()
	}
	w.umount("--drain=1m", 0)
	w.bucket(times)
	w.must(os.RemoveAll(w.m.Cache))
	w.start()
	w.same()
	w.umount("--drain=1m", 0)
}

// bucket compares the objects with the plain directory.
func (w *model) bucket(times map[string]int64) {
	want := w.tree(w.plain)
	keys, err := w.e.server.Keys(w.prefix() + "/")
	w.must(err)
	b, err := w.e.server.Client()
	w.must(err)
	for _, key := range keys {
		name := strings.TrimSuffix(strings.TrimPrefix(key, w.prefix()+"/"), "/")
		if name == "" {
			continue
		}
		var st unix.Stat_t
		if want[name] == "" || unix.Lstat(w.plain+"/"+name, &st) != nil || (st.Mode&unix.S_IFMT == unix.S_IFDIR) != strings.HasSuffix(key, "/") {
			w.wrong("the object %q has no name in the model", key)
		}
		delete(want, name)
		body, mtime := "", times[name]
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			s, err := os.ReadFile(w.plain + "/" + name)
			w.must(err)
			body = string(s)
		case unix.S_IFLNK:
			body, err = os.Readlink(w.plain + "/" + name)
			w.must(err)
		}
		sum, size, err := w.e.server.ObjectSum(key)
		w.must(err)
		if s, _ := harness.Sum(strings.NewReader(body)); s != sum {
			w.wrong("the object %q has %d bytes %.12s, and should have %d bytes %.12s", key, size, sum, len(body), s)
		}
		h, err := b.GetObjectDetailedMeta(key)
		w.must(err)
		said := fmt.Sprint(h.Get("X-Oss-Meta-Mode"), " ", h.Get("X-Oss-Meta-Uid"), ":", h.Get("X-Oss-Meta-Gid"))
		if should := fmt.Sprint(st.Mode, " ", st.Uid, ":", st.Gid); said != should {
			w.wrong("the object %q says %s, and should say %s", key, said, should)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			continue // names that come and go move its time, and that is not sent
		}
		if got := metaTime(h.Get("X-Oss-Meta-Mtime")); got != mtime {
			w.wrong("the object %q is of %d (%s), and should be of %d", key, got, h.Get("X-Oss-Meta-Mtime"), mtime)
		}
	}
	if len(want) > 0 {
		w.wrong("not on OSS: %q", slices.Sorted(maps.Keys(want)))
	}
	uploads, err := w.e.server.Uploads()
	w.must(err)
	for _, u := range uploads {
		if strings.HasPrefix(u.Key, w.prefix()+"/") {
			w.wrong("a multipart upload is left: %+v", u)
		}
	}
}

// metaTime reads a time of the metadata: seconds, a point and nine digits,
// which count upwards also before 1970.
func metaTime(s string) int64 {
	whole, part, _ := strings.Cut(s, ".")
	sec, _ := strconv.ParseInt(whole, 10, 64)
	ns, _ := strconv.ParseInt((part + "000000000")[:9], 10, 64)
	return sec*1e9 + ns
}

// change opens a file and does something with it. Opening a FIFO does not wait
// here, and nothing is written to one: that would.
func change(root, name string, flags int, do func(f *os.File) error) error {
	f, err := os.OpenFile(filepath.Join(root, name), flags|syscall.O_NONBLOCK, 0o644)
	if err != nil {
		return err
	}
	if fi, err := f.Stat(); err == nil && !fi.Mode().IsRegular() {
		f.Close()
		return syscall.ESPIPE
	}
	if err := do(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
