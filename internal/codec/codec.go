// Package codec writes and reads the JSON of small records by hand, byte for byte as
// encoding/json does, in a fifth of its time: a start reads every row of the journal and
// every witness of a content, a listing what was learnt of every name
// (docs/decisions/0024-most-values-are-coded-by-hand.md).
//
// It knows no more JSON than stands in most records:
//
//	object  {"name":value,...}; the names that are known, in their order
//	map     {text:text,...}; written in the order of the names
//	list    [text,...]
//	text    what stands for itself; how any other is escaped encoding/json says
//	number  an integer that fits, without fraction and exponent
//
// Blanks are nowhere. What has anything else is odd: encoding/json has to say what it
// means, or what is wrong with it. What is not odd is written and read as encoding/json
// does it; package alike proves it of each type. It starts no goroutines and touches no
// disk.
package codec

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/ossmount/ossmount/internal/extent"
	"github.com/ossmount/ossmount/internal/object"
)

// Record is a struct that names its fields, each once for writing and for reading, in
// their order and as their tags say.
type Record interface{ Fields(c *Coder) }

// Write appends r to b; false: it is odd, and encoding/json has to write it.
func Write(b []byte, r Record) ([]byte, bool) {
	c := Coder{b: b, writes: true}
	r.Fields(&c)
	return c.b, !c.odd
}

// Read reads b, and nothing but that, into r, which is zero; false: it is odd, and
// encoding/json has to read it. Something of it may be in r then.
func Read(b []byte, r Record) bool {
	c := Coder{b: b}
	r.Fields(&c)
	return !c.odd && c.at == len(b)
}

// Coder writes a record, or reads one.
type Coder struct {
	b      []byte // what was written, or is read
	at     int    // how far it was read
	writes bool
	odd    bool
}

// When says which of its values a field is written with.
type When bool

const (
	Always When = true
	IfSet  When = false // as omitempty
)

func (c *Coder) check(ok bool) { c.odd = c.odd || !ok }

// Has begins a field, and reports whether it is there; who writes knows. Behind a {
// or [, and only there, comes the first.
func (c *Coder) Has(name string, there bool) bool {
	if c.writes {
		if there {
			c.comma()
			c.b = append(append(append(c.b, '"'), name...), '"', ':')
		}
		return there
	}
	if c.odd {
		return false
	}
	rest := c.b[c.at:]
	if c.b[c.at-1] != '{' {
		if len(rest) == 0 || rest[0] != ',' {
			return false
		}
		rest = rest[1:]
	}
	n := len(name) + 3
	if len(rest) < n || rest[0] != '"' || string(rest[1:n-2]) != name || rest[n-2] != '"' || rest[n-1] != ':' {
		return false
	}
	c.at = len(c.b) - len(rest) + n
	return true
}

// comma writes one, unless what comes is the first in its object, map or list.
func (c *Coder) comma() {
	if last := c.b[len(c.b)-1]; last != '{' && last != '[' {
		c.b = append(c.b, ',')
	}
}

// more reports, when reading, whether another comes in a map or list, and reads the
// comma before it.
func (c *Coder) more(end byte) bool {
	if c.odd || c.at < len(c.b) && c.b[c.at] == end {
		return false
	}
	if last := c.b[c.at-1]; last != '{' && last != '[' {
		c.One(',')
	}
	return !c.odd
}

// One is a byte that must be there.
func (c *Coder) One(b byte) {
	switch {
	case c.writes:
		c.b = append(c.b, b)
	case c.at < len(c.b) && c.b[c.at] == b:
		c.at++
	default:
		c.odd = true
	}
}

// take reads s, if it comes now.
func (c *Coder) take(s string) bool {
	if len(c.b)-c.at < len(s) || string(c.b[c.at:c.at+len(s)]) != s {
		return false
	}
	c.at += len(s)
	return true
}

// Flag is a field that is true or false.
func (c *Coder) Flag(name string, w When, p *bool) {
	switch {
	case !c.Has(name, bool(w) || *p):
	case c.writes:
		c.b = strconv.AppendBool(c.b, *p)
	default:
		*p = c.take("true")
		c.check(*p || c.take("false"))
	}
}

type integer interface {
	~int | ~int64 | ~uint8 | ~uint32 | ~uint64
}

// Number is a field that is one.
func Number[T integer](c *Coder, name string, w When, p *T) {
	signed := ^T(0) < 0
	switch {
	case !c.Has(name, bool(w) || *p != 0):
	case c.writes && signed:
		c.b = strconv.AppendInt(c.b, int64(*p), 10)
	case c.writes:
		c.b = strconv.AppendUint(c.b, uint64(*p), 10)
	default:
		minus := signed && c.take("-")
		n := c.digits()
		if *p = T(n); minus {
			*p, n = -*p, -n
		}
		c.check(uint64(*p) == n && (*p < 0) == (minus && n != 0))
	}
}

