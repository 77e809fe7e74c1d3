// Package meter counts how long things take, at the cost of two additions: it is
// used where programs wait. What is counted is shown elsewhere (internal/metrics),
// so that no room knows of the format that monitoring reads.
//
// # Promise
//
// Observe allocates nothing and takes no lock. A reading that is made while others
// count may lack what they are about to add, and never goes back.
//
// # Goroutines
//
// None.
package meter

import (
	"sync/atomic"
	"time"
)

// Bounds are the upper bounds of the buckets, the same for all histograms: what is
// served from memory takes microseconds, a disk milliseconds, OSS up to --stall.
var Bounds = [...]time.Duration{
	10 * time.Microsecond, 50 * time.Microsecond, 100 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 500 * time.Millisecond, time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// Histogram counts durations. Its zero value is empty.
type Histogram struct {
	in  [len(Bounds) + 1]atomic.Int64 // the last is above all bounds
	sum atomic.Int64                  // nanoseconds
}

// Observe counts d.
func (h *Histogram) Observe(d time.Duration) {
	i := 0
	for i < len(Bounds) && d > Bounds[i] {
		i++
	}
	h.in[i].Add(1)
	h.sum.Add(int64(d))
}

// Reading is what a histogram has counted.
type Reading struct {
	In  [len(Bounds) + 1]int64 // by bucket, not summed up
	Sum time.Duration
}

// Read returns what has been counted.
func (h *Histogram) Read() (r Reading) {
	r.Sum = time.Duration(h.sum.Load())
	for i := range h.in {
		r.In[i] = h.in[i].Load()
	}
	return r
}

// Count is how many durations were counted.
func (r *Reading) Count() (n int64) {
	for _, in := range r.In {
		n += in
	}
	return n
}
