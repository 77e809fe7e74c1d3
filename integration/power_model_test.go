package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// blob is bytes that a file may hold.
type blob struct {
	b   []byte
	sum string
}

func newBlob(b []byte) *blob {
	sum := sha256.Sum256(b)
	return &blob{b, hex.EncodeToString(sum[:])}
}

// inode is a file under whatever names; what it has held, in order.
type inode struct{ versions []*blob }

// item is what a name holds. It is never changed.
type item struct {
	kind  fs.FileMode // type; 0 is a file
	mode  uint32
	data  *blob // of a file; of a symlink its target
	inode *inode
	at    int   // data is this version of it
	time  int64 // what somebody has set; 0: nobody has
	// It was synced and not closed, or is being rewritten in place: a cut may leave it
	// interrupted, and then it holds a mixture of this version and those that have
	// followed, also after it was closed, as long as the horizon had not seen that.
	open  bool
	maybe bool   // or it is not there yet
	left  bool   // as a cut has left it, in the middle of being written: not published
	made  string // by what
}

// fresh is a new version of a file, or the first of a new one.
func (n *inode) fresh(b []byte, mode uint32) *item {
	n.versions = append(n.versions, newBlob(b))
	at := len(n.versions) - 1
	return &item{mode: mode, data: n.versions[at], inode: n, at: at}
}

// but is it with something else.
func (it *item) but(change func(it *item)) *item {
	other := *it
	change(&other)
	return &other
}

// state is what a program's names hold; never changed.
type state map[string]*item

func (s state) with(name string, it *item) state {
	t := maps.Clone(s)
	t[name] = it
	return t
}

func (s state) without(name string) state {
	t := maps.Clone(s)
	delete(t, name)
	return t
}

// moved is s with a, and all beneath it, under b.
func (s state) moved(a, b string) state {
	t := state{}
	for name, it := range s {
		switch rest, beneath := strings.CutPrefix(name, a+"/"); {
		case name == a:
			t[b] = it
		case beneath:
			t[b+"/"+rest] = it
		case name == b: // replaced
		default:
			t[name] = it
		}
	}
	return t
}

// plan is what a program will do, and which states that makes: states[0] before the
// first step, states[2i+1] while step i is under way, states[2i+2] when it has
// returned.
type plan struct {
	r      *rand.Rand
	dir    string
	steps  []step
	states []state
	calm   bool // it hardly ever syncs: much is on no disk then, for long

	name    string // the file that is open, and what it will hold
	pending *item
}

func (p *plan) now() state { return p.states[len(p.states)-1] }

// do adds a step. The program may not care for it: then nothing is added.
func (p *plan) do(s step) (done bool) {
	if p.calm && s.durable("journal") && p.r.IntN(20) > 0 {
		return false
	}
	old := p.now()
	mid, after := old, old
	it := old[s.A]
	switch s.Op {
	case "create":
		p.name = s.A
		if it == nil {
			p.pending = new(inode).fresh(text(s.Seed, s.Size), 0o644)
			break
		}
		// Who has closed the file a moment ago may have it open yet, for the kernel;
		// then its bytes are emptied in place (H14).
		it.inode.fresh(nil, 0)
		p.pending = it.inode.fresh(text(s.Seed, s.Size), it.mode)
		mid = old.with(s.A, it.but(func(it *item) { it.open = true }))
		after = mid
	case "patch", "append", "more":
		off := s.Off
		if s.Op == "more" {
			s.A, it = p.name, old[p.name]
		}
		if s.Op == "append" {
			off = int64(len(it.data.b))
		}
		p.name, p.pending = s.A, it.inode.fresh(patch(it.data.b, text(s.Seed, s.Size), off), it.mode)
		mid = old.with(s.A, it.but(func(it *item) { it.open = true }))
		after = mid
	case "fsync":
		after = old.with(p.name, p.pending.but(func(it *item) { it.open, it.made = true, s.String() }))
	case "close":
		if old[p.name] == nil { // the row of a large file is closed by RELEASE only, a moment after close(2)
			mid = old.with(p.name, p.pending.but(func(it *item) { it.open, it.maybe = true, true }))
		}
		after = old.with(p.name, p.pending.but(func(it *item) { it.made = s.String() }))
		p.name, p.pending = "", nil
	case "truncate":
		b := append(slices.Clone(it.data.b), make([]byte, max(0, s.Size-int64(len(it.data.b))))...)[:s.Size]
		mid = old.with(s.A, it.but(func(it *item) { it.open = true }))
		after = old.with(s.A, it.inode.fresh(b, it.mode).but(func(it *item) { it.made = s.String() }))
	case "rename":
		after = old.moved(s.A, s.B)
	case "exchange":
		after = maps.Clone(old)
		after[s.A], after[s.B] = old[s.B], old[s.A]
	case "unlink", "rmdir":
		after = old.without(s.A)
	case "mkdir":
		after = old.with(s.A, &item{kind: fs.ModeDir, mode: 0o755, made: s.String()})
	case "symlink":
		after = old.with(s.A, &item{kind: fs.ModeSymlink, data: newBlob([]byte(s.B)), made: s.String()})
	case "chmod":
		after = old.with(s.A, it.but(func(it *item) { it.mode = s.Mode }))
	case "utimes":
		after = old.with(s.A, it.but(func(it *item) { it.time = s.Time }))
	}
	p.steps = append(p.steps, s)
	p.states = append(p.states, mid, after)
	return true
}

