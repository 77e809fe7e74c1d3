package ossemu

import (
	"net/url"
	"strings"
	"unicode/utf8"
)

// query is the decoded query string in the order it came. net/url's own
// parser is not used because it drops parameters that hold a semicolon, which
// a signature would then miss.
type query []pair

func parseQuery(raw string) query {
	var q query
	for field := range strings.SplitSeq(raw, "&") {
		if field == "" {
			continue
		}
		name, value, _ := strings.Cut(field, "=")
		q = append(q, pair{unescape(name), unescape(value)})
	}
	return q
}

// unescape decodes with query rules; what does not decode stays as it is.
func unescape(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}

// escape is the one escaping of OSS: query escaping with space as %20.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func (q query) lookup(name string) (string, bool) {
	for _, p := range q {
		if p.name == name {
			return p.value, true
		}
	}
	return "", false
}

func (q query) get(name string) string {
	v, _ := q.lookup(name)
	return v
}

func (q query) has(name string) bool {
	_, ok := q.lookup(name)
	return ok
}

// validBucket reports whether OSS would take name for a bucket.
func validBucket(name string) bool {
	if len(name) < 3 || len(name) > 63 || name[0] == '-' || name[len(name)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(name, notLowerName)
}

// notLowerName reports whether r may not stand in a bucket name or, lower-cased,
// in the name of user metadata.
func notLowerName(r rune) bool { return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') }

const maxKey = 1023

// checkKey says why OSS would not take key for an object.
func checkKey(key string) error {
	switch {
	case key == "":
		return invalidObjectName("The Object name can not be empty.", key)
	case len(key) > maxKey:
		return invalidObjectName("The Length of Object name must be less than 1024.", key)
	case key[0] == '/' || key[0] == '\\' || !utf8.ValidString(key):
		return invalidObjectName("The specified object is not valid.", key)
	}
	return nil
}
