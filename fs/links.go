package fs

import (
	"strings"

	"github.com/ossmount/ossmount/journal"
	"github.com/ossmount/ossmount/writeback"
)

// maxCounted is up to how many names a directory has its links counted: that is
// done for each look at it.
const maxCounted = 250

// links is the link count of the directory key: two, and one for each directory
// in it. It costs no question to OSS: where one would be needed, and in large
// directories, it is 1, which stands for "nobody counts".
func (o *overlay) links(key string) uint32 {
	as := linkCount{dirs: o.q.DirsIn(key), listing: o.memory(key)}
	if n, ok := o.linksAs(key, as); ok {
		return n
	}
	as.n = o.countLinks(key)
	o.setLinks(key, as)
	return as.n
}

// linkCount is how many links a directory has, as long as there is no other listing of
// it and no directory in it has come or gone.
type linkCount struct {
	n       uint32
	dirs    int64
	listing *listing
}

const mostCounts = 10_000

func (o *overlay) linksAs(key string, as linkCount) (uint32, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c, ok := o.counts[key]
	return c.n, ok && c.dirs == as.dirs && c.listing == as.listing
}

func (o *overlay) setLinks(key string, c linkCount) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.counts) >= mostCounts {
		clear(o.counts)
	}
	o.counts[key] = c
}

func (o *overlay) countLinks(key string) uint32 {
	l, asked := o.remains(key)
	if l == nil {
		return 1
	}
	defer asked.Done()
	there := map[string]bool{} // the directories of which a row tells, then a settle, then the listing
	names := len(l.dirs)
	err := o.q.View(func(tx *journal.Tx) error {
		if tx.NoDirs(key) { // however many files there are
			return nil
		}
		for name, put := range tx.ChildNames(key) {
			if names++; names > maxCounted {
				return nil
			}
			if name, dir := strings.CutSuffix(name, "/"); dir {
				there[name] = put
			}
		}
		return nil
	})
	if err != nil || names > maxCounted {
		return 1
	}
	settled := map[string]bool{}
	asked.Under(key, func(k string, m writeback.Memo) {
		name, below, dir := strings.Cut(k[len(key):], "/")
		if _, byRow := there[name]; dir && !byRow && (below == "" || !m.Ref.IsZero()) {
			settled[name] = settled[name] || !m.Ref.IsZero()
		}
	})
	for name, yes := range settled {
		there[name] = yes
	}
	for name := range l.dirs {
		if _, told := there[name]; told {
			continue
		}
		if o.touched(asked, key+name+"/") {
			return 1 // perhaps a ghost
		}
		there[name] = true
	}
	n := uint32(2)
	for name, yes := range there {
		if yes && nameable(name) && !o.reserved(key, name) {
			n++
		}
	}
	return n
}

// remains returns the whole listing of the directory key that is in memory, of
// whatever age, or else the empty one of a directory that only rows tell of;
// nil: there is none.
func (o *overlay) remains(key string) (*listing, *writeback.Moment) {
	if l := o.memory(key); l != nil {
		if asked := o.use(key, l); asked != nil {
			return l, asked
		}
	}
	moment := o.q.Moment()
	if row, err := o.q.Row(key); err != nil || !isOurs(row) {
		moment.Done()
		return nil, nil
	}
	return newListing(moment), moment
}

func (o *overlay) memory(key string) *listing {
	o.mu.Lock()
	defer o.mu.Unlock()
	if l := o.listings[key]; l != nil && !l.partial {
		return l
	}
	return nil
}