// patch is old with b at an offset.
func patch(old, b []byte, off int64) []byte {
	fresh := slices.Clone(old)
	if n := off + int64(len(b)) - int64(len(fresh)); n > 0 {
		fresh = append(fresh, make([]byte, n)...)
	}
	copy(fresh[off:], b)
	return fresh
}

// durable reports that a step which has returned outlives a power cut, with all that
// had returned before it began.
func (s step) durable(close string) bool {
	switch s.Op {
	case "fsync", "sync again", "sync the directory":
		return true
	case "close":
		return close != "journal"
	}
	return false
}

// fill plans n steps or some more, from what is there.
func (p *plan) fill(n int, crowd int) {
	if p.now()[p.dir] == nil {
		p.do(step{Op: "mkdir", A: p.dir})
	}
	for name, it := range p.now() {
		if it.left { // somebody acts: it is written anew, or given up
			if p.r.IntN(4) == 0 {
				p.do(step{Op: "unlink", A: name})
			} else {
				p.create(name, p.small())
				p.do(step{Op: "close"})
			}
		}
	}
	if crowd > 0 {
		p.crowd(n, crowd)
		return
	}
	for len(p.steps) < n {
		actions[p.r.IntN(len(actions))](p)
	}
}

// crowd is a program that renames a directory of many files to and fro.
func (p *plan) crowd(n, size int) {
	a, b := p.dir+"/c0", p.dir+"/c1"
	if p.now()[b] != nil {
		a, b = b, a
	}
	if p.now()[a] == nil {
		p.do(step{Op: "mkdir", A: a})
	}
	for i := range size {
		if name := fmt.Sprintf("%s/%04d", a, i); p.now()[name] == nil {
			p.create(name, 10)
			p.do(step{Op: "close"})
		}
	}
	for n += len(p.steps); len(p.steps) < n; {
		p.do(step{Op: "rename", A: a, B: b})
		a, b = b, a
		name := fmt.Sprintf("%s/%04d", a, p.r.IntN(size))
		switch p.r.IntN(4) {
		case 0:
			p.do(step{Op: "chmod", A: name, Mode: 0o600 + uint32(p.r.IntN(64))})
		case 1:
			p.create(name, 20)
			p.do(step{Op: "fsync"})
			p.do(step{Op: "close"})
		case 2:
			p.do(step{Op: "sync the directory", A: a})
		}
	}
}

func (p *plan) create(name string, size int64) {
	p.do(step{Op: "create", A: name, Seed: p.r.Uint64(), Size: size})
}

func (p *plan) small() int64 {
	return []int64{0, 1, 511, 512, 4096, 5000, 20_000, 120_000}[p.r.IntN(8)]
}

func (p *plan) big() int64 { return 530<<10 + p.r.Int64N(2<<20) }

// file is a name for a file, whether it is there or not.
func (p *plan) file() string {
	if dirs := p.of(fs.ModeDir); p.r.IntN(2) == 0 && len(dirs) > 1 {
		return fmt.Sprint(dirs[p.r.IntN(len(dirs))], "/x", p.r.IntN(3))
	}
	return fmt.Sprint(p.dir, "/f", p.r.IntN(4))
}

// of is the names of a kind that are there.
func (p *plan) of(kind fs.FileMode) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(p.now())) {
		if p.now()[name].kind == kind {
			names = append(names, name)
		}
	}
	return names
}

// some is one of the files that are there, "" if there are none.
func (p *plan) some() string {
	names := p.of(0)
	if len(names) == 0 {
		return ""
	}
	return names[p.r.IntN(len(names))]
}

func (p *plan) sometimes(s step) {
	if p.r.IntN(2) == 0 {
		p.do(s)
	}
}

