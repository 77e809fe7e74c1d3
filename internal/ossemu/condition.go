package ossemu

import (
	"net/http"
	"strings"
	"time"
)

// conditions are the names of the four conditions, which differ between the
// object that is read and the source of a copy, and the answer when the client
// asked for something newer than there is.
type conditions struct {
	match, unmodified, noneMatch, modified string
	unchanged                              func(name string) error
}

var (
	readConditions = conditions{"If-Match", "If-Unmodified-Since", "If-None-Match", "If-Modified-Since",
		func(string) error { return errNotModified }}
	copyConditions = conditions{"x-oss-copy-source-if-match", "x-oss-copy-source-if-unmodified-since",
		"x-oss-copy-source-if-none-match", "x-oss-copy-source-if-modified-since",
		func(string) error { return errNotModified }}
	partCopyConditions = conditions{copyConditions.match, copyConditions.unmodified, copyConditions.noneMatch,
		copyConditions.modified, func(name string) error { return preconditionFailed(name) }}
)

// checkConditions checks all conditions that h holds against o. All must hold;
// only If-Modified-Since gives way to If-None-Match, which is exact where a
// time has a second of resolution. A time that does not parse does not count.
func checkConditions(h http.Header, names conditions, o *object) error {
	if v := h.Get(names.match); v != "" && !etagListed(v, o.etag) {
		return preconditionFailed(names.match)
	}
	if t, ok := headerTime(h, names.unmodified); ok && o.modified > t.Unix() {
		return preconditionFailed(names.unmodified)
	}
	if v := h.Get(names.noneMatch); v != "" {
		if etagListed(v, o.etag) {
			return withETag(names.unchanged(names.noneMatch), o)
		}
		return nil
	}
	if t, ok := headerTime(h, names.modified); ok && o.modified <= t.Unix() {
		return withETag(names.unchanged(names.modified), o)
	}
	return nil
}

// withETag adds what a 304 carries.
func withETag(err error, o *object) error {
	if err != errNotModified {
		return err
	}
	e := *errNotModified
	e.header = []pair{{"ETag", quote(o.etag)}, {"Last-Modified", httpSeconds(o.modified)}}
	return &e
}

func headerTime(h http.Header, name string) (time.Time, bool) {
	t, err := http.ParseTime(h.Get(name))
	return t, err == nil
}

// etagListed reports whether a condition names etag, with or without quotes.
func etagListed(list, etag string) bool {
	for one := range strings.SplitSeq(list, ",") {
		one = strings.TrimSpace(one)
		if one == "*" || sameETag(one, etag) {
			return true
		}
	}
	return false
}

func sameETag(a, b string) bool { return strings.EqualFold(strings.Trim(a, `"`), strings.Trim(b, `"`)) }
