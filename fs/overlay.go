package fs

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
	"github.com/ossmount/ossmount/writeback"
)

// entry is what a name holds, as applications see it.
type entry struct {
	key  string // with a "/" at the end for a directory
	dir  bool
	attr object.Attr
	size int64

	row     *writeback.Row // the intent that says so, or nil
	ref     object.Ref     // the version on OSS, if there is no row
	headers object.Headers
	meta    object.Meta // foreign user metadata
	known   bool        // OSS itself said what it holds; false: an old listing did
}

// clean returns a Put that stands for what e holds without a row: a hole over
// its version.
func (e *entry) clean() *writeback.Row {
	if e.row != nil || e.ref.IsZero() {
		return nil
	}
	return &writeback.Row{Key: e.key, Base: e.ref, Size: e.size, Attr: e.attr, Headers: e.headers, Meta: e.meta,
		Expected: e.ref, Known: true}
}

const (
	maxCached = 10_000  // names of one directory that are kept
	allCached = 200_000 // names of all directories that are kept
)

// listing is a directory as OSS listed it, whole.
type listing struct {
	moment *writeback.Moment
	at     time.Time
	stale  bool // asked for again without success
	files  map[string]object.Entry
	dirs   map[string]struct{}
	marker *object.Entry // the directory's own object
}

// overlay answers what names hold: the journal's rows laid over what OSS said.
type overlay struct {
	fs *FS
	q  *writeback.Queue

	flight singleflight.Group

	mu       sync.Mutex
	listings map[string]*listing  // by the directory's key
	big      map[string]time.Time // directories too big to keep, and until when that is believed
	names    int                  // in listings
	dirs     map[string]*dirInfo  // by the directory's key
}

// dirInfo is what a HEAD of a directory's own object said.
type dirInfo struct {
	moment *writeback.Moment
	at     time.Time
	info   *object.Info // nil: there is none
}

func newOverlay(f *FS) *overlay {
	return &overlay{fs: f, q: f.q, listings: map[string]*listing{}, big: map[string]time.Time{}, dirs: map[string]*dirInfo{}}
}

func (o *overlay) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for k := range o.listings {
		o.dropLocked(k)
	}
	for k, d := range o.dirs {
		d.moment.Done()
		delete(o.dirs, k)
	}
}

func (o *overlay) dropLocked(key string) {
	if l := o.listings[key]; l != nil {
		o.names -= len(l.files) + len(l.dirs) + 1
		l.moment.Done()
		delete(o.listings, key)
	}
}

// forget drops what is known of the directories at and beneath key.
func (o *overlay) forget(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for k := range o.listings {
		if strings.HasPrefix(k, key) {
			o.dropLocked(k)
		}
	}
	for k, d := range o.dirs {
		if strings.HasPrefix(k, key) {
			d.moment.Done()
			delete(o.dirs, k)
		}
	}
	for k := range o.big {
		if strings.HasPrefix(k, key) {
			delete(o.big, k)
		}
	}
}

// born notes that the directory key has just been made by us where OSS held
// nothing, or, with stale, where nothing was known of: its listing is empty.
func (o *overlay) born(key string, stale bool) {
	o.keep(key, &listing{moment: o.q.Moment(), at: time.Now(), stale: stale, files: map[string]object.Entry{}, dirs: map[string]struct{}{}})
}

func (o *overlay) keep(key string, l *listing) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dropLocked(key)
	for k := range o.listings {
		if o.names < allCached {
			break
		}
		o.dropLocked(k)
	}
	o.listings[key] = l
	o.names += len(l.files) + len(l.dirs) + 1
}

func (o *overlay) cached(key string) (l *listing, fresh, big bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l = o.listings[key]
	if l != nil && time.Since(l.at) < o.fs.o.MetaTTL {
		return l, true, false
	}
	until, big := o.big[key]
	return l, false, big && time.Now().Before(until)
}

// errBig says that a directory is not kept as a whole.
var errBig = errors.New("the directory is too big to be kept")

