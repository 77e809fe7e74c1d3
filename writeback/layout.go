package writeback

import "fmt"

// Limits of a multipart upload (OSS, "Limits").
const (
	MinPartSize = 100 << 10
	MaxPartSize = 5 << 30
	MaxParts    = 10000
	// MaxObjectSize is what 10,000 parts of 5 GiB hold: 48.8 TiB.
	MaxObjectSize = MaxParts * MaxPartSize

	autoPartSize = 8 << 20
)

// limits are sizes that only tests change.
type limits struct {
	minPart  int64 // of OSS, for every part but the last
	copyPart int64 // part of a copy on the server, where no byte travels
	maxCopy  int64 // up to this, CopyObject in one request
	clone    int64 // bytes that are cloned, or filled, without a second thought
}

func (l *limits) fill() {
	if l.minPart == 0 {
		l.minPart = MinPartSize
	}
	if l.copyPart == 0 {
		l.copyPart = 512 << 20
	}
	if l.maxCopy == 0 {
		l.maxCopy = 1 << 30
	}
	if l.clone == 0 {
		l.clone = 64 << 20
	}
}

// PartSize returns the size of the parts of an object of size bytes: want, or
// 8 MiB if that is 0, grown to the next MiB that makes 10,000 parts suffice.
// An object that no layout holds is an error.
func PartSize(size, want int64) (int64, error) { return partSize(size, want, MinPartSize) }

func partSize(size, want, least int64) (int64, error) {
	if size > MaxObjectSize {
		return 0, fmt.Errorf("an object holds at most %d bytes (48.8 TiB), this file has %d", int64(MaxObjectSize), size)
	}
	if want == 0 {
		want = autoPartSize
	}
	want = max(want, least)
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
