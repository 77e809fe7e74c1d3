package ossemu

import (
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strings"
	"unicode"
)

const (
	classStandard = "Standard"
	aclPrivate    = "private"
	aclDefault    = "default"

	kindNormal    = "Normal"
	kindMultipart = "Multipart"
	kindAppend    = "Appendable"
	kindSymlink   = "Symlink"

	metaPrefix = "x-oss-meta-"
	maxMeta    = 8 << 10
	maxTags    = 10
)

var (
	storageClasses = []string{classStandard, "IA", "Archive", "ColdArchive", "DeepColdArchive"}
	bucketACLs     = []string{aclPrivate, "public-read", "public-read-write"}
	objectACLs     = append([]string{aclDefault}, bucketACLs...)
	encryptions    = []string{"AES256", "KMS", "SM4"}

	// contentHeaders are stored as they come and given back on GET and HEAD.
	contentHeaders = []string{"Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type", "Expires"}
	// encryptionHeaders are stored and echoed on writes as well.
	encryptionHeaders = []string{"X-Oss-Server-Side-Data-Encryption", "X-Oss-Server-Side-Encryption", "X-Oss-Server-Side-Encryption-Key-Id"}
)

// readAttrs reads what the headers of a request say about the object that it
// makes, and refuses what OSS refuses.
func (c *call) readAttrs(bucketClass string) (attrs, error) {
	h := c.r.Header
	a := attrs{class: bucketClass}
	if v := h.Get("x-oss-storage-class"); v != "" {
		if !slices.Contains(storageClasses, v) {
			return a, invalidArgument("x-oss-storage-class", v, "The storage class you specified is invalid.")
		}
		a.class = v
	}
	var err error
	if a.acl, err = objectACL(h); err != nil {
		return a, err
	}
	if err := checkEncryption(h); err != nil {
		return a, err
	}
	for _, name := range contentHeaders {
		if v := h.Get(name); v != "" {
			a.headers = append(a.headers, pair{name, v})
		} else if name == "Content-Type" {
			a.headers = append(a.headers, pair{name, "application/octet-stream"})
		}
	}
	a.headers = append(a.headers, encryptionOf(h)...)
	if a.meta, err = userMeta(h); err != nil {
		return a, err
	}
	a.tags, err = headerTags(h)
	return a, err
}

// checkEncryption refuses algorithms that OSS does not know, and what only goes
// with KMS where KMS was not asked for.
func checkEncryption(h http.Header) error {
	algorithm := h.Get("x-oss-server-side-encryption")
	if algorithm != "" && !slices.Contains(encryptions, algorithm) {
		return refuse(400, "InvalidEncryptionAlgorithmError", "The encryption request you specified is not valid. Supported value: AES256/KMS/SM4.", "")
	}
	if algorithm != "KMS" {
		for _, name := range []string{"x-oss-server-side-encryption-key-id", "x-oss-server-side-data-encryption"} {
			if v := h.Get(name); v != "" {
				return invalidArgument(name, v, "The header is valid only with x-oss-server-side-encryption: KMS.")
			}
		}
	}
	if v := h.Get("x-oss-server-side-data-encryption"); v != "" && v != "SM4" {
		return refuse(400, "InvalidEncryptionAlgorithmError", "The data encryption algorithm you specified is not valid. Supported value: SM4.", "")
	}
	return nil
}

// keepTrafficLimit reads the speed in bit/s that a request sets for itself; its
// body and that of the answer pass no faster.
func (c *call) keepTrafficLimit() error {
	const name, least, most = "x-oss-traffic-limit", 245760, 838860800
	v := c.r.Header.Get(name)
	if v == "" {
		v = c.query.get(name)
	}
	if v == "" {
		return nil
	}
	n, ok := digits(v)
	if !ok || n < least || n > most {
		return invalidArgument(name, v, "The traffic limit must be an integer between 245760 and 838860800.")
	}
	c.asked = newLane(n / 8)
	return nil
}

