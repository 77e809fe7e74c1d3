// Package ossemu is an OSS server over real HTTP that keeps its objects on
// disk. Tests trust it in the place of Alibaba Cloud OSS, so where OSS is
// strict it is strict: every request is signed and checked, limits and error
// codes are those of OSS, and nothing is kinder than the original.
//
// # What it promises
//
// What was acknowledged survives kill -9 of the process that serves it; with
// Options.Sync it survives a power cut too. A body that breaks off, or whose
// digest is wrong, leaves nothing visible and the old object as it was.
// Bodies are streamed: memory grows with the number of objects, never with
// their size. What an upload costs is mostly its sums: CRC64 is that of
// internal/crc64, and the MD5 of bodies that come at the same time are computed
// together (internal/md5lanes). CompleteMultipartUpload and CopyObject move no
// bytes; of a sequential upload, which OSS gives an MD5, Complete reads them. Keys
// never become paths.
//
// What it speaks, and what it does not, is in docs/server.md; what the tests of
// the SDK say to that is in the folder conformance.
//
// # What is on disk
//
//	dir/lock          flock of the one server that owns dir
//	dir/log           every change, in order, checksummed (log.go, codec.go)
//	dir/data/3f/...   segments: bytes of bodies, named by number, never rewritten;
//	                  small bodies share one (pack.go)
//
// An object is a list of ranges of segments, and so is a part. A change is one
// record of the log: it is written, then applied to the index in memory, then
// acknowledged. One log for all buckets, rather than a metadata file for each
// object, because a million objects load from one sequential read in seconds,
// because a change of one object costs one write(2), and because Complete and
// Copy, which touch an object and an upload or share segments between buckets,
// become atomic without more thought. The log is rewritten when most of it is
// dead; writers wait meanwhile (about a second for a million objects). So do the
// segments of small bodies.
//
// A segment is written under its final name before the record that names it,
// so the record is the commit and no rename is needed: a segment, or a range of
// one, without a record is rubbish by rule.
//
// # What a crash leaves
//
// A torn last record (dropped at Open, it was never acknowledged) and segments
// that no record names (removed at Open), and between the small bodies that share
// a segment the bytes of one that has no record. Nothing else.
//
// # Goroutines
//
// None of its own: all work is done by the goroutines of net/http that call
// ServeHTTP. One mutex (store.mu) owns index, log and reference counts; it is
// never held while a body is read or an answer is sent.
//
// # The way of a request
//
// ServeHTTP finds the operation (operation.go), checks the signature (sign.go),
// runs the operation, which returns an answer as a value, and sends it
// (serve.go). That the answer is a value is the seam for faults (fault.go):
// between any two of these steps a request can be made to fail. Close ends the
// requests that wait (running.go), also those whose connection a fault has cut,
// which net/http does not know any more.
package ossemu
