package disk

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// After a cut each sector holds what was durable or one of the versions that were
// written since, and nothing else; and all of these happen.
func TestCutKeepsWhatWasFlushedAndAnyOfTheRest(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	old, kept, between := 0, 0, 0
	for range 300 {
		m := newImage(16 * pageSize)
		versions := make([][][]byte, m.size()/sectorSize) // of each sector, since the last flush; the first is durable
		for i := range versions {
			versions[i] = [][]byte{make([]byte, sectorSize)}
		}
		for range r.IntN(60) {
			if r.IntN(8) == 0 {
				m.flush()
				for i, v := range versions {
					versions[i] = v[len(v)-1:]
				}
				continue
			}
			at := r.IntN(len(versions))
			n := 1 + r.IntN(min(20, len(versions)-at))
			b := make([]byte, n*sectorSize)
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			m.writeAt(b, int64(at*sectorSize))
			for i := range n {
				versions[at+i] = append(versions[at+i], b[i*sectorSize:(i+1)*sectorSize])
			}
		}
		next, info := m.cut(r)
		for i, v := range versions {
			now, then := make([]byte, sectorSize), make([]byte, sectorSize)
			m.readAt(now, int64(i*sectorSize))
			next.readAt(then, int64(i*sectorSize))
			if !bytes.Equal(now, v[len(v)-1]) {
				t.Fatalf("sector %d is not read as it was written", i)
			}
			which := -1
			for k, b := range v {
				if bytes.Equal(b, then) {
					which = k
				}
			}
			switch {
			case which < 0:
				t.Fatalf("cut with %s: sector %d holds none of its %d versions", info.How, i, len(v))
			case info.How == "none" && which != 0, info.How == "all" && which != len(v)-1:
				t.Fatalf("cut with %s: sector %d has version %d of %d", info.How, i, which, len(v))
			case len(v) > 1 && which == 0:
				old++
			case len(v) > 1 && which == len(v)-1:
				kept++
			case len(v) > 1:
				between++
			}
		}
	}
	if old == 0 || kept == 0 || between == 0 {
		t.Errorf("of what was not flushed %d sectors were lost, %d kept, %d as they were in between", old, kept, between)
	}
}

// What a disk is asked for after it was frozen is not answered before it goes on, and
// is in no cut.
func TestFrozenDiskAnswersNothing(t *testing.T) {
	m := newImage(4 * pageSize)
	full := bytes.Repeat([]byte{1}, pageSize)
	m.writeAt(full, 0)
	stops := m.stopBefore(1, true) // the flush
	answered := make(chan bool)
	go func() { m.flush(); answered <- true }()
	<-stops
	for seed := range uint64(20) {
		next, info := m.cut(rand.New(rand.NewPCG(seed, 0)))
		if got := make([]byte, pageSize); info.How == "none" {
			if next.readAt(got, 0); !bytes.Equal(got, make([]byte, pageSize)) {
				t.Fatal("a flush that was not answered has made a write durable")
			}
		}
	}
	select {
	case <-answered:
		t.Fatal("a frozen disk has answered a flush")
	default:
	}
	m.thaw()
	<-answered
	if got := make([]byte, pageSize); true {
		if m.copy().readAt(got, 0); !bytes.Equal(got, full) {
			t.Error("a flush that was answered has not made a write durable")
		}
	}
}
