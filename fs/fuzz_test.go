package fs

import (
	"bytes"
	"maps"
	"path"
	"strings"
	"testing"

	"github.com/ossmount/ossmount/internal/object"
)

// FuzzXattrs reads extended attributes that others have written into an object, and
// writes what was read.
func FuzzXattrs(f *testing.F) {
	f.Add("%7B%22user.a%22%3A%22eA%3D%3D%22%7D")
	f.Add(`{"user.a":"not base64!","user.b":""}`)
	f.Add("%zz")
	f.Add("null")
	f.Fuzz(func(t *testing.T, text string) {
		all := readXattrs(object.Meta{metaXattr: text})
		m, err := withXattrs(object.Meta{"foreign": "kept", metaXattr: text}, all)
		if err != nil {
			return // more than OSS takes
		}
		if m["foreign"] != "kept" {
			t.Errorf("foreign metadata is lost: %v", m)
		}
		if again := readXattrs(m); !maps.EqualFunc(all, again, bytes.Equal) {
			t.Errorf("%q is read as %q, and then as %q", text, all, again)
		}
	})
}

// FuzzLinkText says where an OSS symlink leads: to its target, if a path leads there,
// and else out of the mount.
func FuzzLinkText(f *testing.F) {
	f.Add("a/link", "a/file")
	f.Add("a/b/link", "c")
	f.Add("link", "../x")
	f.Add("a//link", "a/./b//c")
	f.Add("link", "dir/")
	f.Add("link", "\x00")
	f.Fuzz(func(t *testing.T, key, target string) {
		const prefix = "pre/"
		o := &overlay{fs: &FS{o: Options{Bucket: "b", Prefix: prefix}}}
		text := o.linkText(prefix+key, prefix+target)
		if text == "" {
			t.Errorf("the link %q to %q leads nowhere", key, target)
		}
		if strings.HasPrefix(text, "oss://") {
			return
		}
		if strings.HasPrefix(text, "/") || strings.Contains(text, "\x00") {
			t.Errorf("the link %q to %q says %q", key, target, text)
		}
		if at := path.Join("/", path.Dir("/"+key), text); at != path.Clean("/"+target) {
			t.Errorf("the link %q to %q says %q, which leads to %q", key, target, text, at)
		}
	})
}

// FuzzNameable: a name that is shown can be a name in a directory.
func FuzzNameable(f *testing.F) {
	for _, name := range []string{"", ".", "..", "a", "a\x00", strings.Repeat("x", 256), "\xff"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if nameable(name) && (name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsRune(name, 0)) {
			t.Errorf("%q is a name", name)
		}
	})
}
