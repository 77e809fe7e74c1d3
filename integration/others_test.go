package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

// What somebody else does in the bucket: another mount, or a program with the
// SDK. covers H24

// laterSecond waits until OSS, whose times have seconds, would give a later one.
func (e *env) laterSecond() {
	e.Helper()
	from := time.Now()
	e.poll("the clock of OSS has moved on", patience, func() bool { return time.Since(from) > 2100*time.Millisecond })
}

func (e *env) twoMounts(flags ...string) (a, b *mount) {
	e.Helper()
	flags = append(append(e.usual(), "--meta-ttl=1s", "--write-back-delay=0s"), flags...)
	return e.mountSource("oss://"+harness.Bucket, "a", "cache-a", flags...), e.mountSource("oss://"+harness.Bucket, "b", "cache-b", flags...)
}

func TestTwoMountsSeeEachOther(t *testing.T) {
	t.Parallel()
	e := setup(t)
	a, b := e.twoMounts()
	names := func(dir string) string {
		list, err := os.ReadDir(dir)
		e.ok(err)
		var s []string
		for _, d := range list {
			s = append(s, d.Name())
		}
		return strings.Join(s, " ")
	}
	shows := func(what, want string) {
		t.Helper()
		a.wait(a.Point)
		e.poll(what+": the other mount shows "+want, patience, func() bool { return names(b.Point) == want })
	}
	e.is(syscall.ENOENT, second(os.Stat(b.in("f")))) // and now b knows that it is not there
	e.write(a.in("f"), "one")
	shows("a new file", "f")
	e.reads(b.in("f"), "one")
	e.ok(os.MkdirAll(a.in("d/e"), 0o755))
	e.write(a.in("d/e/g"), "g")
	shows("a new directory", "d f")
	e.reads(b.in("d/e/g"), "g")
	for i, text := range []string{"two", "ten", "six", "a longer one", "1"} { // some of one size, and in one second
		e.write(a.in("f"), text)
		a.wait(a.Point)
		e.poll(fmt.Sprint("change ", i, " is read"), patience, func() bool {
			s, err := os.ReadFile(b.in("f"))
			if err != nil && !isStale(err) {
				t.Fatal(err)
			}
			return string(s) == text
		})
		fi, err := os.Stat(b.in("f"))
		e.ok(err)
		if fi.Size() != int64(len(text)) {
			t.Errorf("size %d of %q", fi.Size(), text)
		}
	}
	e.ok(os.Chmod(a.in("f"), 0o600))
	e.ok(harness.SetMtime(a.in("f"), time.Unix(1e9, 5)))
	a.wait(a.Point)
	e.poll("mode and time are seen", patience, func() bool {
		fi, err := os.Stat(b.in("f"))
		return err == nil && fi.Mode() == 0o600 && fi.ModTime().Equal(time.Unix(1e9, 5))
	})
	e.ok(os.Rename(a.in("d"), a.in("moved")))
	shows("a renamed directory", "f moved")
	e.reads(b.in("moved/e/g"), "g")
	e.poll("the old name is not there", patience, func() bool { return errname(second(os.Stat(b.in("d/e/g")))) == "ENOENT" })
	e.ok(os.Remove(a.in("f")))
	shows("a removed file", "moved")
	e.poll("the removed file is not there by name", patience, func() bool { return errname(second(os.Stat(b.in("f")))) == "ENOENT" })
	e.is(syscall.ENOENT, second(os.ReadFile(b.in("f"))))
	e.ok(os.RemoveAll(a.in("moved")))
	shows("a removed directory", "")
	e.write(b.in("from b"), "b")
	b.wait(b.Point)
	e.poll("the first mount sees the second", patience, func() bool { return names(a.Point) == "from b" })
}

func isStale(err error) bool { return errname(err) == "ESTALE" }

