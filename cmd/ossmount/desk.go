package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/extent"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/internal/remote"
	"github.com/ossmount/ossmount/journal"
	"github.com/ossmount/ossmount/writeback"
)

// The desk is where somebody acts on what waits for them: in the daemon of a
// mount, by way of its control socket, or on a cache directory that none has.

// recoverRequest and recoverAnswer are the JSON of /recover.
type recoverRequest struct {
	Do    string `json:"do"`              // list, look, publish, retry, wake or discard
	Path  string `json:"path,omitempty"`  // beneath the mount; or
	Found string `json:"found,omitempty"` // number of a content of lost+found, in hex
	As    string `json:"as,omitempty"`    // path beneath the mount that it shall have; empty: the one it had
	Force bool   `json:"force,omitempty"`
}

type recoverAnswer struct {
	Mountpoint string      `json:"mountpoint,omitempty"`
	CacheDir   string      `json:"cache_dir"`
	Held       []heldItem  `json:"held"`
	Found      []foundItem `json:"found"`
	More       int         `json:"more,omitempty"` // held, and not listed
}

// heldItem is a change that waits for somebody to act.
type heldItem struct {
	Path string `json:"path"` // beneath the mount
	writeback.Waiting
	File string     `json:"file,omitempty"` // its content on the local disk
	Here extent.Set `json:"here,omitempty"` // what that has
	Base object.Ref `json:"base,omitzero"`  // what has the rest
	Text string     `json:"text,omitempty"`
	Back string     `json:"back,omitempty"` // path that a discard has given its file back
}

// foundItem is a content of lost+found.
type foundItem struct {
	Name  string     `json:"name"` // found:NUMBER, as the commands take it
	Path  string     `json:"path"` // that it had; beneath the mount
	Size  int64      `json:"size"`
	Disk  int64      `json:"disk"` // bytes that it takes
	Mtime int64      `json:"mtime"`
	File  string     `json:"file"`
	Holes bool       `json:"holes,omitempty"` // the rest was that of a version on OSS
	Why   string     `json:"why_not,omitempty"`
	Here  extent.Set `json:"here,omitempty"`
}

type desk struct {
	q      *writeback.Queue
	c      *cache.Cache
	prefix string
	mount  string          // "": there is none
	open   func() []string // keys of the files that somebody has open
}

// listedHeld is how many changes a list has at most.
const listedHeld = 10_000

func (d *desk) do(ctx context.Context, in recoverRequest) (a recoverAnswer, err error) {
	a = recoverAnswer{Mountpoint: d.mount, CacheDir: d.c.Dir(), Held: []heldItem{}, Found: []foundItem{}}
	switch {
	case in.Do == "list":
		return a, d.list(&a)
	case in.Do == "wake":
		d.q.Wake()
		return a, nil
	case in.Found != "":
		return a, d.doFound(ctx, in, &a)
	}
	return a, d.doHeld(in, &a)
}

func (d *desk) list(a *recoverAnswer) error {
	all, more, err := d.q.Stuck(listedHeld)
	if err != nil {
		return err
	}
	a.More = more
	for _, w := range all {
		a.Held = append(a.Held, heldItem{Path: d.rel(w.Key), Waiting: w})
	}
	found, err := d.c.LostAndFound()
	for _, l := range found {
		a.Found = append(a.Found, d.item(&l))
	}
	return err
}

func (d *desk) rel(key string) string { return strings.TrimPrefix(key, d.prefix) }

func (d *desk) item(l *cache.Lost) foundItem {
	f := foundItem{Name: foundName(l.Number), Path: d.rel(l.Key()), Size: l.Size, Disk: l.Disk, Mtime: l.Mtime, File: l.Path, Holes: l.HasHoles()}
	if why := writeback.Publishable(l); why != nil {
		f.Why = why.Error()
	}
	return f
}

const foundPrefix = "found:"

func foundName(n uint64) string { return foundPrefix + strconv.FormatUint(n, 16) }

func (d *desk) doHeld(in recoverRequest, a *recoverAnswer) error {
	h, err := d.find(in.Path)
	if err != nil {
		return err
	}
	w, back := h.Waiting, ""
	switch in.Do {
	case "look":
	case "publish":
		w, err = d.q.PublishHeld(h.Key, in.Force)
	case "retry":
		w, err = d.q.Retry(h.Key)
	case "discard":
		if err = d.notOpen(h.Key); err == nil {
			w, back, err = d.q.DiscardHeld(h.Key)
		}
	default:
		err = fmt.Errorf("%q is not what can be done", in.Do)
	}
	if err != nil {
		return fmt.Errorf("%s %q: %w", in.Do, d.rel(h.Key), err)
	}
	item := heldItem{Path: d.rel(h.Key), Waiting: w, Here: h.Here, Base: h.Base, Text: h.Text, Back: d.rel(back)}
	if h.Content != 0 {
		item.File = d.c.Path(h.Content)
	}
	a.Held = append(a.Held, item)
	return nil
}

