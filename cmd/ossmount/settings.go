package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A setting is a flag that can stand elsewhere, too: in a file (--config), in the
// environment and, of a mount, among its -o options. There is no list of them: the
// flags of mount are the settings, and a mark says which flags of another command
// have the same meaning. A flag wins over -o, that over the environment, that over
// the file, and that over the default.

// What is noted with a flag.
const (
	isSetting = "ossmount_setting"  // it is a setting
	alsoIn    = "ossmount_variable" // another variable of the environment that gives it
	setBy     = "ossmount_set_by"   // where its value stands; absent: it is the default
)

// onCommandLine is where a flag or an argument stands.
const onCommandLine = "command line"

const variablePrefix = "OSSMOUNT_"

// notInAFile are settings that a file cannot give.
var notInAFile = []string{"config"}

// markSettings makes settings of flags of fl: those named, or all.
func markSettings(fl *pflag.FlagSet, names ...string) {
	fl.VisitAll(func(f *pflag.Flag) {
		if len(names) == 0 || slices.Contains(names, f.Name) {
			_ = fl.SetAnnotation(f.Name, isSetting, nil)
		}
	})
}

// settingsOf returns the settings among fl, by name.
func settingsOf(fl *pflag.FlagSet) map[string]*pflag.Flag {
	all := map[string]*pflag.Flag{}
	fl.VisitAll(func(f *pflag.Flag) {
		if _, ok := f.Annotations[isSetting]; ok {
			all[f.Name] = f
		}
	})
	return all
}

// item is a setting that stands somewhere else than on the command line.
type item struct {
	name  string
	text  string
	list  []string // in place of text, where it is written as a list
	where string   // FILE:LINE, the variable, or "-o NAME"
}

// settle gives the settings of a command the values that stand elsewhere. Its error
// is of usage, and holds all that is wrong.
func settle(c *cobra.Command, args []string) error {
	fl := c.Flags()
	mine := settingsOf(fl)
	if len(mine) == 0 {
		return nil
	}
	if mine["source"] != nil && len(args) == 2 {
		if err := errors.Join(fl.Set("source", args[0]), fl.Set("mountpoint", args[1])); err != nil {
			return err
		}
	}
	scratch := mountCommand().Flags() // where values are tried
	known := settingsOf(scratch)
	items, unknown := fromEnvironment(os.Environ(), known)
	var errs []error
	if texts, err := fl.GetStringArray("options"); err == nil {
		opts, err := fromOptions(texts, known)
		items, errs = append(items, opts...), append(errs, err)
	}
	if path := configPath(fl, items); path != "" {
		inFile, err := fromFile(path, known)
		items, errs = append(inFile, items...), append(errs, err)
	}
	last := map[string]item{}
	for _, it := range items {
		errs = append(errs, it.set(known[it.name]))
		last[it.name] = it
	}
	if err := errors.Join(errs...); err != nil {
		return exit(exitUsage, err)
	}
	for name, f := range mine {
		it, elsewhere := last[name]
		switch {
		case f.Changed:
			it.where = onCommandLine
		case !elsewhere:
			continue
		default:
			if err := it.set(f); err != nil {
				return exit(exitUsage, err)
			}
			f.Changed = true
		}
		_ = fl.SetAnnotation(name, setBy, []string{it.where})
	}
	return warnOf(fl, unknown, known)
}

// configPath is --config, wherever that stands.
func configPath(fl *pflag.FlagSet, items []item) (path string) {
	f := fl.Lookup("config")
	if f == nil || f.Changed {
		path, _ = fl.GetString("config")
		return path
	}
	for _, it := range items {
		if it.name == "config" {
			path = it.text
		}
	}
	return path
}

// set gives f the value of the item.
func (it item) set(f *pflag.Flag) error {
	list, isList := f.Value.(pflag.SliceValue)
	switch {
	case isList && it.list == nil:
		values, err := valuesIn(it.text, f)
		if err == nil {
			err = list.Replace(values)
		}
		return it.wrong(f, err)
	case isList:
		return it.wrong(f, list.Replace(it.list))
	case it.list != nil:
		return fmt.Errorf("%s: %s takes one value, not a list", it.where, it.name)
	}
	return it.wrong(f, f.Value.Set(it.text))
}

// valuesIn reads a list in one text: divided by commas if the flag takes such texts,
// else a line for each.
func valuesIn(text string, f *pflag.Flag) ([]string, error) {
	switch {
	case text == "":
		return []string{}, nil
	case f.Value.Type() == "stringArray":
		return strings.Split(strings.TrimRight(text, "\n"), "\n"), nil
	}
	return csv.NewReader(strings.NewReader(text)).Read()
}

// wrong says in the words of a configuration what is wrong with a value.
func (it item) wrong(f *pflag.Flag, err error) error {
	if err == nil {
		return nil
	}
	why := err.Error()
	switch f.Value.Type() {
	case "bool":
		why = fmt.Sprintf("%q is neither true nor false", it.text)
	case "int", "int64", "uint32", "uint":
		why = fmt.Sprintf("%q is not a whole number that it can be", it.text)
	case "duration":
		why = fmt.Sprintf("%q is not a duration such as 90s or 2m30s", it.text)
	}
	return fmt.Errorf("%s: %s: %s", it.where, it.name, why)
}