// A file and a directory change places, as somebody else wants it.
func TestKindsThatOthersChangeAreSeen(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.put("x", strings.NewReader("file"))
	m := e.mount("cache", "--meta-ttl=1s")
	e.reads(m.in("x"), "file")
	e.ok(e.bucket().DeleteObject("x"))
	e.put("x/in it", strings.NewReader("in it"))
	e.poll("x is a directory", patience, func() bool {
		fi, err := os.Stat(m.in("x"))
		return err == nil && fi.IsDir()
	})
	e.reads(m.in("x/in it"), "in it")
	e.ok(e.bucket().DeleteObject("x/in it"))
	e.put("x", strings.NewReader("x"), oss.Meta("mode", "41471"))
	e.poll("x is a link", patience, func() bool {
		to, err := os.Readlink(m.in("x"))
		return err == nil && to == "x"
	})
	if list, err := os.ReadDir(m.Point); err != nil || len(list) != 1 || list[0].Type() != os.ModeSymlink {
		t.Errorf("listed: %v %v", list, err)
	}
}

func TestOpenFilesNeverShowTwoVersions(t *testing.T) {
	t.Parallel()
	const size = 24 << 20
	version := func(c byte) []byte { return bytes.Repeat([]byte{c}, size) }
	for _, how := range []string{"replaced", "replaced by the same size", "removed"} {
		e := setup(t)
		e.put("big", bytes.NewReader(version('1')))
		e.put("small", strings.NewReader("first"))
		m := e.mount("cache", "--meta-ttl=0s")
		big, small := e.open(m.in("big"), os.O_RDONLY), e.open(m.in("small"), os.O_RDONLY)
		b := make([]byte, 100_000)
		_, err := big.ReadAt(b, 0)
		e.ok(err)
		_, err = small.ReadAt(b[:5], 0)
		e.ok(err)
		switch how {
		case "removed":
			e.ok(e.bucket().DeleteObject("big"))
			e.ok(e.bucket().DeleteObject("small"))
		case "replaced":
			e.put("big", bytes.NewReader(version('2')[:size-12345]))
			e.put("small", strings.NewReader("second"))
		default:
			e.put("big", bytes.NewReader(version('2')))
			e.put("small", strings.NewReader("other"))
		}
		stale := 0
		for off := int64(0); off < size; off += int64(len(b)) * 7 {
			n, err := big.ReadAt(b, off)
			if isStale(err) {
				stale++
				continue
			}
			if err != nil && err != io.EOF {
				t.Errorf("%s: read at %d: %v", how, off, err)
			}
			if bytes.ContainsFunc(b[:n], func(r rune) bool { return r != '1' }) {
				t.Errorf("%s: bytes of another version at %d", how, off)
			}
		}
		t.Logf("%s: %d reads are ESTALE", how, stale)
		if n, err := small.ReadAt(b[:5], 0); err != nil || string(b[:n]) != "first" {
			t.Errorf("%s: the open small file reads %q %v", how, b[:n], err)
		}
		e.ok(big.Close())
		e.ok(small.Close())
		e.poll("the new version is read", patience, func() bool {
			s, err := os.ReadFile(m.in("small"))
			if how == "removed" {
				return os.IsNotExist(err)
			}
			return string(s) != "first" && err == nil
		})
		if how != "removed" {
			sum, err := harness.SumFile(m.in("big"))
			e.ok(err)
			want := version('2')
			if how == "replaced" {
				want = want[:size-12345]
			}
			if s, _ := harness.Sum(bytes.NewReader(want)); s != sum {
				t.Errorf("%s: opened again, it has wrong bytes", how)
			}
		}
	}
}

