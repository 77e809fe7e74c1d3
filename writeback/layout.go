package writeback

import "fmt"

// Limits of a multipart upload (oss-api.md section 4).
const (
	MinPartSize = 100 << 10
	MaxPartSize = 5 << 30
	MaxParts    = 10000
	// MaxObjectSize is what 10,000 parts of 5 GiB hold: 48.8 TiB.
	MaxObjectSize = MaxParts * MaxPartSize

	autoPartSize = 8 << 20
	copyPartSize = 512 << 20 // of a copy on the server, where no byte travels
	maxCopySize  = 1 << 30   // up to this, CopyObject in one request
)

// PartSize returns the size of the parts of an object of size bytes: want, or
// 8 MiB if that is 0, grown to the next MiB that makes 10,000 parts suffice.
// An object that no layout holds is an error.
func PartSize(size, want int64) (int64, error) {
	if size > MaxObjectSize {
		return 0, fmt.Errorf("an object holds at most %d bytes (48.8 TiB), this file has %d", int64(MaxObjectSize), size)
	}
	if want == 0 {
		want = autoPartSize
	}
	want = max(want, MinPartSize)
	if need := ceilDiv(size, MaxParts); need > want {
		want = min(ceilDiv(need, 1<<20)<<20, MaxPartSize)
	}
	return want, nil
}

// span is one part of a layout.
type span struct {
	number int // 1..10000
	off, n int64
}

// spans cuts size bytes into parts of partSize, the last one shorter.
func spans(size, partSize int64) []span {
	out := make([]span, 0, ceilDiv(size, partSize))
	for off := int64(0); off < size; off += partSize {
		out = append(out, span{number: len(out) + 1, off: off, n: min(partSize, size-off)})
	}
	return out
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }
