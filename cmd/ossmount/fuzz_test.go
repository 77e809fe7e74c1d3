package main

import (
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
