// Package cache keeps the bytes of files on the local disk, under numbers.
//
// # Promise
//
// A content is a file under a number that is never used again, also not after
// a power cut; a name in the mount is never a name here. What was written is
// there until Drop. SyncContents returns when bytes and directory entry are on
// the disk; a sync that failed once counts as failed for good, because Linux
// marks the pages clean and a second try succeeds without them (H11).
//
// Each content carries a witness, an extended attribute that says what it was
// last committed as. A witness is never an order: it only lets a start tell
// what a content without a row was (H7). Where the file system has no user
// attributes, or the witness is over 2 KiB, it stands in a file beside the
// content.
//
// One cache directory belongs to one bucket, prefix and endpoint, and to one
// process at a time; Open refuses anything else.
//
// # Goroutines
//
// None that outlasts a call: Open and Numbers read directories on all processors.
//
// # What a crash leaves
//
// Contents that nothing names. Numbers tells them, and whoever opens the cache
// (cmd) has the journal decide: garbage, or lost+found.
package cache
