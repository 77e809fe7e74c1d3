package house

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docs returns the pages, by path.
func docs(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	for _, path := range tracked(t) {
		if strings.HasSuffix(path, ".md") {
			pages[path] = strings.Join(lines(t, path), "\n")
		}
	}
	if len(pages) < 8 {
		t.Fatalf("there are %d pages only", len(pages))
	}
	return pages
}

// sources returns the Go files, by path; tests are true for test files.
func sources(t *testing.T, tests bool) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, path := range tracked(t) {
		if strings.HasSuffix(path, ".go") && strings.HasSuffix(path, "_test.go") == tests {
			files[path] = strings.Join(lines(t, path), "\n")
		}
	}
	return files
}

func TestPagesNameTestsThatExist(t *testing.T) {
	there := map[string]bool{}
	for _, text := range sources(t, true) {
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(text, -1) {
			there[m[1]] = true
		}
	}
	for path, text := range docs(t) {
		for _, name := range regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(text, -1) {
			if !there[name] {
				t.Errorf("%s names the test %s, which is not there.\nRule: a promise names the test that proves it, or says that there is none. Why: else nobody knows that the proof has gone.", path, name)
			}
		}
	}
}

func TestPagesNameFilesThatExist(t *testing.T) {
	file := regexp.MustCompile("`((?:journal|cache|writeback|fs|internal|cmd|integration)/[\\w/]+\\.go)`")
	link := regexp.MustCompile(`\]\(([^)#:\s]*)(#[^)]*)?\)`)
	pages := docs(t)
	for path, text := range pages {
		for _, m := range file.FindAllStringSubmatch(text, -1) {
			exists(t, path, m[1], m[1])
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			to := path
			if m[1] != "" {
				to = filepath.Join(filepath.Dir(path), m[1])
				exists(t, path, m[1], to)
			}
			if m[2] != "" && !hasAnchor(pages[to], m[2][1:]) {
				t.Errorf("%s links to %s%s, and there is no such heading", path, m[1], m[2])
			}
		}
	}
}

func exists(t *testing.T, page, name, path string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(root(t), path)); err != nil {
		t.Errorf("%s names %s, which is not there.\nRule: pages follow the code. Why: a reader follows them.", page, name)
	}
}

// hasAnchor reports that a page has a heading with that anchor, as GitHub
// makes them.
func hasAnchor(page, anchor string) bool {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(page, -1) {
		made := regexp.MustCompile(`[^\w -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		if strings.ReplaceAll(made, " ", "-") == anchor {
			return true
		}
	}
	return false
}

// Comments refer to hazards and rules by number, so a reader must find them.
func TestHazardsAndRulesAreExplained(t *testing.T) {
	pages := docs(t)
	for _, all := range []map[string]string{sources(t, false), sources(t, true)} {
		for path, text := range all {
			for _, h := range regexp.MustCompile(`\bH[1-9]\d?\b`).FindAllString(text, -1) {
				if !strings.Contains(pages["docs/durability.md"], "\n| "+h+" |") {
					t.Errorf("%s speaks of %s, which docs/durability.md does not explain", path, h)
				}
			}
			for _, r := range regexp.MustCompile(`\bR[1-9]\b`).FindAllString(text, -1) {
				if !strings.Contains(pages["docs/architecture.md"], "**"+r+"**") {
					t.Errorf("%s speaks of %s, which docs/architecture.md does not explain", path, r)
				}
			}
		}
	}
}

// What the troubleshooting page tells to look for is what the program says.
func TestQuotedLinesAreOfTheProgram(t *testing.T) {
	const path = "docs/troubleshooting.md"
	var all strings.Builder
	for _, text := range sources(t, false) {
		all.WriteString(text)
	}
	said := all.String()
	quoted := 0
	for _, m := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(docs(t)[path], -1) {
		line := m[1]
		command := regexp.MustCompile(`^(ossmount|curl|bin/|mount|-)\b`).MatchString(line) && !strings.Contains(line, "...")
		if command || strings.Count(line, " ") < 3 || line == "Transport endpoint is not connected" { // the C library's
			continue
		}
		for part := range strings.SplitSeq(line, "...") {
			if part = strings.Trim(part, " :"); part == "" {
				continue
			}
			if quoted++; !strings.Contains(said, part) {
				t.Errorf("%s quotes %q, which the program does not say.\nRule: a line to look for is quoted as the log has it. Why: it is searched for.", path, part)
			}
		}
	}
	if quoted < 15 {
		t.Errorf("%s quotes %d lines only", path, quoted)
	}
}

func TestChangesHaveAKind(t *testing.T) {
	pattern := regexp.MustCompile(`^(Bugfix|Change|Enhancement|Security): \S.*\n\n\S`)
	n := 0
	for path, text := range docs(t) {
		if !strings.HasPrefix(path, "docs/changelog/") || filepath.Base(path) == "README.md" {
			continue
		}
		if n++; !pattern.MatchString(text) {
			t.Errorf("%s begins with %.40q.\nRule: `Kind: what it is now`, an empty line, then what was and is. Why: the changelog of a release is put together by kind, and leaves out what has none.", path, text)
		}
	}
	if n == 0 {
		t.Error("no change was found")
	}
}
