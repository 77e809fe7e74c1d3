package remote

import (
	"strconv"
	"strings"
)

// listXML reads a page of a listing. encoding/xml can do that, too, but takes more
// than ten times as long, and programs that walk through a tree wait for it. It
// knows no more of XML than OSS uses:
//
//	page      <?xml version="1.0" encoding="UTF-8"?>, or nothing; the element ListBucketResult
//	element   <Name>inside</Name> or <Name/>; Name is letters; the root may have an xmlns
//	inside    elements, or a text
//	text      printable ASCII, blanks, line feeds, and references to printable ASCII
//
// Keys come escaped, so a page is ASCII. A page that has anything else, or a
// value twice, is odd: encoding/xml has to say what it means, or what is wrong
// with it. What is not odd means to encoding/xml the same (FuzzListXML).
type listXML struct {
	page  string
	at    int  // how far it was read
	empty bool // the tag that was read last is <Name/>: its element is over
	odd   bool
}

// place is where the text of an element goes.
type place struct {
	name string
	text *string
}

// read fills l from a page, and reports whether it could; if not, l is as it
// was. The strings of l are pieces of the page.
func (l *listResult) read(page string) bool {
	var r listResult
	var truncated string
	places := []place{
		{"EncodingType", &r.EncodingType}, {"IsTruncated", &truncated},
		{"NextContinuationToken", &r.NextContinuationToken},
	}
	x := &listXML{page: page}
	root := x.root()
	for name := x.open(); name != ""; name = x.open() {
		switch name {
		case "Contents":
			if r.Contents == nil {
				r.Contents = make([]listed, 0, min(1000, 1+len(page)/256)) // an object takes some 300 bytes
			}
			r.Contents = append(r.Contents, x.object(name))
		case "CommonPrefixes":
			var f folded
			x.elements(name, []place{{"Prefix", &f.Prefix}})
			r.CommonPrefixes = append(r.CommonPrefixes, f)
		default:
			x.element(name, places)
		}
	}
	x.close(root)
	x.blanks()
	if truncated != "" {
		var err error
		r.IsTruncated, err = strconv.ParseBool(truncated)
		x.check(err == nil)
	}
	if x.odd || x.at < len(page) {
		return false
	}
	*l = r
	return true
}

// object reads the rest of a Contents.
func (x *listXML) object(name string) (o listed) {
	var size string
	x.elements(name, []place{
		{"Key", &o.Key}, {"LastModified", &o.LastModified}, {"ETag", &o.ETag},
		{"Type", &o.Type}, {"Size", &size}, {"StorageClass", &o.StorageClass},
	})
	if size != "" {
		var err error
		o.Size, err = strconv.ParseInt(size, 10, 64)
		x.check(err == nil)
	}
	return o
}

// elements reads the rest of an element that has others in it.
func (x *listXML) elements(name string, places []place) {
	for inner := x.open(); inner != ""; inner = x.open() {
		x.element(inner, places)
	}
	x.close(name)
}

// element reads the rest of an element, whose text goes to its place, if it has one.
func (x *listXML) element(name string, places []place) {
	for _, p := range places {
		if p.name == name {
			x.check(*p.text == "")
			*p.text = x.text()
			x.close(name)
			return
		}
	}
	x.skip(name, 3)
}

// skip reads the rest of an element of which nothing is wanted.
func (x *listXML) skip(name string, depth int) {
	x.text()
	for inner := x.open(); inner != ""; inner = x.open() {
		x.check(depth > 0)
		x.skip(inner, depth-1)
	}
	x.close(name)
}

// root opens the element that is the page.
func (x *listXML) root() string {
	const name = "ListBucketResult"
	x.take(`<?xml version="1.0" encoding="UTF-8"?>`)
	x.blanks()
	if !x.take("<" + name + ` xmlns="`) {
		x.check(x.open() == name)
		return name
	}
	_, more, quoted := strings.Cut(x.plain(), `"`)
	x.check(quoted && more == "" && x.take(">"))
	return name
}

// open reads the tag that begins an element and returns its name; "" if none
// begins here.
func (x *listXML) open() string {
	if x.empty || x.odd {
		return ""
	}
	x.blanks()
	n := x.at + 1
	for n < len(x.page) && 'a' <= x.page[n]|0x20 && x.page[n]|0x20 <= 'z' {
		n++
	}
	if n == x.at+1 || x.page[x.at] != '<' {
		return ""
	}
	name := x.page[x.at+1 : n]
	x.at = n
	x.empty = x.take("/")
	x.check(x.take(">"))
	return name
}

// close reads the tag that ends the element.
func (x *listXML) close(name string) {
	x.check(x.empty || x.take("</") && x.take(name) && x.take(">"))
	x.empty = false
}

// text reads up to the next tag.
func (x *listXML) text() string {
	if x.empty {
		return ""
	}
	text := x.plain()
	if !x.take("&") {
		return text
	}
	b := []byte(text)
	for more := true; more; more = x.take("&") {
		b = append(b, x.reference())
		b = append(b, x.plain()...)
	}
	return string(b)
}

var references = map[string]byte{"quot": '"', "amp": '&', "apos": '\'', "lt": '<', "gt": '>'}

// reference reads what stands for one character, behind its &.
func (x *listXML) reference() byte {
	ref, _, _ := strings.Cut(x.page[x.at:], ";")
	x.at += len(ref)
	c, ok := references[ref]
	if digits, isNumber := strings.CutPrefix(ref, "#"); isNumber {
		base := 10
		if hex, isHex := strings.CutPrefix(digits, "x"); isHex {
			digits, base = hex, 16
		}
		n, err := strconv.ParseUint(digits, base, 8)
		c, ok = byte(n), err == nil && ' ' <= n && n <= '~'
	}
	x.check(ok && x.take(";"))
	return c
}

// plain reads what stands for itself.
func (x *listXML) plain() string {
	n := x.at
	for n < len(x.page) && isPlain[x.page[n]] {
		n++
	}
	s := x.page[x.at:n]
	x.at = n
	return s
}

var isPlain = func() (is [256]bool) {
	for c := ' '; c <= '~'; c++ {
		is[c] = c != '<' && c != '>' && c != '&'
	}
	is['\t'], is['\n'] = true, true
	return is
}()

func (x *listXML) blanks() {
	for x.at < len(x.page) && (x.page[x.at] == ' ' || x.page[x.at] == '\n' || x.page[x.at] == '\t') {
		x.at++
	}
}

// take reads s, if it comes now.
func (x *listXML) take(s string) bool {
	if !strings.HasPrefix(x.page[x.at:], s) {
		return false
	}
	x.at += len(s)
	return true
}

func (x *listXML) check(ok bool) { x.odd = x.odd || !ok }
