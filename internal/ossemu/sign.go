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
	addition  []string  // V4: additional headers, as the client named them
	version4  bool
	parameter bool // it came in the URL
}

// authorise checks that the request is signed by a key we know. It reads
// nothing of the body.
func (c *call) authorise() error {
	sig, err := c.readSignature()
	if err != nil {
		return err
	}
	secret, known := c.s.o.Keys[sig.access]
	if !known || sig.access == "" {
		return refuse(403, "InvalidAccessKeyId", "The OSS Access Key Id you provided does not exist in our records.", "0002-00000902",
			pair{"OSSAccessKeyId", sig.access})
	}
	if err := c.checkTime(sig); err != nil {
		return err
	}
	if sig.version4 {
		if err := c.checkScope(sig); err != nil {
			return err
		}
		request := canonicalV4(c, sig)
		text := stringToSignV4(sig, request)
		return compare(sig, signV4(secret, sig, text), pair{"StringToSign", text}, pair{"CanonicalRequest", request})
	}
	text := stringToSignV1(c, sig)
	return compare(sig, signV1(secret, text), pair{"StringToSign", text})
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

// readSignature finds the signature in the header or in the URL.
func (c *call) readSignature() (signature, error) {
	header := c.r.Header.Get("Authorization")
	switch {
	case strings.HasPrefix(header, "OSS4-HMAC-SHA256 "):
		return c.headerV4(header)
	case strings.HasPrefix(header, "OSS "):
		return c.headerV1(header)
	case header != "":
		return signature{}, invalidArgument("Authorization", "", "The Authorization header is invalid.")
	case c.query.has("x-oss-signature-version") || c.query.has("x-oss-signature"):
		return c.urlV4()
	case c.query.has("Signature") || c.query.has("OSSAccessKeyId"):
		return c.urlV1()
	}
	return signature{}, refuse(403, "AccessDenied", "Anonymous user has no right to access this "+c.noun()+".", "0003-00000001")
}

func (c *call) noun() string {
	if c.key != "" {
		return "object"
	}
	return "bucket"
}

// stampOf finds the time that a header signature is made with. V4 signs the
// text of x-oss-date, or else of Date, as it stands.
func (c *call) stampOf(sig *signature) error {
	if v := c.r.Header.Get("x-oss-date"); v != "" {
		forms := []string{isoBasic}
		if !sig.version4 {
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
	now := c.s.o.Now()
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
