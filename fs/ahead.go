package fs

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// Whoever looks up the names of a directory one after another (ls -l, find,
// rsync) is likely to go on: what OSS must be asked about the next ones is
// asked ahead, many at once.

const (
	aheadFirst = 4
	aheadMost  = 256
	aheadAsk   = 32 // requests at once, of all directories
)

// ahead is how far a directory was looked through.
type ahead struct {
	mu     sync.Mutex
	next   int // the item after the last one that was looked up
	window int
	upTo   int // the attributes of the items before were asked for
	hand   *glance
}

func (a *ahead) glanced() *glance {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hand
}

func (a *ahead) setGlance(g *glance) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hand = g
}

// step notes that the item i was looked up, and returns which ones to ask about now:
// those from from up to to. Those after i come next.
func (a *ahead) step(i int) (from, to int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case i == a.next-1: // once more
		return 0, 0
	case i < a.next || i > a.next+2 || a.window == 0:
		a.next, a.window, a.upTo = i+1, aheadFirst, i+1 // by chance, or a beginning
		return 0, 0
	}
	a.next = i + 1
	if a.upTo-a.next > a.window/2 {
		return 0, 0 // enough is on its way
	}
	a.window = min(2*a.window, aheadMost)
	from, to = max(a.upTo, a.next), a.next+a.window
	a.upTo = to
	return from, to
}

// lookAhead asks about the names that follow name in the directory dir, if they
// are being looked up one after another.
func (o *overlay) lookAhead(dir, name string, s *dirStream) {
	var l *listing
	if s != nil {
		l = s.shown
	} else {
		l, _, _ = o.cached(dir)
	}
	if l == nil || o.isStale(l) || l.partial {
		return
	}
	items := o.itemsOf(l)
	at, ok := slices.BinarySearchFunc(items, name, func(i item, n string) int { return strings.Compare(i.order(), n) })
	if !ok {
		if at, ok = slices.BinarySearchFunc(items, name+"/", func(i item, n string) int { return strings.Compare(i.order(), n) }); !ok {
			return
		}
	}
	from, to := l.ahead.step(at)
	from, to = min(from, len(items)), min(to, len(items))
	if from == to {
		return
	}
	var g *glance
	if s != nil {
		g = s.atHand()
	} else {
		g = o.dated(dir, items[min(at+1, from):to], l.files)
		l.ahead.setGlance(g)
	}
	for _, i := range items[from:to] {
		if !nameable(i.name) {
			continue
		}
		if i.dir {
			o.askAhead(dir+i.order(), func(ctx context.Context) { _, _ = o.marker(ctx, dir+i.order()) })
		} else if e := l.files[i.name]; !g.knows(i.name, e) && !o.isKnown(e) {
			o.askAhead(e.Key, func(ctx context.Context) { _, _ = o.attrsOnce(ctx, e) })
		}
	}
}

// knows is isKnown by what is at hand: where a row tells, nothing is asked either.
func (g *glance) knows(name string, e object.Entry) bool {
	a := g.of(name)
	return a != nil && a.Ref.Same(e.Ref())
}

// isKnown reports that no request is needed for what e carries.
func (o *overlay) isKnown(e object.Entry) (known bool) {
	_ = o.q.View(func(tx *journal.Tx) error {
		r, err := tx.Row(e.Key)
		if err != nil || r != nil {
			known = r != nil
			return err
		}
		a, err := tx.Attrs(e.Key)
		known = err == nil && a != nil && a.Ref.Same(e.Ref())
		return err
	})
	return known
}

// askAhead runs f if there is room for one more question.
func (o *overlay) askAhead(key string, f func(ctx context.Context)) {
	if row, err := o.q.Row(key); err != nil || row != nil || o.q.Away() {
		return // the row knows, or nobody does
	}
	ctx := o.fs.work
	go func() {
		if o.asking.Acquire(ctx, 1) != nil {
			return
		}
		defer o.asking.Release(1)
		_ = o.fs.guard(func() { f(ctx) })
	}()
}