// find returns what is held of a path: of the file, else of the directory.
func (d *desk) find(path string) (h writeback.Held, err error) {
	key := d.prefix + strings.Trim(path, "/")
	h, err = d.q.HeldOf(key)
	if errors.Is(err, writeback.ErrNoRow) {
		h, err = d.q.HeldOf(key + "/")
	}
	if errors.Is(err, writeback.ErrNoRow) {
		err = fmt.Errorf("nothing is held of %q: it is on OSS as it is, or is not there", path)
	}
	return h, err
}

func (d *desk) notOpen(key string) error {
	for _, k := range d.open() {
		if k == key {
			return writeback.ErrOpen
		}
	}
	return nil
}

func (d *desk) doFound(ctx context.Context, in recoverRequest, a *recoverAnswer) error {
	n, err := strconv.ParseUint(in.Found, 16, 64)
	if err != nil {
		return fmt.Errorf("%s%s is no number of lost+found", foundPrefix, in.Found)
	}
	l, err := d.c.Lost(n)
	if writeback.IsNotFound(err) {
		return fmt.Errorf("%s is not in lost+found: ossmount recover list shows what is", foundName(n))
	}
	if err != nil {
		return err
	}
	item := d.item(&l)
	switch in.Do {
	case "look":
		item.Here, err = l.Written()
	case "publish":
		item.Path, err = d.publishFound(ctx, &l, in)
	case "discard":
		_, err = d.q.DiscardFound(n)
	default:
		err = fmt.Errorf("nothing of it is on its way: publish, export or discard it")
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", in.Do, item.Name, err)
	}
	a.Found = append(a.Found, item)
	return nil
}

func (d *desk) publishFound(ctx context.Context, l *cache.Lost, in recoverRequest) (path string, err error) {
	key := l.Key()
	if in.As != "" {
		key = d.prefix + strings.TrimPrefix(in.As, "/")
	}
	if key == "" {
		return "", errors.New("the name that it had is not known: give it one")
	}
	if err := d.notOpen(key); err != nil {
		return "", fmt.Errorf("%q: %w", d.rel(key), err)
	}
	err = d.q.PublishFound(ctx, l.Number, key, in.Force)
	if errors.Is(err, writeback.ErrOccupied) {
		err = fmt.Errorf("%q: %w (give another path, or replace a file with --force)", d.rel(key), err)
	}
	return d.rel(key), err
}

// openDesk takes up a cache directory that no daemon has, as a mount would, and
// carries nothing.
func openDesk(ctx context.Context, dir string, f *mountFlags) (d *desk, end func(), err error) {
	id, err := cache.ReadIdentity(dir)
	if err != nil {
		return nil, nil, err
	}
	e := &engine{place: place{bucket: id.Bucket, prefix: id.Prefix}, log: slog.New(slog.DiscardHandler)}
	defer func() {
		if err != nil {
			e.Close()
		}
	}()
	if local, ok := strings.CutPrefix(id.Endpoint, "local:"); ok {
		e.place.local = local
	} else {
		f.endpoint = id.Endpoint
	}
	if e.cache, err = cache.Open(dir, cache.Options{}); err != nil {
		return nil, nil, err
	}
	e.later(func() { e.cache.Close() })
	if e.j, err = journal.Open(ctx, filepath.Join(e.cache.Dir(), "journal"), journal.Options{Contents: e.cache, Log: e.log, After: e.cache.TopSequence}); err != nil {
		return nil, nil, err
	}
	e.later(func() { e.j.Close() })
	asked := &askedOSS{e: e, f: f}
	e.q, err = writeback.Open(ctx, writeback.Options{Remote: asked, Journal: e.j, Cache: e.cache, Prefix: e.place.prefix, AtRest: true, Log: e.log})
	if err != nil {
		return nil, nil, err
	}
	e.later(func() { e.q.Close(answerGrace) })
	return &desk{q: e.q, c: e.cache, prefix: e.place.prefix, open: func() []string { return nil }}, e.Close, nil
}

