package fs

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/writeback"
)

// Attributes that tell about a file.
const (
	xattrState    = "user.ossmount.state"    // clean, pending, paused, uploading 3/12, parked: reason, interrupted, archived
	xattrProgress = "user.ossmount.progress" // SENT/SIZE bytes of what is to be sent
	xattrETag     = "user.ossmount.etag"     // of the version on OSS that is shown
	xattrURL      = "user.ossmount.url"      // oss://BUCKET/KEY
	xattrControl  = "user.ossmount.control"  // of the root: the path of the control socket
	xattrOurs     = "user.ossmount."
)

// metaXattr is the user metadata that keeps user.* as ossfs 1.x does: JSON of
// names and base64 values, URL-encoded.
const metaXattr = "xattr"

// ownMeta is what we keep of an object's user metadata for mode, owner, times and tag.
const ownMeta = 512

// Flags of setxattr(2).
const (
	xattrCreate  = 1
	xattrReplace = 2
)

func (n *node) told(ctx context.Context, name string) (string, bool, error) {
	switch {
	case name == xattrControl && n.fs.root == n && n.fs.o.ControlSocket != "":
		return n.fs.o.ControlSocket, true, nil
	case name == xattrState:
		if x := n.openFile(); x != nil && x.writing() {
			return "open", true, nil
		}
		v, err := n.fs.q.State(n.key())
		if err == nil && v == "clean" {
			v, err = n.restoreState(ctx, v)
		}
		return v, true, err
	case name == xattrProgress:
		v, err := n.toldProgress()
		return v, true, err
	case name == xattrETag:
		v, err := n.toldETag(ctx)
		return v, true, err
	case name == xattrURL:
		return "oss://" + n.fs.o.Bucket + "/" + n.key(), true, nil
	}
	return "", false, nil
}

// toldProgress is how much OSS has acknowledged of what is to be sent.
func (n *node) toldProgress() (string, error) {
	sent, size, ok, err := n.fs.q.Progress(n.key())
	if err == nil && !ok {
		err = fail(syscall.ENODATA)
	}
	return fmt.Sprintf("%d/%d", sent, size), err
}

// toldETag is the ETag of the version that the name shows; a change that is pending
// has none yet.
func (n *node) toldETag(ctx context.Context) (string, error) {
	ctx, cancel := n.fs.patient(ctx)
	defer cancel()
	e, err := n.entry(ctx)
	if err != nil {
		return "", err
	}
	if e.row != nil || e.ref.ETag == "" {
		return "", fail(syscall.ENODATA)
	}
	return strings.Trim(e.ref.ETag, `"`), nil
}

// readXattrs takes the extended attributes out of user metadata; what cannot
// be read is as if it were not there.
func readXattrs(m object.Meta) map[string][]byte {
	out := map[string][]byte{}
	text, err := url.QueryUnescape(m[metaXattr])
	if err != nil || text == "" {
		return out
	}
	var all map[string]string
	if json.Unmarshal([]byte(text), &all) != nil {
		return out
	}
	for name, v := range all {
		if b, err := base64.StdEncoding.DecodeString(v); err == nil {
			out[name] = b
		}
	}
	return out
}

// withXattrs returns m with these extended attributes, or E2BIG if OSS would
// refuse so much.
func withXattrs(m object.Meta, all map[string][]byte) (object.Meta, error) {
	out := maps.Clone(m)
	if out == nil {
		out = object.Meta{}
	}
	delete(out, metaXattr)
	if len(all) > 0 {
		text := map[string]string{}
		for name, v := range all {
			text[name] = base64.StdEncoding.EncodeToString(v)
		}
		b, err := json.Marshal(text)
		if err != nil {
			return nil, err
		}
		out[metaXattr] = url.QueryEscape(string(b))
	}
	if ownMeta+out.Size() > object.MaxMeta {
		return nil, fail(syscall.E2BIG)
	}
	return out, nil
}

// xattrs returns the extended attributes that the node keeps.
func (n *node) xattrs(ctx context.Context) (map[string][]byte, error) {
	if x := n.openFile(); x != nil {
		x.mu.RLock()
		defer x.mu.RUnlock()
		return readXattrs(x.meta), nil
	}
	if n.isGone() {
		return nil, nil
	}
	ctx, cancel := n.fs.patient(ctx)
	defer cancel()
	e, err := n.entry(ctx)
	if err != nil {
		return nil, err
	}
	return readXattrs(e.meta), nil
}

// Getxattr implements getxattr for user.* (raw.GetXAttr).
func (n *node) Getxattr(ctx context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	v, ours, err := n.told(ctx, name)
	if err != nil {
		return 0, n.fs.errno("getxattr", err)
	}
	if ours {
		return give(v, dest)
	}
	all, err := n.xattrs(ctx)
	if err != nil {
		return 0, n.fs.errno("getxattr", err)
	}
	b, ok := all[name]
	if !ok {
		return 0, syscall.ENODATA
	}
	return give(string(b), dest)
}

// Listxattr implements listxattr: what is made up is not listed, so that cp -a
// and rsync -X do not try to keep it.
func (n *node) Listxattr(ctx context.Context, dest []byte) (uint32, syscall.Errno) {
	all, err := n.xattrs(ctx)
	if err != nil {
		return 0, n.fs.errno("listxattr", err)
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		b.WriteString(name)
		b.WriteByte(0)
	}
	return give(b.String(), dest)
}

// Setxattr implements setxattr for user.*.
func (n *node) Setxattr(ctx context.Context, name string, value []byte, flags uint32) syscall.Errno {
	return n.alterXattrs(ctx, "setxattr", name, func(all map[string][]byte) error {
		_, there := all[name]
		switch {
		case there && flags&xattrCreate != 0:
			return fail(syscall.EEXIST)
		case !there && flags&xattrReplace != 0:
			return fail(syscall.ENODATA)
		}
		all[name] = slices.Clone(value)
		return nil
	})
}

// Removexattr implements removexattr.
func (n *node) Removexattr(ctx context.Context, name string) syscall.Errno {
	return n.alterXattrs(ctx, "removexattr", name, func(all map[string][]byte) error {
		if _, there := all[name]; !there {
			return fail(syscall.ENODATA)
		}
		delete(all, name)
		return nil
	})
}

func (n *node) alterXattrs(ctx context.Context, op, name string, f func(all map[string][]byte) error) syscall.Errno {
	switch {
	case n.fs.o.ReadOnly:
		return syscall.EROFS
	case strings.HasPrefix(name, xattrOurs):
		return syscall.EPERM
	case name == "user.":
		return syscall.EINVAL
	case !strings.HasPrefix(name, "user."), n.fs.root == n && n.fs.o.Prefix == "":
		return syscall.ENOTSUP // no object of the bucket's root can keep it
	}
	return n.fs.errno(op, n.alter(ctx, false, func(r *writeback.Row) error {
		all := readXattrs(r.Meta)
		if err := f(all); err != nil {
			return err
		}
		m, err := withXattrs(r.Meta, all)
		if err == nil {
			r.Meta = m
			r.Attr.Ctime = now()
		}
		return err
	}))
}

func give(v string, dest []byte) (uint32, syscall.Errno) {
	if len(dest) < len(v) {
		return uint32(len(v)), syscall.ERANGE
	}
	return uint32(copy(dest, v)), 0
}
