package integration

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/ossmount/ossmount/integration/harness"
)

// The unit leaves the daemon few capabilities, and no way to more. They suffice: for
// the mount, for files of others, for the kernel to serve local files itself.
func TestCapabilitiesOfTheUnitSuffice(t *testing.T) {
	t.Parallel()
	e := setup(t)
	text, err := os.ReadFile("../deploy/systemd/ossmount@.service")
	e.ok(err)
	set := regexp.MustCompile(`(?m)^CapabilityBoundingSet=(CAP_.*)$`).FindStringSubmatch(string(text))
	if set == nil {
		t.Fatal("the unit has no CapabilityBoundingSet")
	}
	bounds := "-all"
	for _, name := range strings.Fields(set[1]) {
		bounds += ",+" + strings.ToLower(strings.TrimPrefix(name, "CAP_"))
	}
	m := &mount{e: e, Mount: &harness.Mount{Bin: e.path("bounded"), Source: "oss://" + harness.Bucket, Point: e.path("mnt"), Cache: e.path("cache"), Flags: append(e.usual(), "--allow-other")}}
	e.ok(os.Mkdir(m.Point, 0o755))
	e.ok(os.WriteFile(m.Bin, []byte("#!/bin/sh\nexec setpriv --no-new-privs --bounding-set="+bounds+" --inh-caps=-all "+binary+" \"$@\"\n"), 0o755))
	m.start()
	e.sh(`
		grep -q '^NoNewPrivs:	1$' "/proc/$2/status"
		test "$(grep ^CapBnd: "/proc/$2/status")" != "$(grep ^CapBnd: /proc/self/status)"
		cd "$1"
		mkdir d && echo one >d/f && mv d/f d/g && echo two >>d/g
		chown 1234:1234 d/g && chmod 600 d/g && touch -d 2020-01-01 d/g
		setpriv --reuid=1234 --regid=1234 --clear-groups cat d/g >../read
	`, m.Point, strconv.Itoa(m.P.PID()))
	e.reads(e.path("read"), "one\ntwo\n")
	if !m.status().Passthrough {
		t.Error("the kernel does not serve local files itself")
	}
	m.wait(m.Point)
	e.object("d/g", "one\ntwo\n")
	m.umount(0)
}
