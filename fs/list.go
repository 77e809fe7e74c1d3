package fs

import (
	"context"
	"errors"
	"sort"
	"strings"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
	"github.com/ossmount/ossmount/writeback"
)

// name is what OSS lists under one name of a directory: an object, a
// directory, or both, of which the directory is shown.
type name struct {
	name string
	file bool
	mode uint32 // type bits of the object; 0: not known yet
	dir  bool
}

// shown returns the type bits to show.
func (n name) shown() uint32 {
	if n.dir {
		return object.TypeDir
	}
	return n.mode
}

// laid is what the intents say of one name; what they do not speak of is as
// OSS lists it.
type laid struct {
	name
	noFile, noDir bool // Deletes
}

// over lays the intents over what OSS lists.
func (l laid) over(n name) name {
	n.name = l.name.name
	if l.file || l.noFile {
		n.file, n.mode = l.file, l.mode
	}
	if l.dir || l.noDir {
		n.dir = l.dir
	}
	if l.file && !l.dir { // a file of ours was made where there was no directory
		n.dir = false
	}
	return n
}

// source yields what OSS lists of a directory, page by page, by name.
type source interface {
	next(ctx context.Context) (page []name, more bool, err error)
}

// dirStream merges the intents of a directory with what OSS lists of it: the
// same name, the intent wins; a Delete hides. OSS's names are taken page by
// page, the rows at once; both come in the order of names.
type dirStream struct {
	o     *overlay
	key   string
	rows  []laid // in the order of names
	asked *writeback.Moment
	src   source
	page  []name
	more  bool
	// partial: the names are those remembered while OSS is away; the listing
	// ends with an error.
	partial bool
	begun   bool
	last    string // names up to this one were given out
}

// stream begins a listing of the directory key, whose own files that no row
// names yet are fresh.
func (o *overlay) stream(ctx context.Context, key string, fresh []string) (*dirStream, error) {
	s := &dirStream{o: o, key: key, more: true}
	var err error
	if s.rows, err = o.rowsIn(key, fresh); err != nil { // before OSS is asked (R9)
		return nil, err
	}
	l, asked, err := o.listing(ctx, key)
	switch {
	case err == nil:
		names, err := o.namesOf(l)
		if err != nil {
			asked.Done()
			return nil, err
		}
		s.asked, s.src, s.partial = asked, &kept{names: names}, l.partial
	case errors.Is(err, errBig):
		s.asked, s.src = o.q.Moment(), &paged{o: o, key: key}
	default:
		return nil, err
	}
	return s, nil
}

func (o *overlay) rowsIn(key string, fresh []string) ([]laid, error) {
	rows := map[string]laid{}
	err := o.q.View(func(tx *journal.Tx) error {
		for r, err := range tx.Children(key, "") {
			if err != nil {
				return err
			}
			rest := r.Key[len(key):]
			n := strings.TrimSuffix(rest, "/")
			l := rows[n]
			l.name.name = n
			put := r.Kind == journal.Put
			if n != rest {
				l.dir, l.noDir = put, !put
			} else {
				l.file, l.noFile, l.mode = put, !put, r.Attr.Mode&object.TypeMask
			}
			rows[n] = l
		}
		return nil
	})
	for _, n := range fresh {
		rows[n] = laid{name: name{name: n, file: true, mode: object.TypeFile}}
	}
	out := make([]laid, 0, len(rows))
	for _, l := range rows {
		out = append(out, l)
	}
	sort.Slice(out, func(i, k int) bool { return out[i].name.name < out[k].name.name })
	return out, err
}

// maxSmall is the size up to which an object may be a symlink: only its
// attributes tell.
const maxSmall = 4096

// namesOf returns the names of a listing in order. The type of a small object
// of which nothing is known yet is left open (DT_UNKNOWN).
func (o *overlay) namesOf(l *listing) ([]name, error) {
	all := make(map[string]name, len(l.files)+len(l.dirs))
	for n := range l.dirs {
		all[n] = name{name: n, dir: true}
	}
	err := o.q.View(func(tx *journal.Tx) error {
		for n, e := range l.files {
			mode := object.TypeFile
			if e.Size <= maxSmall {
				a, err := tx.Attrs(e.Key)
				switch {
				case err != nil:
					return err
				case a == nil || !a.Ref.Same(e.Ref()):
					mode = 0
				default:
					mode = typeOf(a)
				}
			}
			all[n] = name{name: n, file: true, mode: mode, dir: all[n].dir}
		}
		return nil
	})
	return sorted(all), err
}

func typeOf(a *journal.Attrs) uint32 {
	return object.ReadAttr(a.Meta, object.Attr{Mode: object.TypeFile}).Mode & object.TypeMask
}

func sorted(all map[string]name) []name {
	out := make([]name, 0, len(all))
	for _, n := range all {
		if n.file || n.dir {
			out = append(out, n)
		}
	}
	sort.Slice(out, func(i, k int) bool { return out[i].name < out[k].name })
	return out
}

// kept is a listing that is in memory.
type kept struct{ names []name }

func (k *kept) next(context.Context) ([]name, bool, error) { return k.names, false, nil }

// paged is a listing that is too big for that.
type paged struct {
	o     *overlay
	key   string
	token string
}

func (p *paged) next(ctx context.Context) (out []name, more bool, err error) {
	page, err := ask(ctx, func(ctx context.Context) (object.Page, error) {
		return p.o.fs.remote.List(ctx, object.ListQuery{Prefix: p.key, Delimiter: "/", Token: p.token})
	})
	if err != nil {
		return nil, false, err
	}
	l := &listing{files: map[string]object.Entry{}, dirs: map[string]struct{}{}}
	p.o.add(l, p.key, page)
	p.token = page.Next
	out, err = p.o.namesOf(l)
	return out, page.Next != "", err
}

func (s *dirStream) close() { s.asked.Done() }

// next returns the next name; ok is false at the end.
func (s *dirStream) next(ctx context.Context) (n name, ok bool, err error) {
	for {
		for len(s.page) == 0 && s.more {
			if s.page, s.more, err = s.src.next(ctx); err != nil {
				return name{}, false, err
			}
			s.page = s.settled(s.page)
		}
		var l laid
		switch {
		case len(s.rows) > 0 && (len(s.page) == 0 || s.rows[0].name.name <= s.page[0].name):
			l, s.rows = s.rows[0], s.rows[1:]
			if len(s.page) > 0 && s.page[0].name == l.name.name {
				n, s.page = s.page[0], s.page[1:]
			} else {
				n = name{}
			}
		case len(s.page) > 0:
			n, s.page = s.page[0], s.page[1:]
			l = laid{name: name{name: n.name}}
		case s.partial:
			return name{}, false, errAway
		default:
			return name{}, false, nil
		}
		n = l.over(n)
		if n.dir && !l.dir {
			n.dir = !s.o.isGhost(ctx, s.asked, s.key+n.name+"/")
		}
		if (n.file || n.dir) && !s.given(n.name) {
			return n, true, nil
		}
	}
}

// given reports whether the name was given out before, as a file and a
// directory of one name may come on two pages.
func (s *dirStream) given(n string) bool {
	if s.begun && n <= s.last {
		return true
	}
	s.begun, s.last = true, n
	return false
}

// settled lays what rows have become since the listing was asked for over one
// page of it (R9).
func (s *dirStream) settled(page []name) []name {
	high := ""
	all := make(map[string]name, len(page))
	for _, n := range page {
		all[n.name] = n
		high = max(high, n.name)
	}
	living := map[string]bool{}
	s.asked.Under(s.key, func(key string, m writeback.Memo) {
		rest := key[len(s.key):]
		first, below, isDir := strings.Cut(rest, "/")
		if !nameable(first) || s.more && first > high {
			return // of a page that is still to come
		}
		n := all[first]
		n.name = first
		switch {
		case isDir && below != "":
			living[first] = living[first] || !m.Ref.IsZero()
		case isDir:
			n.dir = !m.Ref.IsZero()
		default:
			n.file = !m.Ref.IsZero()
			n.mode = object.TypeFile
			if m.Attrs != nil {
				n.mode = typeOf(m.Attrs)
			}
		}
		all[first] = n
	})
	for n := range living {
		if l := all[n]; living[n] {
			l.dir = true
			all[n] = l
		}
	}
	return sorted(all)
}

// empty reports whether the directory key holds no name.
func (o *overlay) empty(ctx context.Context, key string) (bool, error) {
	s, err := o.stream(ctx, key, o.fs.freshIn(key))
	if err != nil {
		return false, err
	}
	defer s.close()
	_, some, err := s.next(ctx)
	return !some, err
}

// below lists every object beneath the directory key, deep, as OSS has it now.
// The caller lays over what has settled since asked. It waits as long as pages
// come.
func (o *overlay) below(ctx context.Context, key string) (found map[string]object.Ref, asked *writeback.Moment, err error) {
	asked = o.q.Moment()
	found = map[string]object.Ref{}
	query := object.ListQuery{Prefix: key}
	for {
		page, err := o.page(ctx, query)
		if err != nil {
			asked.Done()
			return nil, nil, err
		}
		for _, e := range page.Entries {
			found[e.Key] = e.Ref()
		}
		if page.Next == "" {
			return found, asked, nil
		}
		query.Token = page.Next
	}
}

// page asks for one page, and waits for it as long as a call may wait.
func (o *overlay) page(ctx context.Context, query object.ListQuery) (object.Page, error) {
	ctx, cancel := o.fs.patient(ctx)
	defer cancel()
	return ask(ctx, func(ctx context.Context) (object.Page, error) { return o.fs.remote.List(ctx, query) })
}
