package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/writeback"
)

// hooked runs f before each deep listing, and fails some listings.
type hooked struct {
	Remote
	before func(q object.ListQuery) error
}

func (h *hooked) List(ctx context.Context, q object.ListQuery) (object.Page, error) {
	if err := h.before(q); err != nil {
		return object.Page{}, err
	}
	return h.Remote.List(ctx, q)
}

func (b *testbed) text(key string) string {
	info, err := b.oss.Head(context.Background(), key)
	if err != nil {
		return "(absent)"
	}
	r, err := b.oss.Get(context.Background(), info.Ref, 0, info.Size)
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	s, _ := io.ReadAll(r)
	return string(s)
}

// A file that is exchanged with a directory settles while the directory is
// listed: it must not be lost.
func TestExchangeOfWhatSettlesMeanwhile(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	gofs.NewNodeFS(b.fs.Root(), &gofs.Options{})
	b.object(t, "d/x", []byte("in the directory"))
	if _, err := b.fs.q.Change(func(c *writeback.Change) error {
		return c.Put(&writeback.Row{Key: "a", Text: "precious", Size: 8, Attr: object.Attr{Mode: object.TypeFile | 0o644}, Known: true})
	}); err != nil {
		t.Fatal(err)
	}
	once := false
	b.fs.remote = &hooked{b.fs.remote, func(q object.ListQuery) error {
		if q.Prefix == "d/" && q.Delimiter == "" && !once {
			once = true
			if left, err := b.fs.q.Drain(context.Background()); err != nil || left.Pending > 0 {
				t.Errorf("drain: %+v %v", left, err)
			}
		}
		return nil
	}}
	errno := b.fs.root.Rename(t.Context(), "a", b.fs.root, "d", renameExchange)
	t.Logf("exchange: %v; hooked %v; root now %q", errno, once, b.list(t, ""))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, _ = b.fs.q.Drain(ctx)
	if got := b.text("d"); got != "precious" {
		t.Errorf("d holds %q, a holds %q, a/x holds %q, d/x holds %q; root %q", got, b.text("a"), b.text("a/x"), b.text("d/x"), b.list(t, ""))
	}
}

// What is published beside the bytes of a directory settles while the directory
// is listed, and it is all there at the new place.
func TestMetadataThatSettlesMeanwhile(t *testing.T) {
	for to, flags := range map[string]uint32{"e": 0, "o": renameExchange} {
		b := newTestbed(t, t.TempDir())
		defer b.tidy()
		gofs.NewNodeFS(b.fs.Root(), &gofs.Options{})
		b.object(t, "o", []byte("a file"))
		if _, err := b.fs.q.Change(func(c *writeback.Change) error {
			return c.Put(&writeback.Row{Key: "d/", Attr: object.Attr{Mode: object.TypeDir | 0o700}, Meta: object.Meta{"color": "red"}, Known: true})
		}); err != nil {
			t.Fatal(err)
		}
		settles := func() {
			if left, err := b.fs.q.Drain(context.Background()); err != nil || left.Pending > 0 {
				t.Errorf("drain: %+v %v", left, err)
			}
		}
		b.fs.remote = &hooked{b.fs.remote, func(q object.ListQuery) error {
			if q.Prefix == "d/" && q.Delimiter == "" {
				settles()
			}
			return nil
		}}
		if errno := b.fs.root.Rename(t.Context(), "d", b.fs.root, to, flags); errno != 0 {
			t.Error(errno)
		}
		settles()
		info, err := b.oss.Head(t.Context(), to+"/")
		if a := object.ReadAttr(info.Meta, object.Attr{}); err != nil || info.Meta["color"] != "red" || a.Mode&0o777 != 0o700 {
			t.Errorf("%s/ carries %v, %v", to, info.Meta, err)
		}
	}
}

// A file where a directory was, whose Delete settles before the listing or while
// it is given out, is always shown: neither may be taken to come as the other.
func TestFileWhereADirectorySettles(t *testing.T) {
	for _, when := range []string{"before", "meanwhile"} {
		b := newTestbed(t, t.TempDir())
		defer b.tidy()
		b.fs.o.MetaTTL = time.Hour
		want := ""
		for _, key := range []string{"d/b", "d/b!1", "d/b!2", "d/b!3", "d/b!4", "d/b!5", "d/b!6", "d/b!7", "d/b!8", "d/b!9"} {
			b.object(t, key, []byte("x"))
			want += key[2:] + " "
		}
		b.object(t, "d/b/", nil)
		b.row(t, "d/b/", false)
		settles := func() {
			if left, err := b.fs.q.Drain(context.Background()); err != nil || left.Pending > 0 {
				t.Errorf("drain: %+v %v", left, err)
			}
		}
		if when == "before" { // and the listing was asked for still earlier
			b.list(t, "d/")
			settles()
		}
		s, err := b.fs.overlay.stream(t.Context(), "d/", nil, "")
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		if when == "meanwhile" {
			settles()
		}
		got := ""
		for {
			i, ok, err := s.next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			got += i.order() + " "
		}
		if got != want {
			t.Errorf("%s: listed %s", when, got)
		}
	}
}