// fromEnvironment returns the settings in an environment, and our variables there
// that mean nothing. An empty variable counts as none.
func fromEnvironment(env []string, known map[string]*pflag.Flag) (items []item, unknown []string) {
	others := map[string]string{}
	for name, f := range known {
		for _, v := range f.Annotations[alsoIn] {
			others[v] = name
		}
	}
	var ours []item // what OSSMOUNT_NAME says is more to the point
	for _, line := range env {
		variable, text, _ := strings.Cut(line, "=")
		if text == "" {
			continue
		}
		if name, ok := others[variable]; ok {
			items = append(items, item{name: name, text: text, where: variable})
		}
		if !strings.HasPrefix(variable, variablePrefix) {
			continue
		}
		if name := settingOf(variable); known[name] == nil || variableOf(name) != variable {
			unknown = append(unknown, variable)
		} else {
			ours = append(ours, item{name: name, text: text, where: variable})
		}
	}
	return append(items, ours...), unknown
}

// variableOf is the variable of a setting.
func variableOf(name string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// settingOf is the setting of a variable.
func settingOf(variable string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(variable, variablePrefix), "_", "-"))
}

// warnOf tells of variables that mean nothing.
func warnOf(fl *pflag.FlagSet, unknown []string, known map[string]*pflag.Flag) error {
	if len(unknown) == 0 {
		return nil
	}
	level, format := "info", "" // of a command that has no log
	for name, v := range map[string]*string{"log-level": &level, "log-format": &format} {
		if f := fl.Lookup(name); f != nil {
			*v = f.Value.String()
		}
	}
	log, err := newLogger(level, format)
	if err != nil {
		return err
	}
	for _, v := range unknown {
		attrs := []any{"name", v}
		if near := nearest(settingOf(v), known); near != "" {
			attrs = append(attrs, "perhaps", variableOf(near))
		}
		log.Warn("a variable of the environment means nothing to ossmount", attrs...)
	}
	return nil
}

// nearest is the known setting that looks most like name, "" if none does.
func nearest(name string, known map[string]*pflag.Flag) (near string) {
	name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	best := max(2, len(name)/3) + 1
	for k := range known {
		if d := levenshtein.ComputeDistance(name, k); d < best || d == best && near != "" && k < near {
			near, best = k, d
		}
	}
	return near
}

// looksSecret is how those name a secret who look for a setting of it.
var looksSecret = regexp.MustCompile(`(?i)secret|access.?key|passw|token`)

// unknownSetting is the error of a name that no setting has. The value is not
// repeated: nobody knows what it is.
func unknownSetting(where, name string, known map[string]*pflag.Flag) error {
	if looksSecret.MatchString(name) {
		return fmt.Errorf("%s: there is no setting %q: secrets do not stand here (docs/cli.md, Environment)", where, name)
	}
	if near := nearest(name, known); near != "" {
		return fmt.Errorf("%s: there is no setting %q; perhaps %s is meant", where, name, near)
	}
	return fmt.Errorf("%s: there is no setting %q (ossmount mount --help lists them)", where, name)
}

// aboutFlag is how an error of a value begins.
var aboutFlag = regexp.MustCompile(`^--([a-z][a-z-]*)`)

// whence says with each error of a value where that value stands.
func whence(fl *pflag.FlagSet, err error) error {
	var errs []error
	for _, e := range each(err) {
		if m := aboutFlag.FindStringSubmatch(e.Error()); m != nil {
			switch where := setWhere(fl.Lookup(m[1])); {
			case where == onCommandLine && m[1] == "source":
				e = errors.Unwrap(e) // it is an argument there
			case where != "" && where != onCommandLine:
				e = fmt.Errorf("%s: %w", where, e)
			}
		}
		errs = append(errs, e)
	}
	if len(errs) == 0 {
		return nil
	}
	return exit(exitUsage, errors.Join(errs...))
}

func setWhere(f *pflag.Flag) string {
	if f == nil || len(f.Annotations[setBy]) == 0 {
		return ""
	}
	return f.Annotations[setBy][0]
}

// each returns the errors that err was joined of.
func each(err error) (all []error) {
	if err == nil {
		return nil
	}
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return []error{err}
	}
	for _, e := range joined.Unwrap() {
		all = append(all, each(e)...)
	}
	return all
}

// newLogger logs to stderr.
func newLogger(level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, exit(exitUsage, fmt.Errorf("--log-level=%s: use debug, info, warn or error", level))
	}
	o := &slog.HandlerOptions{Level: l}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, o)), nil
	case "text", "":
		return slog.New(slog.NewTextHandler(os.Stderr, o)), nil
	}
	return nil, exit(exitUsage, fmt.Errorf("--log-format=%s: use text or json", format))
}
