package fs

import (
	"github.com/ossmount/ossmount/internal/crc64"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/writeback"
)

// sum is the CRC64 of all bytes of a file, as they were written; the row takes it
// along, and nothing else is published. It is known while nothing has to be read
// for it: of what is written from the beginning to the end, or at the end of what
// has a known one. Any other change loses it until the file is emptied.
//
//	written   ├──────────────────────┤├────┤         known: each write begins where
//	                                                 the one before has ended
//	          ├─────────┤████├───────┤               unknown from here on
type sum struct {
	crc   uint64
	known bool
}

// ofNothing is the sum of an empty file.
var ofNothing = sum{known: true}

// sumOf is the sum of a file of size bytes that are those of ref.
func sumOf(ref object.Ref, size int64) sum {
	return sum{crc: ref.CRC64, known: ref.HasCRC && ref.Size == size}
}

// sumIn is the sum that a row has.
func sumIn(r *writeback.Row) sum { return sum{crc: r.CRC64, known: r.HasCRC} }

// addLocked takes note of p, written at off. It comes before the file grows by it.
func (x *file) addLocked(p []byte, off int64) {
	switch {
	case off != x.size:
		x.sum = sum{}
	case x.sum.known:
		x.sum.crc = crc64.Update(x.sum.crc, p)
	}
}
