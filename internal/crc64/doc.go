// Package crc64 is CRC-64/XZ, which OSS calls crc64ecma: every body that OSS
// stores or sends has one, so it is computed over each byte that ossmount
// moves. Its values are those of hash/crc64 with the table crc64.ECMA; it is
// seven times as fast where the processor multiplies without carry
// (PCLMULQDQ on amd64), and the standard library elsewhere. It needs no cgo.
//
// # How it is fast
//
// The CRC of a message M of n bits is M·x⁶⁴ mod P: M is read as a polynomial
// over GF(2), its first bit having the highest power, and P is the polynomial
// of degree 64. Only the remainder matters, so M may be replaced by any
// shorter polynomial that is congruent to it. That is what folding does: with
// M = A·x^d + B, and A of 128 bits in two halves,
//
//	A·x^d = (H·x⁶⁴ + L)·x^d ≡ H·(x^(d+64) mod P) + L·(x^d mod P)
//
// and both products have 127 bits at most: they are added (xor) to the 128
// bits that lie d bits behind, and A is gone. Four such A are under way at
// once, d = 512, because a multiplication takes several cycles but a new one
// can begin each cycle or two. At the end the four become one (d = 128), and
// the 16 bytes that are left, which are congruent to all that was read, are
// given to the standard library as if they were the message.
//
// # The constants
//
// Bits are reflected: the lowest bit of the first byte has the highest power,
// so in a word of 64 bits, loaded little endian, bit i stands for x^(63-i),
// and in two words of 128 bits, bit i stands for x^(127-i). The product of two
// reflected words has at bit i+j what belongs to x^(126-i-j), but is read as
// x^(127-i-j): the instruction multiplies by one x more. So each constant is
// taken one power lower: to go on by d bits the first word, H, is multiplied
// by x^(d+63) mod P and the second, L, by x^(d-1) mod P, both reflected.
// TestConstants computes them from the polynomial by shifting, bit by bit.
package crc64
