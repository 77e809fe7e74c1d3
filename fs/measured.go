package fs

import (
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// operation is a request of the kernel, by the name of go-fuse's method. Forget has no
// answer and nobody waits for it, so that it is not measured.
type operation int

const (
	opLookup operation = iota
	opGetAttr
	opSetAttr
	opMknod
	opMkdir
	opUnlink
	opRmdir
	opRename
	opLink
	opSymlink
	opAccess
	opSetXAttr
	opRemoveXAttr
	opCreate
	opTmpfile
	opOpen
	opLseek
	opGetLk
	opSetLk
	opSetLkw
	opIoctl
	opFlush
	opFsync
	opFallocate
	opOpenDir
	opReadDir
	opReadDirPlus
	opFsyncDir
	opStatFs
	opStatx
	opReadlink
	opGetXAttr
	opListXAttr
	opRead
	opWrite
	opCopyFileRange
	opRelease
	opReleaseDir
	operations
)

var operationNames = [operations]string{
	"Lookup", "GetAttr", "SetAttr", "Mknod", "Mkdir", "Unlink", "Rmdir", "Rename", "Link",
	"Symlink", "Access", "SetXAttr", "RemoveXAttr", "Create", "Tmpfile", "Open", "Lseek", "GetLk",
	"SetLk", "SetLkw", "Ioctl", "Flush", "Fsync", "Fallocate", "OpenDir", "ReadDir", "ReadDirPlus",
	"FsyncDir", "StatFs", "Statx", "Readlink", "GetXAttr", "ListXAttr", "Read", "Write",
	"CopyFileRange", "Release", "ReleaseDir",
}

// measured is a file system whose requests are counted, with the time that each took.
type measured struct {
	fuse.RawFileSystem
	m *measures
}

func (f measured) Lookup(cancel <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	start := time.Now()
	return f.m.took(opLookup, start, f.RawFileSystem.Lookup(cancel, in, name, out))
}

func (f measured) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	start := time.Now()
	return f.m.took(opGetAttr, start, f.RawFileSystem.GetAttr(cancel, in, out))
}

func (f measured) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	start := time.Now()
	return f.m.took(opSetAttr, start, f.RawFileSystem.SetAttr(cancel, in, out))
}

func (f measured) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	start := time.Now()
	return f.m.took(opMknod, start, f.RawFileSystem.Mknod(cancel, in, name, out))
}

func (f measured) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	start := time.Now()
	return f.m.took(opMkdir, start, f.RawFileSystem.Mkdir(cancel, in, name, out))
}

func (f measured) Unlink(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	start := time.Now()
	return f.m.took(opUnlink, start, f.RawFileSystem.Unlink(cancel, in, name))
}

func (f measured) Rmdir(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	start := time.Now()
	return f.m.took(opRmdir, start, f.RawFileSystem.Rmdir(cancel, in, name))
}

func (f measured) Rename(cancel <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	start := time.Now()
	return f.m.took(opRename, start, f.RawFileSystem.Rename(cancel, in, from, to))
}

func (f measured) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	start := time.Now()
	return f.m.took(opLink, start, f.RawFileSystem.Link(cancel, in, name, out))
}

func (f measured) Symlink(cancel <-chan struct{}, in *fuse.InHeader, to, name string, out *fuse.EntryOut) fuse.Status {
	start := time.Now()
	return f.m.took(opSymlink, start, f.RawFileSystem.Symlink(cancel, in, to, name, out))
}

func (f measured) Access(cancel <-chan struct{}, in *fuse.AccessIn) fuse.Status {
	start := time.Now()
	return f.m.took(opAccess, start, f.RawFileSystem.Access(cancel, in))
}

func (f measured) SetXAttr(cancel <-chan struct{}, in *fuse.SetXAttrIn, attr string, data []byte) fuse.Status {
	start := time.Now()
	return f.m.took(opSetXAttr, start, f.RawFileSystem.SetXAttr(cancel, in, attr, data))
}

func (f measured) RemoveXAttr(cancel <-chan struct{}, in *fuse.InHeader, attr string) fuse.Status {
	start := time.Now()
	return f.m.took(opRemoveXAttr, start, f.RawFileSystem.RemoveXAttr(cancel, in, attr))
}

func (f measured) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	start := time.Now()
	return f.m.took(opCreate, start, f.RawFileSystem.Create(cancel, in, name, out))
}

func (f measured) Tmpfile(cancel <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	start := time.Now()
	return f.m.took(opTmpfile, start, f.RawFileSystem.Tmpfile(cancel, in, out))
}

