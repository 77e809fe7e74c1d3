package headers

import (
	"maps"
	"strings"
	"testing"

	"github.com/ossmount/ossmount/internal/object"
)

func TestRules(t *testing.T) {
	r, err := Parse([]string{
		"cache-control: no-cache",
		"*.html=Cache-Control: max-age=60",
		"logs/**=x-oss-storage-class: IA",
		"logs/*/keep=X-Oss-Storage-Class: Standard",
		"x-oss-tagging: team=a%20b&class=1",
		"{*.csv,*.tsv}=Content-Type: text/plain; charset=utf-8",
		"x-oss-meta-Origin: here: this mount",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		mode uint32
		want object.Headers
		meta object.Meta
	}{
		{"a", object.TypeFile | 0o644, object.Headers{"Cache-Control": "no-cache"}, object.Meta{"origin": "here: this mount"}},
		{"d/e/index.html", object.TypeFile, object.Headers{"Cache-Control": "max-age=60"}, object.Meta{"origin": "here: this mount"}},
		{"logs/2026/x", object.TypeFile, object.Headers{"Cache-Control": "no-cache", "X-Oss-Storage-Class": "IA"}, object.Meta{"origin": "here: this mount"}},
		{"logs/2026/keep", object.TypeFile, object.Headers{"Cache-Control": "no-cache", "X-Oss-Storage-Class": "Standard"}, object.Meta{"origin": "here: this mount"}},
		{"old/logs/x", object.TypeFile, object.Headers{"Cache-Control": "no-cache"}, object.Meta{"origin": "here: this mount"}},
		{"d/t.tsv", object.TypeFile, object.Headers{"Cache-Control": "no-cache", "Content-Type": "text/plain; charset=utf-8"}, object.Meta{"origin": "here: this mount"}},
		{"logs", object.TypeDir, object.Headers{}, nil},
		{"link.html", object.TypeLink, object.Headers{}, nil},
	} {
		c.want["X-Oss-Tagging"] = "team=a%20b&class=1"
		h, m := r.For(c.name, c.mode)
		if !maps.Equal(h, c.want) || !maps.Equal(m, c.meta) {
			t.Errorf("%s: %v and %v, want %v and %v", c.name, h, m, c.want, c.meta)
		}
	}
	if h, m := (Rules{}).For("a", object.TypeFile); h != nil || m != nil {
		t.Errorf("no rule gives %v, %v", h, m)
	}
}

func TestRulesThatMeanNothing(t *testing.T) {
	for text, why := range map[string]string{
		"":                                "use NAME: VALUE",
		"Cache-Control":                   "use NAME: VALUE",
		"Cache-Control:":                  "use NAME: VALUE",
		"=Cache-Control: x":               "nothing before the =",
		"[=Cache-Control: x":              "is no pattern",
		"Cache-Control: a\nb":             "printable ASCII",
		"Content-Length: 3":               "cannot be set",
		"X-Oss-Forbid-Overwrite: true":    "cannot be set",
		"X-Oss-Storage-Class: Cold":       "use Standard, IA",
		"X-Oss-Object-Acl: public":        "use default, private",
		"x-oss-tagging: a=%zz":            "key=value&key=value",
		"x-oss-meta-mode: 5":              "what the mount itself keeps",
		"x-oss-meta-ossmount: 5":          "what the mount itself keeps",
		"x-oss-meta-xattr: 5":             "what the mount itself keeps",
		"x-oss-meta-a_b: 5":               "no name of metadata",
		"x-oss-meta-: 5":                  "no name of metadata",
		"X-Oss-Server-Side-Encryption: A": "use AES256, KMS, SM4",
	} {
		if _, err := Parse([]string{"Expires: 0", text}); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v, want an error with %q", text, err, why)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("*.html=Cache-Control: no-cache", "a/b.html")
	f.Add("[a=b=x-oss-meta-x: y", "")
	f.Fuzz(func(t *testing.T, text, name string) {
		r, err := Parse([]string{text})
		if err != nil {
			return
		}
		h, m := r.For(name, object.TypeFile)
		if len(h)+len(m) > 1 {
			t.Errorf("one rule gives %v and %v", h, m)
		}
	})
}
