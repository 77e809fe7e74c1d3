package fs

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sort"
	"strings"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
	"github.com/ossmount/ossmount/writeback"
)

// item is what one key shows in the listing of its directory: a file, or a
// directory, which stands where its key with the "/" does.
type item struct {
	name string
	dir  bool
	mode uint32 // type bits of a file; 0: not known yet
	twin bool   // OSS has a directory of that name, too
}

// order is where the item stands: the order of keys, that of OSS.
func (i item) order() string {
	if i.dir {
		return i.name + "/"
	}
	return i.name
}

// shown returns the type bits to show.
func (i item) shown() uint32 {
	if i.dir {
		return object.TypeDir
	}
	return i.mode
}

// intent is what a row says of an item: that it is there, or gone.
type intent struct {
	item
	put     bool
	implied bool // only what lies in it says that it is there
}

// source yields what OSS lists of a directory, some at a time, in order.
type source interface {
	next(ctx context.Context) (page []item, more bool, err error)
}

// rowsAtOnce is how many rows of a directory are read in one go: there may be
// any number of them.
const rowsAtOnce = 1000

// dirStream merges the intents of a directory with what OSS lists of it, both
// in the order of keys: the same key, the intent wins; a Delete hides. Neither
// is held in memory as a whole.
//
// Rows may be read after the page that they are merged with was asked for:
// what has settled since the moment of the stream is laid over each page, after
// the rows were read (R9).
type dirStream struct {
	o     *overlay
	key   string
	asked *writeback.Moment

	at       string   // the place of what was given out last
	rows     []intent // read, and not given out yet
	rowsTo   string   // they were read up to here
	rowsMore bool
	noRows   bool // there was none when the stream began
	fresh    []string

	src     source
	page    []item
	pageTo  string
	more    bool
	partial bool // the names are those remembered while OSS is away: the end is an error

	shown  *listing // what OSS lists of the names that come now
	looked bool     // names of it are looked up
	hand   *glance  // what is at hand of those that come now
	hidden bool     // there were names that no path can have: they are not shown

	files []string // given out as files: a directory of that name may still come
}

// stream begins a listing of the directory key after the place after ("" for
// its beginning), whose own files that no row names yet are fresh.
func (o *overlay) stream(ctx context.Context, key string, fresh []string, after string) (*dirStream, error) {
	slices.Sort(fresh)
	s := &dirStream{o: o, key: key, more: true, rowsMore: true, at: after, rowsTo: after, pageTo: after}
	for _, n := range fresh {
		if n > after {
			s.fresh = append(s.fresh, n)
		}
	}
	asOf := o.q.Newest()
	if err := s.readRows(); err != nil { // before OSS is asked
		return nil, err
	}
	s.noRows = len(s.rows) == 0
	s.hand = &glance{asOf: asOf, noRows: s.noRows}
	l, asked, err := o.listing(ctx, key)
	switch {
	case err == nil:
		s.asked, s.src, s.partial = asked, &kept{o: o, items: o.itemsOf(l), after: after}, l.partial
		s.shown = l
	case errors.Is(err, errBig):
		s.asked, s.src = o.q.Moment(), &paged{s: s, o: o, key: key, after: after}
	default:
		return nil, err
	}
	return s, nil
}

