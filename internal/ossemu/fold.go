package ossemu

import "strings"

// fold gives the common prefix that key stands for in a listing with prefix
// and delimiter, or false if it stands for itself.
//
//	prefix   delimiter  key           stands for
//	""       "/"        fun/movie/1   fun/
//	"fun/"   "/"        fun/movie/1   fun/movie/
//	"fun/"   "/"        fun/test      itself
//	"fun/"   "/"        fun/          itself
func fold(key, prefix, delimiter string) (string, bool) {
	if delimiter == "" || len(key) < len(prefix) {
		return "", false
	}
	i := strings.Index(key[len(prefix):], delimiter)
	if i < 0 {
		return "", false
	}
	return key[:len(prefix)+i+len(delimiter)], true
}

// after gives the least string that is greater than all that begin with
// prefix; false if there is none.
func after(prefix string) (string, bool) {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			return prefix[:i] + string([]byte{prefix[i] + 1}), true
		}
	}
	return "", false
}

// page is one page of a folded listing over an index whose keys have a name.
type page[V any] struct {
	values    []V
	prefixes  []string
	last      string // the last thing on the page, a name or a common prefix
	truncated bool
}

// scan fills a page of at most limit things that begin with prefix. It starts
// at from, the first candidate. A common prefix costs one search however many
// keys it stands for: the scan goes on behind all of them.
func scan[K, V any](x *index[K, V], from *node[K, V], name func(K) string, at func(string) K, prefix, delimiter string, limit int) page[V] {
	var p page[V]
	for n := from; n != nil && strings.HasPrefix(name(n.key), prefix); {
		if len(p.values)+len(p.prefixes) == limit {
			p.truncated = true
			break
		}
		common, folded := fold(name(n.key), prefix, delimiter)
		if !folded {
			p.values, p.last = append(p.values, n.value), name(n.key)
			n = n.following()
			continue
		}
		p.prefixes, p.last = append(p.prefixes, common), common
		next, ok := after(common)
		if !ok {
			break
		}
		n = x.seek(at(next))
	}
	return p
}

// startAfter gives where a listing goes on behind marker: behind the name
// itself or, if the marker is a common prefix, behind all that it stands for.
// found is false when nothing can follow.
func startAfter(marker, prefix, delimiter string) (from string, found bool) {
	if marker == "" || marker < prefix {
		return prefix, true
	}
	if common, folded := fold(marker, prefix, delimiter); folded && common == marker && strings.HasPrefix(marker, prefix) {
		return after(marker)
	}
	return marker + "\x00", true // the least string behind marker
}
