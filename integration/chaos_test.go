package integration

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var chaosTime = flag.Duration("chaos.time", 30*time.Second, "how long TestChaos goes on")

// TestChaos lets programs write, change, rename, exchange and remove files in
// directories that they share and that another one moves about, while readers look
// at what they do, the daemon and the server are killed, and requests fail. What
// each writer knows is compared with what the mount shows meanwhile, and with the
// bucket in the end; then nothing is left that nobody has a use for.
func TestChaos(t *testing.T) {
	t.Parallel()
	e := setup(t)
	r := drawn(t)
	ttl := []string{"inf", "2s"}[r.IntN(2)] // with inf OSS is not asked who else has written
	m := e.mount("cache", "--write-back-delay=50ms", "--doubt=1s", "--part-size=256KiB", "--multipart-threshold=512KiB", "--stall=5s", "--meta-ttl="+ttl)
	c := &chaos{env: e, m: m, end: time.Now().Add(*chaosTime), places: newPlaces(5), did: map[string]int{}}
	for d := range c.places.parent {
		p := c.player(fmt.Sprint("maker of ", d), 0)
		p.settle("mkdir", func() error { return os.MkdirAll(m.in(c.places.path(d)), 0o755) })
	}
	var g sync.WaitGroup
	for i := range 4 {
		w := &writer{player: c.player(fmt.Sprint("writer ", i), r.Uint64())}
		for k := range 6 {
			w.files = append(w.files, &chaosFile{name: fmt.Sprintf("w%d-f%d", i, k), dir: k % len(c.places.parent)})
		}
		c.files = append(c.files, w.files...)
		g.Go(w.work)
	}
	for i := range 2 {
		g.Go((&reader{player: c.player(fmt.Sprint("reader ", i), r.Uint64())}).work)
	}
	g.Go((&mover{player: c.player("mover", r.Uint64())}).work)
	c.disturb(r)
	g.Wait()
	e.ok(e.server.ClearFaults())
	if t.Failed() {
		return
	}
	c.compareMount()
	c.poll("nothing is owed that may still land", time.Minute, func() bool { return m.status().Queue.Debts == 0 })
	m.umount(0, "--drain=3m")
	objects := c.compareBucket()
	c.nothingLeft()
	var told []string
	for _, what := range slices.Sorted(maps.Keys(c.did)) {
		told = append(told, fmt.Sprintf("%d %s", c.did[what], what))
	}
	t.Logf("%s; --meta-ttl=%s: %d calls, %d of them cut off; the daemon killed %d times, the server %d times; %d faults; %d objects compared, 0 differ, nothing is left\n%s",
		chaosTime, ttl, c.calls, c.cut, c.kills, c.serverKills, c.faults, objects, strings.Join(told, ", "))
}

type chaos struct {
	*env
	m      *mount
	end    time.Time
	places *places
	files  []*chaosFile

	alive sync.RWMutex // held for writing while there is no daemon

	mu                         sync.Mutex
	did                        map[string]int // calls that were made, by kind
	calls, cut                 int
	kills, serverKills, faults int
}

// faults that come and go.
var chaosFaults = []string{
	"error,code=InternalError,status=500,probability=0.3",
	"error,code=ServiceUnavailable,status=503,probability=0.5",
	"reset,at=after,probability=0.2",
	"reset,at=before,probability=0.3",
	"reset,at=after,op=CompleteMultipartUpload|PutObject|CopyObject",
	"reset,at=after,op=DeleteObject|DeleteMultipleObjects|InitiateMultipartUpload,probability=0.5",
	"late,op=PutObject|DeleteObject|CompleteMultipartUpload|CopyObject,for=300ms,probability=0.5",
	"late,op=InitiateMultipartUpload,for=300ms,probability=0.5",
	"forget,op=UploadPart,probability=0.1",
	"delay,for=100ms",
	"corrupt,what=crc,op=UploadPart|PutObject,probability=0.2",
}

