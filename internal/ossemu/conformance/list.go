package main

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

//go:embed tests.txt
var keptList string

// expectation is what the kept list says of a test.
type expectation int

const (
	expectPass expectation = iota
	expectFail
	expectNotRun
)

// entry is one line of the kept list.
type entry struct {
	suite, test string
	expectation
	slow   bool // asks for a server that takes its time
	v1Only bool // asks about V1 itself
	reason string
}

func (e entry) name() string { return e.suite + "." + e.test }

type list []entry

// readList reads the kept list. A line is "Suite.Test" for a test that passes,
// or "Suite.Test slow" if the server must be slow for that; " V1 only: why",
// " fails: why" or " not run: why" behind it excludes it from something.
func readList(text string) (list, error) {
	var l list
	seen := map[string]bool{}
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, rest, _ := strings.Cut(line, " ")
		var e entry
		var ok bool
		if e.suite, e.test, ok = strings.Cut(name, "."); !ok || seen[name] {
			return nil, fmt.Errorf("tests.txt, line %d: %q is no Suite.Test, or is there twice", n+1, name)
		}
		seen[name] = true
		rest = strings.TrimSpace(rest)
		if why, ok := strings.CutPrefix(rest, "fails: "); ok {
			e.expectation, e.reason = expectFail, why
		} else if why, ok := strings.CutPrefix(rest, "not run: "); ok {
			e.expectation, e.reason = expectNotRun, why
		} else if why, ok := strings.CutPrefix(rest, "V1 only: "); ok {
			e.v1Only, e.reason = true, why
		}
		e.slow = rest == "slow"
		if rest != "" && e.reason == "" && !e.slow {
			return nil, fmt.Errorf("tests.txt, line %d: what is behind %s is not \"slow\", \"V1 only: why\", \"fails: why\" or \"not run: why\"", n+1, name)
		}
		l = append(l, e)
	}
	return l, nil
}

func (l list) count(want expectation) (n int) {
	for _, e := range l {
		if e.expectation == want {
			n++
		}
	}
	return n
}

// compare says which tests of the listed suites are on one side only.
func (l list) compare(there []string) (complaints []string) {
	for _, e := range l {
		if !slices.Contains(there, e.name()) {
			complaints = append(complaints, e.name()+" is listed, and is no test of the SDK")
		}
	}
	for _, name := range there {
		suite, _, _ := strings.Cut(name, ".")
		ours := slices.ContainsFunc(l, func(e entry) bool { return e.suite == suite })
		if ours && !slices.ContainsFunc(l, func(e entry) bool { return e.name() == name }) {
			complaints = append(complaints, name+" is a test of the SDK, and is not listed")
		}
	}
	return complaints
}

// group is what one process runs: some passing tests of a suite, or its failing
// ones, apart, because those leave the suite's clients as no other expects them.
type group struct {
	suite  string
	expect expectation
	slow   bool
	v4     bool // clients sign with V4 where the test does not say with what
	number int
	tests  []string
}

// groupSize keeps the longest group, whose tests mostly sleep, short.
const groupSize = 6

func (g group) name() string {
	name := g.suite + "-" + strconv.Itoa(g.number)
	if g.expect == expectFail {
		name += "-failing"
	}
	return name
}

func (l list) groups() (groups []group) {
	for _, e := range l {
		if e.expectation == expectNotRun {
			continue
		}
		groups = e.join(groups, false)
		if e.expectation == expectPass && !e.v1Only {
			groups = e.join(groups, true)
		}
	}
	return groups
}

// join adds the test to a group that fits, or begins one.
func (e entry) join(groups []group, v4 bool) []group {
	i := slices.IndexFunc(groups, func(g group) bool {
		return g.suite == e.suite && g.expect == e.expectation && g.slow == e.slow && g.v4 == v4 && len(g.tests) < groupSize
	})
	if i < 0 {
		i = len(groups)
		groups = append(groups, group{suite: e.suite, expect: e.expectation, slow: e.slow, v4: v4, number: i + 1})
	}
	groups[i].tests = append(groups[i].tests, e.test)
	return groups
}

// results are those of both runs, by the names of the tests.
type results struct{ v1, v4 map[string]result }

// judge compares the results with the list and counts the expected passes, and
// those of them with V4.
func (l list) judge(r results) (passed, passedV4 int, complaints []string) {
	for _, e := range l {
		if e.expectation != expectPass {
			if r.v1[e.name()].passed {
				complaints = append(complaints, e.name()+" is listed as failing, and passes: take its reason out of tests.txt")
			}
			continue
		}
		if c := r.v1[e.name()].complaint(); c != "" {
			complaints = append(complaints, e.name()+c)
		} else {
			passed++
		}
		if e.v1Only {
			continue
		}
		if c := r.v4[e.name()].complaint(); c != "" {
			complaints = append(complaints, e.name()+", signed with V4,"+c)
		} else {
			passedV4++
		}
	}
	return passed, passedV4, complaints
}

// complaint says what is wrong with the result of a test that should pass.
func (r result) complaint() string {
	switch {
	case r.passed:
		return ""
	case r.output == "":
		return " should pass, and did not come to its end"
	}
	return " should pass, and fails:\n" + r.output
}
