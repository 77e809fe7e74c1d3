package integration

import (
	"bytes"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/ossmount/ossmount/integration/harness"
)

// BenchmarkCopyIntoAMount writes files of 256 MiB as cp does, by turns such that
// their checksum is kept as they are written, and such that it is lost with the
// first write. The ratio is what it costs.
func BenchmarkCopyIntoAMount(b *testing.B) {
	dir := b.TempDir()
	m := &harness.Mount{Bin: binary, Source: "local:" + dir + "/objects", Point: dir + "/mnt", Cache: dir + "/cache",
		Flags: []string{"--eager=off", "--write-back-delay=1h"}}
	if err := os.Mkdir(m.Point, 0o755); err != nil {
		b.Fatal(err)
	}
	if err := m.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer m.Destroy()
	const size, piece = 256 << 20, 256 << 10
	p := bytes.Repeat([]byte("0123456789abcdef"), piece/16)
	write := func(known bool) time.Duration {
		start := time.Now()
		f, err := os.Create(m.Point + "/f")
		if err != nil {
			b.Fatal(err)
		}
		if !known {
			if _, err := f.Write(p[:1]); err != nil {
				b.Fatal(err)
			}
		}
		for off := int64(0); off < size; off += piece {
			if _, err := f.WriteAt(p, off); err != nil {
				b.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
		took := time.Since(start)
		if err := os.Remove(m.Point + "/f"); err != nil {
			b.Fatal(err)
		}
		return took
	}
	write(true)
	var with, without, ratio []float64
	b.ResetTimer()
	for b.Loop() {
		k, u := write(true).Seconds(), write(false).Seconds()
		with, without, ratio = append(with, size/k/1e6), append(without, size/u/1e6), append(ratio, k/u)
	}
	b.ReportMetric(middle(with), "MB/s-with-sum")
	b.ReportMetric(middle(without), "MB/s-without")
	b.ReportMetric(middle(ratio), "times-as-long")
	b.ReportMetric(0, "ns/op")
}

func middle(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
