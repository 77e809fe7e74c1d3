package fs

import (
	"strings"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// raw is go-fuse's file system of nodes, save for three things. The files that the
// kernel serves itself are registered here (passthrough.go). Extended attributes that
// no file can have are refused without a look. And each read of a directory begins
// with a seek, so that the handle alone decides what comes next. go-fuse keeps names
// between two reads itself, for the kernel takes only the first of an answer when a
// signal is pending. It loses some of them when the rest is asked for in the larger
// form of READDIRPLUS, or with less room, and one for each later answer when a read
// has failed half-way.
type raw struct {
	fuse.RawFileSystem
	backings *backings
}

func (r raw) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	defer r.backings.answer(cancel, out)
	return r.RawFileSystem.Open(cancel, in, out)
}

func (r raw) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	defer r.backings.answer(cancel, &out.OpenOut)
	return r.RawFileSystem.Create(cancel, in, name, out)
}

// GetXAttr refuses what is not user.*, as the other calls do, in place of saying that
// this file has none: GNU ls -l asks the next file for its ACL and its label unless it
// hears that the file system has no such things. The kernel asks for capabilities
// before the first write to a file, and would take a refusal for an error.
func (r raw) GetXAttr(cancel <-chan struct{}, in *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	switch {
	case name == "security.capability":
		return 0, fuse.ENODATA
	case !strings.HasPrefix(name, "user."):
		return 0, fuse.Status(syscall.ENOTSUP)
	}
	return r.RawFileSystem.GetXAttr(cancel, in, name, dest)
}

// sought marks an offset. go-fuse, which never gave out one like it, leaves it
// to Seekdir; the kernel never sees it.
const sought = 1 << 62

func (r raw) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	seek := *in
	seek.Offset |= sought
	return r.RawFileSystem.ReadDir(cancel, &seek, out)
}

func (r raw) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	seek := *in
	seek.Offset |= sought
	return r.RawFileSystem.ReadDirPlus(cancel, &seek, out)
}

// Mount mounts the file system and begins to serve it.
func (f *FS) Mount(mountpoint, name string, allowOther bool) (*fuse.Server, error) {
	o := f.mountOptions(name, allowOther)
	server, err := fuse.NewServer(measured{raw{gofs.NewNodeFS(f.root, o), &f.backings}, &f.measures}, mountpoint, &o.MountOptions)
	if err != nil {
		return nil, err
	}
	f.probePassthrough(server)
	if f.Passthrough() {
		go f.watch()
	}
	go server.Serve()
	// The mount is there when NewServer has returned. Not WaitMount: it opens a file of
	// the mount from this very process, so that the kernel learns that there is no poll.
	// A daemon that is killed meanwhile waits for its own answer: that thread cannot be
	// killed, and keeps the lock of the cache directory until the machine is switched off
	// or the connection is aborted (H42). This process opens nothing in its own mount.
	return server, nil
}