// readRows reads the next rows, and puts the fresh files among them.
func (s *dirStream) readRows() error {
	var rows []intent
	more := false
	err := s.o.q.View(func(tx *journal.Tx) error {
		for r, err := range tx.Children(s.key, s.key+s.rowsTo) {
			if err != nil {
				return err
			}
			rest := r.Key[len(s.key):]
			if rest <= s.rowsTo {
				continue
			}
			if more = len(rows) == rowsAtOnce; more {
				return nil
			}
			n := strings.TrimSuffix(rest, "/")
			i := intent{item{name: n, dir: n != rest, mode: r.Attr.Mode & object.TypeMask}, r.Kind == journal.Put, r.Seq == 0}
			rows = append(rows, i)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if s.rowsMore = more; more {
		s.rowsTo = rows[len(rows)-1].order()
	}
	n := 0
	for ; n < len(s.fresh) && (!more || s.fresh[n] <= s.rowsTo); n++ {
		at, found := place(rows, s.fresh[n])
		i := intent{item: item{name: s.fresh[n], mode: object.TypeFile}, put: true}
		if found {
			rows[at] = i
		} else {
			rows = slices.Insert(rows, at, i)
		}
	}
	s.fresh = s.fresh[n:]
	s.rows = rows
	return nil
}

// maxSmall is the size up to which an object may be a symlink: only its
// attributes tell.
const maxSmall = 4096

// itemsOf returns what a listing shows, in order; types are left open.
func (o *overlay) itemsOf(l *listing) []item {
	l.once.Do(func() {
		l.items = make([]item, 0, len(l.files)+len(l.dirs))
		for n := range l.dirs {
			l.items = append(l.items, item{name: n, dir: true})
		}
		for n, e := range l.files {
			i := item{name: n, mode: object.TypeFile}
			if e.Size <= maxSmall {
				i.mode = 0
			}
			if e.Type == object.TypeSymlink {
				i.mode = object.TypeLink
			}
			_, i.twin = l.dirs[n]
			l.items = append(l.items, i)
		}
		sort.Slice(l.items, func(i, k int) bool { return l.items[i].order() < l.items[k].order() })
	})
	return l.items
}

func typeOf(a *journal.Attrs) uint32 {
	if a.Link != "" {
		return object.TypeLink
	}
	return object.ReadAttr(a.Meta, object.Attr{Mode: object.TypeFile}).Mode & object.TypeMask
}

// kept is a listing that is in memory, given out in pieces that grow: often
// only the first names are wanted.
type kept struct {
	o     *overlay
	items []item
	after string
	n     int
}

func (k *kept) next(context.Context) ([]item, bool, error) {
	if k.n == 0 {
		at, found := slices.BinarySearchFunc(k.items, k.after, func(i item, o string) int { return strings.Compare(i.order(), o) })
		if found {
			at++
		}
		k.items, k.n = k.items[at:], 4
	}
	k.n = min(2*k.n, rowsAtOnce)
	some := k.items[:min(k.n, len(k.items))]
	k.items = k.items[len(some):]
	return slices.Clone(some), len(k.items) > 0, nil
}

// paged is a listing that is too big for that.
type paged struct {
	s     *dirStream
	o     *overlay
	key   string
	after string
	token string
}

func (p *paged) next(ctx context.Context) (out []item, more bool, err error) {
	query := object.ListQuery{Prefix: p.key, Delimiter: "/", Token: p.token}
	if p.token == "" && p.after != "" {
		query.After = p.key + p.after
	}
	page, err := p.o.page(ctx, query)
	if err != nil {
		return nil, false, err
	}
	l := newListing(nil)
	p.o.add(l, p.key, page)
	p.token, p.s.shown = page.Next, l
	out = p.o.itemsOf(l)
	for len(out) > 0 && out[0].order() <= p.after {
		out = out[1:]
	}
	return out, page.Next != "", err
}

func (s *dirStream) close() { s.asked.Done() }

// next returns the next item; ok is false at the end.
func (s *dirStream) next(ctx context.Context) (i item, ok bool, err error) {
	for {
		if err := s.fill(ctx); err != nil {
			return item{}, false, err
		}
		var byRow bool
		switch {
		case len(s.rows) > 0 && (len(s.page) == 0 || s.rows[0].order() <= s.page[0].order()):
			r := s.rows[0]
			s.rows = s.rows[1:]
			if len(s.page) > 0 && s.page[0].order() == r.order() {
				s.page = s.page[1:]
			}
			if s.at = r.order(); !r.put {
				continue
			}
			i, byRow = r.item, true
		case len(s.page) > 0:
			i, s.page = s.page[0], s.page[1:]
		case s.partial:
			return item{}, false, errAway
		default:
			return item{}, false, nil
		}
		s.at = i.order()
		switch {
		case !s.shows(ctx, i, byRow):
		case !nameable(i.name):
			s.hidden = true
		default:
			return i, true, nil
		}
	}
}

// fill sees to it that what comes next is at hand.
func (s *dirStream) fill(ctx context.Context) error {
	for len(s.rows) == 0 && s.rowsMore {
		if err := s.readRows(); err != nil {
			return err
		}
		s.page = s.settled(s.page, s.at) // a row may have settled before it was read
	}
	for len(s.page) == 0 && s.more {
		page, more, err := s.src.next(ctx)
		if err != nil {
			return err // the next call asks again
		}
		s.more = more
		from := s.pageTo
		if !s.more {
			s.pageTo = "\xff"
		} else if len(page) > 0 {
			s.pageTo = page[len(page)-1].order()
		}
		s.page = s.settled(page, from)
	}
	return nil
}

// shows decides whether an item is shown: of a file and a directory of one name
// only one is, and a directory from which all is going is not.
func (s *dirStream) shows(ctx context.Context, i item, byRow bool) bool {
	for n := len(s.files); n > 0 && s.files[n-1]+"/" < i.order(); n-- {
		s.files = s.files[:n-1]
	}
	if i.dir {
		if slices.Contains(s.files, i.name) {
			return false
		}
		return byRow || !s.o.isGhost(ctx, s.asked, s.key+i.name+"/")
	}
	if (!s.noRows || i.twin) && s.dirShows(ctx, i, byRow) {
		return false
	}
	s.files = append(s.files, i.name)
	return true
}

// dirShows reports whether the directory of the same name is shown instead of
// the file i.
func (s *dirStream) dirShows(ctx context.Context, i item, byRow bool) bool {
	key, order := s.key+i.name+"/", i.name+"/"
	at, found := place(s.rows, order)
	switch {
	case found && !s.rows[at].implied:
		return s.rows[at].put // as its turn will have it
	case found || s.rowsMore && order > s.rowsTo:
		if row, err := s.o.q.Row(key); err == nil && row != nil {
			return row.Kind == journal.Put
		}
	}
	return !byRow && i.twin && !s.o.isGhost(ctx, s.asked, key)
}

// place is where the row of an order stands, or would.
func place(rows []intent, order string) (at int, found bool) {
	return slices.BinarySearchFunc(rows, order, func(i intent, o string) int { return strings.Compare(i.order(), o) })
}

// settled lays what rows have become since the listing was asked for over what
// it shows after the place from, up to where it is known (R9).
func (s *dirStream) settled(page []item, from string) []item {
	to := s.pageTo
	if to <= from {
		return page
	}
	all := map[string]item{}
	change := false
	put := func(i item, there bool) {
		o := i.order()
		if o <= from || o > to {
			return // of another page
		}
		if !change {
			change = true
			for _, p := range page {
				all[p.order()] = p
			}
		}
		if there {
			i.twin = all[o].twin
			all[o] = i
		} else {
			delete(all, o)
		}
	}
	living := map[string]bool{}
	s.asked.Under(s.key, func(key string, m writeback.Memo) {
		first, below, isDir := strings.Cut(key[len(s.key):], "/")
		there := !m.Ref.IsZero()
		switch {
		case isDir && below != "":
			living[first] = living[first] || there
		case isDir:
			put(item{name: first, dir: true}, there)
		default:
			mode := object.TypeFile
			if m.Attrs != nil {
				mode = typeOf(m.Attrs)
			}
			put(item{name: first, mode: mode}, there)
		}
	})
	for first, yes := range living {
		if yes {
			put(item{name: first, dir: true}, true)
		}
	}
	if change {
		page = page[:0:0]
		for _, i := range all {
			if _, dir := all[i.name+"/"]; !i.dir {
				i.twin = dir
			}
			page = append(page, i)
		}
		sort.Slice(page, func(i, k int) bool { return page[i].order() < page[k].order() })
	}
	s.types(page)
	return page
}

// types looks up what small objects are, as far as that is known here; what is
// not stays open (DT_UNKNOWN).
func (s *dirStream) types(page []item) {
	wanted := map[string]*item{} // by name
	var first, last string
	for n := range page {
		if i := &page[n]; !i.dir && (i.mode == 0 || s.looked) {
			wanted[i.name] = i
			first, last = min(cmp.Or(first, i.name), i.name), max(last, i.name)
		}
	}
	if len(wanted) == 0 {
		return
	}
	var g *glance
	if s.looked && s.shown != nil {
		g = s.o.dated(s.key, page, s.shown.files)
	} else {
		g = s.o.glance(s.key, first, last)
	}
	if g == nil {
		return
	}
	for name, i := range wanted {
		if a := g.attrs[name]; a != nil && i.mode == 0 {
			i.mode = typeOf(a)
		}
	}
	s.hand = g
}

// atHand is what is at hand of the names that come now; they are looked up.
func (s *dirStream) atHand() *glance {
	s.looked = true
	return s.o.now(s.hand)
}

// empty reports whether the directory key holds no name, not even one that is
// not shown.
func (o *overlay) empty(ctx context.Context, key string) (bool, error) {
	s, err := o.stream(ctx, key, o.fs.freshIn(key), "")
	if err != nil {
		return false, err
	}
	defer s.close()
	_, some, err := s.next(ctx)
	return !some && !s.hidden, err
}

// below lists every object beneath the directory key, deep, as OSS has it now.
// The caller lays over what has settled since asked. It waits as long as pages
// come.
func (o *overlay) below(ctx context.Context, key string) (found map[string]beneath, asked *writeback.Moment, err error) {
	asked = o.q.Moment()
	found = map[string]beneath{}
	query := object.ListQuery{Prefix: key}
	for {
		page, err := o.page(ctx, query)
		if err != nil {
			asked.Done()
			return nil, nil, err
		}
		for _, e := range page.Entries {
			found[e.Key] = beneath{ref: e.Ref(), kind: e.Type, class: e.Class}
		}
		if page.Next == "" {
			break
		}
		query.Token = page.Next
	}
	if err := o.ready(ctx, key, found); err != nil {
		asked.Done()
		return nil, nil, err
	}
	return found, asked, nil
}

// page asks for one page, and waits for it as long as a call may wait.
func (o *overlay) page(ctx context.Context, query object.ListQuery) (object.Page, error) {
	ctx, cancel := o.fs.patient(ctx)
	defer cancel()
	return ask(ctx, func(ctx context.Context) (object.Page, error) { return o.fs.remote.List(ctx, query) })
}
