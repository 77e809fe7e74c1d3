package ossemu

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// A frame of the log is
//
//	length  uint32, little endian, of the payload
//	check   uint32, CRC-32C of the payload
//	payload one record (codec.go)
//
// kill -9 can only leave the last frame short. A power cut may also leave it
// full of wrong bytes or zeros. Both reach to the end of the file and are cut
// off at Open; a wrong frame with more behind it is damage, not a crash, and
// Open refuses it rather than lose what follows.
const frameHead = 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendFrame appends r as a frame.
func appendFrame(b []byte, r record) []byte {
	start := len(b)
	b = r.encode(append(b, make([]byte, frameHead)...))
	payload := b[start+frameHead:]
	binary.LittleEndian.PutUint32(b[start:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(b[start+4:], crc32.Checksum(payload, castagnoli))
	return b
}

// readLog calls apply with every record and returns the length of the log's
// sound beginning. A torn tail is not an error.
func readLog(ctx context.Context, f *os.File, apply func(record) error) (sound int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	size, in := info.Size(), bufio.NewReaderSize(f, 1<<20)
	common, buffer := map[string]string{}, []byte(nil)
	for n := 0; sound < size; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return 0, ctx.Err()
		}
		var head [frameHead]byte
		if size-sound < frameHead {
			return sound, nil
		}
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return 0, err
		}
		length := int64(binary.LittleEndian.Uint32(head[:]))
		end := sound + frameHead + length
		if end > size {
			return sound, nil
		}
		if int64(cap(buffer)) < length {
			buffer = make([]byte, length)
		}
		payload := buffer[:length]
		if _, err := io.ReadFull(in, payload); err != nil {
			return 0, err
		}
		if length == 0 || crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
			if end == size || onlyZeros(io.MultiReader(bytes.NewReader(head[:]), bytes.NewReader(payload), in)) {
				return sound, nil
			}
			return 0, fmt.Errorf("log is damaged at byte %d of %d", sound, size)
		}
		r, err := decodeRecord(payload, common)
		if err != nil {
			return 0, fmt.Errorf("log at byte %d: %w", sound, err)
		}
		if err := apply(r); err != nil {
			return 0, fmt.Errorf("log at byte %d: %w", sound, err)
		}
		sound = end
	}
	return sound, nil
}

func onlyZeros(r io.Reader) bool {
	buffer := make([]byte, 64<<10)
	for {
		n, err := r.Read(buffer)
		if len(bytes.Trim(buffer[:n], "\x00")) != 0 {
			return false
		}
		if err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

// writeLocked appends r to the log. When it returns nil the record survives
// the end of the process. A write that fails half-way is cut off again; if
// that fails too no more is written, because a record behind a torn one would
// be lost at the next Open.
func (st *store) writeLocked(r record) error {
	if st.broken != nil {
		return st.broken
	}
	st.frame = appendFrame(st.frame[:0], r)
	_, err := st.file.Write(st.frame)
	if err == nil && st.sync {
		err = st.file.Sync()
	}
	if err != nil {
		if cut := st.file.Truncate(st.length); cut != nil {
			st.broken = fmt.Errorf("log cannot be written: %w", errors.Join(err, cut))
		}
		return fmt.Errorf("write log: %w", err)
	}
	st.length += int64(len(st.frame))
	st.records++
	return nil
}

// normalCompactAt is the length from which a log may be worth rewriting.
const normalCompactAt = 16 << 20

// compactLocked makes the packs and the log smaller when more than half of them
// is dead, and returns the packs that nothing uses any more. A crash in the
// middle of a rewrite of the log leaves the old log and a log.new that is
// overwritten next time.
func (st *store) compactLocked() (dead []uint64, err error) {
	dead, err = st.repackLocked()
	if err != nil || st.length < st.compactAt || st.records < 2*st.aliveLocked() {
		return dead, err
	}
	return dead, st.rewriteLocked()
}

func (st *store) rewriteLocked() error {
	f, err := os.OpenFile(st.path("log.new"), os.O_CREATE|os.O_TRUNC|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	length, records, err := st.snapshotLocked(f)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(st.path("log.new"), st.path("log"))
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("rewrite log: %w", err)
	}
	if st.file != nil {
		st.file.Close()
	}
	st.file, st.length, st.records = f, length, records
	return syncDir(st.dir)
}

// snapshotLocked writes the records that make the present state.
func (st *store) snapshotLocked(f *os.File) (length int64, records int, err error) {
	out := bufio.NewWriterSize(f, 1<<20)
	var frame []byte
	write := func(r record) {
		if err == nil {
			frame = appendFrame(frame[:0], r)
			_, err = out.Write(frame)
			length += int64(len(frame))
			records++
		}
	}
	write(record{kind: recHead, next: st.next.Load()})
	for name, b := range st.buckets {
		write(record{kind: recBucket, info: b.bucketInfo})
		for n := b.objects.first(); n != nil; n = n.following() {
			write(record{kind: recPut, bucket: name, object: n.value})
		}
		for n := b.uploads.first(); n != nil; n = n.following() {
			write(record{kind: recUpload, bucket: name, upload: n.value})
			for _, p := range n.value.parts {
				write(record{kind: recPart, bucket: name, id: n.key, part: p})
			}
		}
	}
	if err == nil {
		err = out.Flush()
	}
	return length, records, err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
