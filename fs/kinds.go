package fs

import (
	"cmp"
	"context"
	"errors"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
	"github.com/ossmount/ossmount/writeback"
)

// Objects of kinds of their own (H28). What cannot be read cannot be copied
// either, so that open, rename and new attributes of an archived object fail at
// the call. An OSS symlink is a symlink, and becomes one of ours when it is
// changed.

// setKind completes the entry of an object by what is special about it.
func (o *overlay) setKind(e *entry, oe object.Entry, a *journal.Attrs) {
	e.class = cmp.Or(oe.Class, a.Class)
	if a.Link == "" {
		return
	}
	e.link = o.linkText(e.key, a.Link)
	e.size = int64(len(e.link))
	e.headers = nil // those of the link; its successor is an object
	e.attr.Mode = object.TypeLink | 0o777
}

// linkText is what the symlink at key says when it stands for the key target: a
// path from its directory, or, where no path leads there, the target's name.
func (o *overlay) linkText(key, target string) string {
	prefix := o.fs.o.Prefix
	to, in := strings.CutPrefix(target, prefix)
	names := strings.Split(strings.TrimSuffix(to, "/"), "/")
	if !in || slices.ContainsFunc(names, func(n string) bool { return !nameable(n) }) {
		return "oss://" + o.fs.o.Bucket + "/" + target
	}
	text, err := filepath.Rel(path.Dir("/"+strings.TrimPrefix(key, prefix)), "/"+to)
	if err != nil {
		return "oss://" + o.fs.o.Bucket + "/" + target
	}
	return text
}

// head asks what an object carries that a listing shows as e.
func (o *overlay) head(ctx context.Context, e object.Entry) (object.Info, error) {
	if e.Type != object.TypeSymlink {
		return o.fs.remote.Head(ctx, e.Key)
	}
	info, err := o.fs.remote.Symlink(ctx, e.Key)
	if err != nil && object.KindOf(err) == object.Parked { // it is none any more
		return o.fs.remote.Head(ctx, e.Key)
	}
	if object.SameETag(info.ETag, e.ETag) {
		info.Size = e.Size // GetSymlink tells none
	}
	return info, err
}

// base is the version on OSS that the bytes of e are; zero: they are here.
func (e *entry) base() object.Ref {
	switch {
	case e.local:
		return object.Ref{}
	case e.row == nil:
		return e.ref
	case e.row.Content != 0:
		return object.Ref{}
	}
	return e.row.Base
}

// mayBeArchived reports that the bytes of e may have to be restored before they
// can be read or copied: OSS knows.
func (e *entry) mayBeArchived() bool {
	return !e.dir && e.link == "" && !e.base().IsZero() && object.NeedsRestore(cmp.Or(e.class, e.headers[object.HeaderClass]))
}

// withoutCopy returns r, which stands for e as a hole over its version, without
// the hole where OSS could not copy that, and what it says is known.
func (e *entry) withoutCopy(r *writeback.Row) *writeback.Row {
	switch {
	case e.link != "":
		r.Base, r.Text = object.Ref{}, e.link
	case e.dir && e.ref.Size == 0 && object.NeedsRestore(cmp.Or(e.class, e.headers[object.HeaderClass])):
		r.Base = object.Ref{}
	}
	return r
}

// readable fails with EPERM where the bytes of e are those of an archived object
// that has not been restored. That changes without a new version, so that OSS
// is asked each time.
func (f *FS) readable(ctx context.Context, e *entry) error {
	if !e.mayBeArchived() {
		return nil
	}
	return f.restored(ctx, e.base())
}

// restored is readable for a version of an archive class.
func (f *FS) restored(ctx context.Context, ref object.Ref) error {
	if n, err := f.q.CleanCopy(ref); err != nil || n != 0 {
		return err
	}
	info, err := ask(ctx, func(ctx context.Context) (object.Info, error) { return f.remote.Head(ctx, ref.Key) })
	if err != nil || !info.Archived() {
		return err
	}
	f.sayArchived.Do(func() {
		f.o.Log.Warn("an archived object can be neither read nor renamed nor given other attributes until it is restored: restore it first (ossutil restore, or the console), and try again", "key", ref.Key, "class", info.Class)
	})
	return fail(syscall.EPERM)
}

