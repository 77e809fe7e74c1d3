package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/internal/ossemu"
	"github.com/ossmount/ossmount/internal/remote"
	"github.com/ossmount/ossmount/journal"
	"github.com/ossmount/ossmount/writeback"
)

type key struct{}

func (key) Get(context.Context) (remote.Key, error) { return remote.Key{ID: "ak", Secret: "sk"}, nil }

// counted is a client of OSS that counts what is read, and can be made to fail.
type counted struct {
	*remote.Client
	gets, bytes atomic.Int64
	fail        atomic.Pointer[object.Error]
}

func (c *counted) Get(ctx context.Context, ref object.Ref, off, n int64) (io.ReadCloser, error) {
	c.gets.Add(1)
	if err := c.fail.Load(); err != nil {
		return nil, err
	}
	c.bytes.Add(n)
	return c.Client.Get(ctx, ref, off, n)
}

// testbed is a file system without a kernel, over the built-in OSS server. No
// row is carried: the delay is an hour.
type testbed struct {
	fs   *FS
	oss  *counted
	srv  *httptest.Server
	tidy func()
}

type tb interface {
	Fatal(args ...any)
	Helper()
}

func newTestbed(t tb, dir string) *testbed {
	t.Helper()
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	emu, err := ossemu.Open(ctx, filepath.Join(dir, "oss"), ossemu.Options{Keys: map[string]string{"ak": "sk"}})
	must(err)
	must(emu.CreateBucket("bkt"))
	srv := httptest.NewServer(emu)
	client, err := remote.Open(remote.Options{Endpoint: srv.URL, Bucket: "bkt", Credentials: key{}, Concurrency: 8})
	must(err)
	c, err := cache.Open(filepath.Join(dir, "cache"), cache.Options{Identity: cache.Identity{Bucket: "bkt"}})
	must(err)
	j, err := journal.Open(ctx, filepath.Join(dir, "journal"), journal.Options{Contents: c})
	must(err)
	b := &testbed{oss: &counted{Client: client}, srv: srv}
	q, err := writeback.Open(ctx, writeback.Options{Remote: client, Journal: j, Cache: c, Delay: time.Hour})
	must(err)
	b.fs = New(ctx, Options{Remote: b.oss, Queue: q, Cache: c, MetaTTL: time.Nanosecond, Stall: 5 * time.Second})
	b.tidy = func() {
		b.fs.Close()
		q.Close(time.Second)
		must(errors.Join(j.Close(), c.Close()))
		client.Close()
		srv.Close()
		must(emu.Close())
	}
	return b
}