// disturb kills and lets fail until the time is over.
func (c *chaos) disturb(r *rand.Rand) {
	for time.Now().Before(c.end) && !c.Failed() {
		fault := chaosFaults[r.IntN(len(chaosFaults))]
		if _, err := c.server.Fault(fault); err != nil {
			c.Errorf("fault %s: %v", fault, err)
			return
		}
		c.faults++
		<-time.After(time.Duration(r.Int64N(int64(2 * time.Second))))
		c.check(c.server.ClearFaults())
		<-time.After(time.Duration(r.Int64N(int64(time.Second))))
		switch r.IntN(4) {
		case 0:
			c.check(c.server.Kill())
			c.serverKills++
			<-time.After(time.Duration(r.Int64N(int64(time.Second))))
			c.check(c.server.Start(c.soon()))
		default:
			c.check(c.m.Kill9())
			c.kills++
			c.restart()
			if r.IntN(4) == 0 { // and once more while it is taking up what it found
				<-time.After(time.Duration(r.Int64N(int64(50 * time.Millisecond))))
				c.check(c.m.Kill9())
				c.kills++
				c.restart()
			}
		}
	}
}

// restart mounts again; no call is made meanwhile that could see the bare
// directory.
func (c *chaos) restart() {
	c.alive.Lock()
	defer c.alive.Unlock()
	if err := c.m.Start(c.soon()); err != nil {
		c.Errorf("mount again: %v", err)
	}
}

// compareMount reads every file through the mount.
func (c *chaos) compareMount() {
	p := c.player("the end", 0)
	for _, f := range c.files {
		p.compare(f)
	}
}

// compareBucket compares every object with what its writer knows.
func (c *chaos) compareBucket() (n int) {
	want := map[string]string{}
	for _, f := range c.files {
		if f.there {
			want[c.places.path(f.dir)+"/"+f.name] = string(f.text)
		}
	}
	keys, err := c.server.Keys("")
	c.ok(err)
	for _, k := range keys {
		if strings.HasSuffix(k, "/") {
			continue
		}
		text, ok := want[k]
		if !ok {
			c.Errorf("%q is on OSS, and was removed, or moved", k)
			continue
		}
		c.object(k, text)
		delete(want, k)
		n++
	}
	for k := range want {
		c.Errorf("%s is not on OSS", k)
	}
	return n
}

// nothingLeft looks for what nobody has a use for: uploads, contents that nothing
// names, and bytes in lost+found that were not being written.
func (c *chaos) nothingLeft() {
	c.ok(c.noUploads(10 * time.Second))
	st, err := c.m.CacheStatus()
	c.ok(err)
	closed := 0
	for _, l := range st.LostAndFound {
		if l.Witness.State == "closed" {
			closed++ // killed between the two halves of a close that has not returned
		} else if l.Witness.State != "open" {
			c.Errorf("%s in lost+found is no file that was open: %+v", l.Path, l.Witness)
		}
	}
	lost := len(st.LostAndFound)
	if lost > c.cut || closed > c.kills {
		c.Errorf("%d files are in lost+found, %d of them closed; %d calls were cut off by %d kills", lost, closed, c.cut, c.kills)
	}
	before := c.contents()
	c.m.start() // which drops, or moves aside, what nothing names
	c.poll("no doubt is left", time.Minute, func() bool { return c.m.status().Queue.Doubts == 0 })
	if st := c.m.status(); len(st.LostAndFound) > lost || st.Queue.Debts > 0 {
		c.Errorf("a start finds %d files more in lost+found, %d debts", len(st.LostAndFound)-lost, st.Queue.Debts)
	}
	c.m.umount(0)
	after := c.contents()
	for name := range before {
		if !after[name] {
			c.Errorf("content %s was left, and nothing named it", name)
		}
	}
}

func (c *chaos) contents() map[string]bool {
	found := map[string]bool{}
	c.ok(filepath.WalkDir(filepath.Join(c.m.Cache, "contents"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found[path] = true
		}
		return err
	}))
	return found
}

// places are the directories: each lies in another, or at the top, under a name
// that it never had before.
type places struct {
	mu      sync.Mutex
	parent  []int // -1: the top
	name    []string
	moves   int // so many have begun or ended: odd while there is one
	renames int
}

func newPlaces(n int) *places {
	p := &places{}
	for d := range n {
		p.parent, p.name = append(p.parent, -1), append(p.name, fmt.Sprintf("d%d.0", d))
	}
	return p
}

func (p *places) path(d int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pathLocked(d)
}

func (p *places) pathLocked(d int) string {
	if p.parent[d] < 0 {
		return p.name[d]
	}
	return p.pathLocked(p.parent[d]) + "/" + p.name[d]
}

func (p *places) now() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.moves
}

