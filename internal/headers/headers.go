// Package headers holds the rules by which objects that the mount makes get headers,
// tags, an ACL and metadata of their own (--upload-header).
//
// A rule is one header, for all objects or for those whose path fits a pattern:
//
//	Cache-Control: no-cache
//	*.html=Cache-Control: max-age=60
//	logs/**=x-oss-storage-class: IA
//
// Rules are read once and never change: any number of goroutines may ask them. The
// package starts none, and touches no disk, so a crash leaves nothing here.
package headers

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/ossmount/ossmount/internal/object"
)

const metaPrefix = "X-Oss-Meta-"

// Rules say which headers an object gets. The zero value gives none.
type Rules struct{ all []rule }

// rule is one header of the objects that fit pattern ("" fits all).
type rule struct{ pattern, name, value string }

// known are the headers that a rule may set, and the values that they take; nil: any.
// Those of kind all are of every object, the others of files only.
var known = map[string]struct {
	values []string
	all    bool // also of directories, symlinks and the like
}{
	"Cache-Control":                       {},
	"Content-Disposition":                 {},
	"Content-Encoding":                    {},
	"Content-Language":                    {},
	"Content-Type":                        {},
	"Expires":                             {},
	object.HeaderClass:                    {values: []string{"Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive"}},
	object.HeaderACL:                      {values: []string{"default", "private", "public-read", "public-read-write"}, all: true},
	"X-Oss-Server-Side-Encryption":        {values: []string{"AES256", "KMS", "SM4"}, all: true},
	"X-Oss-Server-Side-Encryption-Key-Id": {all: true},
	"X-Oss-Server-Side-Data-Encryption":   {values: []string{"SM4"}, all: true},
	object.HeaderSetTags:                  {all: true},
}

// Parse reads rules in the form [PATTERN=]NAME: VALUE. Later ones win over earlier
// ones of the same header. An error says what is wrong with the rule that it names.
func Parse(texts []string) (Rules, error) {
	var r Rules
	for _, text := range texts {
		one, err := parse(text)
		if err != nil {
			return Rules{}, fmt.Errorf("%q: %w", text, err)
		}
		r.all = append(r.all, one)
	}
	return r, nil
}

func parse(text string) (r rule, err error) {
	left, value, ok := strings.Cut(text, ":")
	if i := strings.LastIndexByte(left, '='); i >= 0 {
		r.pattern, left = left[:i], left[i+1:]
		if r.pattern == "" {
			return r, fmt.Errorf("there is nothing before the =: use PATTERN=NAME: VALUE")
		}
	}
	r.name, r.value = http.CanonicalHeaderKey(strings.TrimSpace(left)), strings.TrimSpace(value)
	if !ok || r.name == "" || r.value == "" {
		return r, fmt.Errorf("use NAME: VALUE or PATTERN=NAME: VALUE, such as *.html=Cache-Control: no-cache")
	}
	if !doublestar.ValidatePattern(r.pattern) {
		return r, fmt.Errorf("%q is no pattern: use one such as *.html or logs/**", r.pattern)
	}
	for i := 0; i < len(r.value); i++ {
		if c := r.value[i]; c < ' ' || c >= 0x7f {
			return r, fmt.Errorf("the value must be printable ASCII")
		}
	}
	return r, r.check()
}

func (r rule) check() error {
	if name, ok := strings.CutPrefix(r.name, metaPrefix); ok {
		name = strings.ToLower(name)
		if name == "xattr" || len((object.Meta{name: r.value}).Foreign()) == 0 {
			return fmt.Errorf("x-oss-meta-%s is what the mount itself keeps there: choose another name", name)
		}
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || name == "" {
			return fmt.Errorf("%q is no name of metadata: use letters, digits and -", name)
		}
		return nil
	}
	k, ok := known[r.name]
	switch {
	case !ok:
		names := append(slices.Sorted(maps.Keys(known)), "X-Oss-Meta-NAME")
		return fmt.Errorf("%s cannot be set: use one of %s", r.name, strings.Join(names, ", "))
	case k.values != nil && !slices.Contains(k.values, r.value):
		return fmt.Errorf("%s is not %q: use %s", r.name, r.value, strings.Join(k.values, ", "))
	case r.name == object.HeaderSetTags:
		if _, err := url.ParseQuery(r.value); err != nil {
			return fmt.Errorf("%s is written as key=value&key=value, with %%20 for a blank: %w", r.name, err)
		}
	}
	return nil
}

// For returns what an object gets that the mount makes: headers and metadata, nil
// where there are none. name is its path beneath the root of the mount, without a "/"
// at the end; mode has its type.
func (r Rules) For(name string, mode uint32) (h object.Headers, m object.Meta) {
	for _, one := range r.all {
		if mode&object.TypeMask != object.TypeFile && !known[one.name].all || !one.fits(name) {
			continue
		}
		if meta, ok := strings.CutPrefix(one.name, metaPrefix); ok {
			if m == nil {
				m = object.Meta{}
			}
			m[strings.ToLower(meta)] = one.value
			continue
		}
		if h == nil {
			h = object.Headers{}
		}
		h[one.name] = one.value
	}
	return h, m
}

// fits reports that the pattern is of the whole path, or, without a "/" in it, of its
// last segment.
func (r rule) fits(name string) bool {
	if r.pattern == "" {
		return true
	}
	if !strings.Contains(r.pattern, "/") {
		name = path.Base(name)
	}
	ok, err := doublestar.Match(r.pattern, name)
	return ok && err == nil
}
