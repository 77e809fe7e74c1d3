package main

import (
	"os"
	"path/filepath"
	"time"
)

// Lines of writing.

// copyBig: cp of one big file, until cp returns.
func (b *bench) copyBig() {
	big := b.bigFile()
	b.at("cp-big", nil, func(s *site) {
		s.compare("cp-big", func(i int) cost {
			c := s.limited(func() { s.command("cp", big, s.in("big", i)) })
			s.remove(s.in("big", i))
			return c
		}, func(i int) cost {
			to := filepath.Join(s.bare, "big")
			defer os.Remove(to)
			return s.cost(func() { s.command("cp", big, to) })
		})
	})
}

// copyTree: cp -r of many small files, until cp returns.
func (b *bench) copyTree() {
	tree := b.tree()
	b.at("cp-tree", nil, func(s *site) {
		loop := s.loopback("fast")
		s.compare("cp-tree", func(i int) cost {
			return s.limited(func() { s.command("cp", "-r", tree, s.in("tree", i)) })
		}, func(i int) cost {
			return s.cost(func() { s.command("cp", "-r", tree, filepath.Join(loop, numbered("tree", i))) })
		})
	})
}

// treeOnOSS: the same, until the last object is on OSS.
func (b *bench) treeOnOSS() {
	tree := b.tree()
	b.at("tree-on-oss", []string{"--write-back-delay=0"}, func(s *site) {
		loop := s.loopback("fast")
		s.compare("tree-on-oss", func(i int) cost {
			return s.onOSS(func() { s.command("cp", "-r", tree, s.in("tree", i)) })
		}, func(i int) cost {
			c := s.cost(func() { s.command("cp", "-r", tree, filepath.Join(loop, numbered("tree", i))) })
			up, _ := s.sdk("put-tree", numbered("plain", i)+"/", tree, "16")
			up.Value += c.Value
			return up
		})
	})
}

// latencyOnOSS: some small files, until the last is on OSS, which is 20 ms away.
func (b *bench) latencyOnOSS() {
	few := b.fewFiles()
	b.at("latency-on-oss", []string{"--write-back-delay=0"}, func(s *site) {
		must(s.server.Latency(20 * time.Millisecond))
		s.compare("latency-on-oss", func(i int) cost {
			return s.onOSS(func() { s.command("cp", "-r", few, s.in("few", i)) })
		}, func(i int) cost {
			c, _ := s.sdk("put-tree", numbered("plain", i)+"/", few, "32")
			return c
		})
	})
}

// bigOnOSS: cp of a big file, until it is visible on OSS; what that takes of the
// processor and of memory.
func (b *bench) bigOnOSS() {
	big := b.bigFile()
	GiB := float64(b.sizes.big) / (1024 * MiB)
	b.at("big-on-oss", []string{"--write-back-delay=0"}, func(s *site) {
		var oursCPU, plainCPU, memory cost
		s.compare("big-on-oss", func(i int) (c cost) {
			to := s.in("big", i)
			peak := s.peak(func() { c = s.onOSS(func() { s.command("cp", big, to) }) })
			memory, oursCPU = c, c
			memory.Value, oursCPU.Value = peak, c.Daemon/GiB
			add("big-rss", memory, cost{})
			s.remove(to)
			return c
		}, func(i int) cost {
			key := numbered("plain", i)
			c, t := s.sdk("put", key, big, "8")
			plainCPU = c
			plainCPU.Value = t.CPU / GiB
			s.removeObject(key)
			return c
		}, func() { add("big-cpu", oursCPU, plainCPU) })
	})
}

// overwrite: a local file is overwritten in pieces of 4 KiB by one process.
func (b *bench) overwrite() {
	b.at("overwrite", []string{"--write-back-delay=1h", "--eager=off"}, func(s *site) {
		loop := s.loopback("default")
		ours, plain := s.in("file", 0), filepath.Join(loop, "file")
		for _, path := range []string{ours, plain} {
			must(os.WriteFile(path, make([]byte, b.sizes.overwrite), 0o644))
		}
		s.compare("overwrite-4k", func(int) cost { return s.overwriteOne(ours) }, func(int) cost { return s.overwriteOne(plain) })
	})
}

// overwriteOne overwrites a file from end to end, again and again, and returns how
// many pieces it was in a second.
func (s *site) overwriteOne(path string) cost {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(err)
	defer f.Close()
	pieces := int64(s.b.sizes.overwrite / smallFile)
	p, n := make([]byte, smallFile), int64(0)
	c := s.cost(func() {
		for start := time.Now(); time.Since(start).Seconds() < s.b.sizes.seconds; n++ {
			_, err := f.WriteAt(p, n%pieces*smallFile)
			must(err)
		}
	})
	c.Value = float64(n) / c.Value
	return c
}