// digits reads a number without a sign: no zero stands before another digit.
func (c *Coder) digits() (n uint64) {
	b, i, fits := c.b[c.at:], 0, true
	for ; i < len(b) && '0' <= b[i] && b[i] <= '9'; i++ {
		d := uint64(b[i] - '0')
		fits = fits && n <= (math.MaxUint64-d)/10
		n = n*10 + d
	}
	c.check(fits && (i == 1 || i > 1 && b[0] != '0'))
	c.at += i
	return n
}

// Text is a field that is one.
func (c *Coder) Text(name string, w When, p *string) {
	if c.Has(name, bool(w) || *p != "") {
		c.literal(p)
	}
}

// literal is a text in its quotes.
func (c *Coder) literal(p *string) {
	c.One('"')
	if c.writes {
		from := len(c.b)
		c.b = append(c.b, *p...)
		if plain(c.b[from:]) < len(*p) {
			b, err := json.Marshal(*p)
			c.check(err == nil)
			c.b = append(c.b[:from-1], b...)
			return
		}
	} else {
		from := c.at
		*p = lasting(c.plain())
		if c.at < len(c.b) && c.b[c.at] == '\\' {
			*p = c.escaped(from - 1)
			return
		}
	}
	c.One('"')
}

// escaped reads the rest of a text that has escapes, and began at from.
func (c *Coder) escaped(from int) (s string) {
	for c.at < len(c.b) && c.b[c.at] != '"' {
		if c.b[c.at] == '\\' {
			c.at++
		}
		c.at++
	}
	c.at = min(c.at, len(c.b))
	c.One('"')
	c.check(json.Unmarshal(c.b[from:c.at], &s) == nil)
	return s
}

// plain reads what stands for itself.
func (c *Coder) plain() []byte {
	n := plain(c.b[c.at:])
	c.at += n
	return c.b[c.at-n : c.at]
}

// lasting returns b as a text that is not the database's; those that stand in most rows
// are not made anew.
func lasting(b []byte) string {
	switch string(b) {
	case "Content-Type":
		return "Content-Type"
	case "application/octet-stream":
		return "application/octet-stream"
	case object.HeaderClass:
		return object.HeaderClass
	case "Standard":
		return "Standard"
	case "Normal":
		return "Normal"
	}
	return string(b)
}

// plain is how much of the beginning of b stands for itself in a text.
func plain(b []byte) int {
	for i := 0; i < len(b); {
		if b[i] < utf8.RuneSelf {
			if !isPlain[b[i]] {
				return i
			}
			i++
			continue
		}
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 || r == '\u2028' || r == '\u2029' {
			return i
		}
		i += n
	}
	return len(b)
}

var isPlain = func() (is [utf8.RuneSelf]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		is[c] = c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
	}
	return is
}()

// List is a field of texts.
func (c *Coder) List(name string, p *[]string) {
	if !c.Has(name, len(*p) > 0) {
		return
	}
	c.One('[')
	if c.writes {
		for _, s := range *p {
			c.comma()
			c.literal(&s)
		}
	} else {
		for *p = []string{}; c.more(']'); {
			var s string
			c.literal(&s)
			*p = append(*p, s)
		}
	}
	c.One(']')
}

// Texts is a field of texts by name.
func Texts[M ~map[string]string](c *Coder, name string, p *M) {
	if !c.Has(name, len(*p) > 0) {
		return
	}
	c.One('{')
	if c.writes {
		var few [8]string
		names := slices.AppendSeq(few[:0], maps.Keys(*p))
		slices.Sort(names)
		for _, k := range names {
			c.comma()
			c.pair(k, (*p)[k])
		}
	} else {
		for *p = (M{}); c.more('}'); {
			k, v := c.pair("", "")
			(*p)[k] = v
		}
	}
	c.One('}')
}

// pair is a name and its text.
func (c *Coder) pair(k, v string) (string, string) {
	c.literal(&k)
	c.One(':')
	c.literal(&v)
	return k, v
}

// Ranges is a field of which the set says itself how it is written.
func (c *Coder) Ranges(name string, p *extent.Set) {
	if !c.Has(name, len(*p) > 0) {
		return
	}
	c.One('"')
	if c.writes {
		text, err := p.MarshalText()
		c.check(err == nil)
		c.b = append(c.b, text...)
	} else {
		c.check(p.UnmarshalText(c.plain()) == nil)
	}
	c.One('"')
}

// Moment is a field that is a time.
func (c *Coder) Moment(name string, p *time.Time) {
	if !c.Has(name, !p.IsZero()) {
		return
	}
	c.One('"')
	if c.writes {
		b, err := p.AppendText(c.b)
		if c.check(err == nil); err == nil {
			c.b = b
		}
	} else {
		c.check(p.UnmarshalText(c.plain()) == nil)
	}
	c.One('"')
}
