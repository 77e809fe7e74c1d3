package ossemu

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// signedNames are the query parameters that V1 signs, besides all that begin
// with x-oss-.
var signedNames = nameSet(`acl uploads location cors logging website referer lifecycle delete append tagging
	objectMeta uploadId partNumber security-token position img style styleName replication replicationProgress
	replicationLocation cname bucketInfo comp qos live status vod startTime endTime symlink
	response-content-type response-content-language response-expires response-cache-control
	response-content-disposition response-content-encoding udf udfName udfImage udfId udfImageDesc
	udfApplication udfApplicationLog restore callback callback-var qosInfo policy stat encryption versions
	versioning versionId requestPayment sequential inventory inventoryId continuation-token asyncFetch worm
	wormId wormExtend withHashContext transferAcceleration regionList cloudboxes metaQuery resourceGroup rtc
	responseHeader`)

func nameSet(names string) map[string]bool {
	set := map[string]bool{}
	for _, name := range strings.Fields(names) {
		set[name] = true
	}
	return set
}

func (c *call) headerV1(header string) (signature, error) {
	access, provided, ok := strings.Cut(strings.TrimPrefix(header, "OSS "), ":")
	if !ok {
		return signature{}, invalidArgument("Authorization", "", "The Authorization header is invalid.")
	}
	sig := signature{version: 1, access: access, provided: provided}
	if err := c.stampOf(&sig); err != nil {
		return sig, err
	}
	// Date keeps its place in the text even when x-oss-date is there too.
	if date := c.r.Header.Get("Date"); date != "" {
		sig.stamp = date
	}
	return sig, nil
}

func (c *call) urlV1() (signature, error) {
	sig := signature{
		access: c.query.get("OSSAccessKeyId"), provided: c.query.get("Signature"),
		stamp: c.query.get("Expires"), token: c.query.get("security-token"), version: 1, parameter: true,
	}
	seconds, err := strconv.ParseInt(sig.stamp, 10, 64)
	if err != nil || sig.access == "" || sig.provided == "" {
		return sig, refuse(403, "AccessDenied", "Query-string authentication requires the Signature, Expires and OSSAccessKeyId parameters.", "")
	}
	sig.expires = time.Unix(seconds, 0)
	return sig, nil
}

// stringToSignV1 is the text that a V1 signature covers.
func stringToSignV1(c *call, sig signature) string {
	h := c.r.Header
	var b strings.Builder
	for _, line := range []string{c.r.Method, h.Get("Content-MD5"), h.Get("Content-Type"), sig.stamp} {
		b.WriteString(line + "\n")
	}
	var names []string
	for name := range h {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-oss-") {
			names = append(names, lower)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		b.WriteString(name + ":" + h.Get(name) + "\n")
	}
	b.WriteString(resourceV1(c))
	return b.String()
}

// resourceV1 is bucket and key as they are, and the signed parameters.
func resourceV1(c *call) string {
	resource := "/"
	if c.bucket != "" {
		resource += c.bucket + "/" + c.key
	}
	var signed []pair
	for _, p := range c.query {
		if signedNames[p.name] || strings.HasPrefix(p.name, "x-oss-") {
			signed = append(signed, p)
		}
	}
	slices.SortStableFunc(signed, func(a, b pair) int { return strings.Compare(a.name, b.name) })
	for i, p := range signed {
		separator := "&"
		if i == 0 {
			separator = "?"
		}
		resource += separator + p.name
		if p.value != "" {
			resource += "=" + p.value
		}
	}
	return resource
}

func signV1(secret, text string) string {
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