func (b *testbed) object(t tb, key string, data []byte) {
	t.Helper()
	if _, err := b.oss.Put(context.Background(), key, bytes.NewReader(data), int64(len(data)), object.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (b *testbed) row(t tb, key string, put bool) {
	t.Helper()
	_, err := b.fs.q.Change(func(c *writeback.Change) error {
		if !put {
			info, err := b.oss.Head(context.Background(), key)
			return c.Delete(key, info.Ref, err == nil)
		}
		mode := object.TypeFile
		if strings.HasSuffix(key, "/") {
			mode = object.TypeDir
		}
		return c.Put(&writeback.Row{Key: key, Attr: object.Attr{Mode: mode | 0o755}, Known: true})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (b *testbed) list(t tb, dir string) (out []string) {
	t.Helper()
	return b.listFrom(t, dir, "")
}

func (b *testbed) listFrom(t tb, dir, after string) (out []string) {
	t.Helper()
	s, err := b.fs.overlay.stream(context.Background(), dir, nil, after)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for {
		n, ok, err := s.next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return out
		}
		if n.shown() == object.TypeDir {
			out = append(out, n.name+"/")
		} else {
			out = append(out, n.name)
		}
	}
}

// Situations of a name: what OSS holds, what the intents say, what is shown.
func TestIntentsOverListings(t *testing.T) {
	for _, c := range []struct {
		name             string
		oss, put, delete []string
		want             string
	}{
		{"OSS alone", []string{"a", "d/x"}, nil, nil, "a d/"},
		{"an intent wins", []string{"a"}, []string{"a", "b"}, nil, "a b"},
		{"a delete hides", []string{"a", "b"}, nil, []string{"a"}, "b"},
		{"an object and a prefix of one name show as the directory", []string{"a", "a/x"}, nil, nil, "a/"},
		{"a file over a directory that is going", []string{"a/x"}, []string{"a"}, []string{"a/", "a/x"}, "a"},
		{"a directory over a file that is going", []string{"a"}, []string{"a/"}, []string{"a"}, "a/"},
		{"a prefix whose last name is going is no directory", []string{"d/x", "d/y"}, nil, []string{"d/x", "d/y"}, ""},
		{"a prefix of which one name stays is one", []string{"d/x", "d/y"}, nil, []string{"d/x"}, "d/"},
		{"a marker keeps an empty directory", []string{"d/", "d/x"}, nil, []string{"d/x"}, "d/"},
		{"names that no path can have are left out", []string{"./x", "../x", "/x", "a//b", strings.Repeat("n", 256)}, nil, nil, "a/"},
		{"the engine's hidden copies are hidden", []string{".ossmount/x/1", "a/.ossmount"}, nil, nil, "a/"},
		{"order is by key, as OSS pages it", []string{"a/x", "a.b", "a0"}, []string{"a-"}, nil, "a- a.b a/ a0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newTestbed(t, t.TempDir())
			defer b.tidy()
			for _, k := range c.oss {
				if strings.HasPrefix(k, "/") {
					continue // OSS itself refuses it
				}
				b.object(t, k, []byte("x"))
			}
			for _, k := range c.put {
				b.row(t, k, true)
			}
			for _, k := range c.delete {
				b.row(t, k, false)
			}
			got := b.list(t, "")
			want := strings.Fields(c.want)
			if !slices.Equal(got, want) {
				t.Errorf("shown %q, want %q", got, want)
			}
		})
	}
}

// What a listing shows can be looked up, as what it shows, and nothing else
// can; and both are what a model says. covers H20
func TestListingAndLookupAgree(t *testing.T) {
	names := []string{"a", "b", "a.b", "c"}
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		base := fmt.Sprintf("run%d/", run) // a directory for each
		keys := func(label string) []string {
			return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
				k := rapid.SampledFrom(names).Draw(t, "name")
				return k + rapid.SampledFrom([]string{"", "", "/", "/x", "/y/z"}).Draw(t, "below")
			}), 0, 6).Draw(t, label)
		}
		for _, k := range keys("objects") {
			b.object(t, base+k, nil)
		}
		for _, k := range keys("puts") {
			b.row(t, base+k, true)
		}
		for _, k := range keys("deletes") {
			b.row(t, base+k, false)
		}
		shown := b.list(t, base)
		if !sort.SliceIsSorted(shown, func(i, k int) bool {
			return shown[i] < shown[k]
		}) {
			t.Fatalf("out of order: %q", shown)
		}
		for _, n := range names {
			e, err := b.fs.overlay.lookup(context.Background(), base, n)
			if err != nil && b.fs.errno("lookup", err) != syscall.ENOENT {
				t.Fatal(err)
			}
			file, dir := slices.Contains(shown, n), slices.Contains(shown, n+"/")
			// A directory that only pending files of ours keep in being is found
			// by its name before it is listed.
			if err == nil && e.dir && !dir && b.fs.overlay.living(base+n+"/") {
				continue
			}
			if (err == nil) != (file || dir) || err == nil && e.dir != dir {
				t.Fatalf("%q: listed %q, looked up %+v, %v", n, shown, e, err)
			}
		}
	})
}

// The first byte of a big object is there long before its last one: only
// ranges are fetched, once, and more when reads follow each other.
func TestReadsFetchRanges(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MiB
	b.object(t, "big", data)
	s := b.version(t, "big")
	defer s.release()
	p := make([]byte, 1000)
	for _, off := range []int64{9 << 20, 9<<20 + 500, 100, int64(len(data)) - 10} {
		n, err := s.readAt(t.Context(), p, off)
		if err != nil || !bytes.Equal(p[:n], data[off:off+int64(n)]) || n == 0 {
			t.Fatalf("at %d: %d bytes, %v", off, n, err)
		}
	}
	if got := b.oss.bytes.Load(); got > 6<<20 {
		t.Errorf("four small reads fetched %d bytes", got)
	}
	whole := make([]byte, len(data))
	for off := 0; off < len(whole); {
		n, err := s.readAt(t.Context(), whole[off:min(off+128<<10, len(whole))], int64(off))
		if err != nil {
			t.Fatal(err)
		}
		off += n
	}
	if !bytes.Equal(whole, data) || !s.whole() {
		t.Error("the whole is not what was put")
	}
	if got := b.oss.bytes.Load(); got != int64(len(data)) {
		t.Errorf("%d bytes were fetched of %d", got, len(data))
	}
}

