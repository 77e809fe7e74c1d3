package object

import (
	"testing"

	"pgregory.net/rapid"
)

// What is written of a time is read back, to the nanosecond, also before 1970.
func TestTimesAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ns := rapid.Int64Range(-1<<62, 1<<62).Draw(t, "ns")
		if got, ok := ParseTime(FormatTime(ns)); !ok || got != ns {
			t.Fatalf("%d is written as %q and read as %d, %v", ns, FormatTime(ns), got, ok)
		}
	})
}

// rclone and ossfs write times with fewer digits, or none.
func TestTimesOfOthers(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "1": 1e9, "1.5": 15e8, "1700000000.123": 1700000000123e6, "1.0000000019": 1e9 + 1, "-1": -1e9,
	} {
		if got, ok := ParseTime(s); !ok || got != want {
			t.Errorf("%q is read as %d, %v; want %d", s, got, ok, want)
		}
	}
	for _, s := range []string{"", "x", "1.x", "1.-5", "99999999999999999999"} {
		if _, ok := ParseTime(s); ok {
			t.Errorf("%q was taken for a time", s)
		}
	}
}

func TestAttributesSurvive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := Attr{
			Mode:  TypeFile | rapid.Uint32Range(0, 0o7777).Draw(t, "mode"),
			UID:   rapid.Uint32().Draw(t, "uid"),
			GID:   rapid.Uint32().Draw(t, "gid"),
			Mtime: rapid.Int64Range(-1<<62, 1<<62).Draw(t, "mtime"),
		}
		m := Meta{"color": "red", TagMeta: "x.1"}
		a.AddTo(m)
		if got := ReadAttr(m, Attr{}); got != a {
			t.Fatalf("%+v became %+v", a, got)
		}
		if f := m.Foreign(); len(f) != 1 || f["color"] != "red" {
			t.Fatalf("foreign: %v", f)
		}
	})
}

// What is missing or unreadable stays as the flags have it; permission bits
// without a type are those of the default's type.
func TestAttributesOfOthers(t *testing.T) {
	def := Attr{Mode: TypeDir | 0o755, UID: 7, GID: 8, Mtime: 9}
	for _, c := range []struct {
		m    Meta
		want Attr
	}{
		{nil, def},
		{Meta{"mode": "rw", "uid": "-1", "mtime": "yesterday"}, def},
		{Meta{"mode": "448"}, Attr{Mode: TypeDir | 0o700, UID: 7, GID: 8, Mtime: 9}},
		{Meta{"mode": "41471", "gid": "0"}, Attr{Mode: TypeLink | 0o777, UID: 7, GID: 0, Mtime: 9}},
	} {
		if got := ReadAttr(c.m, def); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.m, got, c.want)
		}
	}
}

func TestErrorsThatAreNotOursAreTriedAgain(t *testing.T) {
	if KindOf(nil) != Again || FateOf(nil) != Unknown || IsAbsent(nil) {
		t.Error("nil")
	}
	err := &Error{Op: "HeadObject", Kind: Absent, Fate: Answered}
	if !IsAbsent(err) || FateOf(err) != Answered {
		t.Error("absent")
	}
}
