package md5lanes

import (
	"math"

	"golang.org/x/sys/cpu"
)

// fast says that the processor has what blocks needs.
var fast = cpu.X86.HasAVX2

// constants are those of RFC 1321, 2^32 times |sin(1)|, |sin(2)|, ..., for all
// lanes.
var constants = func() (c [64][Lanes]uint32) {
	for i := range c {
		for lane := range c[i] {
			c[i][lane] = uint32(math.Floor(math.Abs(math.Sin(float64(i+1))) * (1 << 32)))
		}
	}
	return c
}()

// blocks takes n blocks of 64 bytes of each stream into its state.
//
//go:noescape
func blocks(state *[4][Lanes]uint32, from *[Lanes]*byte, constants *[64][Lanes]uint32, n int)
