package fs

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/semaphore"
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
	asOf    uint64      // the state of the rows that it was looked up in
	class   string      // storage class of the version on OSS, as a listing shows it
	link    string      // text of an OSS symlink
	local   bool        // its bytes are those of an open file, and here
	ours    bool        // this mount has made the version on OSS
	names   int64       // when the names of a directory last changed, as far as remembered
}

// clean returns a Put that stands for what e holds without a row: a hole over
// its version.
func (e *entry) clean() *writeback.Row {
	if e.row != nil || e.ref.IsZero() {
		return nil
	}
	return e.withoutCopy(&writeback.Row{Key: e.key, Base: e.ref, Size: e.size, Attr: e.attr, Headers: e.headers, Meta: e.meta,
		Expected: e.ref, Known: true, AsOf: e.asOf})
}

// overlay answers what names hold: the journal's rows laid over what OSS said.
type overlay struct {
	fs *FS
	q  *writeback.Queue

	flight singleflight.Group
	asking *semaphore.Weighted // questions asked ahead
	walk   walk

	mu       sync.Mutex
	listings map[string]*listing  // by the directory's key
	big      map[string]time.Time // directories too big to keep, and until when that is believed
	names    int                  // in listings
	looks    int                  // how often a listing was looked for
	dirs     map[string]*dirInfo  // by the directory's key
	counts   map[string]linkCount // likewise
}

