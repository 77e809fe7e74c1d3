package ossemu

import (
	"errors"
	"fmt"
	"strings"
)

// applyLocked changes the index as r says and returns the segments that
// nothing uses any more. It is the one way the state changes, for a live
// request as for a record read at Open.
func (st *store) applyLocked(r record) (dead []uint64, err error) {
	switch r.kind {
	case recHead:
		st.reserve(r.next - 1)
		return nil, nil
	case recBucket:
		if b := st.buckets[r.info.name]; b != nil {
			b.bucketInfo = r.info
			return nil, nil
		}
		st.buckets[r.info.name] = &bucket{
			bucketInfo: r.info,
			objects:    newIndex[string, *object](strings.Compare),
			uploads:    newIndex[uploadKey, *upload](compareUploads),
		}
		return nil, nil
	}
	b := st.buckets[r.bucket]
	if b == nil {
		return nil, fmt.Errorf("record for bucket %q, which does not exist", r.bucket)
	}
	switch r.kind {
	case recNoBucket:
		delete(st.buckets, r.bucket)
	case recPut:
		dead = st.putLocked(b, r.object)
	case recDelete:
		for _, key := range r.keys {
			if old, ok := b.objects.remove(key); ok {
				b.bytes -= old.size
				dead = st.releaseLocked(dead, old.segments)
			}
		}
	case recUpload:
		b.uploads.put(r.upload.uploadKey, r.upload)
	case recPart, recAbort, recComplete:
		u, ok := b.uploads.get(r.id)
		if !ok {
			return nil, errors.New("record for an upload that does not exist")
		}
		switch r.kind {
		case recPart:
			dead = st.putPartLocked(b, u, r.part)
		case recAbort:
			dead = st.endLocked(b, u, nil)
		case recComplete:
			// The object takes hold of the segments before the parts let go.
			dead = st.endLocked(b, u, st.putLocked(b, r.object))
		}
	}
	return dead, nil
}

func (st *store) putLocked(b *bucket, o *object) (dead []uint64) {
	st.retainLocked(o.segments)
	b.bytes += o.size
	if old, ok := b.objects.put(o.key, o); ok {
		b.bytes -= old.size
		dead = st.releaseLocked(dead, old.segments)
	}
	return dead
}

func (st *store) putPartLocked(b *bucket, u *upload, p *part) (dead []uint64) {
	st.retainLocked(p.segments)
	if old := u.parts[p.number]; old != nil {
		dead = st.releaseLocked(dead, old.segments)
		b.parts--
	}
	u.parts[p.number] = p
	b.parts++
	return dead
}

func (st *store) endLocked(b *bucket, u *upload, dead []uint64) []uint64 {
	b.uploads.remove(u.uploadKey)
	b.parts -= len(u.parts)
	for _, p := range u.parts {
		dead = st.releaseLocked(dead, p.segments)
	}
	return dead
}
