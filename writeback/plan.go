package writeback

import (
	"fmt"
	"slices"

	"github.com/ossmount/ossmount/internal/extent"
)

// A multipart upload is planned from what of the file differs from the version
// on OSS that it was made from: what does not is copied there, the rest is sent.
// OSS takes no part under 100 KB but the last, so that a small change is sent
// with bytes around it, and a small gap between two changes with them.
//
//	base      ─────────────────────────────────────────────
//	dirty            ██    █                          █████
//	plan      │ copy │ body │        copy            │body│
//	                 └ at least 100 KB, taken from its neighbours

// span is one part of a plan.
type span struct {
	number int // 1..10000, as numbered says
	off, n int64
	copy   bool // a range of the base; else it has a body
}

// sizes are what a plan keeps to.
type sizes struct {
	minPart, maxPart int64 // of OSS; the last part may be smaller
	maxParts         int64
	part             int64 // of parts with a body; it may grow
	copyPart         int64 // of parts that are copied
}

// wanted are the sizes of the queue's uploads.
func (q *Queue) wanted() sizes {
	s := sizes{minPart: q.o.limits.minPart, maxPart: MaxPartSize, maxParts: MaxParts, part: q.o.PartSize, copyPart: q.o.limits.copyPart}
	if s.part == 0 {
		s.part = autoPartSize
	}
	s.part = max(s.part, s.minPart)
	s.copyPart = max(s.copyPart, 2*s.minPart)
	return s
}

// plan cuts a file of size bytes, of which all that are not dirty are those of
// its base at the same place, into parts: with as few bytes in bodies as OSS
// allows, then with as few parts. Parts with a body that lie in a file without
// a base, and those at its end, keep their places when it grows.
func plan(size int64, dirty extent.Set, s sizes) ([]span, error) {
	if most := s.maxParts * s.maxPart; size > most {
		return nil, fmt.Errorf("an object holds at most %d bytes (48.8 TiB), this file has %d", most, size)
	}
	dirty = dirty.Clip(size)
	for gap := s.minPart; ; gap *= 2 {
		parts := cut(size, kept(size, dirty, s.minPart, gap), s)
		if int64(len(parts)) <= s.maxParts {
			return parts, nil
		}
		if gap >= size {
			return cutFully(size, s), nil
		}
		s.part = min(2*s.part, s.maxPart)
		s.copyPart = min(2*s.copyPart, s.maxPart)
	}
}

// run is a stretch of the base that is copied.
type run = extent.Range

// choice is a way to cut what lies before a gap that is copied.
type choice struct {
	gap   run
	prev  *choice // the gap that is copied before it; nil: none
	bytes int64   // of bodies, so far
	runs  int     // copied ones, so far
	taken int64   // from the beginning of the gap, for the body before it
	given int64   // from the end of the gap before, for the same
}

// isWorseThan reports that nothing speaks for c where there is o.
func (c *choice) isWorseThan(o *choice) bool {
	return o.bytes <= c.bytes && o.taken <= c.taken && (o.bytes < c.bytes || o.runs <= c.runs)
}

// addTo returns the choices of a gap with c among them, without those that it
// makes needless.
func (c *choice) addTo(some []*choice) []*choice {
	if c == nil || slices.ContainsFunc(some, c.isWorseThan) {
		return some
	}
	return append(slices.DeleteFunc(some, func(o *choice) bool { return o.isWorseThan(c) }), c)
}

// kept chooses which of the gaps between dirty ranges are copied, and how much of
// each. Gaps shorter than least are not.
//
// It goes from gap to gap and keeps, for each, the good ways to have it copied: a
// body between two copied gaps that is too short takes what it lacks from the
// end of the one before, as far as that stays a part, and then from the
// beginning of the one behind. The way back ends where a body would have a gap in
// it with a whole part on either side: to copy that is better.
func kept(size int64, dirty extent.Set, minPart, least int64) []run {
	var gaps []run
	for g := range dirty.Gaps(0, size) {
		if g.Len() >= least || g.End == size { // the last part may be of any size
			gaps = append(gaps, g)
		}
	}
	good := make([][]*choice, len(gaps))
	for k, g := range gaps {
		good[k] = first(g, size, minPart).addTo(nil)
		middle := -1 // a gap that ends a part before g
		for i := k - 1; i >= 0 && (middle < 0 || gaps[middle].Off-gaps[i].End < minPart); i-- {
			if middle < 0 && len(good[i]) > 0 && g.Off-gaps[i].End >= minPart {
				middle = i
			}
			for _, c := range good[i] {
				good[k] = c.next(g, size, minPart).addTo(good[k])
			}
		}
	}
	var end *choice
	bytes := size
	for _, some := range good {
		for _, c := range some {
			if all := c.bytes + size - c.gap.End; all < bytes || all == bytes && end != nil && c.runs < end.runs {
				end, bytes = c, all
			}
		}
	}
	var out []run
	given := int64(0)
	for c := end; c != nil; c = c.prev {
		out = append(out, run{Off: c.gap.Off + c.taken, End: c.gap.End - given})
		given = c.given
	}
	slices.Reverse(out)
	return out
}

