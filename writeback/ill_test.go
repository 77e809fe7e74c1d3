package writeback

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ossmount/ossmount/internal/object"
)

// ill is a store of which a test decides what fails, and which counts what it is
// asked. An answer takes a few milliseconds.
type ill struct {
	*memStore

	mu     sync.Mutex
	fails  func(op, key string) error // nil: nothing
	asked  int
	ops    map[string]int
	flying int
	most   int // requests that were under way at once
}

func newIll() *ill {
	s := &ill{memStore: newMemStore(), ops: map[string]int{}}
	s.free = true
	return s
}

func (s *ill) set(fails func(op, key string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails = fails
	s.asked, s.most = 0, 0
	clear(s.ops)
}

// count is how many requests there were since the last set, or of an operation.
func (s *ill) count(ops ...string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(ops) == 0 {
		return s.asked
	}
	for _, op := range ops {
		n += s.ops[op]
	}
	return n
}

func (s *ill) begin(op string) func(op, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	s.ops[op]++
	s.flying++
	s.most = max(s.most, s.flying)
	return s.fails
}

func (s *ill) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flying--
}

func illness[T any](s *ill, op, key string, f func() (T, error)) (v T, err error) {
	fails := s.begin(op)
	defer s.end()
	time.Sleep(5 * time.Millisecond)
	if fails != nil {
		if err := fails(op, key); err != nil {
			return v, err
		}
	}
	return f()
}

func (s *ill) Head(ctx context.Context, key string) (object.Info, error) {
	return illness(s, opHead, key, func() (object.Info, error) { return s.memStore.Head(ctx, key) })
}

func (s *ill) Get(ctx context.Context, ref object.Ref, off, n int64) (io.ReadCloser, error) {
	return illness(s, opGet, ref.Key, func() (io.ReadCloser, error) { return s.memStore.Get(ctx, ref, off, n) })
}

func (s *ill) Put(ctx context.Context, key string, body io.Reader, size int64, o object.PutOptions) (object.Ref, error) {
	return illness(s, opPut, key, func() (object.Ref, error) { return s.memStore.Put(ctx, key, body, size, o) })
}

func (s *ill) Copy(ctx context.Context, src object.Ref, key string, o object.PutOptions) (object.Ref, error) {
	return illness(s, opCopy, key, func() (object.Ref, error) { return s.memStore.Copy(ctx, src, key, o) })
}

func (s *ill) Delete(ctx context.Context, key string) error {
	_, err := illness(s, opDelete, key, func() (struct{}, error) { return struct{}{}, s.memStore.Delete(ctx, key) })
	return err
}

func (s *ill) DeleteMany(ctx context.Context, keys []string) ([]string, error) {
	return illness(s, opDeleteMany, "", func() ([]string, error) { return s.memStore.DeleteMany(ctx, keys) })
}

func (s *ill) List(ctx context.Context, q object.ListQuery) (object.Page, error) {
	return illness(s, opList, q.Prefix, func() (object.Page, error) { return s.memStore.List(ctx, q) })
}

func (s *ill) Initiate(ctx context.Context, key string, o object.PutOptions) (string, error) {
	return illness(s, opInitiate, key, func() (string, error) { return s.memStore.Initiate(ctx, key, o) })
}

func (s *ill) UploadPart(ctx context.Context, key, id string, number int, body io.Reader, size int64) (object.Part, error) {
	return illness(s, opPart, key, func() (object.Part, error) { return s.memStore.UploadPart(ctx, key, id, number, body, size) })
}

func (s *ill) UploadPartCopy(ctx context.Context, key, id string, number int, src object.Ref, off, n int64) (object.Part, error) {
	return illness(s, opPartCopy, key, func() (object.Part, error) {
		return s.memStore.UploadPartCopy(ctx, key, id, number, src, off, n)
	})
}

func (s *ill) Complete(ctx context.Context, key, id string, parts []object.Part, o object.PutOptions) (object.Ref, error) {
	return illness(s, opComplete, key, func() (object.Ref, error) { return s.memStore.Complete(ctx, key, id, parts, o) })
}

func (s *ill) Abort(ctx context.Context, key, id string) error {
	_, err := illness(s, opAbort, key, func() (struct{}, error) { return struct{}{}, s.memStore.Abort(ctx, key, id) })
	return err
}

func (s *ill) Parts(ctx context.Context, key, id string) ([]object.Part, error) {
	return illness(s, opParts, key, func() ([]object.Part, error) { return s.memStore.Parts(ctx, key, id) })
}

func (s *ill) Uploads(ctx context.Context, key string) ([]object.Upload, error) {
	return illness(s, opUploads, key, func() ([]object.Upload, error) { return s.memStore.Uploads(ctx, key) })
}

// fault is an answer of OSS to one operation, or to all ("").
type fault struct {
	op, under string // prefix of the keys
	err       object.Error
}

func (f fault) fails(op, key string) error {
	if f.op != "" && !strings.Contains(" "+f.op+" ", " "+op+" ") || !strings.HasPrefix(key, f.under) {
		return nil
	}
	e := f.err
	e.Op, e.Key = op, key
	if e.Err == nil {
		e.Err = errors.New(e.Code)
	}
	return &e
}

