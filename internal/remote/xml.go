package remote

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"
)

// decodeXML decodes an answer. OSS quotes keys in places where it does not
// escape them, and encoding/xml refuses control characters, raw or as a
// reference; so these become U+FFFD first. No key is taken from such a place. A
// page of a listing, as long as it looks like all others, needs none of that.
func decodeXML(data []byte, out any) error {
	if l, ok := out.(*listResult); ok && l.read(string(data)) {
		return nil
	}
	return xml.Unmarshal(sanitize(data), out)
}

var controlRef = regexp.MustCompile(`&#(x0*(?:[0-8bcefBCEF]|1[0-9a-fA-F])|0*(?:[0-8]|1[124-9]|2[0-9]|3[01]));`)

func sanitize(data []byte) []byte {
	data = bytes.ToValidUTF8(data, []byte("\uFFFD"))
	if bytes.Contains(data, []byte("&#")) {
		data = controlRef.ReplaceAll(data, []byte("\uFFFD"))
	}
	clean := func(r rune) rune {
		if (r < 0x20 && r != '\t' && r != '\n' && r != '\r') || r == 0xFFFE || r == 0xFFFF {
			return utf8.RuneError
		}
		return r
	}
	return bytes.Map(clean, data)
}

// escapeXML writes a key into a request body. Control characters go as
// references, which OSS accepts although XML 1.0 has no room for them. It
// reports false for a key that no form of XML can carry.
func escapeXML(b *bytes.Buffer, key string) bool {
	if !utf8.ValidString(key) || strings.ContainsAny(key, "\x00\uFFFE\uFFFF") {
		return false
	}
	for _, r := range key {
		switch {
		case r < 0x20 || r == 0x7F:
			fmt.Fprintf(b, "&#x%02X;", r)
		case r == '&':
			b.WriteString("&amp;")
		case r == '<':
			b.WriteString("&lt;")
		case r == '>':
			b.WriteString("&gt;")
		case r == '"':
			b.WriteString("&#34;")
		case r == '\'':
			b.WriteString("&#39;")
		default:
			b.WriteRune(r)
		}
	}
	return true
}

// unescaper undoes encoding-type=url in an answer that says it used it.
type unescaper struct {
	on  bool
	err error // the first value that could not be decoded
}

func (u *unescaper) text(s string) string {
	if !u.on {
		return s
	}
	t, err := url.QueryUnescape(s)
	if err != nil && u.err == nil {
		u.err = err
	}
	return t
}

// escapePath escapes a key for x-oss-copy-source. Every byte that is not
// plain is escaped, blanks as %20, so that path and query rules agree on it.
func escapePath(key string) string {
	return strings.ReplaceAll(url.QueryEscape(key), "+", "%20")
}