// draw chooses a move: directory d goes into another, or stays, under a new name.
func (p *places) draw(r *rand.Rand) (d, to int, name, from, path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d, to = r.IntN(len(p.parent)), r.IntN(len(p.parent)+1)-1
	for at := to; at >= 0; at = p.parent[at] {
		if at == d {
			to = p.parent[d] // not into itself
			break
		}
	}
	p.moves++
	p.renames++
	name = fmt.Sprintf("d%d.%d", d, p.renames)
	from, path = p.pathLocked(d), name
	if to >= 0 {
		path = p.pathLocked(to) + "/" + name
	}
	return d, to, name, from, path
}

func (p *places) moved(d, to int, name string, done bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moves++
	if done {
		p.parent[d], p.name[d] = to, name
	}
}

// chaosFile is what its one writer knows of a file.
type chaosFile struct {
	name string

	mu      sync.Mutex
	changes int // so many have begun or ended: odd while there is one
	dir     int
	there   bool
	text    []byte
}

// is returns what the file is now; sure is false while it is being changed.
func (f *chaosFile) is() (dir int, there bool, text []byte, change int, sure bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dir, f.there, f.text, f.changes, f.changes%2 == 0
}

func (f *chaosFile) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes++
}

func (f *chaosFile) becomes(dir int, there bool, text []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes++
	f.dir, f.there, f.text = dir, there, text
}

// player is a program that makes calls, which are cut off when the daemon is killed.
type player struct {
	c    *chaos
	name string
	r    *rand.Rand
	last []string
}

func (c *chaos) player(name string, seed uint64) *player {
	return &player{c: c, name: name, r: rand.New(rand.NewPCG(seed, 11))}
}

func (p *player) goesOn() bool { return time.Now().Before(p.c.end) && !p.c.Failed() }

// isCut reports that a call failed because the daemon was killed, or because OSS
// did not answer.
func isCut(err error) bool {
	return errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.EIO) || errors.Is(err, errFault)
}

// errFault is a store to a mapping whose daemon is gone.
var errFault = errors.New("bus error")

// try makes one call, and reports whether it was cut off.
func (p *player) try(what string, f func() error) (cut bool) {
	p.c.alive.RLock()
	defer p.c.alive.RUnlock()
	err := f()
	p.last = append(p.last[max(0, len(p.last)-20):], fmt.Sprintf("%s %s: %v", time.Now().Format("05.000"), what, err))
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	p.c.calls++
	p.c.did[strings.Fields(what)[0]]++
	switch {
	case err == nil:
		return false
	case isCut(err):
		p.c.cut++
		return true
	}
	p.wrong("%s: %v", what, err)
	return true
}

// settle repeats a call until it is not cut off.
func (p *player) settle(what string, f func() error) {
	for !p.c.Failed() && p.try(what, f) {
		<-time.After(10 * time.Millisecond) // there may be no daemon just now
	}
}

func (p *player) wrong(format string, args ...any) {
	p.c.Errorf("%s %s: %s\nlast:\n%s", time.Now().Format("05.000"), p.name, fmt.Sprintf(format, args...), strings.Join(p.last, "\n"))
}

// at calls f with the path of a name in directory d, again when that has moved
// meanwhile.
func (p *player) at(d int, name string, f func(path string) error) error {
	for {
		was := p.c.places.now()
		err := f(p.c.m.in(p.c.places.path(d) + "/" + name))
		if !errors.Is(err, os.ErrNotExist) || was%2 == 0 && p.c.places.now() == was {
			return err
		}
		time.Sleep(time.Millisecond) // a turn for the one who moves it
	}
}

// compare reads a file and compares it with what it should be, if nobody has
// changed it meanwhile.
func (p *player) compare(f *chaosFile) {
	for !p.c.Failed() {
		dir, there, want, change, sure := f.is()
		if !sure {
			return
		}
		var got []byte
		var found bool
		cut := p.try("read "+f.name, func() error {
			err := p.at(dir, f.name, func(path string) (err error) { got, err = os.ReadFile(path); return err })
			if found = err == nil; errors.Is(err, os.ErrNotExist) {
				return nil
			}
			if _, _, _, now, _ := f.is(); now != change {
				return nil // somebody has replaced what was being read
			}
			return err
		})
		if cut {
			<-time.After(10 * time.Millisecond)
			continue
		}
		if _, _, _, now, _ := f.is(); now == change && (found != there || !bytes.Equal(got, want)) {
			p.wrong("%s in %s: there %t, %d bytes %.60q; should be there %t, %d bytes %.60q; they differ from %d on", f.name, p.c.places.path(dir), found, len(got), got, there, len(want), want, differAt(got, want))
		}
		return
	}
}

