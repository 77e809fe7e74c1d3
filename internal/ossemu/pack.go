package ossemu

import (
	"errors"
	"fmt"
	"os"
)

// A pack is a segment that small bodies share, one behind the other, because to
// make a file costs more than all else that a small object needs. As in other
// segments no byte of it is ever written twice, and a restart begins a new one.
//
//	pack   | body | body | of no record | body |
//	           ▲      ▲ ▲                   ▲
//	object ────┘      └ └── copy, part ...  └── object
//
// It goes when nothing uses any byte of it. If most of what all packs hold is
// dead, what lives in the deadest is moved into new ones (repackLocked).
const (
	packBody = 64 << 10 // the largest body that goes into a pack
	packSize = 1 << 20  // a pack is full from here on

	// packBase is where the numbers of packs begin, which tells them from the
	// other segments.
	packBase = 1 << 40
)

// normalRepackAt is how many bytes the packs have, besides twice what lives in
// them, before they are worth moving; repackLimit is how much is moved at once,
// since writers wait meanwhile.
const (
	normalRepackAt = 16 << 20
	repackLimit    = 32 << 20
)

// packs are the packs of a store; store.mu owns them.
type packs struct {
	all  map[uint64]*pack
	next uint64   // number of the next pack
	file *os.File // that is being filled, or nil
	id   uint64   // of file
	size int64    // of all
	live int64    // of all

	repackAt int64
	retryAt  int64 // size from which it is tried again, after it came to nothing
}

// pack is one of them.
type pack struct {
	size int64 // of its file
	live int64 // what of it is used: a byte used twice counts twice
}

func newPacks() packs {
	return packs{all: map[uint64]*pack{}, next: packBase, repackAt: normalRepackAt}
}

func isPack(id uint64) bool { return id >= packBase }

// use counts the bytes of s, which have one use more, or with -1 one less.
func (p *packs) use(s segment, times int64) {
	if !isPack(s.id) {
		return
	}
	one := p.all[s.id]
	if one == nil { // named by a record that is read at Open
		one = &pack{}
		p.all[s.id] = one
	}
	one.live += times * s.size
	p.live += times * s.size
}

// forget takes out a pack that nothing uses.
func (p *packs) forget(id uint64) {
	one := p.all[id]
	if one == nil {
		return
	}
	if p.file != nil && p.id == id {
		p.full()
	}
	p.size -= one.size
	delete(p.all, id)
}

// full ends the filling of the pack that is being filled.
func (p *packs) full() {
	p.file.Close() // what was written is in the page cache, and Sync has no packs
	p.file = nil
}

// measure asks how long the files are, after the log was read.
func (p *packs) measure(path func(uint64) string) {
	for id, one := range p.all {
		if info, err := os.Stat(path(id)); err == nil {
			one.size = info.Size()
			p.size += one.size
		}
	}
}

// pack stores a small body. It is pinned: the caller gives that up with unpin
// when a record names it, or none will.
func (st *store) pack(body []byte) (segment, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.packLocked(body)
}

func (st *store) packLocked(body []byte) (segment, error) {
	p := &st.packs
	if st.broken != nil {
		return segment{}, st.broken
	}
	if p.file == nil {
		f, err := os.OpenFile(st.segmentPath(p.next), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return segment{}, err
		}
		p.file, p.id = f, p.next
		p.all[p.id] = &pack{}
		p.next++
	}
	one := p.all[p.id]
	s := segment{id: p.id, off: one.size, size: int64(len(body))}
	if _, err := p.file.WriteAt(body, s.off); err != nil {
		if st.refs[p.id] == 0 {
			id := p.id
			p.forget(id)
			return segment{}, errors.Join(err, os.Remove(st.segmentPath(id)))
		}
		return segment{}, err // the next body takes its place
	}
	one.size += s.size
	p.size += s.size
	st.retainLocked([]segment{s})
	if one.size >= packSize {
		p.full()
	}
	return s, nil
}

// repackLocked moves what lives in packs that are mostly dead, and returns the
// packs that nothing uses any more. Each object or part is moved by a record of
// its own, which says the same of it but for the place of its bytes; a crash in
// the middle leaves some moved and some not.
func (st *store) repackLocked() (dead []uint64, err error) {
	p := &st.packs
	if st.sync { // packs are never flushed; these are older, and stay
		return nil, nil
	}
	if p.size < max(p.repackAt+2*p.live, p.retryAt) {
		return nil, nil
	}
	if p.file != nil {
		p.full()
	}
	m := mover{st: st, from: map[uint64]*os.File{}}
	defer m.close()
	for id, one := range p.all {
		if 2*one.live < one.size && m.planned < repackLimit {
			m.from[id], m.planned = nil, m.planned+one.live
		}
	}
	for name, b := range st.buckets {
		for n := b.objects.first(); n != nil && m.err == nil; n = n.following() {
			if m.concerns(n.value.segments) {
				o := *n.value
				m.move(&o.segments, func() record { return record{kind: recPut, bucket: name, object: &o} })
			}
		}
		for n := b.uploads.first(); n != nil; n = n.following() {
			for _, old := range n.value.parts {
				if m.err == nil && m.concerns(old.segments) {
					o := *old
					m.move(&o.segments, func() record { return record{kind: recPart, bucket: name, id: n.key, part: &o} })
				}
			}
		}
	}
	p.retryAt = 0
	if m.err != nil || m.moved == 0 { // unreadable, or held by readers: not again with every change
		p.retryAt = p.size + normalRepackAt
	}
	if m.err != nil {
		return m.dead, fmt.Errorf("move small bodies: %w", m.err)
	}
	return m.dead, nil
}

// mover moves bodies out of packs.
type mover struct {
	st      *store
	from    map[uint64]*os.File // the packs to be emptied; nil: not opened yet
	planned int64
	moved   int // objects and parts
	dead    []uint64
	err     error // the first
}

func (m *mover) concerns(segments []segment) bool {
	for _, s := range segments {
		if _, ok := m.from[s.id]; ok {
			return true
		}
	}
	return false
}

// move gives segments, which belong to a copy of what is in the index, new
// places and makes the change that r then says.
func (m *mover) move(segments *[]segment, r func() record) {
	moved := make([]segment, len(*segments))
	var pinned []segment
	defer func() { m.dead = m.st.releaseLocked(m.dead, pinned) }()
	for i, s := range *segments {
		moved[i] = s
		if _, ok := m.from[s.id]; !ok {
			continue
		}
		body, err := m.read(s)
		if err == nil {
			moved[i], err = m.st.packLocked(body)
		}
		if err != nil {
			m.err = err
			return
		}
		pinned = append(pinned, moved[i])
	}
	*segments = moved
	change := r()
	if m.err = m.st.writeLocked(change); m.err != nil {
		return
	}
	m.moved++
	dead, err := m.st.applyLocked(change)
	m.dead, m.err = append(m.dead, dead...), err
}

func (m *mover) read(s segment) (body []byte, err error) {
	f := m.from[s.id]
	if f == nil {
		if f, err = os.Open(m.st.segmentPath(s.id)); err != nil {
			return nil, err
		}
		m.from[s.id] = f
	}
	body = make([]byte, s.size)
	_, err = f.ReadAt(body, s.off)
	return body, err
}

func (m *mover) close() {
	for _, f := range m.from {
		if f != nil {
			f.Close()
		}
	}
}
