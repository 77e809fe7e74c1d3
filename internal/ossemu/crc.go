package ossemu

import "hash/crc64"

// crcTable is CRC-64/XZ, which OSS calls crc64ecma.
var crcTable = crc64.MakeTable(crc64.ECMA)

// joiner computes the CRC of two strings of bytes from their CRCs, so that
// Complete need not read what was uploaded. Appending n bytes multiplies the
// first CRC, read as a polynomial over GF(2), by x^(8n). It remembers the
// factor of the last length: the parts of an upload are mostly of one size.
type joiner struct {
	length int64
	factor uint64
}

// polyOne is the polynomial 1 in the reflected bit order of CRC-64/XZ.
const polyOne = uint64(1) << 63

// polyMultiply multiplies two polynomials modulo the CRC's own.
func polyMultiply(a, b uint64) uint64 {
	var product uint64
	for bit := polyOne; bit != 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
		}
		b = b>>1 ^ crc64.ECMA&-(b&1)
	}
	return product
}

// polyPower gives x^(8n).
func polyPower(n int64) uint64 {
	power, square := polyOne, polyOne>>8 // 1 and x^8
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			power = polyMultiply(power, square)
		}
		square = polyMultiply(square, square)
	}
	return power
}

// join gives the CRC of what has the CRC first followed by length bytes that
// have the CRC second.
func (j *joiner) join(first, second uint64, length int64) uint64 {
	if j.factor == 0 || j.length != length {
		j.length, j.factor = length, polyPower(length)
	}
	return polyMultiply(first, j.factor) ^ second
}