func differAt(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// reader looks at the files of others.
type reader struct{ *player }

func (r *reader) work() {
	for r.goesOn() {
		r.compare(r.c.files[r.r.IntN(len(r.c.files))])
	}
}

// mover moves directories, with all that is in them and open in them.
type mover struct{ *player }

func (m *mover) work() {
	for m.goesOn() {
		d, to, name, from, path := m.c.places.draw(m.r)
		done := true
		if m.try("rename-dir "+from+" "+path, func() error { return os.Rename(m.c.m.in(from), m.c.m.in(path)) }) {
			done = m.exists(path)
			if !done && !m.exists(from) {
				m.wrong("%s is neither there nor at %s", from, path)
			}
		}
		m.c.places.moved(d, to, name, done)
		<-time.After(time.Duration(m.r.Int64N(int64(500 * time.Millisecond))))
	}
}

func (p *player) exists(path string) (yes bool) {
	p.settle("stat "+path, func() error {
		_, err := os.Lstat(p.c.m.in(path))
		if yes = err == nil; errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
	return yes
}

// writer is a program with files of its own.
type writer struct {
	*player
	files []*chaosFile
}

func (w *writer) text() []byte {
	n := []int{0, 1, 100, 5000, 300_000, 900_000, 1_500_000, 4_000_000}[w.r.IntN(8)]
	return bytes.Repeat([]byte(fmt.Sprintf("%s %d ", w.name, w.r.Uint64())), n/20+1)[:n]
}

func (w *writer) work() {
	for w.goesOn() {
		w.step()
	}
}

func (w *writer) step() {
	f, g := w.files[w.r.IntN(len(w.files))], w.files[w.r.IntN(len(w.files))]
	if !f.there || w.r.IntN(8) == 0 {
		w.put(f, w.text())
		return
	}
	old := f.text
	off := w.r.IntN(len(old) + 1)
	switch w.r.IntN(14) {
	case 0, 1:
		w.change("patch", f, over(old, off, "changed in place"), patched("changed in place", int64(off)))
	case 2:
		more := w.text()
		w.change("append", f, append(bytes.Clone(old), more...), appended(string(more)))
	case 3:
		w.change("truncate", f, old[:off], func(path string) error { return os.Truncate(path, int64(off)) })
	case 4:
		w.change("extend", f, append(bytes.Clone(old), make([]byte, 10_000)...), func(path string) error { return os.Truncate(path, int64(len(old)+10_000)) })
	case 5:
		w.change("map", f, over(old, off, "through a map")[:len(old)], mapped("through a map", off))
	case 6:
		more := w.text()
		w.change("hold", f, append(over(old, off, "first, "), more...), w.held("first, ", off, more))
	case 7:
		w.change("fsync", f, over(old, off, "synced"), func(path string) error { return synced(path, "synced", off) })
	case 8:
		w.change("chmod", f, old, func(path string) error { return os.Chmod(path, 0o600+os.FileMode(w.r.IntN(64))) })
	case 9:
		w.save(f, w.text())
	case 10, 11:
		if f != g {
			w.rename(f, g, w.r.IntN(len(w.c.places.parent)))
		}
	case 12:
		if f != g && g.there {
			w.exchange(f, g)
		}
	case 13:
		w.remove(f)
	}
	w.compare(f)
}

// over is old with text over it from off on.
func over(old []byte, off int, text string) []byte {
	b := append(bytes.Clone(old), make([]byte, max(0, off+len(text)-len(old)))...)
	copy(b[off:], text)
	return b
}

// mapped stores text through a shared mapping, as far as the file reaches.
func mapped(text string, off int) func(path string) error {
	return func(path string) (err error) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer func() { err = cmp.Or(err, f.Close()) }()
		st, err := f.Stat()
		if err != nil || st.Size() == 0 {
			return err
		}
		b, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		defer unix.Munmap(b)
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		defer func() {
			if recover() != nil {
				err = errFault
			}
		}()
		copy(b[off:], text)
		return unix.Msync(b, unix.MS_SYNC)
	}
}

// synced writes text, waits until the disk has it, and writes it once more.
func synced(path, text string, off int) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, f.Close()) }()
	for range 2 {
		if _, err := f.WriteAt([]byte(text), int64(off)); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// held changes a file through one descriptor, with a while between in which it may
// be moved, and the close of a copy of it.
func (w *writer) held(text string, off int, more []byte) func(path string) error {
	return func(path string) (err error) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer func() { err = cmp.Or(err, f.Close()) }()
		if _, err := f.WriteAt([]byte(text), int64(off)); err != nil {
			return err
		}
		<-time.After(time.Duration(w.r.Int64N(int64(300 * time.Millisecond))))
		fd, err := unix.Dup(int(f.Fd()))
		if err != nil {
			return err
		}
		if err := unix.Close(fd); err != nil {
			return err
		}
		end, err := f.Seek(0, 2)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(more, end)
		return err
	}
}

