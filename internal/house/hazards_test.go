package house

import (
	"regexp"
	"strings"
	"testing"
)

// later marks, in the table of hazards, a rule of what is not built yet.
const later = "later: "

var (
	hazardRow = regexp.MustCompile(`(?m)^\| (H[1-9]\d?) \| (.*) \| (.*) \|$`)
	coversTag = regexp.MustCompile(`(?m)^.*\bcovers (H[1-9]\d?(?:(?:, | and | )H[1-9]\d?)*)`)
	aHazard   = regexp.MustCompile(`H[1-9]\d?`)
	aTest     = regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`")
)

// Each hazard has a test that says so, and its row in docs/durability.md names one;
// what waits for something that is not built says "later: " and has neither.
func TestEachHazardHasATest(t *testing.T) {
	covered := map[string]bool{}
	for _, text := range sources(t, true) {
		for _, m := range coversTag.FindAllStringSubmatch(text, -1) {
			for _, h := range aHazard.FindAllString(m[1], -1) {
				covered[h] = true
			}
		}
	}
	rows := hazardRow.FindAllStringSubmatch(docs(t)["docs/durability.md"], -1)
	if len(rows) < 30 {
		t.Fatalf("the table of docs/durability.md has %d hazards", len(rows))
	}
	for _, row := range rows {
		h, now := row[1], row[3]
		switch isLater := strings.HasPrefix(now, later); {
		case isLater && (covered[h] || aTest.MatchString(now)):
			t.Errorf("%s is marked %q in docs/durability.md, and has a test. Take the mark away.", h, later)
		case isLater:
		case !covered[h]:
			t.Errorf("no test says `// covers %s`.\nRule: each hazard has a test. Why: it is how a draft has lost data, and the next change may bring it back.", h)
		case !aTest.MatchString(now):
			t.Errorf("docs/durability.md names no test for %s.\nRule: each hazard names the test that proves its rule. Why: a promise without a proof is a wish.", h)
		}
	}
}

// Each promise names the test that proves it.
func TestEachPromiseNamesItsTest(t *testing.T) {
	section := after(docs(t)["docs/durability.md"], "\n## What is promised\n")
	section, _, _ = strings.Cut(section, "\n## ")
	n := 0
	for line := range strings.Lines(section) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| ---") || strings.HasPrefix(line, "| after") {
			continue
		}
		if n++; !aTest.MatchString(line) {
			t.Errorf("this promise of docs/durability.md names no test: %s", line)
		}
	}
	if n < 4 {
		t.Fatalf("there are %d promises", n)
	}
}

// The kernel is told nothing: a notification under a lock that a handler takes ends
// in a hang that only an abort of the connection ends. Whoever sends some sends them
// from a goroutine of their own, and writes a test of that in the place of this one.
// covers H43
func TestNothingNotifiesTheKernel(t *testing.T) {
	call := regexp.MustCompile(`\.(Notify(Entry|Content|Delete|Prune)|(Entry|Inode|Delete|Store|Retrieve)\w*Notify|InodeNotify\w*|EntryNotify)\(`)
	for path, text := range sources(t, false) {
		if m := call.FindString(text); m != "" {
			t.Errorf("%s calls %s", path, strings.Trim(m, ".("))
		}
	}
}
