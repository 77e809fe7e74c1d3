package extent

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sort"
	"strings"
)

// Range is the bytes from Off up to End, which is behind the last one.
type Range struct{ Off, End int64 }

// Len returns how many bytes r has.
func (r Range) Len() int64 { return r.End - r.Off }

// Set is a set of bytes; the zero value is empty.
type Set []Range

// Of returns the set of the bytes from off up to end.
func Of(off, end int64) Set {
	if end <= off {
		return nil
	}
	return Set{{off, end}}
}

// from returns the index of the first range that ends at off or behind it.
func (s Set) from(off int64) int {
	return sort.Search(len(s), func(i int) bool { return s[i].End >= off })
}

// Add returns s with the bytes from off up to end.
func (s Set) Add(off, end int64) Set {
	if end <= off || s.Covers(off, end) {
		return s
	}
	i := s.from(off)
	k := i
	for ; k < len(s) && s[k].Off <= end; k++ {
		off, end = min(off, s[k].Off), max(end, s[k].End)
	}
	out := make(Set, 0, len(s)-(k-i)+1)
	out = append(append(out, s[:i]...), Range{off, end})
	return append(out, s[k:]...)
}

// Union returns the bytes of both sets.
func (s Set) Union(o Set) Set {
	if len(s) == 0 {
		return o
	}
	all := slices.Concat(s, o)
	slices.SortFunc(all, func(a, b Range) int {
		if a.Off < b.Off {
			return -1
		}
		return 1
	})
	out := all[:0]
	for _, r := range all {
		if n := len(out); n > 0 && r.Off <= out[n-1].End {
			out[n-1].End = max(out[n-1].End, r.End)
		} else {
			out = append(out, r)
		}
	}
	return out
}

// Clip returns the bytes of s below size.
func (s Set) Clip(size int64) Set {
	n := sort.Search(len(s), func(i int) bool { return s[i].End > size })
	if n == len(s) {
		return s
	}
	out := slices.Clone(s[:n])
	if s[n].Off < size {
		out = append(out, Range{s[n].Off, size})
	}
	return out
}

// Covers reports that every byte from off up to end is in s.
func (s Set) Covers(off, end int64) bool {
	if end <= off {
		return true
	}
	i := sort.Search(len(s), func(i int) bool { return s[i].End > off })
	return i < len(s) && s[i].Off <= off && s[i].End >= end
}

// Touches reports that some byte from off up to end is in s.
func (s Set) Touches(off, end int64) bool {
	for range s.Within(off, end) {
		return true
	}
	return false
}

// Within yields what s has of the bytes from off up to end, in order.
func (s Set) Within(off, end int64) iter.Seq[Range] {
	return func(yield func(Range) bool) {
		for i := s.from(off + 1); off < end && i < len(s) && s[i].Off < end; i++ {
			if !yield(Range{max(s[i].Off, off), min(s[i].End, end)}) {
				return
			}
		}
	}
}

// Gaps yields what s lacks of the bytes from off up to end, in order.
func (s Set) Gaps(off, end int64) iter.Seq[Range] {
	return func(yield func(Range) bool) {
		for r := range s.Within(off, end) {
			if r.Off > off && !yield(Range{off, r.Off}) {
				return
			}
			off = r.End
		}
		if off < end {
			yield(Range{off, end})
		}
	}
}

// Len returns how many bytes are in s.
func (s Set) Len() (n int64) {
	for _, r := range s {
		n += r.Len()
	}
	return n
}

// Equal reports that both sets have the same bytes.
func (s Set) Equal(o Set) bool { return slices.Equal(s, o) }

func (s Set) String() string {
	var b strings.Builder
	for _, r := range s {
		fmt.Fprintf(&b, "[%d,%d)", r.Off, r.End)
	}
	return b.String()
}

// errText is what UnmarshalText says of a text that MarshalText has not made.
var errText = errors.New("extent: not a set of ranges")

// MarshalText gives the set as base64 of varints: of each range how far it
// begins behind the end of the one before, and its length. Ten thousand ranges
// take some 60 KB.
func (s Set) MarshalText() ([]byte, error) {
	b := make([]byte, 0, 6*len(s))
	at := int64(0)
	for _, r := range s {
		b = binary.AppendUvarint(b, uint64(r.Off-at))
		b = binary.AppendUvarint(b, uint64(r.Len()))
		at = r.End
	}
	return base64.RawStdEncoding.AppendEncode(nil, b), nil
}

// UnmarshalText reads what MarshalText has made, and nothing else.
func (s *Set) UnmarshalText(text []byte) error {
	b, err := base64.RawStdEncoding.AppendDecode(nil, text)
	if err != nil {
		return errText
	}
	var out Set
	at := int64(0)
	next := func() (int64, bool) {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > 1<<62 {
			return 0, false
		}
		b = b[n:]
		return int64(v), true
	}
	for len(b) > 0 {
		gap, ok := next()
		length, ok2 := next()
		if !ok || !ok2 || length == 0 || len(out) > 0 && gap == 0 || at > 1<<62-gap || at+gap > 1<<62-length {
			return errText
		}
		at += gap
		out = append(out, Range{at, at + length})
		at += length
	}
	*s = out
	return nil
}