// A version that somebody else replaces is ESTALE to who has it open, never a
// mixture; a refusal is an error at once, and not for ever.
func TestReadsThatFail(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	b.object(t, "f", bytes.Repeat([]byte("old"), 1<<20))
	e, err := b.fs.overlay.lookup(t.Context(), "", "f")
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.fs.sparse(e.ref, e.size)
	if err != nil {
		t.Fatal(err)
	}
	defer s.release()
	p := make([]byte, 10)
	b.oss.fail.Store(&object.Error{Op: "GetObject", Kind: object.Denied, Fate: object.Answered, Status: 403})
	if _, err := s.readAt(t.Context(), p, 0); b.fs.errno("read", err) != syscall.EACCES {
		t.Errorf("a refused read: %v", err)
	}
	b.oss.fail.Store(nil)
	if n, err := s.readAt(t.Context(), p, 0); err != nil || string(p[:n]) != "oldoldoldo" {
		t.Errorf("read %q, %v", p[:n], err)
	}
	b.object(t, "f", bytes.Repeat([]byte("new"), 1<<20))
	if _, err := s.readAt(t.Context(), p, 2<<20); b.fs.errno("read", err) != syscall.ESTALE {
		t.Errorf("a read of a version that is gone: %v", err)
	}
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	s2, err := b.fs.sparse(object.Ref{Key: "f", ETag: "other", Size: 10}, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer s2.release()
	if _, err := s2.readAt(interrupted, p, 0); b.fs.errno("read", err) != syscall.EINTR {
		t.Errorf("an interrupted read: %v", err)
	}
}

// A directory that is gone stays gone: a listing from the middle of its
// deletion still shows it as a prefix, when the rows have all settled.
// covers H20
func TestDirectoryGoneInTheMiddleOfAListing(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	b.fs.o.MetaTTL = time.Hour
	b.object(t, "d/x", nil)
	b.row(t, "d/x", false)
	if got := b.list(t, ""); len(got) != 0 { // OSS still lists d/
		t.Fatalf("shown %q", got)
	}
	if left, err := b.fs.q.Drain(t.Context()); err != nil || left.Pending != 0 {
		t.Fatalf("%+v, %v", left, err)
	}
	if got := b.list(t, ""); len(got) != 0 {
		t.Errorf("after its deletion has settled: shown %q", got)
	}
	if e, err := b.fs.overlay.lookup(t.Context(), "", "d"); b.fs.errno("lookup", err) != syscall.ENOENT {
		t.Errorf("looked up %+v, %v", e, err)
	}
}

// A process that is interrupted while it lists a directory gets EINTR, never
// fewer names: the answer is still waited for by the file system, and serves
// the next one. covers H42
func TestInterruptedListing(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	interrupted := 0
	for i := range 50 {
		dir := fmt.Sprintf("d%d/", i)
		b.object(t, dir+"x", nil)
		s, err := b.fs.overlay.stream(ctx, dir, nil, "")
		switch {
		case err == nil: // the answer was there before anybody looked
			s.close()
		case b.fs.errno("readdir", err) == syscall.EINTR:
			interrupted++
		default:
			t.Errorf("interrupted: %v", err)
		}
		if got := b.list(t, dir); !slices.Equal(got, []string{"x"}) {
			t.Errorf("the next listing shows %q", got)
		}
	}
	if interrupted == 0 {
		t.Error("none was interrupted")
	}
}

// While OSS does not answer, a directory that was never listed shows what is
// remembered of it and ends with EIO; a name that is not remembered is EIO, not
// absent. One that we have made ourselves is known whole.
func TestSilenceIsNoAbsence(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	b.fs.o.Stall = 100 * time.Millisecond
	b.object(t, "d/known", nil)
	b.object(t, "d/unknown", nil)
	if _, err := b.fs.overlay.lookup(t.Context(), "d/", "known"); err != nil {
		t.Fatal(err)
	}
	b.row(t, "d/pending", true)
	b.row(t, "ours/", true)
	b.row(t, "ours/f", true)
	b.fs.overlay.forget("")
	b.srv.Close()
	defer b.tidy()
	s, err := b.fs.overlay.stream(t.Context(), "d/", nil, "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	var got []string
	for {
		n, ok, err := s.next(t.Context())
		if err != nil {
			if b.fs.errno("readdir", err) != syscall.EIO {
				t.Error(err)
			}
			break
		}
		if !ok {
			t.Error("the listing looks whole")
			break
		}
		got = append(got, n.name)
	}
	if !slices.Equal(got, []string{"known", "pending"}) {
		t.Errorf("shown %q", got)
	}
	for name, want := range map[string]syscall.Errno{"known": 0, "pending": 0, "unknown": syscall.EIO, "other": syscall.EIO} {
		if _, err := b.fs.overlay.lookup(t.Context(), "d/", name); b.fs.errno("lookup", err) != want {
			t.Errorf("lookup %s: %v", name, err)
		}
	}
	if got := b.list(t, "ours/"); !slices.Equal(got, []string{"f"}) {
		t.Errorf("ours shows %q", got)
	}
	if _, err := b.fs.overlay.lookup(t.Context(), "ours/", "new"); b.fs.errno("lookup", err) != syscall.ENOENT {
		t.Errorf("a new name in ours: %v", err)
	}
}