func denied(op, under string) fault {
	return fault{op, under, object.Error{Kind: object.Denied, Fate: object.Answered, Status: 403, Code: "AccessDenied"}}
}

func pauses(code string) fault {
	return fault{"", "", object.Error{Kind: object.Wait, Fate: object.Answered, Status: 403, Code: code}}
}

const allPuts = "PutObject InitiateMultipartUpload UploadPart CompleteMultipartUpload"

// lines counts what is logged at info and above, and keeps it.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(p))
	return len(p), nil
}

func (l *lines) with(text string) (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		if strings.Contains(line, text) {
			out = append(out, line)
		}
	}
	return out
}

func (l *lines) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = nil
}

// outage is a queue on a virtual clock, and what it has to carry.
type outage struct {
	*rooms
	t     *testing.T
	store *ill
	log   *lines
	want  map[string]string // what OSS shall hold in the end
}

// inOutage plays story with rooms on a virtual clock.
func inOutage(t *testing.T, story func(o *outage), with ...func(o *Options)) {
	synctest.Test(t, func(t *testing.T) {
		s, l := newIll(), &lines{}
		with = slices.Insert(with, 0, func(o *Options) {
			o.Delay, o.PartSize, o.Threshold, o.Doubt = -1, 4, 10, 10*time.Second
			o.Log = slog.New(slog.NewTextHandler(l, nil))
			o.limits = limits{minPart: 1, copyPart: 4, maxCopy: 1 << 30, clone: 1 << 20}
		})
		story(&outage{rooms: openRooms(t, 0, s, with...), t: t, store: s, log: l, want: map[string]string{}})
	})
}

func (o *outage) ok(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

// write commits a file, new or known to be on OSS.
func (o *outage) write(key, text string) {
	o.t.Helper()
	ref := object.Ref{}
	if was, ok := o.store.get(key); ok {
		ref = was.ref(key)
	}
	x, err := o.c.Create()
	o.ok(err)
	defer x.Close()
	_, err = x.WriteAt([]byte(text), 0)
	o.ok(err)
	sign, err := x.Sign()
	o.ok(err)
	_, err = o.q.Change(func(c *Change) error {
		return c.Put(&Row{Key: key, Content: x.Number(), Size: sign.Size, SignSize: sign.Size, SignMtime: sign.Mtime, Closed: time.Now().UnixNano(),
			Attr: object.Attr{Mode: object.TypeFile | 0o644}, Known: true, Expected: ref})
	})
	o.ok(err)
	o.want[key] = text
}

func (o *outage) remove(key string) {
	o.t.Helper()
	was, _ := o.store.get(key)
	_, err := o.q.Change(func(c *Change) error { return c.Delete(key, was.ref(key), true) })
	o.ok(err)
	o.want[key] = ""
}

func (o *outage) rename(from, to string) {
	o.t.Helper()
	was, _ := o.store.get(from)
	ref := was.ref(from)
	_, err := o.q.Change(func(c *Change) error {
		return c.Move(from, to, &Row{Key: from, Base: ref, Size: ref.Size, Attr: object.Attr{Mode: object.TypeFile | 0o600}, Expected: ref, Known: true}, object.Ref{}, true)
	})
	o.ok(err)
	o.want[to], o.want[from] = string(was.data), ""
}

// drains has all arrive within a time, and compares.
func (o *outage) drains(within time.Duration) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), within)
	defer cancel()
	left, err := o.q.Drain(ctx)
	o.ok(err)
	if left != (Left{}) {
		s, _ := o.q.Status()
		o.t.Fatalf("after %s there is left %+v: %+v %+v", within, left, s.Waiting[:min(3, len(s.Waiting))], s.Kept)
	}
	o.arrived()
}

func (o *outage) arrived() {
	o.t.Helper()
	for key, text := range o.want {
		got, ok := o.store.get(key)
		if ok != (text != "") || string(got.data) != text {
			o.t.Errorf("%s holds %q, want %q", key, got.data, text)
		}
	}
}

func (o *outage) status() Status {
	o.t.Helper()
	s, err := o.q.Status()
	o.ok(err)
	return s
}

// work uploads what is changed later.
func (o *outage) work() {
	o.t.Helper()
	for i := range 12 {
		o.write(fmt.Sprintf("old/%d", i), fmt.Sprint("before ", i))
	}
	o.drains(time.Minute)
	o.log.reset()
	o.q.setDraining(false)
}

// burden commits something of everything: small and big files, new and changed,
// renames, deletes.
func (o *outage) burden(files int) {
	for i := range files {
		o.write(fmt.Sprintf("d%d/f%d", i%10, i), fmt.Sprint("new ", i))
	}
	for i := range 3 {
		o.write(fmt.Sprintf("big/%d", i), strings.Repeat(fmt.Sprint("part ", i), 7))
		o.write(fmt.Sprintf("old/%d", i), "replaced")
		o.rename(fmt.Sprintf("old/%d", i+3), fmt.Sprintf("moved/%d", i+3))
		o.remove(fmt.Sprintf("old/%d", i+6))
	}
}
