package ossemu

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

const (
	schemeV4     = "OSS4-HMAC-SHA256"
	unsignedBody = "UNSIGNED-PAYLOAD"
	maxURLLife   = 7 * 24 * 60 * 60 // seconds
)

func (c *call) headerV4(header string) (signature, error) {
	sig := signature{version: 4}
	for field := range strings.SplitSeq(strings.TrimPrefix(header, schemeV4+" "), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch name {
		case "Credential":
			sig.readCredential(value)
		case "AdditionalHeaders":
			sig.readAdditional(value)
		case "Signature":
			sig.provided = value
		}
	}
	if sig.access == "" || sig.provided == "" {
		return sig, invalidArgument("Authorization", "", "The Authorization header is invalid.")
	}
	return sig, c.stampOf(&sig)
}

func (c *call) urlV4() (signature, error) {
	sig := signature{
		version: 4, parameter: true, provided: c.query.get("x-oss-signature"), stamp: c.query.get("x-oss-date"),
		token: c.query.get("x-oss-security-token"),
	}
	sig.readCredential(c.query.get("x-oss-credential"))
	sig.readAdditional(c.query.get("x-oss-additional-headers"))
	seconds, err := strconv.ParseInt(c.query.get("x-oss-expires"), 10, 64)
	if err != nil || seconds < 1 || seconds > maxURLLife ||
		c.query.get("x-oss-signature-version") != schemeV4 || sig.access == "" || sig.provided == "" {
		return sig, invalidArgument("x-oss-signature-version", c.query.get("x-oss-signature-version"), "The query parameters of the signature are invalid.")
	}
	if sig.signed, err = time.Parse(isoBasic, sig.stamp); err != nil {
		return sig, refuse(403, "AccessDenied", "Invalid x-oss-date.", "0002-00000502")
	}
	sig.expires = sig.signed.Add(time.Duration(seconds) * time.Second)
	return sig, nil
}

// readCredential takes AK/day/region/product/terminator apart. The access key
// itself may hold slashes, so it is read from the end.
func (s *signature) readCredential(value string) {
	fields := strings.Split(value, "/")
	if len(fields) < 5 {
		return
	}
	n := len(fields) - 4
	s.access = strings.Join(fields[:n], "/")
	copy(s.scope[:], fields[n:])
}

func (s *signature) readAdditional(value string) {
	for name := range strings.SplitSeq(strings.ToLower(value), ";") {
		if name = strings.TrimSpace(name); name != "" {
			s.addition = append(s.addition, name)
		}
	}
	sort.Strings(s.addition)
}

// checkScope checks what the signing key is derived from and the payload
// header. A wrong region is told apart from a wrong secret, as OSS does.
func (c *call) checkScope(sig signature) error {
	day := sig.signed.UTC().Format("20060102")
	wrong := ""
	switch {
	case sig.scope[0] != day:
		wrong = "date"
	case c.s.o.Region != "" && sig.scope[1] != c.s.o.Region:
		wrong = "region"
	case sig.scope[2] != "oss":
		wrong = "product"
	case sig.scope[3] != "aliyun_v4_request":
		wrong = "request version"
	}
	if wrong != "" {
		return invalidArgument("Credential", strings.Join(sig.scope[:], "/"), "Invalid signing "+wrong+" in Authorization header.")
	}
	if v := c.r.Header.Get("x-oss-content-sha256"); v != "" && v != unsignedBody {
		return invalidArgument("x-oss-content-sha256", v, "The value of x-oss-content-sha256 must be "+unsignedBody+".")
	}
	return nil
}

// canonicalV4 is the request in the form that V4 hashes.
func canonicalV4(c *call, sig signature) string {
	uri := "/"
	if c.bucket != "" {
		uri += c.bucket + "/" + strings.ReplaceAll(escape(c.key), "%2F", "/")
	}
	return strings.Join([]string{
		c.r.Method, uri, canonicalQuery(c.query), canonicalHeaders(c, sig), strings.Join(sig.addition, ";"), unsignedBody,
	}, "\n")
}

// canonicalQuery is all parameters but the signature itself, sorted by their
// escaped names.
func canonicalQuery(q query) string {
	var fields []pair
	for _, p := range q {
		if p.name != "x-oss-signature" {
			fields = append(fields, pair{escape(p.name), escape(p.value)})
		}
	}
	slices.SortStableFunc(fields, func(a, b pair) int { return strings.Compare(a.name, b.name) })
	var b strings.Builder
	for i, p := range fields {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p.name)
		if p.value != "" {
			b.WriteString("=" + p.value)
		}
	}
	return b.String()
}

// addUnlisted adds those of the additional headers that net/http keeps out of
// the header.
func (c *call) addUnlisted(values map[string]string, sig signature) {
	for _, name := range sig.addition {
		switch {
		case name == "host":
			values[name] = c.r.Host
		case name == "content-length" && c.r.ContentLength >= 0:
			values[name] = strconv.FormatInt(c.r.ContentLength, 10)
		}
	}
}

// canonicalHeaders is content-type, content-md5, all x-oss- headers and those
// the client names.
func canonicalHeaders(c *call, sig signature) string {
	values := map[string]string{}
	for name, v := range c.r.Header {
		lower := strings.ToLower(name)
		if lower == "content-type" || lower == "content-md5" || strings.HasPrefix(lower, "x-oss-") || slices.Contains(sig.addition, lower) {
			values[lower] = strings.TrimSpace(v[0])
		}
	}
	c.addUnlisted(values, sig)
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	sort.Strings(names)
	var b strings.Builder
	for _, name := range names {
		b.WriteString(name + ":" + values[name] + "\n")
	}
	return b.String()
}

func stringToSignV4(sig signature, canonicalRequest string) string {
	sum := sha256.Sum256([]byte(canonicalRequest))
	return strings.Join([]string{schemeV4, sig.stamp, strings.Join(sig.scope[:], "/"), hex.EncodeToString(sum[:])}, "\n")
}

func signV4(secret string, sig signature, text string) string {
	key := []byte("aliyun_v4" + secret)
	for _, step := range append(sig.scope[:], text) {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(step))
		key = mac.Sum(nil)
	}
	return hex.EncodeToString(key)
}
