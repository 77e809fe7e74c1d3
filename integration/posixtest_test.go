package integration

import (
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// notOfOSS are the tests of posixtest that cannot pass here, and why;
// docs/posix.md names the same.
var notOfOSS = map[string]string{
	"Link":                "an object has one name: link is EPERM",
	"LinkUnlinkRename":    "an object has one name: link is EPERM",
	"FcntlFlockLocksFile": "it fails on every file system: locks of one process never exclude each other; go-fuse leaves it out, too",
}

// mayStepBack are tests that skip themselves where a file system refuses
// cleanly, and why ours may.
var mayStepBack = map[string]string{
	"Tmpfile":    "O_TMPFILE is for files that link names later, and link is EPERM",
	"XAttrLarge": "OSS keeps at most 8 KB of metadata with an object",
}

// TestPosixtestOfGoFuse runs all of go-fuse's own tests against the built
// binary. One of them counts the descriptors of this process: nothing runs
// beside it.
func TestPosixtestOfGoFuse(t *testing.T) {
	e := setup(t)
	m := e.mount("cache")
	for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
		t.Run(name, func(t *testing.T) {
			if why := notOfOSS[name]; why != "" {
				t.Skip(why)
			}
			defer func() {
				if t.Skipped() && mayStepBack[name] == "" {
					t.Error("it found that the mount lacks what it tests")
				}
			}()
			dir := m.in(name)
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			posixtest.All[name](t, dir)
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		})
	}
}