// Whether a directory from which all is going hides the file of its name is no
// matter of who gets a signal while OSS is asked.
func TestInterruptsHideNoFile(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	b.object(t, "d/b", []byte("x"))
	b.object(t, "d/b/x", nil)
	b.row(t, "d/b/x", false)
	s, err := b.fs.overlay.stream(t.Context(), "d/", nil, "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	if i, ok, err := s.next(interrupted); err != nil || !ok || i.order() != "b" {
		t.Errorf("listed %q %v %v", i.order(), ok, err)
	}
}

// After a page that could not be had, the same handle goes on and does not end
// as if there were no more.
func TestListingGoesOnAfterAnError(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	for _, k := range []string{"big/a", "big/b", "big/c", "big/d", "big/e", "big/f"} {
		b.object(t, k, nil)
	}
	pages := 0
	b.fs.remote = &hooked{&smallPages{Remote: b.fs.remote, max: 2}, func(q object.ListQuery) error {
		if pages++; pages == 2 {
			return &object.Error{Op: "ListObjectsV2", Kind: object.Denied, Fate: object.Answered, Status: 403, Err: errors.New("no")}
		}
		return nil
	}}
	b.fs.overlay.big["big/"] = time.Now().Add(time.Hour)
	s, err := b.fs.overlay.stream(t.Context(), "big/", nil, "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	var got []string
	for tries := 0; tries < 3; {
		i, ok, err := s.next(t.Context())
		if err != nil {
			t.Log("error:", err)
			tries++
			continue
		}
		if !ok {
			break
		}
		got = append(got, i.name)
	}
	if s := strings.Join(got, ""); s != "abcdef" {
		t.Errorf("listed %q", s)
	}
}

// Two questions for one name at the same time (LOOKUP, and READDIRPLUS of the
// directory) find one inode.
func TestOneInodeOfOneName(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	raw := gofs.NewNodeFS(b.fs.Root(), &gofs.Options{RootStableAttr: &gofs.StableAttr{Ino: 1, Mode: fuse.S_IFDIR}})
	twice := 0
	for i := range 200 {
		name := fmt.Sprintf("f%d", i)
		b.object(t, name, []byte("x"))
		var ids [2]uint64
		var g sync.WaitGroup
		for k := range ids {
			g.Go(func() {
				var out fuse.EntryOut
				if s := raw.Lookup(nil, &fuse.InHeader{NodeId: 1}, name, &out); !s.Ok() {
					t.Errorf("lookup: %v", s)
				}
				ids[k] = out.NodeId
			})
		}
		g.Wait()
		if ids[0] != ids[1] {
			twice++
		}
	}
	if twice > 0 {
		t.Errorf("%d of 200 names have two inodes", twice)
	}
}

// What is learnt of an object within two seconds of its LastModified may be of
// an older one of the same second and the same bytes: it is asked once more.
// covers H23
func TestYoungObjectsAreAskedOnceMore(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	b.object(t, "f", []byte("x"))
	info, err := b.oss.Head(t.Context(), "f")
	if err != nil {
		t.Fatal(err)
	}
	heads := 0
	b.fs.remote = &heading{b.fs.remote, &heads}
	look := func() {
		t.Helper()
		if _, err := b.fs.overlay.attrs(t.Context(), object.Entry{Key: "f", ETag: info.ETag, Size: 1, LastModified: info.LastModified}); err != nil {
			t.Fatal(err)
		}
	}
	young := info
	young.Date = info.LastModified.Add(time.Second)
	b.fs.overlay.learn(young, b.fs.q.Newest())
	look()
	if heads != 0 {
		t.Errorf("asked %d times while it is young", heads)
	}
	young.LastModified = info.LastModified.Add(-time.Minute) // as if a minute had passed
	young.Date = young.LastModified.Add(time.Second)
	b.fs.overlay.learn(young, b.fs.q.Newest())
	info.LastModified = young.LastModified
	look()
	if heads != 1 {
		t.Errorf("asked %d times when it had grown older, want once", heads)
	}
}

type heading struct {
	Remote
	n *int
}

func (h *heading) Head(ctx context.Context, key string) (object.Info, error) {
	*h.n++
	return h.Remote.Head(ctx, key)
}

// A directory that only its pending files imply, while the Delete of its own
// object waits: it can be changed like any other.
func TestImpliedBesideADelete(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	raw := gofs.NewNodeFS(b.fs.Root(), &gofs.Options{RootStableAttr: &gofs.StableAttr{Ino: 1, Mode: fuse.S_IFDIR}})
	b.object(t, "d/", nil)
	b.object(t, "o/x", nil)
	b.row(t, "d/", false)
	b.row(t, "d/x", true)
	var out fuse.EntryOut
	if s := raw.Lookup(nil, &fuse.InHeader{NodeId: 1}, "d", &out); !s.Ok() {
		t.Fatalf("lookup %v", s)
	}
	var a fuse.AttrOut
	in := fuse.SetAttrIn{}
	in.NodeId = out.NodeId
	in.Valid, in.Mode = fuse.FATTR_MODE, 0o700
	if s := raw.SetAttr(nil, &in, &a); !s.Ok() {
		t.Errorf("chmod: %v", syscall.Errno(s))
	}
	if errno := b.fs.root.Rename(t.Context(), "d", b.fs.root, "o", renameExchange); errno != 0 {
		t.Errorf("exchange: %v", errno)
	}
}

// chmod of a directory while its rename lists what is in it is not undone.
func TestChmodWhileADirectoryIsRenamed(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	gofs.NewNodeFS(b.fs.Root(), &gofs.Options{})
	b.object(t, "d/x", []byte("x"))
	if _, err := b.fs.q.Change(func(c *writeback.Change) error {
		return c.Put(&writeback.Row{Key: "d/", Attr: object.Attr{Mode: object.TypeDir | 0o755}, Known: true})
	}); err != nil {
		t.Fatal(err)
	}
	b.fs.remote = &hooked{b.fs.remote, func(q object.ListQuery) error {
		if q.Prefix == "d/" && q.Delimiter == "" {
			_, err := b.fs.q.Change(func(c *writeback.Change) error {
				return c.Alter("d/", nil, func(r *writeback.Row) { r.Attr.Mode = object.TypeDir | 0o700 })
			})
			return err
		}
		return nil
	}}
	if errno := b.fs.root.Rename(t.Context(), "d", b.fs.root, "e", 0); errno != 0 {
		t.Fatal(errno)
	}
	row, err := b.fs.q.Row("e/")
	if err != nil || row == nil || row.Attr.Mode&0o777 != 0o700 {
		t.Errorf("%+v %v", row, err)
	}
}

// While one call asks OSS about a directory, another renames the directory that
// it lies in: the first one means what it meant, wherever that lies now.
func TestTheWayMovesMeanwhile(t *testing.T) {
	calls := []struct {
		name string
		do   func(a, o *node) syscall.Errno
		want string
	}{
		{"rename of a directory", func(a, _ *node) syscall.Errno { return a.Rename(t.Context(), "d", a, "e", 0) }, "far away/e/x=x far away/f=f o/d/y=y"},
		{"rename of a directory out of it", func(a, o *node) syscall.Errno { return a.Rename(t.Context(), "d", o, "e", 0) }, "far away/f=f o/d/y=y o/e/x=x"},
		{"rename of a directory into it", func(a, o *node) syscall.Errno { return o.Rename(t.Context(), "d", a, "e", 0) }, "far away/d/x=x far away/e/y=y far away/f=f"},
		{"exchange", func(a, o *node) syscall.Errno { return a.Rename(t.Context(), "d", o, "d", renameExchange) }, "far away/d/y=y far away/f=f o/d/x=x"},
		{"exchange with a file", func(a, _ *node) syscall.Errno { return a.Rename(t.Context(), "f", a, "d", renameExchange) }, "far away/d=f far away/f/x=x o/d/y=y"},
		{"rename of a file", func(a, _ *node) syscall.Errno { return a.Rename(t.Context(), "f", a, "g", 0) }, "far away/d/x=x far away/g=f o/d/y=y"},
		{"unlink", func(a, _ *node) syscall.Errno { return a.Unlink(t.Context(), "f") }, "far away/d/x=x o/d/y=y"},
		{"chmod", func(a, _ *node) syscall.Errno {
			return a.Setattr(t.Context(), nil, &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{Valid: fuse.FATTR_MODE, Mode: 0o700}}, &fuse.AttrOut{})
		}, "far away/ far away/d/x=x far away/f=f o/d/y=y"},
		{"mkdir", func(a, _ *node) syscall.Errno {
			_, errno := a.Mkdir(t.Context(), "new", 0o755, &fuse.EntryOut{})
			return errno
		}, "far away/d/x=x far away/f=f far away/new/ o/d/y=y"},
		{"lookup", func(a, _ *node) syscall.Errno {
			_, errno := a.Lookup(t.Context(), "f", &fuse.EntryOut{})
			return errno
		}, "far away/d/x=x far away/f=f o/d/y=y"},
	}
	for _, c := range calls {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for at, more := 1, true; more; at++ { // before each of its questions about a directory
				t.Run(fmt.Sprint(at), func(t *testing.T) {
					b := newTestbed(t, t.TempDir())
					defer b.tidy()
					raw := gofs.NewNodeFS(b.fs.root, &gofs.Options{RootStableAttr: &gofs.StableAttr{Ino: 1, Mode: fuse.S_IFDIR}})
					for _, key := range []string{"a/d/x", "a/f", "o/d/y"} {
						b.object(t, key, []byte(path.Base(key)))
					}
					node := func(name string) *node {
						if s := raw.Lookup(nil, &fuse.InHeader{NodeId: 1}, name, &fuse.EntryOut{}); !s.Ok() {
							t.Fatal(s)
						}
						return b.fs.root.childNode(name)
					}
					a, o := node("a"), node("o")
					n := 0
					b.fs.remote = &hooked{b.fs.remote, func(q object.ListQuery) error {
						if q.Prefix == "" { // which the rename asks for, too, and only once for both
							return nil
						}
						if n++; n == at {
							if errno := b.fs.root.Rename(t.Context(), "a", b.fs.root, "far away", 0); errno != 0 {
								t.Error(errno)
							}
						}
						return nil
					}}
					if errno := c.do(a, o); errno != 0 {
						t.Error(errno)
					}
					if more = n >= at; !more {
						return
					}
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					defer cancel()
					if left, err := b.fs.q.Drain(ctx); err != nil || left.Pending > 0 {
						t.Errorf("drain: %+v %v", left, err)
					}
					page, err := b.oss.List(ctx, object.ListQuery{})
					if err != nil {
						t.Fatal(err)
					}
					var got []string
					for _, e := range page.Entries {
						if text := b.text(e.Key); text != "" {
							got = append(got, e.Key+"="+text)
						} else if strings.Contains(c.want, e.Key+" ") {
							got = append(got, e.Key)
						}
					}
					if s := strings.Join(got, " "); s != c.want {
						t.Errorf("OSS holds %q, want %q", s, c.want)
					}
				})
			}
		})
	}
}