// put writes a file anew, until it is there.
func (w *writer) put(f *chaosFile, text []byte) {
	f.begin()
	w.rewrite(f, text)
	f.becomes(f.dir, true, text)
}

func (w *writer) rewrite(f *chaosFile, text []byte) {
	w.settle("write "+f.name, func() error {
		return w.at(f.dir, f.name, func(path string) error { return os.WriteFile(path, text, 0o644) })
	})
}

// change does what makes fresh of a file. If it is cut off, what the file holds is
// anything between; it is written anew.
func (w *writer) change(what string, f *chaosFile, fresh []byte, do func(path string) error) {
	f.begin()
	if w.try(what+" "+f.name, func() error { return w.at(f.dir, f.name, do) }) {
		w.rewrite(f, fresh)
	}
	f.becomes(f.dir, true, fresh)
}

// save writes a file under a temporary name, and then gives it its own: it is the
// old one or the new one.
func (w *writer) save(f *chaosFile, text []byte) {
	f.begin()
	tmp := "." + f.name + ".tmp"
	w.settle("write "+tmp, func() error {
		return w.at(f.dir, tmp, func(path string) error { return os.WriteFile(path, text, 0o644) })
	})
	if w.try("save "+f.name, func() error {
		return w.at(f.dir, tmp, func(path string) error { return os.Rename(path, filepath.Join(filepath.Dir(path), f.name)) })
	}) && w.isThere(f.dir, tmp) {
		w.settle("remove "+tmp, func() error { return w.at(f.dir, tmp, removed) })
		text = f.text
	}
	f.becomes(f.dir, true, text)
}

// removed removes a path that an earlier try may have removed.
func removed(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	_, err := os.Lstat(filepath.Dir(path)) // it has moved, if that is not there
	return err
}

// rename gives f the place of g in directory dir.
func (w *writer) rename(f, g *chaosFile, dir int) {
	if g.there {
		dir = g.dir
	}
	f.begin()
	g.begin()
	cut := w.try("rename "+f.name+" "+g.name, func() error {
		return w.at(f.dir, f.name, func(from string) error {
			return w.at(dir, g.name, func(to string) error {
				return os.Rename(from, to)
			})
		})
	})
	if cut && w.isThere(f.dir, f.name) {
		f.becomes(f.dir, true, f.text)
		g.becomes(g.dir, g.there, g.text)
		w.compare(g)
		return
	}
	g.becomes(dir, true, f.text)
	f.becomes(f.dir, false, nil)
	w.compare(g)
}

// exchange gives each of two files what the other has.
func (w *writer) exchange(f, g *chaosFile) {
	f.begin()
	g.begin()
	w.try("exchange "+f.name+" "+g.name, func() error {
		return w.at(f.dir, f.name, func(a string) error {
			return w.at(g.dir, g.name, func(b string) error {
				return os.NewSyscallError("renameat2", unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE))
			})
		})
	})
	// Whether it has happened is seen by what is there: both or none.
	fresh := f.text
	var got []byte
	w.settle("read "+f.name, func() error {
		return w.at(f.dir, f.name, func(path string) (err error) { got, err = os.ReadFile(path); return err })
	})
	other := g.text
	if !bytes.Equal(got, fresh) {
		fresh, other = other, fresh
	}
	f.becomes(f.dir, true, fresh)
	g.becomes(g.dir, true, other)
	w.compare(g)
}

func (w *writer) remove(f *chaosFile) {
	f.begin()
	if w.try("remove "+f.name, func() error { return w.at(f.dir, f.name, os.Remove) }) && w.isThere(f.dir, f.name) {
		f.becomes(f.dir, true, f.text)
		return
	}
	f.becomes(f.dir, false, nil)
}

func (p *player) isThere(dir int, name string) (yes bool) {
	p.settle("stat "+name, func() error {
		err := p.at(dir, name, func(path string) error { _, err := os.Lstat(path); return err })
		if yes = err == nil; errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
	return yes
}
