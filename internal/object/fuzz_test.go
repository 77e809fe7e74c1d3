package object

import (
	"maps"
	"testing"
)

// FuzzAttr reads attributes that others have written into an object, and writes
// what was read: that is read as the same.
func FuzzAttr(f *testing.F) {
	f.Add("33188", "1000", "100", "1700000000.123456789", "")
	f.Add("-1", "4294967296", "x", "-0.5", "5")
	f.Add("420", "", "", "1e9", "0")
	f.Add("", "", "", "9999999999999", "")
	f.Fuzz(func(t *testing.T, mode, uid, gid, mtime, rdev string) {
		m := Meta{metaMode: mode, metaUID: uid, metaGID: gid, metaMtime: mtime, metaRdev: rdev, "foreign": "kept"}
		def := Attr{Mode: TypeFile | 0o644, UID: 1, GID: 2, Mtime: 3}
		a := ReadAttr(m, def)
		out := m.Foreign()
		if !maps.Equal(out, Meta{"foreign": "kept"}) {
			t.Errorf("foreign metadata is %v", out)
		}
		a.AddTo(out)
		if again := ReadAttr(out, def); again != a {
			t.Errorf("%v is read as %+v, written as %v, and read as %+v", m, a, out, again)
		}
	})
}
