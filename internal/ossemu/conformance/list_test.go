package main

import (
	"slices"
	"strings"
	"testing"
)

const someList = `
# a comment
OssOneSuite.TestPasses
OssOneSuite.TestWaits slow
OssOneSuite.TestOld V1 only: it is about V1
OssOneSuite.TestCannot fails: it is about the moon
OssOneSuite.TestFar not run: it would go there
`

func mustRead(t *testing.T, text string) list {
	t.Helper()
	l, err := readList(text)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestTheKeptListReads(t *testing.T) {
	l := mustRead(t, keptList)
	if n := l.count(expectPass); n < 90 {
		t.Errorf("only %d tests are expected to pass", n)
	}
	for _, e := range l {
		if e.expectation != expectPass && e.reason == "" {
			t.Errorf("%s is excluded without a reason", e.name())
		}
	}
}

func TestABadListIsRefused(t *testing.T) {
	for _, text := range []string{"NoDot", "A.B\nA.B", "A.B because", "A.B fails:", "A.B not run: "} {
		if _, err := readList(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func TestEachDepartureFromTheListIsNamed(t *testing.T) {
	l := mustRead(t, someList)
	output := func(lines ...string) map[string]result { return parse(strings.Join(lines, "\n") + "\n") }
	old := "PASS: a.go:4: OssOneSuite.TestOld\t0.1s"
	good := []string{"PASS: a.go:1: OssOneSuite.TestPasses\t0.1s", "PASS: a.go:2: OssOneSuite.TestWaits\t3s", "FAIL: a.go:3: OssOneSuite.TestCannot"}
	cases := map[string]struct {
		lines  []string
		passed int
		says   []string
	}{
		"as listed":              {good, 2, nil},
		"one fails":              {append([]string{"FAIL: a.go:1: OssOneSuite.TestPasses", "a.go:9:", "... obtained 1", "-----", "other"}, good[1:]...), 1, []string{"TestPasses should pass, and fails"}},
		"one panics":             {append([]string{"PANIC: a.go:1: OssOneSuite.TestPasses"}, good[1:]...), 1, []string{"TestPasses should pass, and fails"}},
		"one never ends":         {good[1:], 1, []string{"TestPasses should pass, and did not come"}},
		"an excluded one passes": {append([]string{"PASS: a.go:3: OssOneSuite.TestCannot\t1s"}, good[:2]...), 2, []string{"TestCannot is listed as failing, and passes"}},
	}
	for name, c := range cases {
		run := output(append(c.lines, old)...)
		passed, passedV4, complaints := l.judge(results{v1: run, v4: output(good[:2]...)})
		if passed != c.passed+1 || passedV4 != 2 || len(complaints) != len(c.says) {
			t.Errorf("%s: %d passed, %q", name, passed, complaints)
			continue
		}
		for i, says := range c.says {
			if !strings.Contains(complaints[i], says) || strings.Contains(complaints[i], "other") {
				t.Errorf("%s: %q, want %q", name, complaints[i], says)
			}
		}
	}
}

func TestWhatFailsWithV4IsSaid(t *testing.T) {
	l := mustRead(t, "OssOneSuite.TestPasses")
	fine := parse("PASS: a.go:1: OssOneSuite.TestPasses\t0.1s")
	if _, _, complaints := l.judge(results{v1: fine}); len(complaints) != 1 || !strings.Contains(complaints[0], "V4") {
		t.Error(complaints)
	}
}

func TestTheListAndTheSDKNameTheSameTests(t *testing.T) {
	l := mustRead(t, someList)
	there := []string{"OssOneSuite.TestPasses", "OssOneSuite.TestOld", "OssOneSuite.TestWaits", "OssOneSuite.TestCannot", "OssOneSuite.TestFar", "OssOtherSuite.TestX"}
	if c := l.compare(there); len(c) != 0 {
		t.Error(c)
	}
	if c := l.compare(append(there[1:], "OssOneSuite.TestNew")); len(c) != 2 {
		t.Errorf("want a test too many and one too few: %q", c)
	}
}

func TestGroupsKeepApartWhatDoesNotGoTogether(t *testing.T) {
	groups := mustRead(t, someList).groups()
	var names []string
	for _, g := range groups {
		names = append(names, g.name())
	}
	if want := []string{"OssOneSuite-1", "OssOneSuite-2", "OssOneSuite-3", "OssOneSuite-4", "OssOneSuite-5-failing"}; !slices.Equal(names, want) ||
		groups[0].v4 || !groups[1].v4 || !groups[2].slow || !groups[3].slow || !groups[3].v4 || len(groups[0].tests) != 2 || len(groups[1].tests) != 1 {
		t.Errorf("%q, want %q", names, want)
	}
}