// listing returns the directory key as OSS lists it: from memory while that is
// fresh, and while OSS does not answer. errBig: it is too big. The caller ends
// the moment when it is done with the listing.
func (o *overlay) listing(ctx context.Context, key string) (*listing, *writeback.Moment, error) {
	for {
		l, err := o.newest(ctx, key)
		if err != nil {
			return nil, nil, err
		}
		if asked := o.use(key, l); asked != nil {
			return l, asked, nil
		}
	}
}

// use holds on to the moment of a listing; nil: it is not kept any more.
func (o *overlay) use(key string, l *listing) *writeback.Moment {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.listings[key] != l {
		return nil
	}
	return l.moment.Again()
}

func (o *overlay) newest(ctx context.Context, key string) (*listing, error) {
	l, fresh, big := o.cached(key)
	if fresh {
		return l, nil
	}
	if big {
		return nil, errBig
	}
	got, err, _ := o.flight.Do("list "+key, func() (any, error) {
		if l != nil { // what is known will do if OSS does not answer
			return o.fetch(ctx, key)
		}
		return askFor(ctx, o.patience(), func(ctx context.Context) (*listing, error) { return o.fetch(ctx, key) })
	})
	switch {
	case err == nil:
		return got.(*listing), nil
	case errors.Is(err, errBig) || object.KindOf(err) != object.Again || o.fs.work.Err() != nil:
		return nil, err
	case l != nil:
		return o.stillGood(l), nil
	}
	return o.remembered(key, err)
}

// patience is how long a question is repeated to which there is an answer of
// old: not at all while the engine knows that OSS is away.
func (o *overlay) patience() time.Duration {
	if o.q.Away() {
		return time.Nanosecond
	}
	return o.fs.o.Stall / 10
}

// remembered makes a listing of what the journal remembers of a directory that
// OSS does not answer about and that was not listed since the mount: what we
// have uploaded or looked at.
func (o *overlay) remembered(key string, why error) (*listing, error) {
	l := &listing{moment: o.q.Moment(), at: time.Now(), stale: true, files: map[string]object.Entry{}, dirs: map[string]struct{}{}}
	err := o.q.View(func(tx *journal.Tx) error {
		own, err := tx.Attrs(key)
		if err != nil {
			return err
		}
		if own != nil {
			l.marker = &object.Entry{Key: key, ETag: own.Ref.ETag, LastModified: own.LastModified}
		}
		for k, a := range tx.AttrsIn(key) {
			name := strings.TrimSuffix(k[len(key):], "/")
			switch {
			case !nameable(name):
			case a == nil:
				l.dirs[name] = struct{}{}
			default:
				l.files[name] = object.Entry{Key: k, ETag: a.Ref.ETag, Size: a.Ref.Size, LastModified: a.LastModified}
			}
		}
		return nil
	})
	if err != nil {
		l.moment.Done()
		return nil, err
	}
	o.fs.o.Log.Warn("OSS does not answer: a directory is shown as it is remembered here", "key", key, "names", len(l.files)+len(l.dirs), "err", why)
	o.keep(key, l)
	return l, nil
}

// stillGood lets an old listing serve for a while longer.
func (o *overlay) stillGood(l *listing) *listing {
	o.mu.Lock()
	defer o.mu.Unlock()
	l.at = time.Now()
	l.stale = true
	return l
}

// fetch asks for the directory key and keeps the answer if it is small enough.
func (o *overlay) fetch(ctx context.Context, key string) (*listing, error) {
	l := &listing{moment: o.q.Moment(), at: time.Now(), files: map[string]object.Entry{}, dirs: map[string]struct{}{}}
	query := object.ListQuery{Prefix: key, Delimiter: "/"}
	for {
		page, err := o.fs.remote.List(ctx, query)
		if err != nil {
			l.moment.Done()
			return nil, err
		}
		l.add(key, page)
		if page.Next == "" {
			o.keep(key, l)
			return l, nil
		}
		if len(l.files)+len(l.dirs) > maxCached {
			l.moment.Done()
			o.isBig(key)
			return nil, errBig
		}
		query.Token = page.Next
	}
}

func (o *overlay) isBig(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.big[key] = time.Now().Add(10 * o.fs.o.MetaTTL)
}