// Somebody holds a file open all the time, mapped too. Who opens it after
// somebody else has changed it gets what it is now; what is open stays what it
// was, and has lost its name.
func TestAnOpenFileHidesNoNewVersion(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.put("f", strings.NewReader("first"))
	m := e.mount("cache", "--meta-ttl=1s")
	old := e.open(m.in("f"), os.O_RDONLY)
	defer old.Close()
	mapped, err := unix.Mmap(int(old.Fd()), 0, 5, unix.PROT_READ, unix.MAP_SHARED)
	e.ok(err)
	defer unix.Munmap(mapped)
	keeps := func(what string, links uint64) {
		t.Helper()
		b := make([]byte, 10)
		n, err := old.ReadAt(b, 0)
		if string(b[:n]) != "first" || err != io.EOF || string(mapped) != "first" {
			t.Errorf("%s: what is open reads %q %v, the map %q", what, b[:n], err, mapped)
		}
		var st unix.Stat_t
		e.ok(unix.Fstat(int(old.Fd()), &st))
		if uint64(st.Nlink) != links || st.Size != 5 {
			t.Errorf("%s: what is open has %d links and %d bytes", what, st.Nlink, st.Size)
		}
	}
	keeps("before", 1)
	// Our own changes on OSS are none of somebody else's.
	e.ok(os.Chmod(m.in("f"), 0o640))
	m.wait(m.Point)
	e.ok(os.Rename(m.in("f"), m.in("g")))
	m.wait(m.Point)
	e.ok(os.Rename(m.in("g"), m.in("f")))
	m.wait(m.Point)
	e.laterSecond()
	e.reads(m.in("f"), "first")
	keeps("after our own changes", 1)
	for _, text := range []string{"other", "longer than that"} {
		e.put("f", strings.NewReader(text))
		e.poll("the new version is read", patience, func() bool {
			b, err := os.ReadFile(m.in("f"))
			e.ok(err)
			return string(b) == text
		})
		keeps("replaced", 0)
	}
	e.ok(e.bucket().DeleteObject("f"))
	e.poll("it is gone", patience, func() bool { return errname(second(os.Stat(m.in("f")))) == "ENOENT" })
	keeps("removed", 0)
	e.put("f/in it", strings.NewReader("in it"))
	e.poll("it is a directory", patience, func() bool {
		b, _ := os.ReadFile(m.in("f/in it"))
		return string(b) == "in it"
	})
	keeps("replaced by a directory", 0)
}

// conflicts is how many conflicts the daemon has counted.
func (m *mount) conflicts() (n int64) {
	m.e.Helper()
	var stats struct{ Conflicts int64 }
	m.e.ok(json.Unmarshal(m.status().Queue.Stats, &stats))
	return stats.Conflicts
}

// bucketNow is what the bucket holds, with the times of conflict names left
// out.
func (e *env) bucketNow() map[string]string {
	e.Helper()
	keys, err := e.server.Keys("")
	e.ok(err)
	out := map[string]string{}
	for _, k := range keys {
		r, err := e.bucket().GetObject(k)
		e.ok(err)
		b, err := io.ReadAll(r)
		r.Close()
		e.ok(err)
		out[conflictName.ReplaceAllString(k, ".conflict")] = string(b)
	}
	return out
}

var conflictName = regexp.MustCompile(`\.conflict-[^/]+-\d[^/]*$`)

