package main

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// FuzzFlags reads values of flags: what is taken means something.
func FuzzFlags(f *testing.F) {
	for _, s := range []string{"8MiB", "1.5G", "-1", "nan", "inf", "1e400", "0x1p70", " 5 K/s", "oss://bucket/pre/fix", "oss:///", "oss://b//", "local:", "local:.", "5s", "0755", "0o7"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := parseBytes(s); err == nil && n < 0 {
			t.Errorf("%q is %d bytes", s, n)
		}
		if mode, err := octal("file-mode", s); err == nil && mode > 0o777 {
			t.Errorf("%q is the mode %o", s, mode)
		}
		if d, err := (&mountFlags{metaTTL: s}).ttl(); err == nil && d <= 0 {
			t.Errorf("%q is %v", s, time.Duration(d))
		}
		p, err := parseSource(s)
		if err != nil {
			return
		}
		if p.bucket == "" || strings.Contains(p.bucket, "/") || strings.HasPrefix(p.prefix, "/") || p.prefix != "" && !strings.HasSuffix(p.prefix, "/") {
			t.Errorf("%q is %+v", s, p)
		}
		if again, err := parseSource(p.String()); err != nil || again != p {
			t.Errorf("%q is %+v, written as %q, which is %+v %v", s, p, p.String(), again, err)
		}
	})
}

// FuzzConfig reads files of settings: each is settings or an error with its place.
func FuzzConfig(f *testing.F) {
	for _, s := range []string{"close: disk\n", "eager-skip: [a, 'b']\n", "a: &x 1\nb: *x\n<<: *x\n", "? [a]\n: b\n", "- 1\n", "close: |\n  disk\n", "\tclose: 1", "close: !!str disk\n", "---\n---\n", "uid: 0x10\ndrain: .inf\n", "{close: disk, fsync: }", "close: {\n", "\"close\": 'disk'\n", "%YAML 1.2\n---\n#\n"} {
		f.Add(s)
	}
	known := settingsOf(mountCommand().Flags())
	f.Fuzz(func(t *testing.T, s string) {
		items, err := parseConfig("file", []byte(s), known)
		for _, e := range each(err) {
			if !strings.HasPrefix(e.Error(), "file:") {
				t.Errorf("%q: the error %q does not say where", s, e)
			}
		}
		for _, it := range items {
			flag := known[it.name]
			if flag == nil || !strings.HasPrefix(it.where, "file:") {
				t.Fatalf("%q holds %+v", s, it)
			}
			if err := it.set(flag); err != nil && !strings.HasPrefix(err.Error(), "file:") {
				t.Errorf("%q: the error %q does not say where", s, err)
			}
		}
	})
}

// FuzzOptions divides texts of options, and puts them together again.
func FuzzOptions(f *testing.F) {
	for _, s := range []string{"ro,cache_dir=/x", `a=b\,c,d`, `a="b,c",d`, `a="b`, `a=\\,b`, "=", ",,=x,", `a="",b`, `a=""`} {
		f.Add(s)
	}
	known := settingsOf(mountCommand().Flags())
	f.Fuzz(func(t *testing.T, s string) {
		_, _ = fromOptions([]string{s}, known)
		options, err := splitOptions(s)
		if err != nil {
			return
		}
		var texts []string
		for _, o := range options {
			if o.value != nil && strings.HasPrefix(*o.value, `"`) {
				return // written \", which cannot be
			}
			texts = append(texts, o.String())
		}
		again, err := splitOptions(strings.Join(texts, ","))
		if err != nil || !reflect.DeepEqual(again, options) {
			t.Errorf("%q is %+v, written as %q, which is %+v %v", s, options, texts, again, err)
		}
	})
}
