package writeback

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ossmount/ossmount/internal/object"
)

// memStore is an OSS in memory. Each request waits until the test decides what
// becomes of it; those that carry a body are decided on twice: before the body
// is read, and when it has been sent whole.
type memStore struct {
	mu      sync.Mutex
	objects map[string]memObject
	uploads map[string]*memUpload
	bytes   map[string][]byte // of every version that ever was, by ETag
	ids     int
	pending map[*memCall]struct{}
	free    bool // answer at once
	counts  map[string]int
	sent    int64 // bytes of bodies that arrived whole
	torn    bool  // torn bytes were published
}

type memObject struct {
	data []byte
	etag string
	meta object.Meta
	at   time.Time
}

type memUpload struct {
	key   string
	o     object.PutOptions
	begun time.Time
	parts map[int]memPart
}

type memPart struct {
	data []byte
	etag string
}

// memCall is a request that waits to be decided on.
type memCall struct {
	op, key string
	part    int
	body    bool // its body has not been read yet
	decide  chan fate
}

func (c *memCall) String() string {
	return fmt.Sprintf("%s %q %d body=%t", c.op, c.key, c.part, c.body)
}

// fate is what the test lets become of a request.
type fate int

const (
	fateAnswered fate = iota
	fateRefused       // 503, without effect
	fateUnsent        // it never left
	fateLost          // carried out, the answer lost
	fateLate          // no answer now; it lands later
	fateNever         // no answer, and it never lands
)

func newMemStore() *memStore {
	return &memStore{objects: map[string]memObject{}, uploads: map[string]*memUpload{}, bytes: map[string][]byte{},
		pending: map[*memCall]struct{}{}, counts: map[string]int{}}
}

// atOnce marks a context whose requests are not waited for: those of a reader.
type atOnce struct{}

var direct = context.WithValue(context.Background(), atOnce{}, true)

// calls returns what waits, in an order that does not depend on goroutines.
func (m *memStore) calls() []*memCall {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Keys(m.pending), func(a, b *memCall) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.op, b.op), cmp.Compare(a.part, b.part))
	})
}

// wait returns what becomes of a request; a cancelled one is late or never
// lands (it was sent).
func (m *memStore) wait(ctx context.Context, c *memCall) fate {
	m.mu.Lock()
	if m.free || ctx.Value(atOnce{}) != nil {
		m.mu.Unlock()
		return fateAnswered
	}
	c.decide = make(chan fate, 1)
	m.pending[c] = struct{}{}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.pending, c)
	}()
	select {
	case f := <-c.decide:
		return f
	case <-ctx.Done():
		if c.body {
			return fateUnsent
		}
		return fateLate
	}
}

// do lets a request have the fate that the test chooses. effect carries it out
// and returns the answer.
func do[T any](ctx context.Context, m *memStore, c *memCall, body io.Reader, size int64, effect func(data []byte) (T, error)) (T, error) {
	var zero T
	failed := func(kind object.Kind, f object.Fate, status int, err error) (T, error) {
		return zero, &object.Error{Op: c.op, Key: c.key, Kind: kind, Fate: f, Status: status, Err: err}
	}
	var data []byte
	if body != nil {
		c.body = true
		if f := m.wait(ctx, c); f != fateAnswered {
			return failed(object.Again, object.NotSent, 0, errors.New("dial"))
		}
		var err error
		if data, err = io.ReadAll(io.LimitReader(body, size)); err != nil || int64(len(data)) != size {
			return failed(object.Again, object.NotSent, 0, fmt.Errorf("body of %d bytes after %d: %w", size, len(data), cmp.Or(err, io.ErrUnexpectedEOF)))
		}
		c.body = false
	}
	f := m.wait(ctx, c)
	locked := func() (T, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.counts[c.op]++
		if body != nil {
			m.sent += size
		}
		return effect(data)
	}
	switch f {
	case fateRefused:
		return failed(object.Again, object.Answered, 503, errors.New("busy"))
	case fateUnsent:
		return failed(object.Again, object.NotSent, 0, errors.New("dial"))
	case fateLost:
		_, _ = locked()
		return failed(object.Again, object.Unknown, 0, errors.New("connection reset"))
	case fateLate:
		if c.op != "Initiate" { // a late one would be nobody's
			time.AfterFunc(m.lateness(c), func() { _, _ = locked() })
		}
		return failed(object.Again, object.Unknown, 0, errors.New("timeout"))
	case fateNever:
		return failed(object.Again, object.Unknown, 0, errors.New("timeout"))
	}
	return locked()
}

// memDoubt is how long a request of the models may still land.
const memDoubt = time.Minute

// lateness is when a late request lands: any time, but the same in each run.
func (m *memStore) lateness(c *memCall) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ids++
	r := rand.New(rand.NewPCG(uint64(m.ids), crc64.Checksum([]byte(c.String()), crcTable)))
	if r.IntN(3) == 0 {
		return memDoubt - time.Millisecond
	}
	return time.Duration(r.Int64N(int64(memDoubt)))
}

