// Package disk is a disk with a volatile write cache, and the means to cut its
// power at any moment: what dm-log-writes or a plug in somebody's hand would be,
// on kernels that have loop devices and FUSE and nothing else.
//
// # The model
//
// A file in a small FUSE file system is the disk; a loop device over it, opened for
// direct I/O, is what the kernel sees; ext4 lies on that. The loop driver turns each
// flush and each FUA write of the block layer into an fsync of the file, so this
// package sees every write and every flush, and in which order. What was written
// before a flush was answered is durable. What came after the last one is in the
// cache of the disk, and a cut takes any of it: each sector of 512 bytes holds what
// was durable, or any of the versions that were written to it since (image.go). Only the
// block of ext4's superblock is never torn: ext4 relies on that.
//
// # A cut
//
// Freeze stops the disk: no request is answered any more, so nothing that anybody
// learns later has happened before the cut. What uses the disk is killed then. Cut
// makes the image that the next boot finds; the old one serves on, for nobody, until
// its file system is unmounted, so that no process hangs on it.
//
// # Processes
//
// The file system is served by a process of its own (Serve): one that serves a disk
// and also writes to what lies on it waits for itself as soon as the kernel wants its
// pages back. Disk is the other end: it starts that process, formats, attaches, mounts
// and cuts. The process ends with its standard input, so with whoever started it. It
// has the goroutines of go-fuse and one that reads requests.
package disk
