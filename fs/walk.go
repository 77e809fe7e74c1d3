package fs

import (
	"context"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/ossmount/ossmount/internal/object"
)

// Whoever goes through a tree (find, rsync, git status, du) asks about one directory
// after another. A listing without a delimiter tells of many at once: of each that
// lies within its page as a whole. So the small directories of a tree cost a request
// for a thousand names, not one each.

const (
	walkDirs   = 4               // directories that were asked for within walkTime are a walk
	walkTime   = 2 * time.Second // nor are listings kept that are good for less
	walkWorth  = 24              // directories that a page must tell of: as many can be asked for at once
	walkPauses = 64              // directories that are asked for by themselves after a page that did not
)

// walk notices that directories are asked for one after another.
type walk struct {
	one   *semaphore.Weighted // a page at a time: what is asked for next is likely in it
	worth int

	mu     sync.Mutex
	last   [walkDirs]string // the directories that were asked for last, a ring
	at     [walkDirs]time.Time
	oldest int
	pause  int // directories until a page is asked for again
}

func newWalk() walk { return walk{one: semaphore.NewWeighted(1), worth: walkWorth} }

// step notes that the directory key is asked for. If that is a walk, it returns the
// directory in which it goes on.
func (w *walk) step(key string, now time.Time) (top string, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	began := w.at[w.oldest]
	w.last[w.oldest], w.at[w.oldest] = key, now
	w.oldest = (w.oldest + 1) % walkDirs
	if w.pause > 0 {
		w.pause--
		return "", false
	}
	if began.IsZero() || now.Sub(began) > walkTime {
		return "", false
	}
	top = key
	for _, k := range w.last {
		top = commonDir(top, k)
	}
	return top, top != key
}

// acquire waits for the page that another asks for, but not for long.
func (w *walk) acquire(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, walkTime)
	defer cancel()
	return w.one.Acquire(ctx, 1) == nil
}

func (w *walk) rest() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pause = walkPauses
}

// commonDir is the innermost directory in which both directories are, or that is one
// of them.
func commonDir(a, b string) string {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return a[:strings.LastIndexByte(a[:n], '/')+1]
}

// walked returns the listing of the directory key, and keeps those that come after it
// in the tree, if it is asked for in a walk; nil: it must be asked for by itself.
func (o *overlay) walked(ctx context.Context, key string) *listing {
	if o.fs.o.MetaTTL < walkTime || key == o.fs.o.Prefix {
		return nil
	}
	top, ok := o.walk.step(key, time.Now())
	if !ok || !strings.HasPrefix(top, o.fs.o.Prefix) || !o.walk.acquire(ctx) {
		return nil
	}
	defer o.walk.one.Release(1)
	if l := o.toldOf(key); l != nil {
		return l // by the page of another
	}
	asked, at := o.q.Moment(), time.Now()
	defer asked.Done()
	page, err := o.fs.remote.List(ctx, object.ListQuery{Prefix: top, After: before(key)})
	if err != nil {
		o.walk.rest()
		return nil // perhaps only this is refused
	}
	all := o.split(key, page)
	if len(all) < o.walk.worth && page.Next != "" {
		o.walk.rest()
	}
	for k, l := range all {
		if _, fresh, _ := o.cached(k); !fresh {
			l.moment, l.at = asked.Again(), at
			o.keep(k, l)
		}
	}
	return all[key]
}

// toldOf is the listing of the directory key in memory, if it is fresh and the directory's
// own object has not changed since it was asked for; nil: there is none.
func (o *overlay) toldOf(key string) *listing {
	l, fresh, _ := o.cached(key)
	if !fresh {
		return nil
	}
	asked := o.use(key, l)
	if asked == nil {
		return nil
	}
	defer asked.Done()
	if _, settled := asked.Since(key); settled {
		return nil
	}
	return l
}

// before is a place right before all that is in the directory key: "/" follows on ".".
func before(key string) string { return strings.TrimSuffix(key, "/") + ".\U0010FFFF" }

// split takes a page that begins with the directory key apart into the listings of the
// directories that it tells of as a whole.
func (o *overlay) split(key string, page object.Page) map[string]*listing {
	all := map[string]*listing{key: newListing(nil)}
	last := ""
	for _, e := range page.Entries {
		last = e.Key
		o.spread(all, key, e)
	}
	if page.Next != "" {
		for k := range all {
			if strings.HasPrefix(last, k) {
				delete(all, k) // it goes on behind the page
			}
		}
	}
	return all
}

// spread notes an object in the listing of its directory, and that in the one above,
// and so on, as far as these begin in the page.
func (o *overlay) spread(all map[string]*listing, first string, e object.Entry) {
	in := func(dir string) *listing {
		l := all[dir]
		if l == nil && dir > first {
			l = newListing(nil)
			all[dir] = l
		}
		return l
	}
	dir := e.Key[:strings.LastIndexByte(e.Key, '/')+1]
	if l := in(dir); l != nil {
		o.add(l, dir, object.Page{Entries: []object.Entry{e}})
	}
	for dir != "" {
		above := dir[:strings.LastIndexByte(dir[:len(dir)-1], '/')+1]
		l := in(above)
		if l == nil {
			return
		}
		name := dir[len(above) : len(dir)-1]
		if _, known := l.dirs[name]; known {
			return
		}
		o.add(l, above, object.Page{Prefixes: []string{dir}})
		dir = above
	}
}
