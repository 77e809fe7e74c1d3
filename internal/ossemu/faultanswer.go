package ossemu

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
)

// spoiled is what the faults of the place answer do while it is sent.
type spoiled struct {
	stop int64  // cut the connection after so many bytes
	how  string // reset or close; empty: do not
	flip int64  // a bit of the byte at this place is wrong; -1: none
}

// spoil lets the faults of the place answer happen to a and its body.
func (c *call) spoil(a *answer, body []byte) (_ []byte, sp spoiled) {
	sp.flip = -1
	length := int64(len(body))
	if a.body != nil {
		length = a.length
	}
	for _, f := range c.s.faults.all() {
		if f.At != placeAnswer || !c.canSpoil(f, a, body, length) || !c.befalls(f, placeAnswer, a) {
			continue
		}
		at := f.where(length)
		switch {
		case f.Do == "slow":
			c.slowOut = newLane(f.Rate)
		case f.Do == "reset" || f.Do == "close":
			if sp.how == "" || at < sp.stop {
				sp.stop, sp.how = at, f.Do
			}
		case f.What == "crc":
			body = c.wrongCRC(a, body)
		case f.What == "etag":
			body = c.wrongETag(a, body)
		case f.What == "body":
			if sp.flip = at; length >= 0 {
				sp.flip = min(at, length-1)
			}
		case f.What == "length" && a.body != nil:
			a.length, length = at, at
		case f.What == "length":
			body, length = body[:at], at
		}
	}
	return body, sp
}

// canSpoil reports whether the answer has what f is about.
func (c *call) canSpoil(f *fault, a *answer, body []byte, length int64) bool {
	switch f.What {
	case "crc":
		return a.header.Get("x-oss-hash-crc64ecma") != "" || crcElement.Match(body)
	case "etag":
		return a.header.Get("ETag") != "" || etagElement.Match(body)
	}
	return length != 0 && c.r.Method != http.MethodHead // below 0: not known
}

var (
	crcElement  = regexp.MustCompile(`<HashCrc64ecma>(\d+)`)
	etagElement = regexp.MustCompile(`<ETag>[^0-9A-F]*([0-9A-F])`)
)

// wrongCRC changes the CRCs in headers and body: each stays a number, and is
// that of other bytes.
func (c *call) wrongCRC(a *answer, body []byte) []byte {
	wrong := func(text string) string {
		n, _ := strconv.ParseUint(text, 10, 64)
		return strconv.FormatUint(n^1, 10)
	}
	if v := a.header.Get("x-oss-hash-crc64ecma"); v != "" {
		a.set("x-oss-hash-crc64ecma", wrong(v))
	}
	return replaceGroup(crcElement, body, wrong)
}

// wrongETag changes the first digit of each ETag.
func (c *call) wrongETag(a *answer, body []byte) []byte {
	wrong := func(digit string) string {
		n, _ := strconv.ParseUint(digit, 16, 8)
		return string("123456789ABCDEF0"[n&15])
	}
	if v := []byte(a.header.Get("ETag")); len(v) > 0 {
		if i := slices.IndexFunc(v, func(b byte) bool { return b >= '0' && b <= '9' || b >= 'A' && b <= 'F' }); i >= 0 {
			v[i] = wrong(string(v[i]))[0]
			a.set("ETag", string(v))
		}
	}
	return replaceGroup(etagElement, body, wrong)
}

// replaceGroup replaces what the first group of re matches.
func replaceGroup(re *regexp.Regexp, body []byte, by func(string) string) []byte {
	var out []byte
	done := 0
	for _, m := range re.FindAllSubmatchIndex(body, -1) {
		out = append(out, body[done:m[2]]...)
		out = append(out, by(string(body[m[2]:m[3]]))...)
		done = m[3]
	}
	return append(out, body[done:]...)
}
