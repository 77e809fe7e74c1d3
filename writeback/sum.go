package writeback

import (
	"fmt"
	"io"

	"github.com/ossmount/ossmount/internal/crc64"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// What is published is what was written. A row has the CRC64 of its bytes where
// that is known (Row.HasCRC); what is read from the cache disk in order to send it
// must have the same, else a bit has changed there since, and nothing is
// published: the row is parked as damaged, and the object stays as it was.
//
//	PutObject    the last bytes of the body are held back until the sum of all is
//	             known to be right: of a body that breaks off OSS stores nothing
//	Complete     the sums of the parts, joined, before it is sent

// errChanged is that the bytes are not those that were written.
var errChanged = fmt.Errorf("%w: the bytes on the cache disk differ from what was written: take them out with `ossmount recover export`, send them as they are with `publish`, give them up with `discard`, or write the file anew", errLocal)

// all reads all bytes of the row, and ends with errChanged in place of the last of
// them if they are not those that were written.
func (s *source) all() *whole {
	return &whole{body: s.body(0, s.t.row.Size), left: s.t.row.Size}
}

type whole struct {
	*body
	left int64
	crc  uint64
}

func (w *whole) Read(p []byte) (int, error) {
	n, err := w.body.Read(p)
	row := w.s.t.row
	if !row.HasCRC || n == 0 {
		return n, err
	}
	w.crc = crc64.Update(w.crc, p[:n])
	if w.left -= int64(n); w.left == 0 && w.crc != row.CRC64 {
		return 0, w.s.fails(errChanged)
	}
	return n, err
}

// asWritten compares what the parts are, joined, with what was written. If it is
// not the same their upload is given up: should the disk give back the right bytes
// once more, all of them are sent anew.
func (t *transfer) asWritten(parts map[int]journal.Part, src *source) error {
	if !t.row.HasCRC {
		return nil
	}
	crc, sure := t.expectedCRC(parts)
	if !sure && !t.row.HasHoles() { // OSS does not tell of each part: once more from the disk
		body := src.body(0, t.row.Size)
		defer body.Close()
		h := crc64.New()
		if _, err := io.Copy(h, body); err != nil {
			return src.why(err)
		}
		crc, sure = h.Sum64(), true
	}
	if !sure || crc == t.row.CRC64 {
		return nil
	}
	if err := t.giveUploadUp(); err != nil {
		return err
	}
	for _, p := range parts {
		if p.Copied { // of it only OSS tells, which may be wrong as well: again, before the disk is accused
			return &object.Error{Op: opPartCopy, Key: t.row.Key, Kind: object.Again, Fate: object.Answered,
				Err: fmt.Errorf("%w: the parts have the CRC64 %d, what was written has %d", errIntegrity, crc, t.row.CRC64)}
		}
	}
	return errChanged
}

// baseSum gives a row that is one hole the sum of its base, as its bytes come here.
func baseSum(r *Row, size int64) {
	if r.IsHole() && r.Base.HasCRC && r.Base.Size == size {
		r.CRC64, r.HasCRC = r.Base.CRC64, true
	}
}

// isSum reports that the object has the sum of the row; known says that both are.
func isSum(r *Row, info object.Info) (same, known bool) {
	return r.CRC64 == info.CRC64, r.HasCRC && info.HasCRC
}
