package ossemu

import (
	"crypto/hmac"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxSkew is how far the clocks of client and server may differ.
const maxSkew = 15 * time.Minute

// signature is a signature as the client sent it, from the header or the URL.
type signature struct {
	access    string // access key ID
	provided  string
	stamp     string // the time as it is signed
	signed    time.Time
	expires   time.Time // of a URL; zero for a header
	scope     [4]string // V4: day, region, product, terminator
	addition  []string  // V2, V4: additional headers, as the client named them
	token     string    // security token of a URL; that of a header is in the header
	version   int       // 1, 2 or 4
	parameter bool      // it came in the URL
}

// authorise checks that the request is signed by a key we know, or may be made
// by anybody. It reads nothing of the body.
func (c *call) authorise() error {
	if !c.signed() {
		return c.anonymous()
	}
	sig, err := c.readSignature()
	if err != nil {
		return err
	}
	c.access = sig.access
	secret, err := c.secretOf(sig)
	if err != nil {
		return err
	}
	if err := c.checkTime(sig); err != nil {
		return err
	}
	switch sig.version {
	case 1:
		text := stringToSignV1(c, sig)
		return compare(sig, signV1(secret, text), pair{"StringToSign", text})
	case 2:
		text := stringToSignV2(c, sig)
		return compare(sig, signV2(secret, text), pair{"StringToSign", text})
	}
	if err := c.checkScope(sig); err != nil {
		return err
	}
	request := canonicalV4(c, sig)
	text := stringToSignV4(sig, request)
	return compare(sig, signV4(secret, sig, text), pair{"StringToSign", text}, pair{"CanonicalRequest", request})
}

func compare(sig signature, computed string, shown ...pair) error {
	if hmac.Equal([]byte(computed), []byte(sig.provided)) {
		return nil
	}
	extra := append([]pair{{"OSSAccessKeyId", sig.access}, {"SignatureProvided", sig.provided}}, shown...)
	return refuse(403, "SignatureDoesNotMatch",
		"The request signature we calculated does not match the signature you provided. Check your key and signing method.",
		"0002-00000040", extra...)
}

// signed reports whether the request claims to be signed.
func (c *call) signed() bool {
	if c.r.Header.Get("Authorization") != "" {
		return true
	}
	for _, name := range []string{"x-oss-signature-version", "x-oss-signature", "Signature", "OSSAccessKeyId"} {
		if c.query.has(name) {
			return true
		}
	}
	return false
}

// readSignature finds the signature in the header or in the URL.
func (c *call) readSignature() (signature, error) {
	header := c.r.Header.Get("Authorization")
	switch {
	case strings.HasPrefix(header, schemeV4+" "):
		return c.headerV4(header)
	case strings.HasPrefix(header, schemeV2+" "):
		return c.headerV2(header)
	case strings.HasPrefix(header, "OSS "):
		return c.headerV1(header)
	case header != "":
		return signature{}, invalidArgument("Authorization", "", "The Authorization header is invalid.")
	case c.query.get("x-oss-signature-version") == schemeV2:
		return c.urlV2()
	case c.query.has("x-oss-signature-version") || c.query.has("x-oss-signature"):
		return c.urlV4()
	}
	return c.urlV1()
}

// stampOf finds the time that a header signature is made with. V4 signs the
// text of x-oss-date, or else of Date, as it stands.
func (c *call) stampOf(sig *signature) error {
	if v := c.r.Header.Get("x-oss-date"); v != "" {
		forms := []string{isoBasic}
		if sig.version != 4 {
			forms = append(forms, http.TimeFormat)
		}
		for _, form := range forms {
			if t, err := time.Parse(form, v); err == nil {
				sig.stamp, sig.signed = v, t
				return nil
			}
		}
		return refuse(403, "AccessDenied", "Invalid x-oss-date.", "0002-00000502")
	}
	v := c.r.Header.Get("Date")
	if v == "" {
		return refuse(403, "AccessDenied", "OSS authentication requires a valid Date.", "0002-00000503")
	}
	t, err := http.ParseTime(v)
	if err != nil {
		return refuse(403, "AccessDenied", "OSS authentication requires a valid Date.", "0002-00000502")
	}
	sig.stamp, sig.signed = v, t
	return nil
}

// isoBasic is the form of x-oss-date.
const isoBasic = "20060102T150405Z"

func (c *call) checkTime(sig signature) error {
	now := c.clock()
	if sig.parameter {
		if now.After(sig.expires) || sig.signed.Sub(now) > maxSkew {
			return refuse(403, "AccessDenied", "Request has expired.", "0002-00000069",
				pair{"Expires", sig.expires.UTC().Format(xmlTime)}, pair{"ServerTime", now.UTC().Format(xmlTime)})
		}
		return nil
	}
	if d := now.Sub(sig.signed); d > maxSkew || d < -maxSkew {
		return refuse(403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", "0002-00000504",
			pair{"MaxAllowedSkewMilliseconds", strconv.FormatInt(maxSkew.Milliseconds(), 10)},
			pair{"RequestTime", sig.signed.UTC().Format(xmlTime)},
			pair{"ServerTime", now.UTC().Format(xmlTime)})
	}
	return nil
}
