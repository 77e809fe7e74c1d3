package meter

import (
	"sync"
	"testing"
	"time"
)

func TestDurationIsInTheFirstBucketThatHoldsIt(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		want int
	}{
		{0, 0}, {Bounds[0], 0}, {Bounds[0] + 1, 1}, {time.Second, 10}, {Bounds[len(Bounds)-1], len(Bounds) - 1}, {time.Hour, len(Bounds)},
	} {
		var h Histogram
		h.Observe(c.d)
		if r := h.Read(); r.In[c.want] != 1 || r.Count() != 1 || r.Sum != c.d {
			t.Errorf("%v: %+v, want bucket %d", c.d, r, c.want)
		}
	}
}

func TestNothingIsLostOfManyAtOnce(t *testing.T) {
	const each = 1000
	var h Histogram
	var g sync.WaitGroup
	for range 8 {
		g.Go(func() {
			for range each {
				h.Observe(time.Millisecond)
			}
		})
	}
	g.Wait()
	if r := h.Read(); r.Count() != 8*each || r.Sum != 8*each*time.Millisecond {
		t.Errorf("%+v", r)
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	var h Histogram
	if n := testing.AllocsPerRun(1000, func() { h.Observe(time.Second) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
