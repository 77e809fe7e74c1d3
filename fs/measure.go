package fs

import (
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ossmount/ossmount/internal/meter"
)

// errnos is one more than the highest error of Linux that a call can have; what is
// above is counted as EIO.
const errnos = 134

// measures are what became of the requests of the kernel.
type measures struct {
	times  [operations]meter.Histogram
	errors [operations][errnos]atomic.Int64
}

// took counts a request that began at start and is answered with s.
func (m *measures) took(op operation, start time.Time, s fuse.Status) fuse.Status {
	m.times[op].Observe(time.Since(start))
	if s != fuse.OK {
		n := int(s)
		if n < 0 || n >= errnos {
			n = int(syscall.EIO)
		}
		m.errors[op][n].Add(1)
	}
	return s
}

// Operation is what became of the requests of one kind since the mount began.
type Operation struct {
	Name   string // such as Lookup
	Times  meter.Reading
	Errors map[syscall.Errno]int64
}

// Operations returns the kinds of requests of which there were some. What the kernel
// serves itself (passthrough) is none.
func (f *FS) Operations() []Operation {
	var all []Operation
	for op := range operations {
		o := Operation{Name: operationNames[op], Times: f.measures.times[op].Read()}
		if o.Times.Count() == 0 {
			continue
		}
		for n := range f.measures.errors[op] {
			if count := f.measures.errors[op][n].Load(); count > 0 {
				if o.Errors == nil {
					o.Errors = map[syscall.Errno]int64{}
				}
				o.Errors[syscall.Errno(n)] = count
			}
		}
		all = append(all, o)
	}
	return all
}
