package ossemu

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

const schemeV2 = "OSS2"

// headerV2 reads "OSS2 AccessKeyId:ak,AdditionalHeaders:a;b,Signature:s". No
// client of today signs so by default, but OSS still answers it.
func (c *call) headerV2(header string) (signature, error) {
	sig := signature{version: 2}
	for field := range strings.SplitSeq(strings.TrimPrefix(header, schemeV2+" "), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), ":")
		switch name {
		case "AccessKeyId":
			sig.access = value
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

func (c *call) urlV2() (signature, error) {
	sig := signature{
		version: 2, parameter: true, access: c.query.get("x-oss-access-key-id"), provided: c.query.get("x-oss-signature"),
		stamp: c.query.get("x-oss-expires"), token: c.query.get("security-token"),
	}
	sig.readAdditional(c.query.get("x-oss-additional-headers"))
	seconds, err := strconv.ParseInt(sig.stamp, 10, 64)
	if err != nil || sig.access == "" || sig.provided == "" {
		return sig, invalidArgument("x-oss-signature-version", schemeV2, "The query parameters of the signature are invalid.")
	}
	sig.expires = time.Unix(seconds, 0)
	return sig, nil
}

// stringToSignV2 is that of V1 with the additional headers, the resource
// escaped throughout, and all parameters in it.
func stringToSignV2(c *call, sig signature) string {
	h := c.r.Header
	lines := []string{c.r.Method, h.Get("Content-MD5"), h.Get("Content-Type"), sig.stamp}
	values := map[string]string{}
	for name, v := range h {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-oss-") || slices.Contains(sig.addition, lower) {
			values[lower] = v[0]
		}
	}
	c.addUnlisted(values, sig)
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		lines = append(lines, name+":"+values[name])
	}
	resource := escape("/")
	if c.bucket != "" {
		resource = escape("/" + c.bucket + "/" + c.key)
	}
	if q := canonicalQuery(c.query); q != "" {
		resource += "?" + q
	}
	return strings.Join(append(lines, strings.Join(sig.addition, ";"), resource), "\n")
}

func signV2(secret, text string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