var crcTable = crc64.MakeTable(crc64.ECMA)

func etagOf(data []byte) string { return fmt.Sprintf("%X", md5.Sum(data)) }

func (o memObject) ref(key string) object.Ref {
	return object.Ref{Key: key, ETag: o.etag, Size: int64(len(o.data)), CRC64: crc64.Checksum(o.data, crcTable), HasCRC: true}
}

// set stores a version; the caller holds mu.
func (m *memStore) set(key string, data []byte, etag string, meta object.Meta) object.Ref {
	o := memObject{data: data, etag: etag, meta: maps.Clone(meta), at: time.Now()}
	m.objects[key] = o
	m.bytes[etag] = data
	if bytes.Contains(data, []byte(torn)) {
		m.torn = true
	}
	return o.ref(key)
}

func refused(op, key string, kind object.Kind, code string) error {
	return &object.Error{Op: op, Key: key, Kind: kind, Fate: object.Answered, Status: 400, Code: code}
}

func (m *memStore) source(op string, src object.Ref) (memObject, error) {
	o, ok := m.objects[src.Key]
	if !ok {
		return o, refused(op, src.Key, object.Absent, "NoSuchKey")
	}
	if !object.SameETag(o.etag, src.ETag) {
		return o, refused(op, src.Key, object.Conflict, "PreconditionFailed")
	}
	return o, nil
}

func (m *memStore) Head(ctx context.Context, key string) (object.Info, error) {
	return do(ctx, m, &memCall{op: "Head", key: key}, nil, 0, func([]byte) (object.Info, error) {
		o, ok := m.objects[key]
		if !ok {
			return object.Info{}, refused("Head", key, object.Absent, "NoSuchKey")
		}
		return object.Info{Ref: o.ref(key), Meta: maps.Clone(o.meta), LastModified: o.at.Truncate(time.Second)}, nil
	})
}

func (m *memStore) Get(ctx context.Context, ref object.Ref, off, n int64) (io.ReadCloser, error) {
	return do(ctx, m, &memCall{op: "Get", key: ref.Key}, nil, 0, func([]byte) (io.ReadCloser, error) {
		o, err := m.source("Get", ref)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(bytes.NewReader(o.data[off : off+n])), nil
	})
}

func (m *memStore) Put(ctx context.Context, key string, body io.Reader, size int64, o object.PutOptions) (object.Ref, error) {
	return do(ctx, m, &memCall{op: "Put", key: key}, body, size, func(data []byte) (object.Ref, error) {
		if err := m.forbidden("Put", key, o); err != nil {
			return object.Ref{}, err
		}
		return m.set(key, data, etagOf(data), o.Meta), nil
	})
}

// Copy makes a new version, also over its own source (H5).
func (m *memStore) Copy(ctx context.Context, src object.Ref, key string, o object.PutOptions) (object.Ref, error) {
	return do(ctx, m, &memCall{op: "Copy", key: key}, nil, 0, func([]byte) (object.Ref, error) {
		if err := m.forbidden("Copy", key, o); err != nil {
			return object.Ref{}, err
		}
		s, err := m.source("Copy", src)
		if err != nil {
			return object.Ref{}, err
		}
		etag := etagOf(append([]byte(o.Meta[object.TagMeta]), s.data...))
		return m.set(key, s.data, etag, o.Meta), nil
	})
}

func (m *memStore) Delete(ctx context.Context, key string) error {
	_, err := do(ctx, m, &memCall{op: "Delete", key: key}, nil, 0, func([]byte) (struct{}, error) {
		delete(m.objects, key)
		return struct{}{}, nil
	})
	return err
}

func (m *memStore) DeleteMany(ctx context.Context, keys []string) ([]string, error) {
	return do(ctx, m, &memCall{op: "DeleteMany", key: keys[0]}, nil, 0, func([]byte) ([]string, error) {
		for _, key := range keys {
			delete(m.objects, key)
		}
		return keys, nil
	})
}

func (m *memStore) List(ctx context.Context, q object.ListQuery) (object.Page, error) {
	return do(ctx, m, &memCall{op: "List", key: q.After}, nil, 0, func([]byte) (page object.Page, err error) {
		for _, key := range slices.Sorted(maps.Keys(m.objects)) {
			switch {
			case key <= q.After || !strings.HasPrefix(key, q.Prefix):
			case len(page.Entries) == q.Max:
				page.Next = "more"
				return page, nil
			default:
				o := m.objects[key]
				page.Entries = append(page.Entries, object.Entry{Key: key, ETag: o.etag, Size: int64(len(o.data)), LastModified: o.at.Truncate(time.Second)})
			}
		}
		return page, nil
	})
}

// forbidden is what x-oss-forbid-overwrite does.
func (m *memStore) forbidden(op, key string, o object.PutOptions) error {
	if _, there := m.objects[key]; there && o.ForbidOverwrite {
		return refused(op, key, object.Conflict, codeExists)
	}
	return nil
}