// A file is opened, written to and closed by somebody else while an open looks
// where its bytes are: what that has found is not what the file is.
func TestOpenBesideAWholeLifeOfTheFile(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	gofs.NewNodeFS(b.fs.Root(), &gofs.Options{})
	b.object(t, "f", []byte("what it was"))
	inode, errno := b.fs.root.Lookup(t.Context(), "f", &fuse.EntryOut{})
	if errno != 0 {
		t.Fatal(errno)
	}
	n := inode.Operations().(*node)
	_, ends := n.share(true)
	x, err := n.prepare(t.Context(), true, false)
	if err != nil {
		t.Fatal(err)
	}
	h, _, errno := n.Open(t.Context(), syscall.O_WRONLY)
	if errno != 0 {
		t.Fatal(errno)
	}
	other := h.(*handle)
	if _, errno := other.Write(t.Context(), []byte(" and more"), 11); errno != 0 {
		t.Fatal(errno)
	}
	if errno := other.Flush(t.Context()); errno != 0 {
		t.Fatal(errno)
	}
	other.Release(t.Context())
	if n.install(x, ends) {
		t.Errorf("it was opened with %d bytes, and has %d", x.size, len("what it was and more"))
	}
	x.handles, x.writers = 0, 0
	x.end(true)
}

// A file is truncated by its name while its last handle goes, which nobody waits for
// after a close: what was acknowledged is in the journal.
func TestTruncatedWhileTheLastHandleGoes(t *testing.T) {
	b := newTestbed(t, t.TempDir())
	defer b.tidy()
	gofs.NewNodeFS(b.fs.Root(), &gofs.Options{})
	for i := range 200 {
		name := fmt.Sprint("f", i)
		var out fuse.EntryOut
		inode, fh, _, errno := b.fs.root.Create(t.Context(), name, syscall.O_RDWR, 0o644, &out)
		if errno != 0 {
			t.Fatal(errno)
		}
		h := fh.(*handle)
		if _, errno := h.Write(t.Context(), []byte("text"), 0); errno != 0 {
			t.Fatal(errno)
		}
		if errno := h.Flush(t.Context()); errno != 0 {
			t.Fatal(errno)
		}
		var both sync.WaitGroup
		both.Go(func() { h.Release(context.Background()) })
		both.Go(func() {
			in := fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{Valid: fuse.FATTR_SIZE, Size: 1000}}
			if errno := inode.Operations().(*node).Setattr(context.Background(), nil, &in, &fuse.AttrOut{}); errno != 0 {
				t.Error(errno)
			}
			row, err := b.fs.q.Row(name)
			if err != nil || row == nil || row.Size != 1000 {
				t.Errorf("%s: the row says %+v, %v", name, row, err)
			}
		})
		both.Wait()
	}
}