// restoreState is the state of a clean name, with what OSS says of its restore.
func (n *node) restoreState(ctx context.Context, state string) (string, error) {
	ctx, cancel := n.fs.patient(ctx)
	defer cancel()
	e, err := n.entry(ctx)
	if err != nil || !e.mayBeArchived() {
		return state, nil // whoever cannot be looked up has no state of his own
	}
	info, err := ask(ctx, func(ctx context.Context) (object.Info, error) { return n.fs.remote.Head(ctx, e.base().Key) })
	if err != nil {
		return "", err
	}
	until, restored := info.Restored()
	switch {
	case !object.NeedsRestore(info.Class):
		return state, nil
	case info.Restoring():
		return "restoring", nil
	case restored:
		return "restored until " + until.UTC().Format(time.RFC3339), nil
	}
	return "archived", nil
}

// isLocal reports that the file's bytes are here.
func (x *file) isLocal() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.content != nil
}

// beneath is an object beneath a directory that is about to move.
type beneath struct {
	ref         object.Ref
	kind, class string         // as the listing shows them
	row         *writeback.Row // what stands for it, if that is not a hole over it
}

// clean is what stands for the object in a change. Its attributes are asked for
// when it is carried, or looked at.
func (b beneath) clean() *writeback.Row {
	if b.row != nil {
		return b.row
	}
	return &writeback.Row{Base: b.ref, Size: b.ref.Size, Expected: b.ref, Known: true, Unlearnt: true}
}

// ready sees to it that everything found beneath the directory key can be moved:
// OSS is asked about what is archived and what is a symlink, many at once.
func (o *overlay) ready(ctx context.Context, key string, found map[string]beneath) error {
	var special []string
	for k, b := range found {
		if k != key && (b.kind == object.TypeSymlink || object.NeedsRestore(b.class)) {
			special = append(special, k)
		}
	}
	rows := make([]*writeback.Row, len(special))
	g, any := errgroup.WithContext(ctx)
	g.SetLimit(aheadAsk)
	for i, k := range special {
		b := found[k]
		g.Go(func() (err error) {
			if any.Err() != nil {
				return any.Err()
			}
			ctx, cancel := o.fs.patient(ctx) // for as long as answers come
			defer cancel()
			perr := o.fs.guard(func() { rows[i], err = o.standIn(ctx, k, b) })
			return errors.Join(err, perr)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, k := range special {
		b := found[k]
		b.row = rows[i]
		found[k] = b
	}
	return nil
}

// standIn returns what stands for the object at key that OSS would not copy;
// nil: it can be copied.
func (o *overlay) standIn(ctx context.Context, key string, b beneath) (*writeback.Row, error) {
	if row, err := o.q.Row(key); err != nil || row != nil {
		return nil, err // it is what the row says
	}
	oe := object.Entry{Key: key, ETag: b.ref.ETag, Size: b.ref.Size, Type: b.kind, Class: b.class}
	switch {
	case b.kind == object.TypeSymlink:
		e, err := o.ofObject(ctx, oe, true, nil)
		if err != nil {
			return nil, err
		}
		return e.clean(), nil
	case strings.HasSuffix(key, "/") && b.ref.Size == 0: // a directory has no bytes to be copied
		a, err := o.attrs(ctx, oe)
		if err != nil {
			return nil, err
		}
		e := &entry{key: key, dir: true, ref: a.Ref, class: b.class, headers: a.Headers, meta: a.Meta.Foreign(),
			attr: object.ReadAttr(a.Meta, o.defaults(true, a.LastModified))}
		return e.clean(), nil
	}
	return nil, o.fs.restored(ctx, b.ref)
}