// While one mount knows a version, has changed it and not sent it, somebody
// else changes it, too.
func TestConflicts(t *testing.T) {
	t.Parallel()
	del := func(e *env) { e.ok(e.bucket().DeleteObject("f")) }
	put := func(s string) func(e *env) { return func(e *env) { e.put("f", strings.NewReader(s)) } }
	cases := []struct {
		name string
		// first is on OSS before ("": nothing).
		first string
		ours  func(e *env, m *mount)
		their func(e *env)
		// What the bucket holds in the end: if they were before our close, if
		// they were after it, and the same with keep-both.
		before, after, bothBefore, bothAfter map[string]string
		counted                              bool // in the first two
	}{
		{"a rewrite", "first", func(e *env, m *mount) { e.write(m.in("f"), "ours") }, put("theirs"),
			map[string]string{"f": "ours"}, map[string]string{"f": "theirs", "f.conflict": "ours"},
			map[string]string{"f": "theirs", "f.conflict": "ours"}, map[string]string{"f": "theirs", "f.conflict": "ours"}, true},
		{"a new file", "", func(e *env, m *mount) { e.write(m.in("f"), "ours") }, put("theirs"),
			map[string]string{"f": "ours"}, map[string]string{"f": "theirs", "f.conflict": "ours"},
			map[string]string{"f": "theirs", "f.conflict": "ours"}, map[string]string{"f": "theirs", "f.conflict": "ours"}, true},
		{"a rewrite of what they removed", "first", func(e *env, m *mount) { e.write(m.in("f"), "ours") }, del,
			map[string]string{"f": "ours"}, map[string]string{"f": "ours"}, map[string]string{"f": "ours"}, map[string]string{"f": "ours"}, false},
		{"a removal", "first", func(e *env, m *mount) { e.ok(os.Remove(m.in("f"))) }, put("theirs"),
			map[string]string{"f": "theirs"}, map[string]string{"f": "theirs"}, map[string]string{"f": "theirs"}, map[string]string{"f": "theirs"}, true},
		{"a removal of what they removed", "first", func(e *env, m *mount) { e.ok(os.Remove(m.in("f"))) }, del,
			map[string]string{}, map[string]string{}, map[string]string{}, map[string]string{}, false},
		{"a mode", "first", func(e *env, m *mount) { e.ok(os.Chmod(m.in("f"), 0o600)) }, put("theirs"),
			map[string]string{"f": "theirs"}, map[string]string{"f": "theirs"}, map[string]string{"f": "theirs"}, map[string]string{"f": "theirs"}, true},
		{"a mode of what they removed", "first", func(e *env, m *mount) { e.ok(os.Chmod(m.in("f"), 0o600)) }, del,
			map[string]string{}, map[string]string{}, map[string]string{}, map[string]string{}, true},
		{"a rewrite that says the same", "first", func(e *env, m *mount) { e.write(m.in("f"), "ours") },
			func(e *env) { e.put("f", strings.NewReader("first")) }, // another version with the same ETag: nothing is lost either way
			map[string]string{"f": "ours"}, map[string]string{"f": "ours"}, map[string]string{"f": "ours"}, map[string]string{"f": "ours"}, false},
		{"a rename onto it", "first", func(e *env, m *mount) {
			e.write(m.in("g"), "ours")
			e.ok(os.Rename(m.in("g"), m.in("f")))
		}, put("theirs"),
			map[string]string{"f": "ours"}, map[string]string{"f": "theirs", "f.conflict": "ours"},
			map[string]string{"f": "theirs", "f.conflict": "ours"}, map[string]string{"f": "theirs", "f.conflict": "ours"}, true},
	}
	for _, c := range cases {
		for _, keep := range []string{"overwrite", "keep-both"} {
			for _, when := range []string{"before", "after", "before, a clean copy is here"} {
				when, clean := strings.CutSuffix(when, ", a clean copy is here")
				if clean && (c.first == "" || keep == "keep-both") {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%s/clean=%t", c.name, keep, when, clean), func(t *testing.T) {
					t.Parallel()
					e := setup(t)
					if c.first != "" && !clean {
						e.put("f", strings.NewReader(c.first))
					}
					delay := map[string]string{"before": "200ms", "after": "5s"}[when] // until then the mount is gone
					m := e.mount("cache", "--meta-ttl=1h", "--conflict="+keep, "--doubt=1s", "--write-back-delay="+delay)
					if clean {
						e.write(m.in("f"), c.first)
						m.wait(m.Point)
						e.laterSecond()
					}
					if c.first != "" {
						e.reads(m.in("f"), c.first)
					} else {
						e.is(syscall.ENOENT, second(os.Stat(m.in("f"))))
					}
					if when == "before" {
						c.their(e) // and the listing here is old
						e.laterSecond()
					}
					c.ours(e, m)
					if when == "after" { // the machine is off in between
						m.umount(3, "--drain=0s")
						e.laterSecond()
						c.their(e)
						m.start()
					}
					m.wait(m.Point)
					want := map[string]map[string]string{"overwrite before": c.before, "overwrite after": c.after, "keep-both before": c.bothBefore, "keep-both after": c.bothAfter}[keep+" "+when]
					if got := e.bucketNow(); fmt.Sprint(got) != fmt.Sprint(want) {
						t.Errorf("the bucket holds %q, want %q", got, want)
					}
					if n := m.conflicts(); keep == "overwrite" && (n > 0) != c.counted {
						t.Errorf("%d conflicts are counted", n)
					}
					// The mount shows what the bucket has, without a remount.
					e.poll("the mount shows the bucket", patience, func() bool {
						got := map[string]string{}
						list, err := os.ReadDir(m.Point)
						e.ok(err)
						for _, d := range list {
							b, _ := os.ReadFile(m.in(d.Name()))
							got[conflictName.ReplaceAllString(d.Name(), ".conflict")] = string(b)
						}
						return fmt.Sprint(got) == fmt.Sprint(want)
					})
				})
			}
		}
	}
}

