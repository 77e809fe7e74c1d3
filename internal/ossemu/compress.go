package ossemu

import (
	"bytes"
	"compress/gzip"
	"io"
	"slices"
	"strings"
)

// compressedTypes are what OSS compresses on the wire, from minCompressed bytes
// on, for a client that accepts gzip.
var compressedTypes = []string{
	"text/cache-manifest", "text/xml", "text/plain", "text/css", "text/html", "application/javascript",
	"application/x-javascript", "application/rss+xml", "application/json", "text/json",
}

const minCompressed = 1 << 10

// compress makes the answer with the whole of o one that is compressed, if OSS
// would: then nobody knows its length, and it has no ETag. A client that lets
// its HTTP library accept gzip must live with that.
func (c *call) compress(out *answer, o *object) {
	h := c.r.Header
	kind, _, _ := strings.Cut(out.header.Get("Content-Type"), ";")
	if !strings.Contains(h.Get("Accept-Encoding"), "gzip") || h.Get("Range") != "" || o.size < minCompressed ||
		out.header.Get("Content-Encoding") != "" || !slices.Contains(compressedTypes, strings.TrimSpace(strings.ToLower(kind))) {
		return
	}
	out.set("Content-Encoding", "gzip")
	out.set("Vary", "Accept-Encoding")
	for _, name := range []string{"ETag", "Accept-Ranges", "Content-MD5"} {
		out.header.Del(name)
	}
	out.length = unknownLength
	if out.body != nil {
		out.body = newCompressed(out.body)
	}
}

// compressed is the gzip of what in reads.
type compressed struct {
	in      io.ReadCloser
	zip     *gzip.Writer
	out     bytes.Buffer // what is compressed and not yet read
	scratch []byte
	ended   bool
}

func newCompressed(in io.ReadCloser) *compressed {
	z := &compressed{in: in, scratch: make([]byte, 32<<10)}
	z.zip = gzip.NewWriter(&z.out)
	return z
}

func (z *compressed) Read(p []byte) (int, error) {
	for z.out.Len() == 0 && !z.ended {
		n, err := z.in.Read(z.scratch)
		z.zip.Write(z.scratch[:n]) // into memory: it does not fail
		if err == io.EOF {
			z.ended, err = true, z.zip.Close()
		}
		if err != nil {
			return 0, err
		}
	}
	return z.out.Read(p) // io.EOF when all is out
}

func (z *compressed) Close() error { return z.in.Close() }
