package journal

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/ossmount/ossmount/internal/extent"
	"github.com/ossmount/ossmount/internal/object"
)

const codecVersion = 1 // first byte of each value

// encode returns what the database shall hold for what v points to.
func encode(v any) ([]byte, error) {
	c := coder{b: append(make([]byte, 0, 512), codecVersion), writes: true} // most are smaller
	if c.value(v) && !c.odd {
		return c.b, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append([]byte{codecVersion}, b...), nil
}

// decode reads what the database holds into what v points to, which is zero.
func decode(b []byte, v any) error {
	if len(b) == 0 {
		return fmt.Errorf("journal: empty value")
	}
	if b[0] > codecVersion {
		return fmt.Errorf("journal: value of format %d, this program knows %d: use the newer ossmount that wrote it (%w)", b[0], codecVersion, ErrNewer)
	}
	if b[0] != codecVersion {
		return fmt.Errorf("journal: value of format %d", b[0])
	}
	c := coder{b: b, at: 1}
	if c.value(v) {
		if !c.odd && c.at == len(b) {
			return nil
		}
		reflect.ValueOf(v).Elem().SetZero()
	}
	return json.Unmarshal(b[1:], v)
}

// coder writes a value, or reads one: each type names its fields once, for both
// (fields.go). encoding/json can do that, too, but takes five times as long to read: a
// start reads every row, a listing what was learnt of every name. It knows no more JSON
// than stands in most values:
//
//	object  {"name":value,...}; the names that are known, in their order
//	map     {text:text,...}; written in the order of the names
//	list    [text,...]
//	text    what stands for itself; how any other is escaped encoding/json says
//	number  an integer that fits, without fraction and exponent
//
// Blanks are nowhere. What has anything else is odd: encoding/json has to say what it
// means, or what is wrong with it. What is not odd is written and read as encoding/json
// does it (FuzzCodec).
type coder struct {
	b      []byte // what was written, or is read
	at     int    // how far it was read
	writes bool
	odd    bool
}

// when says which of its values a field is written with.
type when bool

const (
	always when = true
	ifSet  when = false // as omitempty
)

func (c *coder) check(ok bool) { c.odd = c.odd || !ok }

// has begins a field, and reports whether it is there; who writes knows. Behind a {
// or [, and only there, comes the first.
func (c *coder) has(name string, there bool) bool {
	if c.writes {
		if there {
			c.comma()
			c.b = append(append(append(c.b, '"'), name...), '"', ':')
		}
		return there
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
func (c *coder) comma() {
	if last := c.b[len(c.b)-1]; last != '{' && last != '[' {
		c.b = append(c.b, ',')
	}
}

// more reports, when reading, whether another comes in a map or list, and reads the
// comma before it.
func (c *coder) more(end byte) bool {
	if c.odd || c.at < len(c.b) && c.b[c.at] == end {
		return false
	}
	if last := c.b[c.at-1]; last != '{' && last != '[' {
		c.one(',')
	}
	return !c.odd
}

// one is a byte that must be there.
func (c *coder) one(b byte) {
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
func (c *coder) take(s string) bool {
	if len(c.b)-c.at < len(s) || string(c.b[c.at:c.at+len(s)]) != s {
		return false
	}
	c.at += len(s)
	return true
}

// flag is a field that is true or false.
func (c *coder) flag(name string, w when, p *bool) {
	switch {
	case !c.has(name, bool(w) || *p):
	case c.writes:
		c.b = strconv.AppendBool(c.b, *p)
	default:
		*p = c.take("true")
		c.check(*p || c.take("false"))
	}
}

type integer interface {
	~int64 | ~uint8 | ~uint32 | ~uint64
}

// number is a field that is one.
func number[T integer](c *coder, name string, w when, p *T) {
	signed := ^T(0) < 0
	switch {
	case !c.has(name, bool(w) || *p != 0):
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
func (c *coder) digits() (n uint64) {
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

// text is a field that is one.
func (c *coder) text(name string, w when, p *string) {
	if c.has(name, bool(w) || *p != "") {
		c.literal(p)
	}
}

// literal is a text in its quotes.
func (c *coder) literal(p *string) {
	c.one('"')
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
	c.one('"')
}

// escaped reads the rest of a text that has escapes, and began at from.
func (c *coder) escaped(from int) (s string) {
	for c.at < len(c.b) && c.b[c.at] != '"' {
		if c.b[c.at] == '\\' {
			c.at++
		}
		c.at++
	}
	c.at = min(c.at, len(c.b))
	c.one('"')
	c.check(json.Unmarshal(c.b[from:c.at], &s) == nil)
	return s
}

// plain reads what stands for itself.
func (c *coder) plain() []byte {
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

// list is a field of texts.
func (c *coder) list(name string, p *[]string) {
	if !c.has(name, len(*p) > 0) {
		return
	}
	c.one('[')
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
	c.one(']')
}

// texts is a field of texts by name.
func texts[M ~map[string]string](c *coder, name string, p *M) {
	if !c.has(name, len(*p) > 0) {
		return
	}
	c.one('{')
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
	c.one('}')
}

// pair is a name and its text.
func (c *coder) pair(k, v string) (string, string) {
	c.literal(&k)
	c.one(':')
	c.literal(&v)
	return k, v
}

// ranges is a field of which the set says itself how it is written.
func (c *coder) ranges(name string, p *extent.Set) {
	if !c.has(name, len(*p) > 0) {
		return
	}
	c.one('"')
	if c.writes {
		text, err := p.MarshalText()
		c.check(err == nil)
		c.b = append(c.b, text...)
	} else {
		c.check(p.UnmarshalText(c.plain()) == nil)
	}
	c.one('"')
}

// moment is a field that is a time.
func (c *coder) moment(name string, p *time.Time) {
	if !c.has(name, !p.IsZero()) {
		return
	}
	c.one('"')
	if c.writes {
		b, err := p.AppendText(c.b)
		if c.check(err == nil); err == nil {
			c.b = b
		}
	} else {
		c.check(p.UnmarshalText(c.plain()) == nil)
	}
	c.one('"')
}