func TestDeletesSpareWhatOthersChanged(t *testing.T) {
	t.Parallel()
	e := setup(t)
	for i := range 300 {
		e.put(fmt.Sprintf("d/f%03d", i), strings.NewReader("old"))
	}
	m := e.mount("cache", "--meta-ttl=1h", "--write-back-delay=1h")
	if list, err := os.ReadDir(m.in("d")); err != nil || len(list) != 300 {
		t.Fatalf("%d names, %v", len(list), err)
	}
	e.sh(`rm -rf "$1"`, m.in("d"))
	e.laterSecond()
	e.put("d/f007", strings.NewReader("theirs"))
	e.put("d/f123", strings.NewReader("theirs, longer"))
	e.put("d/new", strings.NewReader("new"))
	m.umount(0, "--drain=1m")
	if got, want := fmt.Sprint(e.bucketNow()), fmt.Sprint(map[string]string{"d/f007": "theirs", "d/f123": "theirs, longer", "d/new": "new"}); got != want {
		t.Errorf("the bucket holds %s, want %s", got, want)
	}
}

// Somebody changes objects of a directory after it was renamed here and before
// they were copied: none of their bytes may be lost.
func TestRenameOfADirectorySparesWhatOthersChanged(t *testing.T) {
	t.Parallel()
	e := setup(t)
	for i := range 20 {
		e.put(fmt.Sprintf("old/f%02d", i), strings.NewReader(fmt.Sprint("old ", i)))
	}
	m := e.mount("cache", "--meta-ttl=1h", "--write-back-delay=0s")
	if list, err := os.ReadDir(m.in("old")); err != nil || len(list) != 20 {
		t.Fatalf("%d names, %v", len(list), err)
	}
	m.umount(0)
	m.Flags = append(m.Flags, "--write-back-delay=1h")
	m.start()
	e.ok(os.Rename(m.in("old"), m.in("new")))
	m.umount(3, "--drain=0s")
	e.laterSecond()
	e.put("old/f03", strings.NewReader("theirs 3"))
	e.ok(e.bucket().DeleteObject("old/f04"))
	e.put("old/added", strings.NewReader("theirs, added"))
	e.put("new/f05", strings.NewReader("theirs at the new place"))
	m.start()
	r, err := m.Umount(e.soon(), "--drain=1m")
	e.ok(err)
	t.Logf("umount: %v", r)
	got := e.bucketNow()
	all := strings.Join(slices.Sorted(maps.Values(got)), "\n")
	for i := range 20 {
		if i != 3 && i != 4 && got[fmt.Sprintf("new/f%02d", i)] != fmt.Sprint("old ", i) && i != 5 {
			t.Errorf("new/f%02d holds %q", i, got[fmt.Sprintf("new/f%02d", i)])
		}
	}
	for _, want := range []string{"theirs 3", "theirs, added", "theirs at the new place", "old 5"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is nowhere: %q", want, got)
		}
	}
	if r.Code != 0 && r.Code != 4 {
		t.Errorf("umount: %v", r)
	}
}