func (l *listing) add(key string, page object.Page) {
	for _, e := range page.Entries {
		name := strings.TrimPrefix(e.Key, key)
		if name == "" {
			l.marker = &e
			continue
		}
		if nameable(name) {
			l.files[name] = e
		}
	}
	for _, p := range page.Prefixes {
		if name := strings.TrimSuffix(strings.TrimPrefix(p, key), "/"); nameable(name) {
			l.dirs[name] = struct{}{}
		}
	}
}

// nameable reports that a path can have the name.
func nameable(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 255 && !strings.ContainsAny(name, "/\x00")
}

// lookup resolves a name in the directory dir (a key ending in "/", or the
// prefix of the mount).
func (o *overlay) lookup(ctx context.Context, dir, name string) (*entry, error) {
	key := dir + name
	// Rows are read before OSS is asked (R9).
	var file, sub *writeback.Row
	beneath, living := false, false
	err := o.q.View(func(tx *journal.Tx) (err error) {
		if file, err = tx.Row(key); err != nil {
			return err
		}
		if sub, err = tx.Row(key + "/"); err != nil {
			return err
		}
		for r, err := range tx.Rows(key+"/", "") {
			if err != nil {
				return err
			}
			beneath = true
			if living = r.Kind == journal.Put; living {
				break
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case sub != nil && sub.Kind == journal.Put:
		return o.ofRow(ctx, sub)
	case file != nil && file.Kind == journal.Put:
		return o.ofRow(ctx, file)
	}
	found, known, moment, err := o.find(ctx, dir, name)
	if err != nil {
		return nil, err
	}
	defer moment.Done()
	if (found.dir || living) && sub == nil {
		if beneath && !living && !o.alive(ctx, key+"/") {
			return nil, fail(syscall.ENOENT)
		}
		return o.ofDir(ctx, key+"/", known)
	}
	if found.entry == nil || file != nil {
		return nil, fail(syscall.ENOENT)
	}
	return o.ofObject(ctx, *found.entry, known)
}

// alive reports whether a directory that OSS lists still has anything in it
// when the rows are laid over: its last names may have been removed, and OSS
// not have been told yet.
func (o *overlay) alive(ctx context.Context, key string) bool {
	empty, err := o.empty(ctx, key)
	if err != nil || !empty {
		return true
	}
	info, err := o.marker(ctx, key)
	return err != nil || info != nil
}

// remoteName is what OSS holds under a name: an object, a directory, or both.
type remoteName struct {
	entry *object.Entry
	dir   bool
}

// find asks what OSS holds under a name, with what we have settled since laid
// over. known is false when OSS does not answer and an old listing does.
func (o *overlay) find(ctx context.Context, dir, name string) (found remoteName, known bool, asked *writeback.Moment, err error) {
	l, asked, err := o.listing(ctx, dir)
	switch {
	case err == nil:
		if e, ok := l.files[name]; ok {
			found.entry = &e
		}
		_, found.dir = l.dirs[name]
		known = !l.stale
	case errors.Is(err, errBig):
		known = true
		if found, asked, err = o.findInBig(ctx, dir+name); err != nil {
			return found, false, nil, err
		}
	default:
		return found, false, nil, err
	}
	if m, ok := asked.Since(dir + name); ok {
		found.entry = nil
		if !m.Ref.IsZero() {
			found.entry = &object.Entry{Key: dir + name, ETag: m.Ref.ETag, Size: m.Ref.Size}
		}
	}
	if m, ok := asked.Since(dir + name + "/"); ok {
		found.dir = !m.Ref.IsZero()
	}
	found.dir = found.dir || settledBeneath(asked, dir+name+"/")
	return found, known, asked, nil
}

func settledBeneath(asked *writeback.Moment, prefix string) (yes bool) {
	asked.Under(prefix, func(_ string, m writeback.Memo) { yes = yes || !m.Ref.IsZero() })
	return yes
}

// findInBig asks for one name only: its object, and anything beneath it.
func (o *overlay) findInBig(ctx context.Context, key string) (found remoteName, asked *writeback.Moment, err error) {
	asked = o.q.Moment()
	page, err := ask(ctx, func(ctx context.Context) (object.Page, error) {
		return o.fs.remote.List(ctx, object.ListQuery{Prefix: key + "/", Max: 1})
	})
	if err != nil {
		asked.Done()
		return found, nil, err
	}
	found.dir = len(page.Entries) > 0
	info, err := ask(ctx, func(ctx context.Context) (object.Info, error) { return o.fs.remote.Head(ctx, key) })
	switch {
	case err == nil:
		o.learn(info)
		found.entry = &object.Entry{Key: key, ETag: info.ETag, Size: info.Size, LastModified: info.LastModified}
	case !object.IsAbsent(err):
		asked.Done()
		return found, nil, err
	}
	return found, asked, nil
}

// ofRow makes the entry of a Put.
func (o *overlay) ofRow(ctx context.Context, r *writeback.Row) (*entry, error) {
	e := &entry{key: r.Key, dir: strings.HasSuffix(r.Key, "/"), attr: r.Attr, size: r.Size, row: r,
		headers: r.Headers, meta: r.Meta, known: r.Known}
	if r.Attr.Mode == 0 { // what its base carries
		e.attr = object.ReadAttr(r.Meta, o.defaults(e.dir, time.Time{}))
		e.meta = r.Meta.Foreign()
	}
	if r.Unlearnt && r.Attr.Mode == 0 { // moved with its directory, and nothing was asked about it
		a, err := o.attrs(ctx, object.Entry{Key: r.Base.Key, ETag: r.Base.ETag, Size: r.Base.Size})
		if err != nil {
			return nil, err
		}
		e.attr = object.ReadAttr(a.Meta, o.defaults(e.dir, a.LastModified))
		e.headers, e.meta = a.Headers, a.Meta.Foreign()
	}
	return e, nil
}

// ofObject makes the entry of an object without a row.
func (o *overlay) ofObject(ctx context.Context, oe object.Entry, known bool) (*entry, error) {
	a, err := o.attrs(ctx, oe)
	if err != nil {
		return nil, err
	}
	mtime := oe.LastModified
	if mtime.IsZero() {
		mtime = a.LastModified
	}
	return &entry{key: oe.Key, attr: object.ReadAttr(a.Meta, o.defaults(false, mtime)), size: a.Ref.Size,
		ref: a.Ref, headers: a.Headers, meta: a.Meta.Foreign(), known: known}, nil
}

func (o *overlay) defaults(dir bool, mtime time.Time) object.Attr {
	a := object.Attr{Mode: object.TypeFile | uint32(o.fs.o.FileMode.Perm()), UID: o.fs.o.UID, GID: o.fs.o.GID}
	if dir {
		a.Mode = object.TypeDir | uint32(o.fs.o.DirMode.Perm())
	}
	if mtime.IsZero() {
		mtime = o.fs.born
	}
	a.Mtime = mtime.UnixNano()
	return a
}

// attrs returns what HEAD says of the version that a listing shows: from the
// journal's memory if it knows that version, else from OSS.
func (o *overlay) attrs(ctx context.Context, e object.Entry) (*journal.Attrs, error) {
	var a *journal.Attrs
	err := o.q.View(func(tx *journal.Tx) (err error) { a, err = tx.Attrs(e.Key); return err })
	if err != nil {
		return nil, err
	}
	if a != nil && a.Ref.Same(e.Ref()) {
		if a.LastModified.IsZero() && !e.LastModified.IsZero() {
			a.LastModified = e.LastModified // our own upload, seen for the first time (H23)
			return a, o.q.Learn(a)
		}
		if e.LastModified.IsZero() || a.LastModified.Equal(e.LastModified) {
			return a, nil
		}
	}
	info, err, _ := o.flight.Do("head "+e.Key, func() (any, error) {
		return ask(ctx, func(ctx context.Context) (object.Info, error) { return o.fs.remote.Head(ctx, e.Key) })
	})
	if err != nil {
		return nil, err
	}
	return o.learn(info.(object.Info)), nil
}

func (o *overlay) learn(info object.Info) *journal.Attrs {
	a := &journal.Attrs{Key: info.Key, Ref: info.Ref, LastModified: info.LastModified, Meta: info.Meta,
		Headers: info.Headers, Type: info.Type, Class: info.Class}
	if err := o.q.Learn(a); err != nil {
		o.fs.o.Log.Debug("attributes could not be kept", "key", info.Key, "err", err)
	}
	return a
}

// ofDir makes the entry of a directory that OSS lists.
func (o *overlay) ofDir(ctx context.Context, key string, known bool) (*entry, error) {
	e := &entry{key: key, dir: true, known: known, attr: o.defaults(true, time.Time{})}
	info, err := o.marker(ctx, key)
	if err != nil {
		return nil, err
	}
	if info != nil {
		e.ref, e.headers, e.meta = info.Ref, info.Headers, info.Meta.Foreign()
		e.attr = object.ReadAttr(info.Meta, o.defaults(true, info.LastModified))
		e.attr.Mode = e.attr.Mode&^object.TypeMask | object.TypeDir
	}
	return e, nil
}

// marker returns what OSS says of a directory's own object; nil: there is
// none.
func (o *overlay) marker(ctx context.Context, key string) (*object.Info, error) {
	d, info, fresh := o.knownMarker(key)
	if fresh {
		return info, nil
	}
	moment := o.q.Moment()
	head, err := askFor(ctx, o.patience(), func(ctx context.Context) (object.Info, error) { return o.fs.remote.Head(ctx, key) })
	switch {
	case object.IsAbsent(err):
		return o.keepDir(key, &dirInfo{moment: moment, at: time.Now()}), nil
	case err != nil:
		moment.Done()
		if object.KindOf(err) == object.Again {
			return o.rememberedMarker(key, d)
		}
		return nil, err
	}
	return o.keepDir(key, &dirInfo{moment: moment, at: time.Now(), info: &head}), nil
}

// rememberedMarker is marker while OSS does not answer.
func (o *overlay) rememberedMarker(key string, d *dirInfo) (*object.Info, error) {
	if d == nil {
		d = &dirInfo{moment: o.q.Moment()}
		err := o.q.View(func(tx *journal.Tx) error {
			a, err := tx.Attrs(key)
			if err == nil && a != nil {
				d.info = &object.Info{Ref: a.Ref, Meta: a.Meta, Headers: a.Headers, LastModified: a.LastModified}
			}
			return err
		})
		if err != nil {
			d.moment.Done()
			return nil, err
		}
	} else {
		d = &dirInfo{moment: o.q.Moment(), info: d.info}
	}
	d.at = time.Now()
	return o.keepDir(key, d), nil
}

// knownMarker returns what is remembered of a directory's own object, and
// whether that is new enough to be believed.
func (o *overlay) knownMarker(key string) (d *dirInfo, info *object.Info, fresh bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if l := o.listings[key]; l != nil && l.marker == nil && time.Since(l.at) < o.fs.o.MetaTTL {
		if _, settled := l.moment.Since(key); !settled {
			return nil, nil, true // the directory's own listing shows none
		}
	}
	d = o.dirs[key]
	if d == nil {
		return nil, nil, false
	}
	m, settled := d.moment.Since(key)
	switch {
	case !settled:
		return d, d.info, time.Since(d.at) < o.fs.o.MetaTTL
	case m.Ref.IsZero():
		return d, nil, true
	case m.Attrs == nil:
		return d, nil, false
	}
	return d, &object.Info{Ref: m.Ref, Meta: m.Attrs.Meta, Headers: m.Attrs.Headers, LastModified: d.at}, true
}

func (o *overlay) keepDir(key string, d *dirInfo) *object.Info {
	o.mu.Lock()
	defer o.mu.Unlock()
	if old := o.dirs[key]; old != nil {
		old.moment.Done()
	}
	if len(o.dirs) > allCached/10 {
		for k, old := range o.dirs {
			old.moment.Done()
			delete(o.dirs, k)
		}
	}
	o.dirs[key] = d
	return d.info
}

// ofRoot makes the entry of the mount's own directory, where that is a prefix.
func (o *overlay) ofRoot(ctx context.Context) (*entry, error) {
	key := o.fs.o.Prefix
	row, err := o.q.Row(key)
	if err != nil {
		return nil, err
	}
	if row != nil && row.Kind == journal.Put {
		return o.ofRow(ctx, row)
	}
	return o.ofDir(ctx, key, true)
}