func (m *memStore) Initiate(ctx context.Context, key string, o object.PutOptions) (string, error) {
	return do(ctx, m, &memCall{op: "Initiate", key: key}, nil, 0, func([]byte) (string, error) {
		m.ids++
		id := fmt.Sprintf("U%d", m.ids)
		m.uploads[id] = &memUpload{key: key, o: o, begun: time.Now().Truncate(time.Second), parts: map[int]memPart{}}
		return id, nil
	})
}

func (m *memStore) upload(op, key, id string) (*memUpload, error) {
	u := m.uploads[id]
	if u == nil || u.key != key {
		return nil, refused(op, key, object.Restart, "NoSuchUpload")
	}
	return u, nil
}

func (m *memStore) addPart(u *memUpload, number int, data []byte) object.Part {
	p := memPart{data, etagOf(data)}
	u.parts[number] = p
	return p.part(number)
}

func (p memPart) part(number int) object.Part {
	return object.Part{Number: number, Size: int64(len(p.data)), ETag: p.etag, CRC64: crc64.Checksum(p.data, crcTable), HasCRC: true}
}

func (m *memStore) UploadPart(ctx context.Context, key, id string, number int, body io.Reader, size int64) (object.Part, error) {
	return do(ctx, m, &memCall{op: "UploadPart", key: key, part: number}, body, size, func(data []byte) (object.Part, error) {
		u, err := m.upload("UploadPart", key, id)
		if err != nil {
			return object.Part{}, err
		}
		return m.addPart(u, number, data), nil
	})
}

func (m *memStore) UploadPartCopy(ctx context.Context, key, id string, number int, src object.Ref, off, n int64) (object.Part, error) {
	return do(ctx, m, &memCall{op: "UploadPartCopy", key: key, part: number}, nil, 0, func([]byte) (object.Part, error) {
		u, err := m.upload("UploadPartCopy", key, id)
		if err != nil {
			return object.Part{}, err
		}
		s, err := m.source("UploadPartCopy", src)
		if err != nil {
			return object.Part{}, err
		}
		return m.addPart(u, number, s.data[off:off+n]), nil
	})
}

func (m *memStore) Complete(ctx context.Context, key, id string, parts []object.Part, o object.PutOptions) (object.Ref, error) {
	return do(ctx, m, &memCall{op: "Complete", key: key}, nil, 0, func([]byte) (object.Ref, error) {
		u, err := m.upload("Complete", key, id)
		if err != nil {
			return object.Ref{}, err
		}
		if err := m.forbidden("Complete", key, o); err != nil {
			return object.Ref{}, err
		}
		var data []byte
		var tags strings.Builder
		for _, p := range parts {
			have, ok := u.parts[p.Number]
			if !ok || !object.SameETag(have.etag, p.ETag) {
				return object.Ref{}, refused("Complete", key, object.Restart, "InvalidPart")
			}
			data = append(data, have.data...)
			tags.WriteString(have.etag)
		}
		delete(m.uploads, id)
		etag := fmt.Sprintf("%s-%d", etagOf([]byte(tags.String())), len(parts))
		return m.set(key, data, etag, u.o.Meta), nil
	})
}

func (m *memStore) Abort(ctx context.Context, key, id string) error {
	_, err := do(ctx, m, &memCall{op: "Abort", key: key}, nil, 0, func([]byte) (struct{}, error) {
		delete(m.uploads, id)
		return struct{}{}, nil
	})
	return err
}

func (m *memStore) Parts(ctx context.Context, key, id string) ([]object.Part, error) {
	return do(ctx, m, &memCall{op: "Parts", key: key}, nil, 0, func([]byte) ([]object.Part, error) {
		u, err := m.upload("Parts", key, id)
		if err != nil {
			return nil, err
		}
		var out []object.Part
		for _, n := range slices.Sorted(maps.Keys(u.parts)) {
			out = append(out, u.parts[n].part(n))
		}
		return out, nil
	})
}

func (m *memStore) Uploads(ctx context.Context, key string) ([]object.Upload, error) {
	return do(ctx, m, &memCall{op: "Uploads", key: key}, nil, 0, func([]byte) ([]object.Upload, error) {
		var out []object.Upload
		for _, id := range slices.Sorted(maps.Keys(m.uploads)) {
			if u := m.uploads[id]; u.key == key {
				out = append(out, object.Upload{Key: key, ID: id, Initiated: u.begun})
			}
		}
		return out, nil
	})
}

// get returns what the store holds under key.
func (m *memStore) get(key string) (o memObject, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok = m.objects[key]
	return o, ok
}

// Tags and ACLs are not kept in memory.
func (m *memStore) Tags(context.Context, string) (string, error) { return "", nil }
func (m *memStore) ACL(context.Context, string) (string, error)  { return "", nil }
