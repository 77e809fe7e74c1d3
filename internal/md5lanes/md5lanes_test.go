package md5lanes

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

func random(seed byte, n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(p)
	return p
}

// together hashes the writes of one step of some streams, as Write would if
// they met.
func together(streams []*Hash, pieces [][]byte) {
	var writes []*write
	for i, h := range streams {
		writes = append(writes, &write{h: h, p: pieces[i]})
	}
	hashAll(writes)
}

// TestLanesLikeTheStandardLibrary gives one to eight streams pieces of all
// sorts of lengths at the same time.
func TestLanesLikeTheStandardLibrary(t *testing.T) {
	if !fast {
		t.Log("this processor has no lanes: the standard library against itself")
	}
	data := random(1, 1<<16)
	for round := range 3000 {
		var g Group
		n := 1 + round%Lanes
		streams, sent := make([]*Hash, n), make([][]byte, n)
		for i := range streams {
			streams[i] = g.New()
		}
		for range 1 + rand.IntN(4) {
			pieces := make([][]byte, n)
			for i := range pieces {
				from := rand.IntN(len(data))
				length := rand.IntN(1 + rand.IntN(len(data)-from))
				if rand.IntN(4) > 0 { // mostly whole blocks, as bodies have them
					length &^= blockSize - 1
				}
				pieces[i] = data[from : from+length]
				sent[i] = append(sent[i], pieces[i]...)
			}
			together(streams, pieces)
		}
		for i, h := range streams {
			if want := md5.Sum(sent[i]); !bytes.Equal(h.Sum(nil), want[:]) {
				t.Fatalf("stream %d of %d, %d bytes: %x, want %x", i, n, len(sent[i]), h.Sum(nil), want)
			}
		}
	}
}

// TestStreamsOfManyGoroutines lets streams meet as they come.
func TestStreamsOfManyGoroutines(t *testing.T) {
	var g Group
	var done sync.WaitGroup
	for seed := range 30 {
		done.Go(func() {
			data := random(byte(seed), 300_000+seed*1000)
			h := g.New()
			defer h.Close()
			for rest := data; len(rest) > 0; {
				n := min(len(rest), 32<<10)
				h.Write(rest[:n])
				rest = rest[n:]
			}
			if want := md5.Sum(data); !bytes.Equal(h.Sum(nil), want[:]) {
				t.Errorf("stream %d: %x, want %x", seed, h.Sum(nil), want)
			}
		})
	}
	done.Wait()
	if g.streams != 0 || g.running != 0 || len(g.waiting) != 0 {
		t.Errorf("%d streams, %d running, %d waiting at the end", g.streams, g.running, len(g.waiting))
	}
}

// TestThoseThatWaitGoTogether holds the places of a group until streams wait.
func TestThoseThatWaitGoTogether(t *testing.T) {
	var g Group
	first := &write{h: g.New()}
	for range 3 { // four streams: from now on half of the cores
		g.New()
	}
	for g.enter(first) {
	}
	var more []*write
	for range Lanes + 1 {
		w := &write{h: g.New()}
		if g.enter(w) {
			t.Fatal("it did not wait")
		}
		more = append(more, w)
	}
	g.leave()
	if lead := <-first.turn; len(lead) != Lanes || lead[0] != first || lead[7] != more[6] {
		t.Errorf("%d go together", len(lead))
	}
	g.leave()
	if lead := <-more[7].turn; len(lead) != 2 || lead[1] != more[8] {
		t.Errorf("%d go together at last", len(lead))
	}
}

func FuzzLanes(f *testing.F) {
	f.Add([]byte("abc"), uint16(700), uint8(3))
	f.Fuzz(func(t *testing.T, p []byte, cut uint16, n uint8) {
		var g Group
		p = bytes.Repeat(p, 1+int(cut)%16)
		streams := make([]*Hash, 1+n%Lanes)
		first, second := make([][]byte, len(streams)), make([][]byte, len(streams))
		for i := range streams {
			at := min(len(p), int(cut)/(i+1))
			streams[i], first[i], second[i] = g.New(), p[:at], p[at:len(p)-i*(len(p)-at)/Lanes]
		}
		together(streams, first)
		together(streams, second)
		for i, h := range streams {
			if want := md5.Sum(append(bytes.Clone(first[i]), second[i]...)); !bytes.Equal(h.Sum(nil), want[:]) {
				t.Errorf("stream %d: %x, want %x", i, h.Sum(nil), want)
			}
		}
	})
}

func BenchmarkLanes(b *testing.B) {
	for _, n := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var g Group
			streams, pieces := make([]*Hash, n), make([][]byte, n)
			for i := range streams {
				streams[i], pieces[i] = g.New(), random(byte(i), 256<<10+8*576)[i*576:][:256<<10] // as buffers lie
			}
			b.SetBytes(int64(n * 256 << 10))
			for b.Loop() {
				together(streams, pieces)
			}
		})
	}
}
