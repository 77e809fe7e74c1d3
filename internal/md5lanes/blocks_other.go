//go:build !amd64

package md5lanes

const fast = false

var constants [64][Lanes]uint32

func blocks(*[4][Lanes]uint32, *[Lanes]*byte, *[64][Lanes]uint32, int) {
	panic("md5lanes: this processor has no lanes")
}
