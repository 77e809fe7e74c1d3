package writeback

import (
	"flag"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/extent"
)

var plans = flag.Int("plans", 100_000, "random plans that TestPlan makes")

// TestPlan makes random plans and compares each with what it must be: parts end
// to end that OSS takes, copied ones of bytes that are those of the base, and,
// where there are few enough, with the fewest bytes in bodies that any plan has.
func TestPlan(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 5))
	exact := 0
	for range *plans {
		s := sizes{minPart: r.Int64N(6) + 1, maxParts: r.Int64N(40) + 1}
		s.part = s.minPart + r.Int64N(8)
		s.copyPart = 2*s.minPart + r.Int64N(30)
		s.maxPart = max(s.part, s.copyPart) + r.Int64N(20)
		size := r.Int64N(min(120, s.maxParts*s.maxPart) + 1)
		var dirty extent.Set
		for range r.IntN(8) {
			off := r.Int64N(size + 1)
			dirty = dirty.Add(off, min(size, off+r.Int64N(12)))
		}
		if r.IntN(3) == 0 { // the file has grown
			dirty = dirty.Add(r.Int64N(size+1), size)
		}
		parts, err := plan(size, dirty, s)
		if err != nil {
			t.Fatalf("size %d, %+v: %v", size, s, err)
		}
		if wrong := judgePlan(size, dirty, s, parts); wrong != "" {
			t.Fatalf("size %d, dirty %v, %+v:\n%+v\n%s", size, dirty, s, parts, wrong)
		}
		few := s
		few.maxParts = 1000
		parts, err = plan(size, dirty, few)
		if err != nil {
			t.Fatal(err)
		}
		if sent, least := inBodies(parts), leastSent(size, dirty, few.minPart); sent != least {
			t.Fatalf("size %d, dirty %v, %+v:\n%+v\n%d bytes are sent, %d suffice", size, dirty, few, parts, sent, least)
		}
		exact++
	}
	t.Logf("%d plans, each as cheap as can be", exact)
}

func inBodies(parts []span) (n int64) {
	for _, p := range parts {
		if !p.copy {
			n += p.n
		}
	}
	return n
}

// judgePlan assembles what OSS would, and says what is wrong.
func judgePlan(size int64, dirty extent.Set, s sizes, parts []span) string {
	if int64(len(parts)) > s.maxParts {
		return "too many parts"
	}
	at := int64(0)
	for i, p := range parts {
		switch last := i == len(parts)-1; {
		case p.off != at:
			return "a part is not where the one before ends"
		case p.n < 1 || !last && p.n < s.minPart || p.n > s.maxPart:
			return "a part has a size that OSS refuses"
		case p.copy && dirty.Touches(p.off, p.off+p.n):
			return "a copied part is not that of the base"
		}
		at += p.n
	}
	if at != size {
		return "the parts do not make the file"
	}
	return ""
}

// leastSent is how few bytes the bodies of any legal plan have: the best way to
// each place where a part may end, tried out.
func leastSent(size int64, dirty extent.Set, minPart int64) int64 {
	best := make([]int64, size+1)
	for end := int64(1); end <= size; end++ {
		best[end] = 1 << 60
		for off := int64(0); off < end; off++ {
			if end-off < minPart && end != size {
				continue
			}
			cost := best[off]
			if dirty.Touches(off, end) {
				cost += end - off
			}
			best[end] = min(best[end], cost)
		}
	}
	return best[size]
}

// A file of any size is cut into parts that OSS takes, and one that grows keeps
// those that it has.
func TestPlanAtTheLimits(t *testing.T) {
	const MiB, GiB, TiB = 1 << 20, 1 << 30, 1 << 40
	s := (&Queue{o: Options{limits: limits{minPart: MinPartSize, copyPart: 512 * MiB}}}).wanted()
	for _, size := range []int64{1, 8 * MiB, 8*MiB + 1, 40 * GiB, 80*GiB + 1, 1 * TiB, 9 * TiB, MaxObjectSize - 1, MaxObjectSize} {
		for name, dirty := range map[string]extent.Set{
			"new": extent.Of(0, size), "appended to": extent.Of(size/2, size), "changed at both ends": extent.Of(0, 1).Add(size-1, size),
		} {
			parts, err := plan(size, dirty, s)
			if err != nil {
				t.Fatal(err)
			}
			if wrong := judgePlan(size, dirty, s, parts); wrong != "" {
				t.Errorf("%s, size %d: %s", name, size, wrong)
			}
		}
	}
	if _, err := plan(MaxObjectSize+1, extent.Of(0, MaxObjectSize+1), s); err == nil {
		t.Error("an object that no plan holds was accepted")
	}
	small, _ := plan(30*GiB, extent.Of(0, 30*GiB), s)
	grown, _ := plan(3*TiB, extent.Of(0, 3*TiB), s)
	if n := len(small) - 1; !slices.Equal(small[:n], grown[:n]) {
		t.Error("a file that grows has other parts")
	}
}

// Numbers grow with the places, known parts keep theirs, and between parts of
// which some are copied there is room for others.
func TestPartNumbers(t *testing.T) {
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 6))
	const most = 100
	for range 20_000 {
		have := map[extentOf]int{}
		for range 3 { // a plan, and what becomes of it
			var dirty extent.Set
			size := r.Int64N(90) + 1
			for range r.IntN(5) {
				off := r.Int64N(size)
				dirty = dirty.Add(off, min(size, off+r.Int64N(9)+1))
			}
			parts, err := plan(size, dirty, sizes{minPart: 2, maxPart: 50, maxParts: most, part: 3, copyPart: 20})
			if err != nil {
				t.Fatal(err)
			}
			numbered(parts, have, most)
			last := 0
			for _, p := range parts {
				if p.number <= last || p.number > most {
					t.Fatalf("number %d behind %d in %+v with %v", p.number, last, parts, have)
				}
				last = p.number
			}
			again := slices.Clone(parts)
			for _, p := range parts {
				have[extentOf{p.off, p.n}] = p.number
			}
			numbered(again, have, most)
			if !slices.Equal(again, parts) {
				t.Fatalf("the same plan has other numbers: %+v, %+v", parts, again)
			}
			for place, n := range have { // as the journal has them: of each number the newest part
				for _, p := range parts {
					if p.number == n && (place != extentOf{p.off, p.n}) {
						delete(have, place)
					}
				}
			}
		}
	}
}
