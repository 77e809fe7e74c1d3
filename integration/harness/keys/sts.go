package keys

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// sts answers one call of STS: the parameters of the interface are in the URL, those
// of the action in the form.
func (s *Service) sts(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, code, message string) { (&refusal{status, code, message}).write(w) }
	if err := r.ParseForm(); err != nil || r.Method != http.MethodPost {
		refuse(400, "UnsupportedHTTPMethod", "use POST")
		return
	}
	q, f := r.URL.Query(), r.PostForm
	at, err := time.Parse("2006-01-02T15:04:05Z", q.Get("Timestamp"))
	seconds, _ := strconv.Atoi(f.Get("DurationSeconds"))
	switch {
	case q.Get("Version") != "2015-04-01" || q.Get("Format") != "JSON":
		refuse(400, "InvalidVersion", "Specified parameter Version is not valid.")
		return
	case err != nil || time.Since(at).Abs() > 15*time.Minute:
		refuse(400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")
		return
	case seconds < 900 || seconds > 3600:
		refuse(400, "InvalidParameter.DurationSeconds", "The Min/Max value of DurationSeconds is 15min/1hr.")
		return
	case len(f.Get("RoleSessionName")) < 2:
		refuse(400, "InvalidParameter.RoleSessionName", "The parameter RoleSessionName is wrongly formed.")
		return
	case f.Get("RoleArn") != s.Role:
		refuse(404, "EntityNotExist.Role", "The specified Role not exists.")
		return
	}
	switch q.Get("Action") {
	case "AssumeRole":
		if no := s.checkSignature(r); no != nil {
			no.write(w)
			return
		}
	case "AssumeRoleWithOIDC":
		if f.Get("OIDCProviderArn") != s.Provider || f.Get("OIDCToken") != s.Bearer {
			refuse(401, "AuthenticationFail.OIDCToken.Expired", "This JsonWebToken is expired.")
			return
		}
	default:
		refuse(404, "InvalidAction.NotFound", "Specified api is not found.")
		return
	}
	k, err := s.issue()
	if err != nil {
		refuse(500, "InternalError", err.Error())
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"RequestId": "7FA0-ID", "Credentials": k.fields(),
		"AssumedRoleUser": map[string]string{"Arn": s.Role + "/" + f.Get("RoleSessionName"), "AssumedRoleId": "1:s"}})
}

// checkSignature checks who asks: HMAC-SHA1, version 1.0, over all parameters but the
// signature, in the order of their names.
func (s *Service) checkSignature(r *http.Request) *refusal {
	q := r.URL.Query()
	secret, err := s.secretOf(q.Get("AccessKeyId"), q.Get("SecurityToken"))
	if err != nil {
		return &refusal{404, "InvalidAccessKeyId.NotFound", "Specified access key is not found."}
	}
	if q.Get("SignatureMethod") != "HMAC-SHA1" || q.Get("SignatureVersion") != "1.0" || !s.isNew(q.Get("SignatureNonce")) {
		return &refusal{400, "SignatureNonceUsed", "Specified signature nonce was used already."}
	}
	var pairs []string
	for name, values := range r.Form { // of both
		if name != "Signature" {
			pairs = append(pairs, escape(name)+"="+escape(values[0]))
		}
	}
	slices.Sort(pairs)
	text := "POST&%2F&" + escape(strings.Join(pairs, "&"))
	mac := hmac.New(sha1.New, []byte(secret+"&"))
	mac.Write([]byte(text))
	if base64.StdEncoding.EncodeToString(mac.Sum(nil)) != q.Get("Signature") {
		// The service says what it has signed, and that holds the token.
		return &refusal{400, "SignatureDoesNotMatch", "Specified signature is not matched with our calculation. server string to sign is:" + text}
	}
	return nil
}

func (s *Service) isNew(nonce string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if nonce == "" || s.nonces[nonce] {
		return false
	}
	if s.nonces == nil {
		s.nonces = map[string]bool{}
	}
	s.nonces[nonce] = true
	return true
}

// escape writes each byte that is not a letter, a digit or one of -_.~ as %XX.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
