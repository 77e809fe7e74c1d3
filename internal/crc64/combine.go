package crc64

import (
	"hash/crc64"
	"math/bits"
)

// one is the polynomial 1: words are reflected, bit i stands for x^(63-i).
const one = uint64(1) << 63

// squares holds x^8, x^16, x^32 and so on, each the square of the one before,
// modulo P: the factors by which 1, 2, 4, ... bytes behind it move a CRC.
var squares = func() (s [63]uint64) {
	s[0] = one >> 8
	for i := 1; i < len(s); i++ {
		s[i] = multiply(s[i-1], s[i-1])
	}
	return s
}()

// Combine gives the CRC of two strings of bytes in a row from the CRC of each
// and the length of the second, without reading them. The bytes of the second
// move the first up by 8 powers each, and all else is linear: the ones that
// the register begins with and is inverted by cancel each other out.
func Combine(crc1, crc2 uint64, len2 int64) uint64 {
	for n := uint64(max(len2, 0)); n != 0; n &= n - 1 {
		crc1 = multiply(crc1, squares[bits.TrailingZeros64(n)])
	}
	return crc1 ^ crc2
}

// multiply multiplies two polynomials modulo P.
func multiply(a, b uint64) uint64 {
	var product uint64
	for ; a != 0; a <<= 1 {
		product ^= b & -(a >> 63)
		b = b>>1 ^ crc64.ECMA&-(b&1) // b·x
	}
	return product
}
