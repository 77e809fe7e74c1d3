package main

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/ossmount/ossmount/integration/harness"
)

// Lines of reading.

// readFile reads a file from end to end.
func readFile(path string) {
	f, err := os.Open(path)
	must(err)
	defer f.Close()
	for p := make([]byte, MiB); ; {
		if _, err := f.Read(p); errors.Is(err, io.EOF) {
			return
		} else {
			must(err)
		}
	}
}

// readAll: a big object that was never read before, and once more.
func (b *bench) readAll() {
	big := b.bigFile()
	b.at("read-all", nil, func(s *site) {
		bare := filepath.Join(s.bare, "big")
		s.command("cp", big, bare)
		var warm, plain cost
		s.compare("read-cold", func(i int) cost {
			s.bigObject(numbered("big", i))
			s.remount()
			path := s.in("big", i)
			cold := s.cost(func() { readFile(path) })
			warm = s.cost(func() { readFile(path) })
			s.remove(path)
			return cold
		}, func(i int) cost {
			s.bigObject("plain")
			to := filepath.Join(s.bare, "got")
			defer os.Remove(to)
			c, _ := s.sdk("get", "plain", to, "8")
			readFile(bare)
			plain = s.cost(func() { readFile(bare) })
			s.removeObject("plain")
			return c
		}, func() { add("read-warm", warm, plain) })
	})
}

// readRandom: pieces of a big object that was never read before; the bytes that the
// server sent for them.
func (b *bench) readRandom() {
	const piece = 128 << 10
	b.at("read-random", nil, func(s *site) {
		for i := range b.rounds {
			s.bigObject(numbered("big", i))
			s.remount()
			r := rand.New(rand.NewPCG(uint64(i), 0))
			path := s.in("big", i)
			c := s.cost(func() {
				f, err := os.Open(path)
				must(err)
				defer f.Close()
				p := make([]byte, piece)
				for range b.sizes.reads {
					_, err := f.ReadAt(p, r.Int64N(int64(b.sizes.big-piece)/smallFile)*smallFile)
					must(err)
				}
			})
			c.Value = float64(s.sent()) / MiB
			add("read-random", c, cost{Value: float64(b.sizes.reads*piece) / MiB})
			s.remove(path)
		}
	})
}

// sent is how many bytes of objects the server has sent, when it sends no more.
func (s *site) sent() (n int64) {
	must(harness.Poll(s.b.ctx, "the server is at rest", func() (bool, error) {
		before := n
		counts, err := s.server.Counts()
		n = counts.Ops["GetObject"].BytesOut
		return n > 0 && n == before, err
	}))
	return n
}

// readMuch: the most memory while many big objects are read, one after another.
func (b *bench) readMuch() {
	b.at("read-rss", nil, func(s *site) {
		for i := range b.sizes.copies {
			s.bigObject(numbered("big", i))
		}
		s.remount()
		var c cost
		memory := s.peak(func() {
			c = s.cost(func() {
				for i := range b.sizes.copies {
					readFile(s.in("big", i))
					must(os.Remove(s.in("big", i))) // else the disk has all of them twice
				}
			})
		})
		c.Value = memory
		add("read-rss", c, cost{})
	})
}
