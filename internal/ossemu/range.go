package ossemu

import (
	"net/http"
	"strconv"
	"strings"
)

// byteRange is what of an object is sent.
type byteRange struct {
	off, length int64
	partial     bool
}

// chooseRange decides what a GetObject sends. By default OSS answers a range
// that does not fit with 200 and the whole object; only with
// x-oss-range-behavior: standard does it do what HTTP says. That default is
// here on purpose: a client that does not check for 206 must fail against us.
func chooseRange(h http.Header, size int64) (byteRange, error) {
	whole := byteRange{length: size}
	header := h.Get("Range")
	standard := strings.EqualFold(h.Get("x-oss-range-behavior"), "standard")
	first, last, ok := parseRange(header)
	if !ok {
		return whole, nil
	}
	if first < 0 { // the last -first bytes
		first, last = size+first, size-1
		if first < 0 && standard && size > 0 {
			first = 0
		}
	} else if last < 0 {
		last = size - 1
	}
	switch {
	case first >= 0 && first <= last && last < size:
	case !standard:
		return whole, nil
	case first >= 0 && first < size:
		last = size - 1
	default:
		e := refuse(416, "InvalidRange", "The requested range cannot be satisfied.", "", pair{"RangeRequested", header},
			pair{"ActualObjectSize", strconv.FormatInt(size, 10)})
		e.header = []pair{{"Content-Range", "bytes */" + strconv.FormatInt(size, 10)}}
		return whole, e
	}
	return byteRange{first, last - first + 1, true}, nil
}

// suffixNone is first of bytes=-0, a range of nothing: it never fits.
const suffixNone = int64(1) << 62

// parseRange reads the first range of a Range header. first < 0 asks for that
// many bytes at the end; last < 0 for all up to the end. What is no range of
// bytes is not ok, and then the whole object is sent.
func parseRange(header string) (first, last int64, ok bool) {
	list, found := strings.CutPrefix(header, "bytes=")
	if !found {
		return 0, 0, false
	}
	one, _, _ := strings.Cut(list, ",")
	from, to, found := strings.Cut(strings.TrimSpace(one), "-")
	if !found {
		return 0, 0, false
	}
	first, ok = digits(from)
	switch {
	case from == "":
		if first, ok = digits(to); !ok {
			return 0, 0, false
		}
		if first == 0 {
			return suffixNone, -1, true
		}
		return -first, -1, true
	case !ok:
		return 0, 0, false
	case to == "":
		return first, -1, true
	}
	last, ok = digits(to)
	return first, last, ok && first <= last
}

// digits reads a number that is digits only; strconv would take a sign.
func digits(s string) (int64, bool) {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' }) {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
