package integration

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Many processes change one small tree, directories too, with no regard for each
// other. Whatever comes of it, no call says what no local disk would, and OSS gets
// the tree that the mount shows.
func TestManyHandsInOneTree(t *testing.T) {
	t.Parallel()
	e := setup(t, "--latency=2ms")
	m := e.mount("cache", "--write-back-delay=20ms", "--meta-ttl=1s", "--doubt=500ms")
	r := drawn(t)
	var mu sync.Mutex
	said := map[string]int{}
	say := func(what string, err error) {
		mu.Lock()
		defer mu.Unlock()
		said[what+" "+errname(err)]++
	}
	var g sync.WaitGroup
	for range 6 {
		r := rand.New(rand.NewPCG(r.Uint64(), 1))
		path := func() string {
			s := m.Point
			for range 1 + r.IntN(3) {
				s += "/" + string("abc"[r.IntN(3)])
			}
			return s
		}
		g.Go(func() {
			for i := range 400 {
				p, q := path(), path()
				switch r.IntN(10) {
				case 0, 1:
					say("mkdir", unix.Mkdir(p, 0o755))
				case 2, 3:
					say("write", writes(p, fmt.Sprint(i)))
				case 4, 5:
					say("rename", unix.Rename(p, q))
				case 6:
					say("exchange", unix.Renameat2(unix.AT_FDCWD, p, unix.AT_FDCWD, q, unix.RENAME_EXCHANGE))
				case 7:
					say("unlink", unix.Unlink(p))
					say("rmdir", unix.Rmdir(q))
				case 8:
					say("chmod", unix.Chmod(p, 0o700+uint32(r.IntN(0o100))))
				case 9:
					_, err := os.ReadDir(p)
					say("list", err)
				}
			}
		})
	}
	g.Wait()
	for what := range said {
		_, errno, _ := strings.Cut(what, " ")
		if !slices.Contains([]string{"ok", "ENOENT", "ENOTDIR", "EISDIR", "EEXIST", "ENOTEMPTY", "EINVAL"}, errno) {
			t.Errorf("%d times %s", said[what], what)
		}
	}
	t.Log(slices.Sorted(maps.Keys(said)))
	before := remains(m.Point, noTimes)
	m.wait(m.Point)
	compare(t, before, remains(m.Point, noTimes))
	m.umount(0)
	m = e.mount("another-cache")
	compare(t, before, remains(m.Point, noTimes))
}

func writes(path, text string) error {
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(text))
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	return err
}
