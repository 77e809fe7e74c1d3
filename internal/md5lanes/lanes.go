package md5lanes

import (
	"bytes"
	"encoding"
	"encoding/binary"
	"hash"
)

// Lanes is how many streams go together.
const Lanes = 8

const blockSize = 64

// hashAll hashes writes of different streams: as many blocks as all have in
// lanes, and the rest one by one.
func hashAll(writes []*write) {
	for len(writes) > 1 {
		n := len(writes[0].p)
		for _, w := range writes {
			n = min(n, len(w.p))
		}
		if n /= blockSize; n == 0 || !inLanes(writes, n) {
			break
		}
		// Those that are at their end leave, and the others go on.
		var longer []*write
		for _, w := range writes {
			w.p = w.p[n*blockSize:]
			if len(w.p) >= blockSize {
				longer = append(longer, w)
			} else {
				w.h.md5.Write(w.p)
			}
		}
		writes = longer
	}
	for _, w := range writes {
		w.h.md5.Write(w.p)
	}
}

// inLanes takes n blocks of each write into its hash, or does nothing if a
// hash is not at the border of a block.
func inLanes(writes []*write, n int) bool {
	var all [Lanes]state
	var words [4][Lanes]uint32
	var from [Lanes]*byte
	for lane := range Lanes {
		// A lane without a stream repeats the first.
		w := writes[0]
		if lane < len(writes) {
			w = writes[lane]
			if !all[lane].read(w.h.md5) {
				return false
			}
			for i := range words {
				words[i][lane] = all[lane].word(i)
			}
		}
		from[lane] = &w.p[0]
	}
	blocks(&words, &from, &constants, n)
	for lane, w := range writes {
		for i := range words {
			all[lane].setWord(i, words[i][lane])
		}
		all[lane].add(n * blockSize)
		all[lane].write(w.h.md5)
	}
	return true
}

// state is what crypto/md5 marshals a hash to:
//
//	0   "md5\x01"
//	4   a, b, c, d   uint32, big endian
//	20  the bytes of a block that is not full
//	84  length       uint64, big endian
type state [92]byte

const (
	magic    = "md5\x01"
	lengthAt = 84
)

// read takes the state of h, if it is of the known form and no block is begun.
func (s *state) read(h hash.Hash) bool {
	b, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil || len(b) != len(s) || !bytes.HasPrefix(b, []byte(magic)) {
		return false
	}
	copy(s[:], b)
	return binary.BigEndian.Uint64(s[lengthAt:])%blockSize == 0
}

func (s *state) write(h hash.Hash) {
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(s[:]); err != nil {
		panic(err) // it was marshalled by the same package
	}
}

func (s *state) word(i int) uint32       { return binary.BigEndian.Uint32(s[4+4*i:]) }
func (s *state) setWord(i int, v uint32) { binary.BigEndian.PutUint32(s[4+4*i:], v) }

func (s *state) add(n int) {
	binary.BigEndian.PutUint64(s[lengthAt:], binary.BigEndian.Uint64(s[lengthAt:])+uint64(n))
}