// actions are what programs do to files and names. Some are more than one step.
var actions = []func(p *plan){
	func(p *plan) { p.create(p.file(), p.small()); p.do(step{Op: "close"}) },
	func(p *plan) { p.create(p.file(), p.small()); p.do(step{Op: "close"}) },
	func(p *plan) { p.create(p.file(), p.small()); p.do(step{Op: "fsync"}); p.do(step{Op: "close"}) },
	func(p *plan) { p.create(p.file(), p.big()); p.sometimes(step{Op: "fsync"}); p.do(step{Op: "close"}) },
	func(p *plan) { // a log
		p.create(p.file(), p.small())
		for range 1 + p.r.IntN(3) {
			if p.do(step{Op: "fsync"}) {
				p.do(step{Op: "more", Seed: p.r.Uint64(), Size: 1 + p.small(), Off: int64(len(p.pending.data.b))})
			}
		}
		p.do(step{Op: "close"})
	},
	(*plan).replace, (*plan).replace,
	(*plan).rewrite, (*plan).rewrite,
	func(p *plan) {
		if a := p.some(); a != "" && len(p.now()[a].data.b) < 4<<20 {
			p.do(step{Op: "append", A: a, Seed: p.r.Uint64(), Size: 1 + p.small()})
			p.sometimes(step{Op: "fsync"})
			p.do(step{Op: "close"})
		}
	},
	func(p *plan) {
		if a := p.some(); a != "" {
			p.do(step{Op: "truncate", A: a, Size: p.r.Int64N(int64(len(p.now()[a].data.b)) + 5000)})
		}
	},
	func(p *plan) { p.move("rename") }, func(p *plan) { p.move("rename") }, func(p *plan) { p.move("exchange") },
	func(p *plan) {
		if dirs := p.of(fs.ModeDir); len(dirs) > 1 {
			to := fmt.Sprint(p.dir, "/d", p.r.IntN(3))
			if p.now()[to] == nil {
				p.do(step{Op: "rename", A: dirs[1+p.r.IntN(len(dirs)-1)], B: to})
			}
		}
	},
	func(p *plan) {
		if a := fmt.Sprint(p.dir, "/d", p.r.IntN(3)); p.now()[a] == nil {
			p.do(step{Op: "mkdir", A: a})
		} else if len(p.beneath(a)) == 0 {
			p.do(step{Op: "rmdir", A: a})
		}
	},
	func(p *plan) {
		if a := p.some(); a != "" {
			p.do(step{Op: "unlink", A: a})
		}
	},
	func(p *plan) {
		if a := fmt.Sprint(p.dir, "/l", p.r.IntN(2)); p.now()[a] == nil {
			p.do(step{Op: "symlink", A: a, B: fmt.Sprint("f", p.r.IntN(1000))})
		} else {
			p.do(step{Op: "unlink", A: a})
		}
	},
	func(p *plan) {
		if a := p.some(); a != "" {
			p.do(step{Op: "chmod", A: a, Mode: 0o600 + uint32(p.r.IntN(64))})
		}
	},
	func(p *plan) {
		if a := p.some(); a != "" {
			p.do(step{Op: "utimes", A: a, Time: 1_000_000_000_000_000_000 + p.r.Int64N(1e15)})
		}
	},
	func(p *plan) { p.do(step{Op: "sync the directory", A: p.dir}) },
	func(p *plan) {
		if a := p.some(); a != "" {
			p.do(step{Op: "sync again", A: a})
		}
	},
}

func (p *plan) beneath(dir string) (names []string) {
	for name := range p.now() {
		if strings.HasPrefix(name, dir+"/") {
			names = append(names, name)
		}
	}
	return names
}

// replace is what editors do: the new version beside the old one, and then in its place.
func (p *plan) replace() {
	tmp, to := p.dir+"/.new.tmp", p.file()
	p.create(tmp, p.small())
	p.sometimes(step{Op: "fsync"})
	p.do(step{Op: "close"})
	p.do(step{Op: "rename", A: tmp, B: to})
	p.sometimes(step{Op: "sync the directory", A: filepath.Dir(to)})
}

// rewrite is what databases do: pages in place, and a sync.
func (p *plan) rewrite() {
	a := p.some()
	if a == "" {
		return
	}
	op := "patch"
	for range 1 + p.r.IntN(3) {
		off := p.r.Int64N(int64(len(p.now()[a].data.b)) + 1)
		p.do(step{Op: op, A: a, Seed: p.r.Uint64(), Size: 1 + p.small(), Off: off})
		if op = "more"; !p.do(step{Op: "fsync"}) {
			break
		}
	}
	p.do(step{Op: "close"})
}

