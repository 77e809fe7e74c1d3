package house

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What --help prints is what the manual pages and the completions know: each
// command has a page with all sections, each flag is in it and is offered, and
// neither has a flag that is not there.
func TestManualAndCompletionsAgreeWithHelp(t *testing.T) {
	bin := build(t)
	dir := t.TempDir()
	if out, err := exec.Command(bin, "man", dir).CombinedOutput(); err != nil {
		t.Fatalf("ossmount man: %v\n%s", err, out)
	}
	pages := map[string]bool{}
	for _, args := range allCommands(t, bin) {
		name := strings.Join(append([]string{"ossmount"}, args...), "-")
		pages[name+".1"] = true
		b, err := os.ReadFile(filepath.Join(dir, name+".1"))
		if err != nil {
			t.Errorf("there is no manual page of ossmount %v", args)
			continue
		}
		man, flags := string(b), ownFlags(help(t, bin, args...))
		for _, s := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "ENVIRONMENT", "EXAMPLES", "SEE ALSO"} {
			if !strings.Contains(man, "\n.SH "+s+"\n") {
				t.Errorf("%s.1 has no section %s.\nRule: a manual page has all of them; they are made from the help of the command.", name, s)
			}
		}
		same(t, name+".1", flags, flagsOfPage(man))
		same(t, "the completion of "+name, flags, offered(t, bin, args))
	}
	written, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range written {
		if !pages[e.Name()] {
			t.Errorf("there is a manual page %s and no such command", e.Name())
		}
	}
}

// The variables of the manual are those of docs/cli.md.
func TestManualAndPageKnowTheSameVariables(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command(build(t), "man", dir).CombinedOutput(); err != nil {
		t.Fatalf("ossmount man: %v\n%s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(dir, "ossmount.1"))
	if err != nil {
		t.Fatal(err)
	}
	section, _, _ := strings.Cut(after(string(b), "\n.SH ENVIRONMENT\n"), "\n.SH ")
	names := func(text, pattern string) map[string]bool {
		all := map[string]bool{}
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			for _, v := range regexp.MustCompile(`OSS[A-Z_]*[A-Z]`).FindAllString(m[0], -1) {
				all[v] = true
			}
		}
		return all
	}
	page := names(sectionOf(docs(t)["docs/cli.md"], "Environment"), `(?m)^\| .*? \|`)
	if len(page) < 5 {
		t.Fatalf("docs/cli.md has the variables %v only", page)
	}
	same(t, "ENVIRONMENT of ossmount.1, beside docs/cli.md,", page, names(section, `(?m)^\\fB.*$`))
}

// What a shell offers is what the commands take: words of a flag, and of a command.
func TestCompletionOffersValues(t *testing.T) {
	bin := build(t)
	for _, c := range []struct {
		line string
		want []string
	}{
		{"mount --close=", []string{"journal", "disk", "remote"}},
		{"mount --log-level ", []string{"debug", "info", "warn", "error"}},
		{"mount ", []string{"oss://", "local:"}},
		{"completion ", []string{"bash", "zsh", "fish"}},
		{"recover pub", []string{"publish"}},
		{"mount --part-size=", nil},
	} {
		got := complete(t, bin, strings.Split(c.line, " "))
		if !slices.Equal(got, c.want) {
			t.Errorf("after %q a shell is offered %q, want %q", c.line, got, c.want)
		}
	}
	// Each word that is offered for a flag is one that the flag takes.
	for f := range ownFlags(help(t, bin, "mount")) {
		for _, v := range complete(t, bin, []string{"mount", f + "="}) {
			out, _ := exec.Command(bin, "mount", f+"="+v, "nowhere", "nothing").CombinedOutput()
			if !strings.Contains(string(out), "nowhere") {
				t.Errorf("%s=%s is offered, and not taken: %s", f, v, out)
			}
		}
	}
}

// allCommands returns the arguments of each command, first of ossmount itself.
func allCommands(t *testing.T, bin string, args ...string) [][]string {
	all := [][]string{args}
	for _, name := range commandsOf(help(t, bin, args...)) {
		if name != "help" {
			all = append(all, allCommands(t, bin, append(slices.Clone(args), name)...)...)
		}
	}
	return all
}

// ownFlags are the flags that a help text lists.
func ownFlags(text string) map[string]bool {
	flags := map[string]bool{}
	for _, f := range regexp.MustCompile(`(?m)^ +(?:-\w, )?(--[a-z0-9-]+)`).FindAllStringSubmatch(after(text, "Flags:"), -1) {
		flags[f[1]] = true
	}
	return flags
}

func flagsOfPage(man string) map[string]bool {
	flags := map[string]bool{}
	for _, f := range regexp.MustCompile(`(?m)^(?:\\fB\\-\w\\fR, )?\\fB((?:\\-){2}[a-z0-9\\-]+)\\fR`).FindAllStringSubmatch(man, -1) {
		flags[strings.ReplaceAll(f[1], `\-`, "-")] = true
	}
	return flags
}

func offered(t *testing.T, bin string, args []string) map[string]bool {
	flags := map[string]bool{}
	for _, f := range complete(t, bin, append(slices.Clone(args), "--")) {
		flags[strings.TrimSuffix(f, "=")] = true
	}
	return flags
}

// complete asks as the scripts of the shells do for what may stand in the place of
// the last argument.
func complete(t *testing.T, bin string, args []string) (words []string) {
	t.Helper()
	out, err := exec.Command(bin, append([]string{"__completeNoDesc"}, args...)...).Output()
	if err != nil {
		t.Fatalf("complete %q: %v", args, err)
	}
	for line := range strings.Lines(string(out)) {
		if word := strings.TrimSpace(line); !strings.HasPrefix(word, ":") {
			words = append(words, word)
		}
	}
	return words
}

func same(t *testing.T, what string, want, got map[string]bool) {
	t.Helper()
	if !maps.Equal(want, got) {
		t.Errorf("%s and --help differ: %v there, %v in --help.\nRule: the command line is told in one way everywhere. Why: it is an interface with a promise.",
			what, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}
