package writeback

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

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }
