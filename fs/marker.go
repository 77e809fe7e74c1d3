package fs

import (
	"context"
	"errors"
	"time"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
	"github.com/ossmount/ossmount/writeback"
)

// dirInfo is what a HEAD of a directory's own object said.
type dirInfo struct {
	moment *writeback.Moment
	at     time.Time
	info   *object.Info // nil: there is none
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
	return e, o.addTimes(e)
}

// addTimes adds to the entry of a directory what only the journal remembers.
func (o *overlay) addTimes(e *entry) error {
	return o.q.View(func(tx *journal.Tx) (err error) {
		if e.names, err = tx.Time(e.key); err != nil || e.row != nil {
			return err
		}
		a, err := tx.Attrs(e.key)
		if err == nil && a != nil && a.Ref.Same(e.ref) {
			e.attr.Ctime, e.attr.Atime = a.Ctime, a.Atime
		}
		return err
	})
}

// marker returns what OSS says of a directory's own object; nil: there is
// none.
func (o *overlay) marker(ctx context.Context, key string) (*object.Info, error) {
	d, info, fresh := o.knownMarker(key)
	if fresh {
		return info, nil
	}
	moment := o.q.Moment()
	head, err := askFor(ctx, o.patience(), func(ctx context.Context) (object.Info, error) { return o.peek(ctx, key) })
	switch {
	case object.IsAbsent(err):
		return o.keepDir(key, &dirInfo{moment: moment, at: time.Now()}), nil
	case err != nil:
		moment.Done()
		if errors.Is(err, context.Canceled) {
			return nil, err // an interrupt says nothing of OSS
		}
		if object.KindOf(err) == object.Again {
			return o.rememberedMarker(key, d)
		}
		return nil, err
	}
	return o.keepDir(key, &dirInfo{moment: moment, at: time.Now(), info: &head}), nil
}

// peeked is how many names of a directory are asked for when only its own
// object is: most directories are whole then, and need not be listed once more.
const peeked = 250

// peek looks at the beginning of a listing of the directory key, where its own
// object stands, and asks for that only if the version is not known yet. A
// listing that is whole is kept.
func (o *overlay) peek(ctx context.Context, key string) (object.Info, error) {
	l := o.walked(ctx, key)
	if l == nil {
		var err error
		if l, err = o.beginning(ctx, key); err != nil {
			return object.Info{}, err
		}
	}
	if l.marker == nil {
		return object.Info{}, &object.Error{Op: "ListObjectsV2", Key: key, Kind: object.Absent, Fate: object.Answered}
	}
	a, err := o.attrsOnce(ctx, *l.marker)
	if err != nil {
		return object.Info{}, err
	}
	return object.Info{Ref: a.Ref, Meta: a.Meta, Headers: a.Headers, LastModified: l.marker.LastModified}, nil
}

func (o *overlay) beginning(ctx context.Context, key string) (*listing, error) {
	l := newListing(o.q.Moment())
	page, err := o.fs.remote.List(ctx, object.ListQuery{Prefix: key, Delimiter: "/", Max: peeked})
	if err != nil {
		l.moment.Done()
		return nil, err
	}
	o.add(l, key, page)
	if page.Next == "" {
		o.keep(key, l)
	} else {
		l.moment.Done()
	}
	return l, nil
}

// rememberedMarker is marker while OSS does not answer.
func (o *overlay) rememberedMarker(key string, d *dirInfo) (*object.Info, error) {
	if again := o.dirAgain(key, d); again != nil {
		d = again
	} else {
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
	}
	d.at = time.Now()
	return o.keepDir(key, d), nil
}

// dirAgain is d as of its moment, if it is what is remembered of the directory key.
func (o *overlay) dirAgain(key string, d *dirInfo) *dirInfo {
	o.mu.Lock()
	defer o.mu.Unlock()
	if d == nil || o.dirs[key] != d {
		return nil
	}
	return &dirInfo{moment: d.moment.Again(), info: d.info}
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
func (o *overlay) ofRoot(ctx context.Context) (e *entry, err error) {
	err = again(func() error { e, err = o.tryRoot(ctx); return err })
	return e, err
}

func (o *overlay) tryRoot(ctx context.Context) (*entry, error) {
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
