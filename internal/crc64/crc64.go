package crc64

import (
	"encoding/binary"
	"hash"
	"hash/crc64"
)

// Size of a sum in bytes.
const Size = 8

// table is for what is too short to be folded.
var table = crc64.MakeTable(crc64.ECMA)

// Update adds the bytes of p to crc, which is 0 at the beginning.
func Update(crc uint64, p []byte) uint64 {
	if !fast || len(p) < foldLeast {
		return crc64.Update(crc, table, p)
	}
	whole := len(p) &^ (foldStep - 1)
	// The register begins with ones and is inverted at the end. To begin with
	// any register is to add it to the first 64 bits of the message.
	var rest [16]byte
	fold(&rest, ^crc, p[:whole])
	crc = crc64.Update(^uint64(0), table, rest[:]) // ones, inverted: register 0
	return crc64.Update(crc, table, p[whole:])
}

// digest is the hash.Hash64 of New.
type digest struct{ crc uint64 }

// New returns a hash; its Sum is big endian, as that of hash/crc64.
func New() hash.Hash64 { return &digest{} }

func (d *digest) Write(p []byte) (int, error) {
	d.crc = Update(d.crc, p)
	return len(p), nil
}

func (d *digest) Sum(b []byte) []byte { return binary.BigEndian.AppendUint64(b, d.crc) }
func (d *digest) Sum64() uint64       { return d.crc }
func (d *digest) Reset()              { d.crc = 0 }
func (d *digest) Size() int           { return Size }
func (d *digest) BlockSize() int      { return 1 }
