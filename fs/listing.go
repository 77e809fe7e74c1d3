package fs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
	"github.com/ossmount/ossmount/writeback"
)

const (
	maxCached = 10_000  // names of one directory that are kept
	allCached = 200_000 // names of all directories that are kept
)

// listing is a directory as OSS listed it, whole.
type listing struct {
	moment *writeback.Moment
	at     time.Time
	stale  bool // asked for again without success
	// partial: OSS does not answer and never did since the mount; these are the
	// names that are remembered here, and there may be others.
	partial bool
	files   map[string]object.Entry
	dirs    map[string]struct{}
	marker  *object.Entry // the directory's own object

	once  sync.Once
	items []item // what it shows, in order; made when it is asked for

	ahead ahead
}

func newListing(asked *writeback.Moment) *listing {
	return &listing{moment: asked, at: time.Now(), files: map[string]object.Entry{}, dirs: map[string]struct{}{}}
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
// nothing, or, with stale, where nothing was known of: its listing is empty. Its row
// may have settled since: before is a moment from before that was committed.
func (o *overlay) born(key string, stale bool, before *writeback.Moment) {
	o.keep(key, &listing{moment: before.Again(), at: time.Now(), stale: stale, files: map[string]object.Entry{}, dirs: map[string]struct{}{}})
}

// manySettles is how many settles are remembered for older listings before
// those are given up, or brought up to date.
const manySettles = 10_000

func (o *overlay) keep(key string, l *listing) {
	many := o.q.Remembered() > manySettles
	o.mu.Lock()
	defer o.mu.Unlock()
	if many {
		o.renewLocked()
	}
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
	if o.looks++; o.looks%1000 == 0 && o.q.Remembered() > manySettles {
		o.renewLocked()
	}
	l = o.listings[key]
	if l != nil && time.Since(l.at) < o.fs.o.MetaTTL {
		return l, true, false
	}
	until, big := o.big[key]
	return l, false, big && time.Now().Before(until)
}

// renewLocked ends the moments of all listings that are older than the last
// settles.
func (o *overlay) renewLocked() {
	for key, l := range o.listings {
		if time.Since(l.at) < o.fs.o.MetaTTL {
			o.listings[key] = o.fold(key, l)
			l.moment.Done()
		} else {
			o.dropLocked(key)
		}
	}
	for k, d := range o.dirs {
		d.moment.Done()
		delete(o.dirs, k)
	}
}

// fold returns l with what has settled since it was asked for in it.
func (o *overlay) fold(key string, l *listing) *listing {
	next := newListing(o.q.Moment()) // before it is looked what has settled
	next.at, next.stale, next.partial, next.marker = l.at, l.stale, l.partial, l.marker
	maps.Copy(next.files, l.files)
	maps.Copy(next.dirs, l.dirs)
	if m, ok := l.moment.Since(key); ok {
		if next.marker = nil; !m.Ref.IsZero() {
			next.marker = &object.Entry{Key: key, ETag: m.Ref.ETag, Size: m.Ref.Size}
		}
	}
	living := map[string]struct{}{}
	l.moment.Under(key, func(k string, m writeback.Memo) {
		name, below, isDir := strings.Cut(k[len(key):], "/")
		switch {
		case o.reserved(key, name):
		case m.Ref.IsZero() && isDir && below == "":
			delete(next.dirs, name)
		case m.Ref.IsZero() && !isDir:
			delete(next.files, name)
		case !m.Ref.IsZero() && isDir:
			living[name] = struct{}{}
		case !m.Ref.IsZero():
			next.files[name] = object.Entry{Key: k, ETag: m.Ref.ETag, Size: m.Ref.Size}
		}
	})
	maps.Copy(next.dirs, living)
	o.names += len(next.files) + len(next.dirs) - len(l.files) - len(l.dirs)
	return next
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
	// The question is the file system's own, and others may wait for the answer
	// too: only the waiting ends when a process is interrupted.
	answer := o.flight.DoChan("list "+key, func() (any, error) {
		ctx, cancel := context.WithTimeout(o.fs.work, o.fs.o.Stall)
		defer cancel()
		if l != nil { // what is known will do if OSS does not answer
			return o.fetch(ctx, key)
		}
		return askFor(ctx, o.patience(), func(ctx context.Context) (*listing, error) { return o.fetch(ctx, key) })
	})
	var got any
	var err error
	select {
	case r := <-answer:
		got, err = r.Val, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	switch {
	case err == nil:
		return got.(*listing), nil
	case errors.Is(err, errBig) || !isAway(err) || o.fs.work.Err() != nil:
		return nil, err
	case l != nil:
		return o.stillGood(l), nil
	}
	return o.remembered(key, err)
}

// isAway reports that OSS cannot be used for now: it does not answer, or refuses
// everything until somebody has mended what the engine says.
func isAway(err error) bool {
	k := object.KindOf(err)
	return k == object.Again || k == object.Wait
}

// patience is how long a question is repeated to which there is an answer of
// old: not at all while the engine knows that OSS is away.
func (o *overlay) patience() time.Duration {
	if o.q.Away() {
		return time.Nanosecond
	}
	return o.fs.o.Stall / 10
}

// errAway says that a name may be there or not: OSS does not answer.
var errAway = fmt.Errorf("OSS does not answer, and the directory was not listed since the mount: %w", syscall.EIO)

// remembered makes a listing of what the journal remembers of a directory that
// OSS does not answer about and that was not listed since the mount: what we
// have uploaded or looked at. Its names can be used, but it ends with an error,
// and a name that it lacks is not taken for absent: silence is no absence. Only
// a directory that we have made ourselves, where OSS held nothing, is known
// without asking.
func (o *overlay) remembered(key string, why error) (*listing, error) {
	l := &listing{moment: o.q.Moment(), at: time.Now(), stale: true, partial: true, files: map[string]object.Entry{}, dirs: map[string]struct{}{}}
	err := o.q.View(func(tx *journal.Tx) error {
		row, err := tx.Row(key)
		if err != nil {
			return err
		}
		l.partial = !isOurs(row)
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
	o.fs.o.Log.Warn("OSS does not answer: a directory is known only as far as it is remembered here", "key", key,
		"names", len(l.files)+len(l.dirs), "whole", !l.partial, "err", why)
	o.keep(key, l)
	return l, nil
}

// isOurs reports that the row of a directory says that we have made it where OSS
// held nothing: its rows are all that is in it.
func isOurs(row *writeback.Row) bool {
	return row != nil && row.Kind == journal.Put && row.Known && row.Expected.IsZero()
}

// stillGood lets an old listing serve for a while longer.
func (o *overlay) stillGood(l *listing) *listing {
	o.mu.Lock()
	defer o.mu.Unlock()
	l.at = time.Now()
	l.stale = true
	return l
}

func (o *overlay) isStale(l *listing) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return l.stale
}

// fetch asks for the directory key and keeps the answer if it is small enough.
func (o *overlay) fetch(ctx context.Context, key string) (*listing, error) {
	if l := o.walked(ctx, key); l != nil {
		return l, nil
	}
	l := newListing(o.q.Moment())
	query := object.ListQuery{Prefix: key, Delimiter: "/"}
	for {
		page, err := o.fs.remote.List(ctx, query)
		if err != nil {
			l.moment.Done()
			return nil, err
		}
		o.add(l, key, page)
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

// isBig notes that a directory is too big to be kept. With listings that are
// good for ever that is believed for 20 hours.
func (o *overlay) isBig(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.big[key] = time.Now().Add(10 * min(o.fs.o.MetaTTL, 2*time.Hour))
}

func (o *overlay) add(l *listing, key string, page object.Page) {
	for _, e := range page.Entries {
		name := strings.TrimPrefix(e.Key, key)
		if name == "" {
			l.marker = &e
			continue
		}
		if o.told(key, name, e.Key) {
			l.files[name] = e
		}
	}
	for _, p := range page.Prefixes {
		if name := strings.TrimSuffix(strings.TrimPrefix(p, key), "/"); o.told(key, name, p) {
			l.dirs[name] = struct{}{}
		}
	}
}

// told reports whether a name that OSS lists in the directory dir is anybody's,
// and says once in the log that there are some which no path can have: what is
// listed has them, for they keep a directory from being empty, and nothing shows
// them.
func (o *overlay) told(dir, name, key string) bool {
	if !nameable(name) {
		o.fs.sayHidden.Do(func() {
			o.fs.o.Log.Warn("there are objects whose names no path can have: they are not shown, and move with their directory only", "key", key)
		})
	}
	return !o.reserved(dir, name)
}

// reserved reports that a name in the directory dir is the engine's own: its
// hidden copies lie beneath it (R5).
func (o *overlay) reserved(dir, name string) bool {
	return name == ".ossmount" && dir == o.fs.o.Prefix
}

// nameable reports that a path can have the name.
func nameable(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 255 && !strings.ContainsAny(name, "/\x00")
}