// Somebody else replaces what was renamed here, before it was copied: whoever has
// read it has its bytes, if he has read all of it.
func TestRenamedBytesThatWereReadOutliveTheirSource(t *testing.T) {
	t.Parallel()
	e := setup(t)
	whole, part := strings.Repeat("all of it was read. ", 1000), strings.Repeat("some of it was read. ", 1<<20)
	e.put("whole", strings.NewReader(whole))
	e.put("part", strings.NewReader(part))
	m := e.mount("cache", "--write-back-delay=0s")
	e.command(0, "uploads", "pause", m.Point)
	e.reads(m.in("whole"), whole)
	f := e.open(m.in("part"), os.O_RDONLY)
	_, err := f.ReadAt(make([]byte, 100), 0)
	e.ok(err)
	e.ok(f.Close())
	for _, name := range []string{"whole", "part"} {
		e.ok(os.Rename(m.in(name), m.in("new-"+name)))
	}
	e.laterSecond()
	e.put("whole", strings.NewReader("theirs"))
	e.put("part", strings.NewReader("theirs"))
	e.command(0, "uploads", "resume", m.Point)
	e.command(4, "wait", m.Point)
	e.object("new-whole", whole)
	e.object("whole", "theirs")
	e.object("part", "theirs")
	e.reads(m.in("new-whole"), whole)
	if kept := m.status().Queue.Kept; len(kept) != 1 || kept[0].Key != "new-part" || !strings.Contains(kept[0].Reason, "is gone from OSS") {
		t.Errorf("parked: %+v", kept)
	}
	if keys, err := e.server.Keys("new-part"); err != nil || len(keys) > 0 {
		t.Errorf("objects: %q, %v", keys, err)
	}
	e.recoverCmd(0, "discard", m.in("new-part"), "--yes")
	m.umount(0)
}

// Somebody appends to a log of which we have read what there was; to set its mode takes
// nothing away. OSS copies no such object: its bytes are sent anew.
func TestNewModeOfALogThatGrows(t *testing.T) {
	t.Parallel()
	e := setup(t)
	at, err := e.bucket().AppendObject("log", strings.NewReader("one "), 0)
	e.ok(err)
	m := e.mount("cache", "--meta-ttl=1h", "--write-back-delay=0s")
	e.reads(m.in("log"), "one ")
	_, err = e.bucket().AppendObject("log", strings.NewReader("two "), at)
	e.ok(err)
	e.laterSecond()
	_, err = e.server.Fault("error,code=OperationNotSupported,status=400,op=CopyObject") // before it looks at versions
	e.ok(err)
	e.ok(os.Chmod(m.in("log"), 0o600))
	m.wait(m.Point)
	e.object("log", "one two ")
	e.poll("the mode is that", patience, func() bool {
		info, err := e.bucket().GetObjectDetailedMeta("log")
		return err == nil && strings.HasSuffix(info.Get("X-Oss-Meta-Mode"), "33152") // 0100600
	})
}

