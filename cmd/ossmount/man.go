package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The manual is made from the commands and their help, so that it says what they
// do. cobra's own generator goes through Markdown, in which the sections and the
// lists of our help would become one paragraph; man(7) is simple enough.

// environment is what the program reads from there, beside the flags.
var environment = []struct{ name, meaning string }{
	{"OSS_ACCESS_KEY_ID", "with OSS_ACCESS_KEY_SECRET: the credentials of mount, drain and uploads; whom server believes"},
	{"OSS_ACCESS_KEY_SECRET", "the secret of that key; no flag of mount takes it, because others see the arguments of a process"},
	{"OSS_SESSION_TOKEN", "the token of temporary (STS) credentials"},
	{"OSS_ENDPOINT", "default of --endpoint"},
	{"OSS_REGION", "default of --region"},
	{"OSSMOUNT_NAME", "the flag --name of mount and drain, such as OSSMOUNT_CACHE_DIR for --cache-dir, and of others where it means the same"},
}

// exitStatus is that of a command whose help has none of its own.
const exitStatus = `  0  done
  1  failed
  2  wrong usage`

func manCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages into a directory",
		Hidden: true, // for make and packages
		Long: `Write a manual page for each command into DIR, which must exist. Their date is
SOURCE_DATE_EPOCH, or that of the commit that the program was built from.

EXAMPLES
  ossmount man /usr/local/share/man/man1`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error { return writeManual(c.Root(), args[0], manDate()) },
	}
}

// manDate is the day that the pages carry, "" if it is not known.
func manDate() string {
	if s, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
		return time.Unix(s, 0).UTC().Format(time.DateOnly)
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.time" {
				day, _, _ := strings.Cut(s.Value, "T")
				return day
			}
		}
	}
	return ""
}

// writeManual writes the page of c and those of the commands beneath it.
func writeManual(c *cobra.Command, dir, date string) error {
	if c.Hidden || c.Name() == "help" {
		return nil
	}
	if err := os.WriteFile(filepath.Join(dir, pageOf(c)+".1"), []byte(manPage(c, date)), 0o644); err != nil {
		return err
	}
	for _, sub := range c.Commands() {
		if err := writeManual(sub, dir, date); err != nil {
			return err
		}
	}
	return nil
}

// pageOf is the name of the page of c.
func pageOf(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

func manPage(c *cobra.Command, date string) string {
	c.InitDefaultHelpFlag()
	help := sectionsOf(cmp.Or(c.Long, c.Short))
	var p manual
	p.line(".TH %q 1 %q %q %q", strings.ToUpper(pageOf(c)), date, "ossmount "+version(), "ossmount manual")
	p.section("NAME")
	p.line("%s \\- %s", roff(pageOf(c)), roff(strings.ToLower(c.Short[:1])+c.Short[1:]))
	p.section("SYNOPSIS")
	p.line(`\fB%s\fR%s`, roff(c.CommandPath()), roff(strings.TrimPrefix(c.UseLine(), c.CommandPath())))
	for _, s := range help {
		if s.name != "EXIT STATUS" && s.name != "EXAMPLES" {
			p.section(cmp.Or(s.name, "DESCRIPTION"))
			p.text(s.text)
		}
	}
	p.commands(c)
	p.section("OPTIONS")
	p.flags(c.LocalFlags())
	p.flags(c.InheritedFlags())
	p.section("EXIT STATUS")
	p.list(cmp.Or(textOf(help, "EXIT STATUS"), exitStatus))
	p.section("ENVIRONMENT")
	for _, v := range environment {
		p.item(`\fB`+roff(v.name)+`\fR`, v.meaning)
	}
	if text := textOf(help, "EXAMPLES"); text != "" {
		p.section("EXAMPLES")
		p.verbatim(text)
	}
	p.section("SEE ALSO")
	p.line("%s", strings.Join(seeAlso(c), ",\n"))
	return p.String()
}

// part is a section of a help text; the first has no name.
type part struct{ name, text string }

var heading = regexp.MustCompile(`^[A-Z][A-Z ]+$`)

func sectionsOf(help string) (all []part) {
	all = []part{{}}
	for line := range strings.Lines(help) {
		if name := strings.TrimSuffix(line, "\n"); heading.MatchString(name) {
			all = append(all, part{name: name})
		} else {
			all[len(all)-1].text += line
		}
	}
	return all
}

func textOf(all []part, name string) string {
	if i := slices.IndexFunc(all, func(s part) bool { return s.name == name }); i >= 0 {
		return strings.Trim(all[i].text, "\n")
	}
	return ""
}

// seeAlso names the page above, and those beside and beneath c.
func seeAlso(c *cobra.Command) (refs []string) {
	near := slices.Clone(c.Commands())
	if c.HasParent() {
		near = slices.Concat([]*cobra.Command{c.Parent()}, c.Parent().Commands(), near)
	}
	for _, o := range near {
		if o != c && !o.Hidden && o.Name() != "help" {
			refs = append(refs, `\fB`+roff(pageOf(o))+`\fR(1)`)
		}
	}
	return append(refs, `\fBfusermount3\fR(1)`)
}

// manual is a page that is being written.
type manual struct{ strings.Builder }

func (p *manual) line(f string, args ...any) { fmt.Fprintf(p, f+"\n", args...) }
func (p *manual) section(name string)        { p.line(".SH %s", name) }

func (p *manual) item(what, meaning string) {
	p.line(".TP\n%s", what)
	p.line("%s", roff(meaning))
}

func (p *manual) commands(c *cobra.Command) {
	begun := false
	for _, sub := range c.Commands() {
		if sub.Hidden || sub.Name() == "help" {
			continue
		}
		if !begun {
			p.section("COMMANDS")
			begun = true
		}
		p.item(`\fB`+roff(pageOf(sub))+`\fR(1)`, sub.Short)
	}
}

func (p *manual) flags(set *pflag.FlagSet) {
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, meaning := pflag.UnquoteUsage(f)
		name := `\fB` + roff("--"+f.Name) + `\fR`
		if f.Shorthand != "" {
			name = `\fB` + roff("-"+f.Shorthand) + `\fR, ` + name
		}
		if value != "" {
			name += `=\fI` + roff(value) + `\fR`
		}
		// A flag with a variable has that for its default, not what it was here.
		if !strings.Contains(meaning, "(OSS") && !slices.Contains([]string{"", "0", "0s", "false", "[]"}, f.DefValue) {
			meaning += " (default " + f.DefValue + ")"
		}
		p.item(name, meaning)
	})
}

// text writes paragraphs; indented lines stay as they are.
func (p *manual) text(s string) {
	for para := range strings.SplitSeq(strings.Trim(s, "\n"), "\n\n") {
		p.line(".PP")
		if strings.HasPrefix(para, "  ") {
			p.verbatim(para)
			continue
		}
		p.line("%s", roff(para))
	}
}

func (p *manual) verbatim(s string) {
	p.line(".nf\n%s\n.fi", roff(s))
}

// list writes lines of a number and its meaning, which may go on in the next.
func (p *manual) list(s string) {
	for line := range strings.SplitSeq(s, "\n") {
		if what, meaning, ok := strings.Cut(strings.TrimSpace(line), "  "); ok {
			p.item(`\fB`+roff(what)+`\fR`, strings.TrimSpace(meaning))
		} else if what != "" {
			p.line("%s", roff(what))
		}
	}
}

// roff has text mean itself.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "\n.", "\n\\&.", "\n'", "\n\\&'").Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
