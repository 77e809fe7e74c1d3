package ossemu

import (
	"encoding/binary"
	"errors"
)

// The payload of a log record is a kind byte and then fields in fixed order:
// numbers as varints, strings and lists with their length before them. There
// are no field names or versions in it; the head record carries the format.

// encoder appends fields to b.
type encoder struct{ b []byte }

func (e *encoder) uint(v uint64) { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) int(v int64)   { e.b = binary.AppendVarint(e.b, v) }

func (e *encoder) str(s string) {
	e.uint(uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) pairs(ps []pair) {
	e.uint(uint64(len(ps)))
	for _, p := range ps {
		e.str(p.name)
		e.str(p.value)
	}
}

func (e *encoder) segments(ss []segment) {
	e.uint(uint64(len(ss)))
	for _, s := range ss {
		e.uint(s.id)
		e.int(s.off)
		e.int(s.size)
	}
}

func (e *encoder) attrs(a attrs) {
	e.str(a.class)
	e.str(a.acl)
	e.pairs(a.headers)
	e.pairs(a.meta)
	e.pairs(a.tags)
}

var errDecode = errors.New("record does not decode")

// decoder takes fields from b. After the first failure every field is zero
// and bad stays set, so callers check once at the end.
type decoder struct {
	b      []byte
	bad    bool
	common map[string]string // one copy of strings that most objects share
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

// more reports whether the record goes on: with a field of a later format.
func (d *decoder) more() bool { return len(d.b) > 0 }

func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	s := d.b[:n]
	d.b = d.b[n:]
	return s
}

func (d *decoder) str() string { return string(d.bytes()) }

// name reads a string of which few different ones exist: a header name, a
// content type, a storage class.
func (d *decoder) name() string {
	raw := d.bytes()
	if s, ok := d.common[string(raw)]; ok {
		return s
	}
	s := string(raw)
	if d.common != nil && len(d.common) < 4096 {
		d.common[s] = s
	}
	return s
}

// count reads the length of a list whose elements take at least one byte, so
// that a damaged length cannot ask for more memory than the record has.
func (d *decoder) count() int {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return 0
	}
	return int(n)
}

func (d *decoder) pairs() []pair {
	n := d.count()
	if n == 0 {
		return nil
	}
	ps := make([]pair, n)
	for i := range ps {
		ps[i] = pair{d.name(), d.name()}
	}
	return ps
}

func (d *decoder) metaPairs() []pair {
	n := d.count()
	if n == 0 {
		return nil
	}
	ps := make([]pair, n)
	for i := range ps {
		ps[i] = pair{d.name(), d.str()}
	}
	return ps
}

func (d *decoder) segments() []segment {
	n := d.count()
	if n == 0 {
		return nil
	}
	ss := make([]segment, n)
	for i := range ss {
		ss[i] = segment{id: d.uint(), off: d.int(), size: d.int()}
	}
	return ss
}

func (d *decoder) attrs() attrs {
	return attrs{class: d.name(), acl: d.name(), headers: d.pairs(), meta: d.metaPairs(), tags: d.metaPairs()}
}
