package ossemu

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ossmount/ossmount/internal/crc64"
)

// maxBody is the largest body of PutObject and UploadPart.
const maxBody = 5 << 30

// bufferSize is large enough that a read passes by net/http's own buffer and a
// write is worth its system call.
const bufferSize = 256 << 10

// buffers are what bodies pass through. They are hashed eight at a time, so
// they must not begin at the same place of a page, as large allocations do:
// all would lie in the same few lines of the cache and drive each other out.
var buffers = sync.Pool{New: func() any {
	const step, steps = 9 * 64, 8
	off := step * int(bufferCount.Add(1)%steps)
	b := make([]byte, bufferSize+step*steps)[off : off+bufferSize]
	return &b
}}

var bufferCount atomic.Uint32

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// content is bytes that are on disk and not yet in any record.
type content struct {
	segments []segment
	size     int64
	md5      [md5.Size]byte
	crc      uint64
}

func (c content) etag() string { return strings.ToUpper(hex.EncodeToString(c.md5[:])) }

func etagMD5(etag string) ([]byte, bool) {
	sum, err := hex.DecodeString(etag)
	return sum, err == nil && len(sum) == md5.Size
}

// digest computes both sums of OSS in one pass.
type digest struct {
	md5 interface {
		io.Writer
		Sum([]byte) []byte
	}
	crc uint64
	n   int64
}

func newDigest() *digest { return &digest{md5: md5.New()} }

func (d *digest) Write(p []byte) (int, error) {
	d.md5.Write(p)
	d.crc = crc64.Update(d.crc, p)
	d.n += int64(len(p))
	return len(p), nil
}

// sums fills the sums of what was written into c.
func (d *digest) sums(c *content) {
	c.size, c.crc = d.n, d.crc
	d.md5.Sum(c.md5[:0])
}

// receive streams the body of the request into a segment. The body counts
// only if all of it came and it has the Content-MD5 that was announced;
// otherwise nothing is left of it. The caller ends its hold with release.
func (c *call) receive() (got content, err error) {
	want, err := c.announced()
	if err != nil {
		return got, err
	}
	w := &segmentWriter{st: c.s.store}
	defer func() {
		if err != nil {
			w.undo()
		}
	}()
	md5 := c.s.store.hashes.New()
	defer md5.Close()
	sums := &digest{md5: md5}
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	var small []byte // the whole body, if it goes into a pack
	for {
		n, readErr := fill(c.body, *buffer)
		sums.Write((*buffer)[:n])
		if sums.n > maxBody {
			return got, errTooLarge
		}
		if readErr == io.EOF && w.packable(n) {
			small = (*buffer)[:n]
			break
		}
		if err := w.write((*buffer)[:n]); err != nil {
			return got, fmt.Errorf("store body: %w", err)
		}
		if readErr == io.EOF {
			break
		}
		if readErr != nil {
			return got, errBrokenBody
		}
	}
	if c.r.ContentLength >= 0 && sums.n != c.r.ContentLength {
		return got, errBrokenBody
	}
	sums.sums(&got)
	if want != nil && string(want) != string(got.md5[:]) {
		return got, errDigest
	}
	if small != nil {
		s, err := c.s.store.pack(small)
		if err != nil {
			return got, fmt.Errorf("store body: %w", err)
		}
		got.segments = []segment{s}
		return got, nil
	}
	got.segments, err = w.finish()
	return got, err
}

// announced checks what the headers say of the body and gives the MD5 that it
// must have, or nil.
func (c *call) announced() (sum []byte, err error) {
	if c.r.ContentLength > maxBody {
		return nil, errTooLarge
	}
	if c.r.ContentLength == 0 && len(c.r.TransferEncoding) == 0 && c.r.Header.Get("Content-Length") == "" {
		return nil, errNoLength
	}
	header := c.r.Header.Get("Content-MD5")
	if header == "" {
		return nil, nil
	}
	sum, err = base64.StdEncoding.DecodeString(header)
	if err != nil || len(sum) != md5.Size {
		return nil, errDigest
	}
	return sum, nil
}

// fill reads until p is full or the reader says something. Unlike io.ReadFull
// it hands the reader's error on as it is: net/http reports a body that broke
// off as ErrUnexpectedEOF, which ReadFull would also say of a whole short one.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

// readSmall reads a body that is kept in memory, an XML document, and checks
// its Content-MD5. Beyond limit it is not XML that OSS would take.
func (c *call) readSmall(limit int64, tooLong error) ([]byte, error) {
	want, err := c.announced()
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(c.body, limit+1))
	if err != nil {
		return nil, errBrokenBody
	}
	if int64(len(body)) > limit {
		return nil, tooLong
	}
	if sum := md5.Sum(body); want != nil && string(want) != string(sum[:]) {
		return nil, errDigest
	}
	return body, nil
}

// segmentWriter writes one segment; it makes the file with the first byte, so
// an empty body has none.
type segmentWriter struct {
	st   *store
	file *os.File
	id   uint64
	size int64
}

// packable reports whether a body that ends after n bytes more goes into a pack.
// With Sync each body must reach the disk before its record, and a file of its
// own does not make it wait for others.
func (w *segmentWriter) packable(n int) bool {
	return w.file == nil && n > 0 && n <= packBody && !w.st.sync
}

func (w *segmentWriter) write(p []byte) (err error) {
	if len(p) == 0 {
		return nil
	}
	if w.file == nil {
		if w.file, w.id, err = w.st.createSegment(); err != nil {
			return err
		}
	}
	n, err := w.file.Write(p)
	w.size += int64(n)
	return err
}

// finish closes the file and pins it. With Sync the file and its directory are
// on the disk before the record that will name them.
func (w *segmentWriter) finish() ([]segment, error) {
	if w.file == nil {
		return nil, nil
	}
	var err error
	if w.st.sync {
		err = errors.Join(w.file.Sync(), syncDir(w.st.segmentDir(w.id)))
	}
	if err := errors.Join(err, w.file.Close()); err != nil {
		return nil, fmt.Errorf("store body: %w", err)
	}
	segments := []segment{{id: w.id, size: w.size}}
	w.st.pin(segments)
	return segments, nil
}

func (w *segmentWriter) undo() {
	if w.file != nil {
		w.file.Close()
		w.st.discard([]uint64{w.id})
	}
}

// release ends the hold on a content that receive gave. If no record has come
// to name it, nothing of it is left.
func (c *call) release(got content) { c.s.store.unpin(got.segments) }
