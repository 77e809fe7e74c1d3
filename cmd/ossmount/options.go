package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Options of mount(8) and fstab(5): NAME or NAME=VALUE, divided by commas. A comma
// in a value is written \, or the whole value "in quotes". Names are those of the
// settings, with _ or -.

// foreignOptions are options of mount(8), systemd and FUSE for which there is nothing
// to do: they are for who mounts, or ask for what is so anyway. mount(8) itself says rw
// when nothing is said, so that it cannot win over a file.
var foreignOptions = []string{
	"rw", "defaults", "auto", "noauto", "user", "nouser", "users", "nousers", "owner", "noowner", "group", "nogroup", "_netdev", "nofail", "comment",
	"exec", "dev", "nodev", "suid", "nosuid", "async", "noatime", "atime", "nodiratime", "diratime", "relatime", "norelatime", "strictatime",
	"nostrictatime", "lazytime", "nolazytime", "nomand", "loud", "silent", "default_permissions", "nonempty", "uhelper",
}

// sameOptions are options of mount(8) that settings carry out.
var sameOptions = map[string]string{"ro": "read-only", "noexec": "no-exec"}

// refusedOptions ask for what is not so; whoever does may count on it.
var refusedOptions = map[string]string{
	"sync":    "use close=disk or close=remote",
	"dirsync": "use close=disk or close=remote",
	"remount": "unmount, and mount again",
}

// fromOptions returns the settings in texts of options; each time that a list is
// named adds to it. The error holds all that is wrong.
func fromOptions(texts []string, known map[string]*pflag.Flag) (items []item, err error) {
	var errs []error
	for _, text := range texts {
		options, err := splitOptions(text)
		errs = append(errs, err)
		for _, o := range options {
			it, err := o.item(known)
			errs = append(errs, err)
			if it != nil {
				items = addOption(items, *it, known[it.name])
			}
		}
	}
	return items, errors.Join(errs...)
}

// addOption adds an item, or its values to a list that is there.
func addOption(items []item, it item, f *pflag.Flag) []item {
	if _, isList := f.Value.(pflag.SliceValue); !isList {
		return append(items, it)
	}
	values, err := valuesIn(it.text, f)
	if err != nil {
		return append(items, it) // and it is an error when it is set
	}
	at := slices.IndexFunc(items, func(x item) bool { return x.name == it.name && x.list != nil })
	if at < 0 {
		it.list = values
		return append(items, it)
	}
	items[at].list = append(items[at].list, values...)
	return items
}

// option is one of a text of options.
type option struct {
	name  string // as it is written
	value *string
}

// String is the option as splitOptions reads it.
func (o option) String() string {
	if o.value == nil {
		return o.name
	}
	return o.name + "=" + strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace(*o.value)
}

// item is the setting that an option means, nil if it means nothing to us.
func (o option) item(known map[string]*pflag.Flag) (*item, error) {
	where := "-o " + o.name
	if slices.Contains(foreignOptions, o.name) || strings.HasPrefix(strings.ToLower(o.name), "x-") {
		return nil, nil
	}
	if instead, ok := refusedOptions[o.name]; ok {
		return nil, fmt.Errorf("%s: ossmount does not do that: %s", where, instead)
	}
	name := strings.ReplaceAll(o.name, "_", "-")
	if same, ok := sameOptions[name]; ok {
		name = same
	}
	f := known[name]
	switch {
	case f == nil:
		return nil, unknownSetting(where, o.name, known)
	case o.value != nil:
		return &item{name: name, text: *o.value, where: where}, nil
	case f.NoOptDefVal == "":
		return nil, fmt.Errorf("%s: it takes a value: %s=VALUE", where, o.name)
	}
	return &item{name: name, text: f.NoOptDefVal, where: where}, nil
}

// splitOptions divides a text of options.
func splitOptions(text string) (all []option, err error) {
	for text != "" {
		end := strings.IndexAny(text, ",=")
		if end < 0 {
			end = len(text)
		}
		o := option{name: strings.TrimSpace(text[:end])}
		isValue := strings.HasPrefix(text[end:], "=")
		if text = text[min(end+1, len(text)):]; isValue {
			var value string
			if value, text, err = cutValue(text); err != nil {
				return all, fmt.Errorf("-o %s: %w", o.name, err)
			}
			o.value = &value
		}
		if o.name != "" || isValue {
			all = append(all, o)
		}
	}
	return all, nil
}

// cutValue takes a value, and the comma behind it, off text.
func cutValue(text string) (value, rest string, err error) {
	if quoted, ok := strings.CutPrefix(text, `"`); ok {
		value, rest, ok = strings.Cut(quoted, `"`)
		if !ok || rest != "" && rest[0] != ',' {
			return "", "", errors.New(`a value that begins with " ends with the next one`)
		}
		return value, strings.TrimPrefix(rest, ","), nil
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == ',':
			return b.String(), text[i+1:], nil
		case c == '\\' && i+1 < len(text) && (text[i+1] == ',' || text[i+1] == '\\'):
			i++
			b.WriteByte(text[i])
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", nil
}
