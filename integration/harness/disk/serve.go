package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/rpc"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Serve is the process that serves a disk: a file system at dir, in which each boot
// of the machine finds a file of its own, named by a number. It is told what to do on
// standard input, answers on standard output, and ends when the input does.
func Serve(dir string) error {
	// An interrupt is for the one that started it, and who ends it by closing its input.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM)
	s := &server{images: map[int]*image{}}
	none := time.Duration(0)
	mount, err := gofs.Mount(dir, &folder{s: s}, &gofs.Options{
		EntryTimeout: &none, AttrTimeout: &none, NegativeTimeout: &none,
		MountOptions: fuse.MountOptions{FsName: "disk", Name: "disk", MaxWrite: 1 << 20, DirectMount: true, DisableXAttrs: true, DisableSplice: true},
	})
	if err != nil {
		return fmt.Errorf("serve a disk at %s: %w", dir, err)
	}
	calls := rpc.NewServer()
	if err := calls.RegisterName("Disk", &Calls{s}); err != nil {
		return err
	}
	calls.ServeConn(stdio{os.Stdin, os.Stdout})
	s.thaw()
	err = syscall.Unmount(dir, syscall.MNT_DETACH)
	if errors.Is(err, syscall.EINVAL) {
		return nil // unmounted already
	}
	_ = mount // it ends with the process: a loop device may have the disk open
	return err
}

type stdio struct {
	io.Reader
	io.WriteCloser
}

type server struct {
	mu     sync.Mutex
	images map[int]*image // by boot
	last   int
}

func (s *server) image(n int) *image {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.images[n]
}

// add makes m the disk that the next boot finds.
func (s *server) add(m *image) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	s.images[s.last] = m
	return s.last
}

func (s *server) remove(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.images, n)
}

func (s *server) thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.images {
		m.thaw()
	}
}

// Calls is what the process can be told (net/rpc).
type Calls struct{ s *server }

// Load makes a disk of a file.
func (c *Calls) Load(path string, boot *int) error {
	m, err := load(path)
	if err == nil {
		*boot = c.s.add(m)
	}
	return err
}

// Freeze stops the disk.
func (c *Calls) Freeze(boot int, _ *struct{}) error { return c.with(boot, (*image).freeze) }

// Thaw lets a disk that was cut serve on, for nobody.
func (c *Calls) Thaw(boot int, _ *struct{}) error { return c.with(boot, (*image).thaw) }

// Copy makes another disk of the same bytes.
func (c *Calls) Copy(boot int, other *int) error {
	return c.with(boot, func(m *image) { *other = c.s.add(m.copy()) })
}

// Forget gives a disk up that nothing has open.
func (c *Calls) Forget(boot int, _ *struct{}) error {
	c.s.remove(boot)
	return nil
}

func (c *Calls) with(boot int, f func(*image)) error {
	m := c.s.image(boot)
	if m == nil {
		return fmt.Errorf("there was no boot %d", boot)
	}
	f(m)
	return nil
}

// StopArgs names the request before which the disk freezes.
type StopArgs struct {
	Boot int
	When When
}

// Stop freezes the disk before a request, and returns when it is frozen.
func (c *Calls) Stop(a StopArgs, _ *struct{}) error {
	return c.with(a.Boot, func(m *image) {
		stops := m.stopBefore(a.When.N, a.When.Flushes)
		select {
		case <-stops:
		case <-time.After(a.When.Within):
			m.freeze()
		}
	})
}

// CutArgs is a frozen disk, and the seed of what is drawn.
type CutArgs struct {
	Boot int
	Seed uint64
}

// CutAnswer is the boot that finds what is left.
type CutAnswer struct {
	Boot int
	Info CutInfo
}

// Cut makes the disk that the next boot finds.
func (c *Calls) Cut(a CutArgs, answer *CutAnswer) error {
	return c.with(a.Boot, func(m *image) {
		next, info := m.cut(rand.New(rand.NewPCG(a.Seed, 0)))
		*answer = CutAnswer{Boot: c.s.add(next), Info: info}
	})
}

// folder is the root; its names are the numbers of boots.
type folder struct {
	gofs.Inode
	s *server
}

var _ gofs.NodeLookuper = (*folder)(nil)

func (f *folder) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	n, err := strconv.Atoi(name)
	m := f.s.image(n)
	if err != nil || m == nil {
		return nil, syscall.ENOENT
	}
	out.Mode, out.Size = syscall.S_IFREG|0o600, uint64(m.size())
	return f.NewInode(ctx, &node{m: m}, gofs.StableAttr{Mode: syscall.S_IFREG, Ino: uint64(n) + 1}), 0
}

// node is the disk as a file.
type node struct {
	gofs.Inode
	m *image
}

var (
	_ gofs.NodeGetattrer = (*node)(nil)
	_ gofs.NodeOpener    = (*node)(nil)
	_ gofs.NodeReader    = (*node)(nil)
	_ gofs.NodeWriter    = (*node)(nil)
	_ gofs.NodeFsyncer   = (*node)(nil)
	_ gofs.NodeFlusher   = (*node)(nil)
	_ gofs.NodeAllocater = (*node)(nil)
)

func (n *node) Getattr(_ context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = syscall.S_IFREG|0o600, uint64(n.m.size())
	return 0
}

// Open keeps the kernel from having a cache of its own.
func (n *node) Open(context.Context, uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (n *node) Read(_ context.Context, _ gofs.FileHandle, p []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	p = p[:max(0, min(int64(len(p)), n.m.size()-off))]
	n.m.readAt(p, off)
	return fuse.ReadResultData(p), 0
}

func (n *node) Write(_ context.Context, _ gofs.FileHandle, p []byte, off int64) (uint32, syscall.Errno) {
	if off+int64(len(p)) > n.m.size() {
		return 0, syscall.ENOSPC
	}
	n.m.writeAt(p, off)
	return uint32(len(p)), 0
}

func (n *node) Fsync(context.Context, gofs.FileHandle, uint32) syscall.Errno {
	n.m.flush()
	return 0
}

// Flush is a close, which says nothing to a disk.
func (n *node) Flush(context.Context, gofs.FileHandle) syscall.Errno { return 0 }

// Allocate has no discard: what is given up may be read again, as on many disks.
func (n *node) Allocate(context.Context, gofs.FileHandle, uint64, uint64, uint32) syscall.Errno {
	return syscall.EOPNOTSUPP
}