func (p *plan) move(op string) {
	names := p.of(0)
	if len(names) < 2 {
		return
	}
	a, b := names[p.r.IntN(len(names))], names[p.r.IntN(len(names))]
	if op == "rename" && p.r.IntN(2) == 0 {
		b = p.file()
	}
	if a != b {
		p.do(step{Op: op, A: a, B: b})
	}
}

// seen is what a name in the mount holds.
type seen struct {
	item
	interrupted bool
}

// look reads all that is in a mount.
func look(root string) (map[string]*seen, error) {
	all := map[string]*seen{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return fmt.Errorf("lstat %s: %w", path, err)
		}
		s := &seen{item: item{kind: d.Type(), mode: st.Mode & 0o7777, time: st.Mtim.Nano()}}
		var b []byte
		switch d.Type() {
		case 0:
			if b, err = os.ReadFile(path); err == nil && int64(len(b)) != st.Size {
				err = &os.PathError{Op: "read", Path: path, Err: fmt.Errorf("%d bytes, and lstat says %d", len(b), st.Size)}
			}
			buf := make([]byte, 100)
			n, _ := unix.Lgetxattr(path, "user.ossmount.state", buf)
			s.interrupted = string(buf[:max(n, 0)]) == "interrupted"
		case fs.ModeSymlink:
			var to string
			to, err = os.Readlink(path)
			b = []byte(to)
		}
		s.data = newBlob(b)
		all[strings.TrimPrefix(path, root+"/")] = s
		return err
	})
	return all, err
}

// differs tells why a name does not hold what it should; "" if it does.
func (it *item) differs(s *seen) string {
	switch {
	case s == nil && it.maybe:
		return ""
	case s == nil:
		return "missing"
	case s.kind != it.kind:
		return fmt.Sprintf("it is a %v, not a %v", s.kind, it.kind)
	case it.kind == fs.ModeDir:
		return ""
	case it.kind == 0 && s.mode != it.mode:
		return fmt.Sprintf("mode %o, not %o", s.mode, it.mode)
	case it.time != 0 && s.time != it.time && !it.open:
		return fmt.Sprintf("mtime %v, not %v", time.Unix(0, s.time), time.Unix(0, it.time))
	case s.interrupted && it.open:
		return mixed(s.data.b, it.inode.versions[it.at:])
	case s.data.sum != it.data.sum:
		return fmt.Sprintf("%d other bytes, not the %d of %s (interrupted: %t)", len(s.data.b), len(it.data.b), it.made, s.interrupted)
	case s.interrupted && !it.left:
		return "interrupted, and it had been closed"
	}
	return ""
}

// mixed tells what is in got and in none of the versions. Behind the end of the
// shortest there may be zeros: the size was on the disk, and the bytes were not.
func mixed(got []byte, versions []*blob) string {
	least, most := len(versions[0].b), 0
	for _, v := range versions {
		least, most = min(least, len(v.b)), max(most, len(v.b))
	}
	if len(got) < least || len(got) > most {
		return fmt.Sprintf("interrupted with %d bytes, and the versions have %d to %d", len(got), least, most)
	}
	for i, x := range got {
		if (i < least || x != 0) && !slices.ContainsFunc(versions, func(v *blob) bool { return i < len(v.b) && v.b[i] == x }) {
			return fmt.Sprintf("byte %d is of none of %d versions", i, len(versions))
		}
	}
	return ""
}

// differs tells what of a program's names is not as in s.
func (s state) differs(dir string, all map[string]*seen) (lines []string) {
	for name, it := range s {
		if why := it.differs(all[name]); why != "" {
			lines = append(lines, name+": "+why)
		}
	}
	for name := range all {
		if (name == dir || strings.HasPrefix(name, dir+"/")) && s[name] == nil {
			lines = append(lines, name+": should not be there")
		}
	}
	slices.Sort(lines)
	return lines
}

// found is s as a mount shows it after a cut.
func (s state) found(all map[string]*seen) state {
	t := state{}
	for name, it := range s {
		if it.maybe && all[name] == nil {
			continue
		}
		t[name] = it.but(func(it *item) {
			if it.open { // its time was not looked at: it may be that of an earlier state
				it.time = 0
			}
			it.open, it.left, it.maybe = false, false, false
			it.inode, it.at = &inode{versions: []*blob{it.data}}, 0
			if seen := all[name]; seen.interrupted {
				*it = *new(inode).fresh(seen.data.b, it.mode)
				it.left = true
			}
		})
	}
	return t
}