// askedOSS is OSS for a desk without a daemon: connected to when it is first
// asked, and asked only for what is there.
type askedOSS struct {
	writeback.Remote
	e *engine
	f *mountFlags

	once sync.Once
	c    *remote.Client
	err  error
}

func (a *askedOSS) client(ctx context.Context) (*remote.Client, error) {
	a.once.Do(func() {
		o := a.f.remoteOptions(a.e.place, a.e.log)
		if a.e.place.local != "" {
			if a.err = a.e.serveLocal(ctx, a.f, &o); a.err != nil {
				return
			}
		}
		if a.c, a.err = a.f.connect(o); a.err == nil {
			a.e.later(a.c.Close)
		}
	})
	return a.c, a.err
}

func (a *askedOSS) Head(ctx context.Context, key string) (object.Info, error) {
	c, err := a.client(ctx)
	if err != nil {
		return object.Info{}, err
	}
	return c.Head(ctx, key)
}

func (a *askedOSS) List(ctx context.Context, q object.ListQuery) (object.Page, error) {
	c, err := a.client(ctx)
	if err != nil {
		return object.Page{}, err
	}
	return c.List(ctx, q)
}

// Recovery is a desk, here or in a daemon.
type recovery struct {
	desk   *desk
	end    func()
	socket string
	root   string // the mount point; "" without one
	dir    string // the cache directory, without one
}

func (r *recovery) do(ctx context.Context, in recoverRequest) (a recoverAnswer, err error) {
	if r.desk != nil {
		return r.desk.do(ctx, in)
	}
	return a, call(ctx, r.socket, "/recover", in, &a)
}

func (r *recovery) close() {
	if r.end != nil {
		r.end()
	}
}

// rel is path as seen from the root of the mount.
func (r *recovery) rel(path string) (string, error) {
	if r.desk != nil {
		return strings.Trim(path, "/"), nil
	}
	rel, err := beneath(r.root, path)
	if err == nil && (rel == ".." || strings.HasPrefix(rel, "../")) {
		err = exit(exitUsage, fmt.Errorf("%s does not lie in the mount on %s", path, r.root))
	}
	return rel, err
}

// show is a path beneath the mount as the commands take it.
func (r *recovery) show(path string) string {
	if r.root != "" {
		path = filepath.Join(r.root, path)
	}
	return quoted(path)
}

// flag says to the commands which mount or cache directory is meant.
func (r *recovery) flag() string {
	if r.root != "" {
		return "--mountpoint=" + quoted(r.root)
	}
	return "--cache-dir=" + quoted(r.dir)
}

// quoted is s as a shell takes it.
func quoted(s string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("/._-+,:@%=", c)
	}
	if s != "" && strings.IndexFunc(s, func(c rune) bool { return !plain(c) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// openRecovery finds the mount, or opens the cache directory, that the flags or
// the paths are about.
func openRecovery(ctx context.Context, f *recoverFlags, paths []string) (*recovery, error) {
	switch {
	case f.cacheDir != "" && f.mountpoint != "":
		return nil, exit(exitUsage, errors.New("--cache-dir and --mountpoint are two ways to say the same: give one"))
	case f.cacheDir != "":
		d, end, err := openDesk(ctx, f.cacheDir, &f.remote)
		if errors.Is(err, cache.ErrBusy) {
			return nil, busy(ctx, f.cacheDir, err)
		}
		return &recovery{desk: d, end: end, dir: f.cacheDir}, err
	}
	at := f.mountpoint
	for _, p := range paths {
		if at == "" && !strings.HasPrefix(p, foundPrefix) {
			at = p
		}
	}
	if at == "" {
		all := ourMounts()
		if len(all) != 1 {
			return nil, exit(exitUsage, fmt.Errorf("%s: say which mount is meant: --mountpoint, or --cache-dir of one that is not mounted", cmp.Or(strings.Join(all, ", "), "nothing is mounted")))
		}
		at = all[0]
	}
	socket, root, err := findControl(at)
	return &recovery{socket: socket, root: root}, err
}

// busy names the mount that has a cache directory.
func busy(ctx context.Context, dir string, err error) error {
	var s mountStatus
	if socket, serr := cache.ControlSocket(dir); serr == nil && call(ctx, socket, "/status", struct{}{}, &s) == nil && s.Mountpoint != "" {
		return exit(exitFailed, fmt.Errorf("%s is mounted on %s: name what is meant there, or say --mountpoint=%s in place of --cache-dir", dir, s.Mountpoint, quoted(s.Mountpoint)))
	}
	return exit(exitFailed, fmt.Errorf("%w: wait until it has ended, or name the mount in place of --cache-dir", err))
}