func encryptionOf(h http.Header) []pair {
	var out []pair
	for _, name := range encryptionHeaders {
		if v := h.Get(name); v != "" {
			out = append(out, pair{name, v})
		}
	}
	return out
}

func objectACL(h http.Header) (string, error) {
	v := h.Get("x-oss-object-acl")
	if v != "" && !slices.Contains(objectACLs, v) {
		return "", invalidArgument("x-oss-object-acl", v, "The object ACL you specified is invalid.")
	}
	if v == aclDefault {
		v = ""
	}
	return v, nil
}

// userMeta reads x-oss-meta-*: letters, digits and hyphens in the names, which
// are folded to lower case, printable ASCII in the values, 8 KB in all.
func userMeta(h http.Header) ([]pair, error) {
	var meta []pair
	total := 0
	for name, values := range h {
		lower := strings.ToLower(name)
		if !strings.HasPrefix(lower, metaPrefix) {
			continue
		}
		short, value := lower[len(metaPrefix):], values[0]
		if short == "" || strings.ContainsFunc(short, notLowerName) {
			return nil, withEC(invalidArgument(lower, value, "The user metadata name is invalid."), "0011-00000004")
		}
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
			return nil, withEC(invalidArgument(lower, value, "The user metadata value is invalid."), "0011-00000005")
		}
		if total += len(lower) + len(value); total > maxMeta {
			return nil, withEC(invalidArgument(lower, "", "The user metadata size exceeds 8 KB."), "0011-00000002")
		}
		meta = append(meta, pair{short, value})
	}
	sort.Slice(meta, func(i, j int) bool { return meta[i].name < meta[j].name })
	return meta, nil
}

func withEC(e *apiError, ec string) *apiError {
	e.ec = ec
	return e
}

// headerTags reads x-oss-tagging, k=v&k2=v2.
func headerTags(h http.Header) ([]pair, error) {
	v := h.Get("x-oss-tagging")
	if v == "" {
		return nil, nil
	}
	values, err := url.ParseQuery(v)
	if err != nil {
		return nil, refuse(400, "InvalidTag", "The tagging header is not well-formed.", "")
	}
	var tags []pair
	for key, list := range values {
		for _, value := range list {
			tags = append(tags, pair{key, value})
		}
	}
	return tags, checkTags(tags)
}

// checkTags sorts tags and refuses those that OSS refuses.
func checkTags(tags []pair) error {
	sort.Slice(tags, func(i, j int) bool { return tags[i].name < tags[j].name })
	bad := len(tags) > maxTags
	for i, t := range tags {
		bad = bad || t.name == "" || len(t.name) > 128 || len(t.value) > 256 || i > 0 && tags[i-1].name == t.name ||
			strings.ContainsFunc(t.name+t.value, notTag)
	}
	if bad {
		return refuse(400, "InvalidTag", "The tag provided was not a valid tag.", "")
	}
	return nil
}

// notTag reports whether r may not stand in a tag.
func notTag(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(" +-=._:/", r)
}

// forbidOverwrite reports whether the request must not replace an object.
func (c *call) forbidOverwrite() bool {
	return strings.EqualFold(c.r.Header.Get("x-oss-forbid-overwrite"), "true")
}

// mayPutLocked checks that the bucket is there and that key may be written.
func (c *call) mayPutLocked() (*bucket, error) {
	b, err := c.s.store.bucketLocked(c.bucket)
	if err != nil {
		return nil, err
	}
	if c.forbidOverwrite() {
		if _, exists := b.objects.get(c.key); exists {
			return nil, errExists
		}
	}
	return b, nil
}

// mayPut is mayPutLocked before the body is read; it gives the bucket's class.
func (c *call) mayPut() (class string, err error) {
	err = c.s.store.view(func() error {
		b, err := c.mayPutLocked()
		if err == nil {
			class = b.class
		}
		return err
	})
	return class, err
}
