package integration

import (
	"os/exec"
	"strings"
	"testing"
)

func TestRsyncOfASourceTreeSurvives(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("rsync"); err != nil {
		t.Fatal("rsync is missing: apt-get install rsync")
	}
	e := setup(t)
	src := strings.TrimSpace(e.sh("go env GOROOT")) + "/src/net"
	m := e.mount("cache")
	e.sh(`rsync -a "$1" "$2/"`, src, m.Point)
	e.sh(`diff -r "$1" "$2"`, src, m.in("net"))
	m.wait(m.Point)
	e.sh(`diff -r "$1" "$2"`, src, m.in("net"))
	m.umount(0)

	m = e.mount("another-cache")
	e.sh(`diff -r "$1" "$2"`, src, m.in("net"))
	if said := e.sh(`rsync -a -n -i "$1" "$2/"`, src, m.Point); said != "" {
		t.Errorf("rsync would do again:\n%.3000s", said)
	}
	e.sameTrees(src, m.in("net"))
	m.umount(0)
	e.verify("net/", src)
}
