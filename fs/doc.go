// Package fs is the file system as applications see it: go-fuse's tree, the
// overlay of the journal's rows over the listings of OSS, and the open files.
//
// # Promise
//
// What a call has returned from holds in every later call, also after a crash:
// names through the journal, bytes through the cache. No call waits for the
// network longer than Options.Stall; a read, a lock wait or a wait for room
// ends when its process is interrupted, and no other call does (H42).
//
// # Who knows what
//
// A node is an inode: its place is its parent and name, kept here and not only
// in go-fuse, so that a rename and its commit are one step for every other
// commit (FS.tree). An open node has a file (file.go): the one content that all
// of its handles share. Everything else is asked for when it is needed: rows
// from the queue, the rest from the overlay (overlay.go), which caches what
// OSS said, with the moment when it was asked (R9).
//
// # Locks, outermost first
//
// file.mu, FS.birth, FS.tree, FS.mu; none of them is held while OSS is asked (H42).
//
// # Goroutines
//
// Those of go-fuse, one per request; fetches of ranges (fetch.go), which end
// with the file system's context.
//
// # What a crash leaves
//
// Rows and contents; a file that was never flushed is in lost+found.
package fs