// spare is how much of a gap may go to bodies.
func spare(g run, size, minPart int64) int64 {
	if g.End == size {
		return g.Len() - 1
	}
	return g.Len() - minPart
}

// first is the choice to copy g and nothing before it; nil: it is too short.
func first(g run, size, minPart int64) *choice {
	lack := int64(0)
	if g.Off > 0 {
		lack = max(minPart-g.Off, 0)
	}
	if lack > spare(g, size, minPart) {
		return nil
	}
	return &choice{gap: g, bytes: g.Off + lack, runs: 1, taken: lack}
}

// next is the choice to copy g next, with nothing in between; nil: they are too
// short.
func (c *choice) next(g run, size, minPart int64) *choice {
	body := g.Off - c.gap.End
	lack := max(minPart-body, 0)
	given := min(lack, spare(c.gap, size, minPart)-c.taken)
	if lack-given > spare(g, size, minPart) {
		return nil
	}
	return &choice{gap: g, prev: c, bytes: c.bytes + body + lack, runs: c.runs + 1, taken: lack - given, given: given}
}

// cut makes the parts of a file of which the runs are copied.
func cut(size int64, runs []run, s sizes) []span {
	if len(runs) == 0 {
		return cutFully(size, s)
	}
	var out []span
	at := int64(0)
	for _, r := range append(runs, run{Off: size, End: size}) {
		out = append(out, bodies(at, r.Off, r.Off == size, s)...)
		out = append(out, evenly(r.Off, r.End, s.copyPart, true)...)
		at = r.End
	}
	return out
}

// bodies cuts the bytes from off up to end into parts of one size. What is left
// goes with the last of them where it is too short for a part.
func bodies(off, end int64, last bool, s sizes) (out []span) {
	for off < end {
		n := min(s.part, end-off)
		if rest := end - off - n; rest > 0 && rest < s.minPart && !last {
			n += rest
			if n > s.maxPart {
				return append(out, evenly(off, end, s.maxPart, false)...)
			}
		}
		out = append(out, span{off: off, n: n})
		off += n
	}
	return out
}

// evenly cuts the bytes from off up to end into as few parts as there must be,
// of about the same size.
func evenly(off, end, most int64, copied bool) (out []span) {
	for k := ceilDiv(end-off, most); k > 0; k-- {
		n := ceilDiv(end-off, k)
		out = append(out, span{off: off, n: n, copy: copied})
		off += n
	}
	return out
}

// steady is how many parts have the size that is wanted; then it doubles with
// each further stepParts, so that a file of any size keeps its parts as it grows:
// with parts of 8 MiB up to some 8 TiB.
const (
	steady    = 5000
	stepParts = 500
)

// cutFully makes the parts of a file without a base.
func cutFully(size int64, s sizes) []span {
	var out []span
	for off := int64(0); off < size; {
		if int64(len(out)) == s.maxParts { // it is too big for parts that keep their places
			return evenly(0, size, ceilDiv(size, s.maxParts), false)
		}
		n := min(s.steadyPart(len(out)+1), size-off)
		out = append(out, span{off: off, n: n})
		off += n
	}
	return out
}

// steadyPart is the size of a part of a file without a base, unless it is the
// last.
func (s sizes) steadyPart(number int) int64 {
	n := s.part
	if over := number - 1 - steady; over >= 0 {
		for k := over / stepParts; k >= 0 && n < s.maxPart; k-- {
			n *= 2
		}
	}
	return min(n, s.maxPart)
}

// place of a part.
type extentOf struct{ off, n int64 }

// numbered gives the parts of a plan their numbers. Those that lie where a part
// of the same upload lies keep its number, as far as there are numbers for what
// is between them; others have room around them for parts that a later plan may
// need there. OSS wants the numbers to grow, not to be in a row.
func numbered(parts []span, have map[extentOf]int, maxParts int) {
	stride := max(1, min(16, maxParts/max(1, len(parts))))
	if len(parts) > 0 && !anyCopied(parts) {
		stride = 1 // such parts are never cut anew
	}
	last, waiting := 0, 0        // the number given last, and how many parts since have none
	fill := func(to, room int) { // the waiting parts before to get numbers, of so many
		step := max(1, min(stride, room/max(1, waiting)))
		for i := to - waiting; i < to; i++ {
			last += step
			parts[i].number = last
		}
		waiting = 0
	}
	for i, p := range parts {
		n, ok := have[extentOf{p.off, p.n}]
		if behind := len(parts) - i - 1; !ok || n-last-1 < waiting || n+behind > maxParts {
			waiting++
			continue
		}
		fill(i, (n-last)*waiting/(waiting+1))
		parts[i].number, last = n, n
	}
	fill(len(parts), maxParts-last)
}

func anyCopied(parts []span) bool {
	for _, p := range parts {
		if p.copy {
			return true
		}
	}
	return false
}
