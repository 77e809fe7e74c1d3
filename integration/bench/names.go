package main

import (
	"fmt"
	"strconv"
	"time"
)

// Lines of many names.

// renameDir: mv of a directory of objects, until mv returns.
func (b *bench) renameDir() {
	b.at("mv-dir", nil, func(s *site) {
		s.objects("listed/")
		for i := range b.rounds {
			s.objects(numbered("from", i) + "/")
		}
		s.remount()
		s.compare("mv-dir", func(i int) cost {
			return s.limited(func() { s.command("mv", s.in("from", i), s.in("to", i)) })
		}, func(int) cost { return s.listing("listed/") })
	})
}

// listing is the time of the requests that list a prefix, on the same wire.
func (s *site) listing(prefix string) cost {
	must(s.server.Bandwidth(wire))
	c, _ := s.sdk("list", prefix, strconv.Itoa(s.b.sizes.objects))
	must(s.server.Bandwidth(0))
	return c
}

// aged is how old objects are before a mount first sees them: of younger ones it asks
// once more, because others may have changed them in the same second.
const aged = 4 * time.Second

// listAgain: ls -l of objects that a mount before this one has seen.
func (b *bench) listAgain() {
	b.at("ls-again", nil, func(s *site) {
		s.objects("listed/")
		time.Sleep(aged)
		s.remount()
		dir := s.m.Point + "/listed"
		s.command("ls", "-l", dir)
		s.compare("ls-again", func(int) cost {
			s.remount()
			return s.limited(func() { s.command("ls", "-l", dir) })
		}, func(int) cost { return s.listing("listed/") })
	})
}

// mountPending: a mount that finds many changes pending, until it serves.
func (b *bench) mountPending() {
	b.at("mount-pending", []string{"--write-back-delay=1h"}, func(s *site) {
		must(b.smallFiles(s.in("pending", 0), b.sizes.pending, b.sizes.pending/100))
		for range b.rounds {
			s.umount()
			c := s.start()
			st, err := s.m.Status()
			must(err)
			if st.Queue.Pending < b.sizes.pending {
				must(fmt.Errorf("%d changes are pending, of %d", st.Queue.Pending, b.sizes.pending))
			}
			_, peak, err := s.m.Memory()
			must(err)
			add("mount-pending", c, cost{})
			add("mount-pending-rss", cost{Value: float64(peak) / MiB, Daemon: c.Daemon, Server: c.Server, Requests: c.Requests}, cost{})
		}
	})
}
