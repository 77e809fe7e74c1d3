package ossemu

import "math/rand/v2"

// index is a map sorted by key: a skip list. It was taken before a B-tree
// because removal is as short as insertion, and before a sorted slice because
// inserting 100,000s of keys must not move memory for each. Find, insert,
// remove and "from this key on" cost O(log n); the next entry costs O(1).
//
//	level 2  head ───────────────► d ─────────────►
//	level 1  head ──► b ─────────► d ───────► f ──►
//	level 0  head ──► b ──► c ───► d ──► e ─► f ──►
//
// It is not safe for concurrent use: its owner is store.mu.
type index[K, V any] struct {
	compare func(a, b K) int
	head    node[K, V]
	size    int
}

// maxLevel with a quarter of the nodes on each next level carries 4^16 keys.
const maxLevel = 16

type node[K, V any] struct {
	key   K
	value V
	next  []*node[K, V]
}

func newIndex[K, V any](compare func(a, b K) int) *index[K, V] {
	x := &index[K, V]{compare: compare}
	x.head.next = make([]*node[K, V], maxLevel)
	return x
}

// before fills path with the last node before key on each level.
func (x *index[K, V]) before(key K, path *[maxLevel]*node[K, V]) *node[K, V] {
	n := &x.head
	for level := maxLevel - 1; level >= 0; level-- {
		for n.next[level] != nil && x.compare(n.next[level].key, key) < 0 {
			n = n.next[level]
		}
		if path != nil {
			path[level] = n
		}
	}
	return n
}

// seek gives the first node whose key is not before key, or nil.
func (x *index[K, V]) seek(key K) *node[K, V] { return x.before(key, nil).next[0] }

// first gives the first node, or nil.
func (x *index[K, V]) first() *node[K, V] { return x.head.next[0] }

// following gives the node after n, or nil.
func (n *node[K, V]) following() *node[K, V] { return n.next[0] }

func (x *index[K, V]) get(key K) (V, bool) {
	if n := x.seek(key); n != nil && x.compare(n.key, key) == 0 {
		return n.value, true
	}
	var none V
	return none, false
}

// put sets the value of key and returns the one it replaces.
func (x *index[K, V]) put(key K, value V) (old V, replaced bool) {
	var path [maxLevel]*node[K, V]
	if n := x.before(key, &path).next[0]; n != nil && x.compare(n.key, key) == 0 {
		old = n.value
		n.key, n.value = key, value
		return old, true
	}
	levels := 1
	for levels < maxLevel && rand.Uint32()&3 == 0 {
		levels++
	}
	n := &node[K, V]{key: key, value: value, next: make([]*node[K, V], levels)}
	for i := range n.next {
		n.next[i] = path[i].next[i]
		path[i].next[i] = n
	}
	x.size++
	return old, false
}

// remove takes key out and returns the value it had.
func (x *index[K, V]) remove(key K) (old V, removed bool) {
	var path [maxLevel]*node[K, V]
	n := x.before(key, &path).next[0]
	if n == nil || x.compare(n.key, key) != 0 {
		return old, false
	}
	for i := range n.next {
		path[i].next[i] = n.next[i]
	}
	x.size--
	return n.value, true
}
