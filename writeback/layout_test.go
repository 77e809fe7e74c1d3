package writeback

import "testing"

func TestPartSizeAtTheLimits(t *testing.T) {
	const MiB, GiB, TiB = 1 << 20, 1 << 30, 1 << 40
	for _, c := range []struct {
		size, want, part int64
	}{
		{0, 0, 8 * MiB},
		{1, 0, 8 * MiB},
		{10000 * 8 * MiB, 0, 8 * MiB},
		{10000*8*MiB + 1, 0, 9 * MiB},
		{1 * TiB, 0, 105 * MiB},
		{MaxObjectSize - 1, 0, 5 * GiB},
		{MaxObjectSize, 0, 5 * GiB},
		{100 * MiB, 1, MinPartSize},
		{1 * GiB, 64 * MiB, 64 * MiB},
		{10000*64*MiB + 1, 64 * MiB, 65 * MiB},
	} {
		part, err := PartSize(c.size, c.want)
		if err != nil || part != c.part {
			t.Errorf("PartSize(%d, %d) = %d, %v; want %d", c.size, c.want, part, err, c.part)
		}
		if n := ceilDiv(c.size, part); n > MaxParts {
			t.Errorf("size %d: %d parts", c.size, n)
		}
	}
	if _, err := PartSize(MaxObjectSize+1, 0); err == nil {
		t.Error("an object that no layout holds was accepted")
	}
}

// The spans of any layout lie end to end and cover the file.
func TestSpansCover(t *testing.T) {
	for _, size := range []int64{1, 99, 100, 101, 1000, 1001} {
		at, number := int64(0), 1
		for _, s := range spans(size, 100) {
			if s.off != at || s.number != number || s.n < 1 || s.n > 100 {
				t.Fatalf("size %d: %+v at %d", size, s, at)
			}
			at, number = at+s.n, number+1
		}
		if at != size {
			t.Fatalf("size %d: covered %d", size, at)
		}
	}
}
