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

// name is one name of a directory.
type name struct {
	name string
	mode uint32 // type bits
}

// source yields what OSS lists of a directory, page by page.
type source interface {
	next(ctx context.Context) (page []name, more bool, err error)
}

// dirStream merges the intents of a directory with what OSS lists of it: the
// same name, the intent wins; a Delete hides. OSS's names are taken page by
// page, the rows at once; both come in the order of names.
type dirStream struct {
	o     *overlay
	key   string
	rows  []named // in the order of names
	asked *writeback.Moment
	src   source
	page  []name
	more  bool
	last  string // names up to this one were given out
	begun bool
}

type named struct {
	name
	hidden bool
}

// stream begins a listing of the directory key, whose own files that no row
// names yet are fresh.
func (o *overlay) stream(ctx context.Context, key string, fresh []string) (*dirStream, error) {
	s := &dirStream{o: o, key: key, more: true}
	// Rows are read before OSS is asked (R9).
	rows := map[string]named{}
	err := o.q.View(func(tx *journal.Tx) error {
		for r, err := range tx.Children(key, "") {
			if err != nil {
				return err
			}
			n := strings.TrimSuffix(r.Key[len(key):], "/")
			dir := strings.HasSuffix(r.Key, "/")
			put := r.Kind == journal.Put
			old, seen := rows[n]
			if seen && !old.hidden && (!dir || !put) {
				continue // a directory beside a Delete of a file, or the other way round
			}
			mode := r.Attr.Mode & object.TypeMask
			if dir {
				mode = object.TypeDir
			}
			if mode == 0 {
				mode = object.TypeFile
			}
			rows[n] = named{name{n, mode}, !put}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, n := range fresh {
		rows[n] = named{name{n, object.TypeFile}, false}
	}
	for _, n := range rows {
		s.rows = append(s.rows, n)
	}
	sort.Slice(s.rows, func(i, k int) bool { return s.rows[i].name.name < s.rows[k].name.name })
	l, asked, err := o.listing(ctx, key)
	switch {
	case err == nil:
		s.asked = asked
		names, err := o.namesOf(l)
		if err != nil {
			asked.Done()
			return nil, err
		}
		s.src = &kept{names: names}
	case errors.Is(err, errBig):
		s.asked = o.q.Moment()
		s.src = &paged{o: o, key: key}
	default:
		return nil, err
	}
	return s, nil
}

// maxSmall is the size up to which an object may be a symlink: only its
// attributes tell.
const maxSmall = 4096

// names returns the names of a listing in order. The type of a small object of
// which nothing is known yet is left open (DT_UNKNOWN).
func (o *overlay) namesOf(l *listing) (out []name, err error) {
	out = make([]name, 0, len(l.files)+len(l.dirs))
	err = o.q.View(func(tx *journal.Tx) error {
		for n, e := range l.files {
			if _, both := l.dirs[n]; both {
				continue
			}
			mode := object.TypeFile
			if e.Size <= maxSmall {
				a, err := tx.Attrs(e.Key)
				switch {
				case err != nil:
					return err
				case a == nil || !a.Ref.Same(e.Ref()):
					mode = 0
				default:
					mode = object.ReadAttr(a.Meta, object.Attr{Mode: mode}).Mode & object.TypeMask
				}
			}
			out = append(out, name{n, mode})
		}
		return nil
	})
	for n := range l.dirs {
		out = append(out, name{n, object.TypeDir})
	}
	sort.Slice(out, func(i, k int) bool { return out[i].name < out[k].name })
	return out, err
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
	l.add(p.key, page)
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
			if s.page, err = s.settled(ctx, s.page); err != nil {
				return name{}, false, err
			}
		}
		switch {
		case len(s.rows) > 0 && (len(s.page) == 0 || s.rows[0].name.name <= s.page[0].name):
			r := s.rows[0]
			s.rows = s.rows[1:]
			if len(s.page) > 0 && s.page[0].name == r.name.name {
				s.page = s.page[1:]
			}
			if r.hidden || s.given(r.name.name) {
				continue
			}
			return r.name, true, nil
		case len(s.page) > 0:
			n, s.page = s.page[0], s.page[1:]
			if s.given(n.name) {
				continue
			}
			return n, true, nil
		}
		return name{}, false, nil
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
// page of it (R9), and takes out the directories whose last names are gone.
func (s *dirStream) settled(ctx context.Context, page []name) ([]name, error) {
	high := ""
	if len(page) > 0 {
		high = page[len(page)-1].name
	}
	seen := map[string]int{}
	for i, n := range page {
		seen[n.name] = i
	}
	drop := map[string]bool{}
	s.asked.Under(s.key, func(key string, m writeback.Memo) {
		rest := key[len(s.key):]
		n, below, _ := strings.Cut(rest, "/")
		dir := n != rest
		if s.more && high != "" && n > high {
			return // of a page that is still to come
		}
		_, listed := seen[n]
		switch {
		case m.Ref.IsZero() && below == "" && listed:
			drop[n] = drop[n] || (page[seen[n]].mode == object.TypeDir) == dir
		case !m.Ref.IsZero() && !listed:
			mode := object.TypeFile
			if dir {
				mode = object.TypeDir
			} else if m.Attrs != nil {
				mode = object.ReadAttr(m.Attrs.Meta, object.Attr{Mode: object.TypeFile}).Mode & object.TypeMask
			}
			seen[n] = len(page)
			page = append(page, name{n, mode})
		}
	})
	out := page[:0:0]
	for _, n := range page {
		if drop[n.name] {
			continue
		}
		if n.mode == object.TypeDir {
			if ghost, err := s.ghost(ctx, n.name); err != nil || ghost {
				if err != nil {
					return nil, err
				}
				continue
			}
		}
		out = append(out, n)
	}
	sort.Slice(out, func(i, k int) bool { return out[i].name < out[k].name })
	return out, nil
}

// ghost reports a directory that OSS lists only because it has not been told
// yet that everything in it is gone.
func (s *dirStream) ghost(ctx context.Context, n string) (bool, error) {
	touched := false
	err := s.o.q.View(func(tx *journal.Tx) error {
		own, err := tx.Row(s.key + n + "/")
		if err != nil || own != nil {
			return err // it is among the rows
		}
		for range tx.Rows(s.key+n+"/", "") {
			touched = true
			break
		}
		return nil
	})
	if err != nil || !touched {
		return false, err
	}
	return !s.o.alive(ctx, s.key+n+"/"), nil
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

// below lists every object beneath the directory key, deep, as OSS has it now
// with what has settled since laid over.
func (o *overlay) below(ctx context.Context, key string, limit int) (map[string]object.Ref, *writeback.Moment, error) {
	asked := o.q.Moment()
	found := map[string]object.Ref{}
	query := object.ListQuery{Prefix: key}
	for {
		page, err := ask(ctx, func(ctx context.Context) (object.Page, error) { return o.fs.remote.List(ctx, query) })
		if err != nil {
			asked.Done()
			return nil, nil, err
		}
		for _, e := range page.Entries {
			found[e.Key] = e.Ref()
		}
		if len(found) > limit {
			asked.Done()
			return nil, nil, writeback.ErrTooBig
		}
		if page.Next == "" {
			return found, asked, nil
		}
		query.Token = page.Next
	}
}
