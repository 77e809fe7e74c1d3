package ossemu

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// deleteRequest is the body of DeleteMultipleObjects.
type deleteRequest struct {
	keys  []string
	named int // objects in the request, those of versions that are not there among them
	quiet bool
}

var errXML = errors.New("not well-formed")

// readDelete reads the body of DeleteMultipleObjects. encoding/xml cannot: it
// refuses references to control characters such as &#x01;, which XML 1.0
// forbids, the SDK sends and OSS takes.
func readDelete(body []byte) (deleteRequest, error) {
	var (
		out   deleteRequest
		stack []string
		text  strings.Builder
		key   *string
		id    string
		rest  = string(body)
		root  bool
	)
	for rest != "" {
		var tag string
		var err error
		if rest, tag, err = nextTag(rest, &text); err != nil {
			return out, err
		}
		switch {
		case tag == "":
		case tag[0] == '?' || tag[0] == '!':
		case tag[0] == '/':
			name := strings.TrimSpace(tag[1:])
			if len(stack) == 0 || stack[len(stack)-1] != name {
				return out, errXML
			}
			path := strings.Join(stack, "/")
			stack = stack[:len(stack)-1]
			switch path {
			case "Delete/Quiet":
				out.quiet = strings.EqualFold(strings.TrimSpace(text.String()), "true")
			case "Delete/Object/Key":
				value := text.String()
				key = &value
			case "Delete/Object/VersionId":
				id = strings.TrimSpace(text.String())
			case "Delete/Object":
				if key == nil {
					return out, errXML
				}
				if out.named++; id == "" || id == nullVersion {
					out.keys = append(out.keys, *key) // there is no other version to delete
				}
				key, id = nil, ""
			}
			text.Reset()
		default:
			name, empty := tagName(tag)
			if name == "" || len(stack) == 0 && (root || name != "Delete") || len(stack) > 8 {
				return out, errXML
			}
			root = true
			text.Reset()
			if !empty {
				stack = append(stack, name)
			} else if strings.Join(append(stack, name), "/") == "Delete/Object/Key" {
				key = new(string)
			}
		}
	}
	if len(stack) != 0 || !root {
		return out, errXML
	}
	return out, nil
}

// nextTag appends the text before the next tag to text and returns what is
// between the brackets of the tag. An empty tag means that the text ended.
func nextTag(s string, text *strings.Builder) (rest, tag string, err error) {
	before, after, found := strings.Cut(s, "<")
	if err := unescapeXML(text, before); err != nil {
		return "", "", err
	}
	if !found {
		return "", "", nil
	}
	if comment, ok := strings.CutPrefix(after, "!--"); ok {
		_, rest, found = strings.Cut(comment, "-->")
		tag = "!"
	} else if cdata, ok := strings.CutPrefix(after, "![CDATA["); ok {
		var value string
		value, rest, found = strings.Cut(cdata, "]]>")
		text.WriteString(value)
		tag = "!"
	} else {
		tag, rest, found = strings.Cut(after, ">")
	}
	if !found || tag == "" {
		return "", "", errXML
	}
	return rest, tag, nil
}

// tagName is the name of a start tag without attributes and namespace prefix.
func tagName(tag string) (name string, empty bool) {
	tag, empty = strings.CutSuffix(tag, "/")
	if i := strings.IndexAny(tag, " \t\r\n"); i >= 0 {
		tag = tag[:i]
	}
	return tag, empty
}

var entities = map[string]string{"amp": "&", "lt": "<", "gt": ">", "quot": `"`, "apos": "'"}

func unescapeXML(out *strings.Builder, s string) error {
	for {
		before, after, found := strings.Cut(s, "&")
		out.WriteString(before)
		if !found {
			return nil
		}
		name, rest, found := strings.Cut(after, ";")
		if !found {
			return errXML
		}
		if number, ok := strings.CutPrefix(name, "#"); ok {
			base := 10
			if hex, ok := strings.CutPrefix(number, "x"); ok {
				number, base = hex, 16
			}
			r, err := strconv.ParseUint(number, base, 32)
			if err != nil || r > utf8.MaxRune || !utf8.ValidRune(rune(r)) {
				return errXML
			}
			out.WriteRune(rune(r))
		} else if value, ok := entities[name]; ok {
			out.WriteString(value)
		} else {
			return errXML
		}
		s = rest
	}
}