func (f measured) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	start := time.Now()
	return f.m.took(opOpen, start, f.RawFileSystem.Open(cancel, in, out))
}

func (f measured) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	start := time.Now()
	return f.m.took(opLseek, start, f.RawFileSystem.Lseek(cancel, in, out))
}

func (f measured) GetLk(cancel <-chan struct{}, in *fuse.LkIn, out *fuse.LkOut) fuse.Status {
	start := time.Now()
	return f.m.took(opGetLk, start, f.RawFileSystem.GetLk(cancel, in, out))
}

func (f measured) SetLk(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	start := time.Now()
	return f.m.took(opSetLk, start, f.RawFileSystem.SetLk(cancel, in))
}

func (f measured) SetLkw(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	start := time.Now()
	return f.m.took(opSetLkw, start, f.RawFileSystem.SetLkw(cancel, in))
}

func (f measured) Ioctl(cancel <-chan struct{}, in *fuse.IoctlIn, inbuf []byte, out *fuse.IoctlOut, outbuf []byte) fuse.Status {
	start := time.Now()
	return f.m.took(opIoctl, start, f.RawFileSystem.Ioctl(cancel, in, inbuf, out, outbuf))
}

func (f measured) Flush(cancel <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	start := time.Now()
	return f.m.took(opFlush, start, f.RawFileSystem.Flush(cancel, in))
}

func (f measured) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	start := time.Now()
	return f.m.took(opFsync, start, f.RawFileSystem.Fsync(cancel, in))
}

func (f measured) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	start := time.Now()
	return f.m.took(opFallocate, start, f.RawFileSystem.Fallocate(cancel, in))
}

func (f measured) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	start := time.Now()
	return f.m.took(opOpenDir, start, f.RawFileSystem.OpenDir(cancel, in, out))
}

func (f measured) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	start := time.Now()
	return f.m.took(opReadDir, start, f.RawFileSystem.ReadDir(cancel, in, out))
}

func (f measured) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	start := time.Now()
	return f.m.took(opReadDirPlus, start, f.RawFileSystem.ReadDirPlus(cancel, in, out))
}

func (f measured) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	start := time.Now()
	return f.m.took(opFsyncDir, start, f.RawFileSystem.FsyncDir(cancel, in))
}

func (f measured) StatFs(cancel <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	start := time.Now()
	return f.m.took(opStatFs, start, f.RawFileSystem.StatFs(cancel, in, out))
}

func (f measured) Statx(cancel <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	start := time.Now()
	return f.m.took(opStatx, start, f.RawFileSystem.Statx(cancel, in, out))
}

func (f measured) Readlink(cancel <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	start := time.Now()
	out, status := f.RawFileSystem.Readlink(cancel, in)
	return out, f.m.took(opReadlink, start, status)
}

func (f measured) GetXAttr(cancel <-chan struct{}, in *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	start := time.Now()
	out, status := f.RawFileSystem.GetXAttr(cancel, in, attr, dest)
	return out, f.m.took(opGetXAttr, start, status)
}

func (f measured) ListXAttr(cancel <-chan struct{}, in *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	start := time.Now()
	out, status := f.RawFileSystem.ListXAttr(cancel, in, dest)
	return out, f.m.took(opListXAttr, start, status)
}

func (f measured) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	start := time.Now()
	out, status := f.RawFileSystem.Read(cancel, in, buf)
	return out, f.m.took(opRead, start, status)
}

func (f measured) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	start := time.Now()
	out, status := f.RawFileSystem.Write(cancel, in, data)
	return out, f.m.took(opWrite, start, status)
}

func (f measured) CopyFileRange(cancel <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	start := time.Now()
	out, status := f.RawFileSystem.CopyFileRange(cancel, in)
	return out, f.m.took(opCopyFileRange, start, status)
}

func (f measured) Release(cancel <-chan struct{}, in *fuse.ReleaseIn) {
	start := time.Now()
	f.RawFileSystem.Release(cancel, in)
	f.m.took(opRelease, start, fuse.OK)
}

func (f measured) ReleaseDir(in *fuse.ReleaseIn) {
	start := time.Now()
	f.RawFileSystem.ReleaseDir(in)
	f.m.took(opReleaseDir, start, fuse.OK)
}

// Writev is Write for a request in several pieces; where the file system has none, go-fuse
// calls Write.
func (f measured) Writev(cancel <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	start := time.Now()
	n, status := f.RawFileSystem.Writev(cancel, in, data)
	if status == fuse.ENOSYS {
		return n, status
	}
	return n, f.m.took(opWrite, start, status)
}