func newOverlay(f *FS) *overlay {
	return &overlay{fs: f, q: f.q, asking: semaphore.NewWeighted(aheadAsk), walk: newWalk(), listings: map[string]*listing{}, big: map[string]time.Time{}, dirs: map[string]*dirInfo{}, counts: map[string]linkCount{}}
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

// lookup resolves a name in the directory dir (a key ending in "/", or the
// prefix of the mount).
func (o *overlay) lookup(ctx context.Context, dir, name string) (*entry, error) {
	return o.lookupIn(ctx, dir, name, nil)
}

// lookupIn is lookup by a listing that is being given out; nil: by whatever
// listing is fresh.
func (o *overlay) lookupIn(ctx context.Context, dir, name string, s *dirStream) (e *entry, err error) {
	err = again(func() error { e, err = o.tryLookup(ctx, dir, name, s); return err })
	return e, err
}

// again repeats f, which reads a row and asks OSS about what that names, if the row
// has been carried in between: what it named may be gone.
func again(f func() error) (err error) {
	for range 10 {
		if err = f(); !errors.Is(err, errSettled) {
			return err
		}
	}
	return err
}

func (o *overlay) tryLookup(ctx context.Context, dir, name string, s *dirStream) (e *entry, err error) {
	asOf := uint64(0)
	defer func() {
		if e != nil {
			e.asOf = asOf
		}
	}()
	key := dir + name
	if o.reserved(dir, name) {
		return nil, fail(syscall.ENOENT)
	}
	var g *glance
	if s != nil {
		g = s.atHand()
	} else {
		g = o.glanced(dir)
	}
	// Rows are read before OSS is asked (R9).
	var file, sub *writeback.Row
	if g.hasNoRows() {
		asOf = g.asOf
	} else {
		err = o.q.View(func(tx *journal.Tx) (err error) {
			asOf = tx.At()
			if file, err = tx.Row(key); err != nil {
				return err
			}
			sub, err = tx.Row(key + "/")
			return err
		})
	}
	switch {
	case err != nil:
		return nil, err
	case sub != nil && sub.Kind == journal.Put:
		e, err := o.ofRow(ctx, sub)
		if err == nil {
			err = o.addTimes(e)
		}
		return e, err
	case file != nil && file.Kind == journal.Put:
		return o.ofRow(ctx, file)
	}
	found, known, moment, err := o.find(ctx, dir, name, s)
	if err != nil {
		return nil, err
	}
	defer moment.Done()
	o.lookAhead(dir, name, s)
	if found.dir && sub == nil {
		e, err := o.ofDir(ctx, key+"/", known)
		if err != nil || !e.ref.IsZero() || !o.isGhost(ctx, moment, key+"/") {
			return e, err
		}
	}
	switch {
	case found.entry != nil && file == nil:
		return o.ofObject(ctx, *found.entry, known, o.now(g).of(name))
	case o.living(key + "/"):
		// Only our own pending files are in it.
		if sub != nil { // the object that it had is going
			e := &entry{key: key + "/", dir: true, known: known, attr: o.defaults(true, time.Time{})}
			return e, o.addTimes(e)
		}
		return o.ofDir(ctx, key+"/", known)
	}
	return nil, fail(syscall.ENOENT)
}

// living reports whether a Put lies beneath the directory key.
func (o *overlay) living(key string) (yes bool) {
	_ = o.q.View(func(tx *journal.Tx) error {
		for r, err := range tx.Rows(key, "") {
			if yes = err == nil && r.Kind == journal.Put; yes || err != nil {
				return err
			}
		}
		return nil
	})
	return yes
}

// isGhost reports a directory without an object of its own that a listing,
// asked for at a moment, shows only because OSS had not been told yet, or was
// being told, that everything in it is gone.
func (o *overlay) isGhost(ctx context.Context, asked *writeback.Moment, key string) bool {
	if !o.touched(asked, key) {
		return false
	}
	// No matter of interrupts: a listing would leave a file out for the sake of the
	// directory of its name, and then the directory.
	ctx, cancel := o.fs.patient(ctx)
	defer cancel()
	return !o.alive(ctx, key)
}

// touched reports that something beneath a directory goes, or that it or its own
// object went since a listing was asked for.
func (o *overlay) touched(asked *writeback.Moment, key string) (yes bool) {
	_ = o.q.View(func(tx *journal.Tx) error {
		for r, err := range tx.Rows(key, "") {
			yes = err == nil && r.Kind == journal.Delete
			break
		}
		return nil
	})
	if m, ok := asked.Since(key); ok && m.Ref.IsZero() {
		return true
	}
	asked.Under(key, func(_ string, m writeback.Memo) { yes = yes || m.Ref.IsZero() })
	return yes
}

// remoteName is what OSS holds under a name: an object, a directory, or both.
type remoteName struct {
	entry *object.Entry
	dir   bool
}

// find asks what OSS holds under a name, with what we have settled since laid
// over. known is false when OSS does not answer and an old listing does.
func (o *overlay) find(ctx context.Context, dir, name string, s *dirStream) (found remoteName, known bool, asked *writeback.Moment, err error) {
	var l *listing
	if s != nil && s.shown != nil {
		l, asked = s.shown, s.asked.Again()
	} else {
		l, asked, err = o.listing(ctx, dir)
	}
	switch {
	case err == nil:
		if e, ok := l.files[name]; ok {
			found.entry = &e
		}
		_, found.dir = l.dirs[name]
		known = !o.isStale(l)
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
	if l != nil && l.partial && found.entry == nil && !found.dir && !o.living(dir+name+"/") {
		asked.Done()
		return found, false, nil, errAway
	}
	return found, known, asked, nil
}

func settledBeneath(asked *writeback.Moment, prefix string) (yes bool) {
	asked.Under(prefix, func(_ string, m writeback.Memo) { yes = yes || !m.Ref.IsZero() })
	return yes
}

// findInBig asks for one name only: its object, and anything beneath it.
func (o *overlay) findInBig(ctx context.Context, key string) (found remoteName, asked *writeback.Moment, err error) {
	asked = o.q.Moment()
	asOf := o.q.Newest()
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
		o.learn(info, asOf)
		found.entry = &object.Entry{Key: key, ETag: info.ETag, Size: info.Size, LastModified: info.LastModified,
			Type: info.Type, Class: info.Class}
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
		if (object.IsAbsent(err) || err == nil && !a.Ref.Same(r.Base)) && o.isCarried(r) {
			return nil, errSettled
		}
		if err != nil {
			return nil, err
		}
		e.attr = object.ReadAttr(a.Meta, o.defaults(e.dir, a.LastModified))
		e.headers, e.meta = a.Headers, a.Meta.Foreign()
	}
	return e, nil
}

// ofObject makes the entry of an object without a row.
func (o *overlay) ofObject(ctx context.Context, oe object.Entry, known bool, a *journal.Attrs) (*entry, error) {
	if a == nil || a.LastModified.IsZero() || !tells(a, oe) {
		var err error
		if a, err = o.attrs(ctx, oe); err != nil {
			return nil, err
		}
	}
	mtime := oe.LastModified
	if mtime.IsZero() {
		mtime = a.LastModified
	}
	e := &entry{key: oe.Key, attr: object.ReadAttr(a.Meta, o.defaults(false, mtime)), size: a.Ref.Size,
		ref: a.Ref, headers: a.Headers, meta: a.Meta.Foreign(), known: known, ours: o.q.Made(a.Meta)}
	e.attr.Ctime, e.attr.Atime = a.Ctime, a.Atime
	o.setKind(e, oe, a)
	return e, nil
}

// isCarried reports that the row r, which nothing was known about but its base, is not
// there as it was: what it names may be gone.
func (o *overlay) isCarried(r *writeback.Row) bool {
	cur, err := o.q.Row(r.Key)
	return err == nil && (cur == nil || cur.Seq != r.Seq || !cur.Base.Same(r.Base) || !cur.Unlearnt)
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
	return ask(ctx, func(ctx context.Context) (*journal.Attrs, error) { return o.attrsOnce(ctx, e) })
}

func (o *overlay) attrsOnce(ctx context.Context, e object.Entry) (*journal.Attrs, error) {
	var a *journal.Attrs
	err := o.q.View(func(tx *journal.Tx) (err error) { a, err = tx.Attrs(e.Key); return err })
	if err != nil {
		return nil, err
	}
	if a != nil && tells(a, e) {
		if a.LastModified.IsZero() && !e.LastModified.IsZero() {
			a.LastModified = e.LastModified // our own upload, seen for the first time
			if err := o.q.Dated([]object.Entry{e}); err != nil {
				o.fs.o.Log.Debug("when it was modified could not be kept", "key", e.Key, "err", err)
			}
		}
		return a, nil
	}
	asOf := o.q.Newest()
	// The question is the file system's own: others may wait for the answer too.
	answer := o.flight.DoChan("head "+e.Key, func() (any, error) {
		ctx, cancel := context.WithTimeout(o.fs.work, o.fs.o.Stall)
		defer cancel()
		info, err := o.head(ctx, e)
		if err != nil {
			return nil, err
		}
		return o.learn(info, asOf), nil
	})
	select {
	case r := <-answer:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*journal.Attrs), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// tells reports that a is of the version that a listing shows as e.
func tells(a *journal.Attrs, e object.Entry) bool {
	if !a.Ref.Same(e.Ref()) || e.Type == object.TypeSymlink && a.Link == "" {
		return false
	}
	if a.LastModified.IsZero() && !e.LastModified.IsZero() {
		return true
	}
	same := e.LastModified.IsZero() || a.LastModified.Equal(e.LastModified)
	return same && !(a.Racy && time.Since(a.LastModified) > 2*racyFor)
}

// racyFor is how young an object is of which another version may carry the same
// LastModified, which has one second, and the same bytes (H23).
const racyFor = 2 * time.Second

// learn keeps what was asked for in the state asOf of the journal: what a row has
// become since is newer.
func (o *overlay) learn(info object.Info, asOf uint64) *journal.Attrs {
	a := &journal.Attrs{Key: info.Key, Ref: info.Ref, LastModified: info.LastModified, Meta: info.Meta,
		Headers: info.Headers, Type: info.Type, Class: info.Class, Link: info.Link}
	a.Racy = !info.Date.IsZero() && info.Date.Sub(info.LastModified) < racyFor
	if err := o.q.Learn(a, asOf); err != nil {
		o.fs.o.Log.Debug("attributes could not be kept", "key", info.Key, "err", err)
	}
	return a
}
