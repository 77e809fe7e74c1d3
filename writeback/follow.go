package writeback

import "github.com/ossmount/ossmount/internal/object"

// Follow is held by whoever has a content open, and tells what its bytes were
// published as: from then on what differs from that version is what was written
// since (R7). The content is not dropped before its end.
type Follow struct {
	q       *Queue
	content uint64
	moved   func(ref object.Ref)
	ref     object.Ref
	seq     uint64
}

// Follow begins to follow content n. moved, if not nil, is started with each
// version that its bytes become.
func (q *Queue) Follow(n uint64, moved func(ref object.Ref)) *Follow {
	f := &Follow{q: q, content: n, moved: moved}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.followLocked(f)
	return f
}

// Published returns the version that the bytes of the row with the sequence seq
// have become, the last of them; 0: those of some row of the content. ok is false
// if none has.
func (f *Follow) Published() (ref object.Ref, seq uint64, ok bool) {
	if f == nil {
		return ref, 0, false
	}
	f.q.mu.Lock()
	defer f.q.mu.Unlock()
	return f.ref, f.seq, !f.ref.IsZero()
}

// Content returns the number of the content that has the bytes now: another one
// when the holes of the first were filled.
func (f *Follow) Content() uint64 {
	f.q.mu.Lock()
	defer f.q.mu.Unlock()
	return f.content
}

// followTo leads those who follow content n to another with the same bytes.
func (q *Queue) followTo(n, to uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for f := range q.follows[n] {
		f.content = to
		q.followLocked(f)
	}
	delete(q.follows, n)
}

func (q *Queue) followLocked(f *Follow) {
	if q.follows[f.content] == nil {
		q.follows[f.content] = map[*Follow]struct{}{}
	}
	q.follows[f.content][f] = struct{}{}
}

// Done ends it. It may be called more than once.
func (f *Follow) Done() {
	if f == nil {
		return
	}
	f.q.mu.Lock()
	defer f.q.mu.Unlock()
	delete(f.q.follows[f.content], f)
	if len(f.q.follows[f.content]) == 0 {
		delete(f.q.follows, f.content)
	}
}

// published tells those who follow content n.
func (q *Queue) published(n uint64, ref object.Ref, seq uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for f := range q.follows[n] {
		if f.ref, f.seq = ref, seq; f.moved != nil {
			go q.guarded(func() { f.moved(ref) })
		}
	}
}
