package integration

import (
	"fmt"
	"os"
	"path"
	"testing"
)

// Files of which no byte is here are renamed and changed at once, in each order and
// together with their directory, while the engine carries what came before, and read
// at once: each keeps the bytes that were not changed. covers H13
func TestRenamedAndChangedAtOnce(t *testing.T) {
	t.Parallel()
	const each = 30
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=0s")
	kinds := map[string]func(from, to string){
		"change last": func(from, to string) {
			e.ok(os.Rename(from, to))
			e.appends(to, "!")
		},
		"change first": func(from, to string) {
			e.appends(from, "!")
			e.ok(os.Rename(from, to))
		},
		"directory": func(from, to string) {
			e.appends(from, "!")
			e.ok(os.Rename(path.Dir(from), path.Dir(to)))
		},
		"over another": func(from, to string) {
			e.write(to, "what it replaces")
			e.ok(os.Rename(from, to))
			e.appends(to, "!")
		},
	}
	place := func(kind string, i int, name string) string { return fmt.Sprintf("%s/%s%d/file", kind, name, i) }
	for kind := range kinds {
		for i := range each {
			e.ok(os.MkdirAll(m.in(path.Dir(place(kind, i, "old"))), 0o755))
			if kind != "directory" {
				e.ok(os.MkdirAll(m.in(path.Dir(place(kind, i, "new"))), 0o755))
			}
			e.write(m.in(place(kind, i, "old")), fmt.Sprint(kind, i))
		}
	}
	m.wait(m.Point)
	m.umount(0)
	m.Cache = e.path("another")
	m.start()
	for i := range each {
		for kind, change := range kinds {
			change(m.in(place(kind, i, "old")), m.in(place(kind, i, "new")))
			e.reads(m.in(place(kind, i, "new")), fmt.Sprint(kind, i, "!"))
			m.wait(m.Point) // so that the engine begins with the next at once
		}
	}
	keys, err := e.server.Keys("")
	e.ok(err)
	held := map[string]bool{}
	for _, key := range keys {
		held[key] = true
	}
	for kind := range kinds {
		for i := range each {
			e.object(place(kind, i, "new"), fmt.Sprint(kind, i, "!"))
			if held[place(kind, i, "old")] {
				t.Errorf("%s is still there", place(kind, i, "old"))
			}
		}
	}
	m.umount(0)
}