// Two mounts do what they like with a few names; in the end both show what the
// bucket holds, and nothing is stuck but changes of a version whose other bytes the
// other mount has taken away: each is told, and can be given up.
func TestTwoMountsAgreeInTheEnd(t *testing.T) {
	t.Parallel()
	e := setup(t)
	a, b := e.twoMounts("--doubt=1s")
	r := drawn(t)
	var g sync.WaitGroup
	for who, m := range map[string]*mount{"a": a, "b": b} {
		mine := rand.New(rand.NewPCG(r.Uint64(), 1))
		g.Go(func() {
			for i := range 150 {
				p, q := m.in(fmt.Sprint("f", mine.IntN(5))), m.in(fmt.Sprint("f", mine.IntN(5)))
				switch mine.IntN(8) {
				case 0, 1, 2:
					os.WriteFile(p, []byte(fmt.Sprint(who, " wrote ", i)), 0o644)
				case 3:
					os.Remove(p)
				case 4:
					os.Rename(p, q)
				case 5:
					os.Chmod(p, 0o600+os.FileMode(mine.IntN(0o100)))
				case 6:
					if f, err := os.OpenFile(p, os.O_APPEND|os.O_WRONLY, 0); err == nil {
						fmt.Fprint(f, "+")
						f.Close()
					}
				case 7:
					os.ReadFile(p)
				}
			}
		})
	}
	g.Wait()
	for _, m := range []*mount{a, b} {
		r, err := m.Wait(m.Point, patience)
		e.ok(err)
		kept := m.status().Queue.Kept
		for _, k := range kept {
			if k.State != "parked" || !strings.Contains(k.Reason, "that it was made from is gone from OSS") {
				t.Errorf("%s is stuck: %s", k.Key, k.Reason)
			}
			e.recoverCmd(0, "export", m.in(k.Key), e.path("exported"))
			e.recoverCmd(0, "discard", m.in(k.Key), "--yes")
			e.ok(os.Remove(e.path("exported")))
		}
		if r.Code != 0 && (r.Code != 4 || len(kept) == 0) {
			t.Errorf("wait: %v\n%+v", r, m.status())
		}
		t.Logf("%d changes of versions that are gone", len(kept))
	}
	want := e.bucketNow()
	for _, m := range []*mount{a, b} {
		var got map[string]string
		ctx := e.soon()
		err := harness.Poll(ctx, "the mount shows the bucket", func() (bool, error) {
			got = map[string]string{}
			list, err := os.ReadDir(m.Point)
			for _, d := range list {
				s, err := os.ReadFile(m.in(d.Name()))
				if err != nil {
					s = []byte(errname(err))
				}
				got[conflictName.ReplaceAllString(d.Name(), ".conflict")] = string(s)
			}
			return fmt.Sprint(got) == fmt.Sprint(want), err
		})
		if err != nil {
			t.Fatalf("%v\nbucket: %q\nmount: %q", err, want, got)
		}
	}
}

// A file is renamed, then changed through an open file that has read the rest of
// it; its old name goes from OSS before it is closed. Its bytes are here alone by
// then, and none may be missing from what is sent. covers H13
func TestWhatIsOpenKeepsTheBytesOfItsOldName(t *testing.T) {
	t.Parallel()
	for _, grace := range []string{"1s", "1h"} {
		t.Run("grace "+grace, func(t *testing.T) {
			t.Parallel()
			e := setup(t)
			m := e.mount("cache", "--write-back-delay=20ms", "--handle-grace="+grace)
			e.write(m.in("old"), "0123456789")
			m.wait(m.in("old"))
			m.umount(0)
			m = e.mount("another cache", "--write-back-delay=20ms", "--handle-grace="+grace)
			e.ok(os.Rename(m.in("old"), m.in("new")))
			f := e.holdOpen(m.in("new"), os.O_RDWR) // a close of any other descriptor commits what there is
			f.writeAt("x", 3)
			if got := f.readAt(10, 0); got != "012x456789" {
				t.Errorf("it has %q", got)
			}
			e.poll("the old name is gone", patience, func() bool {
				keys, err := e.server.Keys("old")
				return err == nil && len(keys) == 0
			})
			f.writeAt("y", 5)
			f.close()
			m.wait(m.in("new"))
			e.object("new", "012x4y6789")
		})
	}
}
