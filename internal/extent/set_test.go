package extent

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"
)

const space = 64 // bytes that the sets of the tests are about

// bits is a set as one flag for each byte.
type bits [space]bool

func (s Set) bits(t interface{ Fatalf(string, ...any) }) (b bits) {
	for i, r := range s {
		if r.Off >= r.End || i > 0 && r.Off <= s[i-1].End {
			t.Fatalf("%v: ranges touch, overlap or are empty", s)
		}
		for k := r.Off; k < r.End; k++ {
			b[k] = true
		}
	}
	return b
}

func drawRange(t *rapid.T) (off, end int64) {
	off = rapid.Int64Range(0, space).Draw(t, "off")
	return off, rapid.Int64Range(0, space).Draw(t, "end")
}

// Sets do what flags for each byte do.
func TestSetIsASetOfBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s, o Set
		var want, other bits
		for range rapid.IntRange(0, 12).Draw(t, "steps") {
			off, end := drawRange(t)
			before := append(Set(nil), s...)
			was := s
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0, 1:
				s = s.Add(off, end)
				for k := off; k < end; k++ {
					want[k] = true
				}
			case 2:
				s = s.Clip(off)
				for k := off; k < space; k++ {
					want[k] = false
				}
			case 3:
				o = o.Add(off, end)
				for k := off; k < end; k++ {
					other[k] = true
				}
			}
			if !was.Equal(before) {
				t.Fatalf("a set was changed: %v, now %v", before, was)
			}
			if s.bits(t) != want {
				t.Fatalf("%v, want %v", s, want)
			}
		}
		off, end := drawRange(t)
		var within, gaps Set
		for r := range s.Within(off, end) {
			within = append(within, r)
		}
		for r := range s.Gaps(off, end) {
			gaps = append(gaps, r)
		}
		covers, touches, n := true, false, int64(0)
		in, out := within.bits(t), gaps.bits(t)
		for k := range int64(space) {
			here := k >= off && k < end
			if in[k] != (here && want[k]) || out[k] != (here && !want[k]) {
				t.Fatalf("%v from %d to %d: within %v, gaps %v", s, off, end, within, gaps)
			}
			covers = covers && (!here || want[k])
			touches = touches || here && want[k]
			if want[k] {
				n++
			}
		}
		if s.Covers(off, end) != covers || s.Touches(off, end) != touches || s.Len() != n {
			t.Fatalf("%v from %d to %d: covers %t, touches %t, %d bytes", s, off, end, s.Covers(off, end), s.Touches(off, end), s.Len())
		}
		union := s.Union(o).bits(t)
		for k := range union {
			if union[k] != (want[k] || other[k]) {
				t.Fatalf("%v and %v: %v", s, o, s.Union(o))
			}
		}
		text, err := json.Marshal(s)
		var back Set
		if err != nil || json.Unmarshal(text, &back) != nil || !back.Equal(s) {
			t.Fatalf("%v as text: %s, read as %v, %v", s, text, back, err)
		}
	})
}

// What comes from a disk may be anything.
func FuzzUnmarshalText(f *testing.F) {
	f.Add([]byte("AAo"))
	f.Add([]byte("AAoKCg"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var s Set
		if s.UnmarshalText(text) != nil {
			return
		}
		for i, r := range s {
			if r.Off < 0 || r.Off >= r.End || i > 0 && r.Off <= s[i-1].End {
				t.Fatalf("%q is read as %v", text, s)
			}
		}
		again, err := s.MarshalText()
		var back Set
		if err != nil || back.UnmarshalText(again) != nil || !back.Equal(s) {
			t.Fatalf("%v is written as %q", s, again)
		}
	})
}
