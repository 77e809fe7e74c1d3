package house

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The command line is a stable interface, so what --help prints is what
// docs/cli.md promises: each command has its section, each flag is named in
// it, and no section names a flag of ossmount that is not there.
func TestEveryFlagIsDocumented(t *testing.T) {
	bin := build(t)
	b, err := os.ReadFile(filepath.Join(root(t), "docs", "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	commands := commandsOf(help(t, bin))
	if len(commands) < 5 {
		t.Fatalf("--help lists the commands %v only", commands)
	}
	for _, name := range commands {
		if name == "help" {
			continue
		}
		section := sectionOf(doc, name)
		if section == "" {
			t.Errorf("docs/cli.md has no section %q.\nRule: every command is documented. Why: scripts rely on it.", "## "+name)
			continue
		}
		flags := flagsOf(t, bin, name)
		for f := range flags {
			if f != "--help" && !strings.Contains(section, "`"+f+"`") {
				t.Errorf("docs/cli.md does not name %s in the section of %s.\nRule: every flag is documented. Why: the command line is an interface with a promise.", f, name)
			}
		}
		for _, f := range regexp.MustCompile("`(--[a-z-]+)`").FindAllStringSubmatch(section, -1) {
			if !flags[f[1]] {
				t.Errorf("docs/cli.md names %s in the section of %s, which has no such flag.\nRule: nothing is documented that is not there. Why: a reader believes it.", f[1], name)
			}
		}
	}
}

// build builds ossmount and returns its path.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "ossmount")
	if out, err := exec.Command("go", "build", "-o", bin, module+"cmd/ossmount").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// commandsOf returns the commands that a help text lists.
func commandsOf(text string) (names []string) {
	list, _, _ := strings.Cut(after(text, "Available Commands:"), "\n\n")
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+)  +\S`).FindAllStringSubmatch(list, -1) {
		names = append(names, m[1])
	}
	return names
}

// flagsOf returns the flags of a command and of the commands beneath it.
func flagsOf(t *testing.T, bin string, args ...string) map[string]bool {
	flags := map[string]bool{}
	text := help(t, bin, args...)
	for _, f := range regexp.MustCompile(`(?m)^ +(?:-\w, )?(--[a-z-]+)`).FindAllStringSubmatch(after(text, "\nFlags:"), -1) {
		flags[f[1]] = true
	}
	for _, name := range commandsOf(text) {
		maps.Copy(flags, flagsOf(t, bin, append(args[:len(args):len(args)], name)...))
	}
	return flags
}

func help(t *testing.T, bin string, args ...string) string {
	t.Helper()
	out, err := exec.Command(bin, append(args, "--help")...).Output()
	if err != nil {
		t.Fatalf("ossmount %v --help: %v", args, err)
	}
	return string(out)
}

// after returns what follows mark in s.
func after(s, mark string) string {
	_, rest, _ := strings.Cut(s, mark)
	return rest
}

// sectionOf returns the section of a command, up to the next heading of its
// level.
func sectionOf(doc, name string) string {
	section := after(doc, "\n## "+name+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	return section
}
