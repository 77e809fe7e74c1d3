package credentials

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/ossmount/ossmount/internal/remote"
)

const (
	envSTSEndpoint = "ALIBABA_CLOUD_STS_ENDPOINT"
	envSTSRegion   = "ALIBABA_CLOUD_STS_REGION"
	envVPC         = "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED"
	envSession     = "ALIBABA_CLOUD_ROLE_SESSION_NAME"
	envExternalID  = "ALIBABA_CLOUD_EXTERNAL_ID"

	// roleSeconds is how long the key of a role lives: what each role allows.
	roleSeconds = "3600"
)

// sts is the Security Token Service, which gives out keys of roles.
type sts struct {
	endpoint string // URL
	client   *http.Client
	session  string // under which the role's doings are audited
}

var sessionName = regexp.MustCompile(`^[A-Za-z0-9.@_-]{2,64}$`)

func newSTS() (*sts, error) {
	s := &sts{client: newClient(http.ProxyFromEnvironment), session: os.Getenv(envSession)}
	if s.session == "" {
		s.session = "ossmount"
	}
	if !sessionName.MatchString(s.session) {
		return nil, fmt.Errorf("%s: use 2 to 64 of letters, digits and . @ _ -", envSession)
	}
	var err error
	s.endpoint, err = stsEndpoint()
	return s, err
}

// stsEndpoint finds the endpoint as the tools of Alibaba Cloud do.
func stsEndpoint() (string, error) {
	host := "sts"
	if strings.EqualFold(os.Getenv(envVPC), "true") {
		host = "sts-vpc"
	}
	given, region := os.Getenv(envSTSEndpoint), os.Getenv(envSTSRegion)
	switch {
	case given != "":
	case region != "":
		return "https://" + host + "." + region + ".aliyuncs.com", nil
	default:
		return "https://sts.aliyuncs.com", nil
	}
	if !strings.Contains(given, "://") {
		given = "https://" + given
	}
	u, err := url.Parse(given)
	switch {
	case err != nil || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "":
		return "", fmt.Errorf("%s: write it as HOST or https://HOST", envSTSEndpoint)
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return "", fmt.Errorf("%s=%s: use https, since a token is sent there", envSTSEndpoint, given)
	}
	return u.Scheme + "://" + u.Host, nil
}

// request is one call of STS. Its form must not be seen by anybody else.
type request struct {
	action string
	role   string // ARN
	form   url.Values
	signer *remote.Key // nil: the form itself proves who asks
}

// assume asks for a key of a role.
func (s *sts) assume(ctx context.Context, r request) (remote.Key, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r.form.Set("RoleArn", r.role)
	r.form.Set("RoleSessionName", s.session)
	r.form.Set("DurationSeconds", roleSeconds)
	query := url.Values{"Version": {"2015-04-01"}, "Action": {r.action}, "Format": {"JSON"},
		"Timestamp": {time.Now().UTC().Format("2006-01-02T15:04:05Z")}}
	if r.signer != nil {
		sign(query, r.form, *r.signer)
	}
	req, err := http.NewRequest(http.MethodPost, s.endpoint+"/?"+query.Encode(), strings.NewReader(r.form.Encode()))
	if err != nil {
		return remote.Key{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := ask(ctx, s.client, "STS", req)
	if err != nil {
		return remote.Key{}, fmt.Errorf("%w: check the network and %s", err, envSTSEndpoint)
	}
	return r.read(answer)
}

// sign adds what proves that the key's owner has made the request: the signature of
// Alibaba Cloud's RPC interfaces, version 1.0.
func sign(query, form url.Values, k remote.Key) {
	query.Set("SignatureMethod", "HMAC-SHA1")
	query.Set("SignatureVersion", "1.0")
	query.Set("SignatureNonce", rand.Text())
	query.Set("AccessKeyId", k.ID)
	if k.Token != "" {
		query.Set("SecurityToken", k.Token)
	}
	all := url.Values{}
	for _, part := range []url.Values{query, form} {
		for name := range part {
			all.Set(name, part.Get(name))
		}
	}
	text := http.MethodPost + "&%2F&" + percent(percentForm(all))
	mac := hmac.New(sha1.New, []byte(k.Secret+"&"))
	mac.Write([]byte(text))
	query.Set("Signature", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// percentForm is a form with its names in order, escaped as the signature wants it.
func percentForm(v url.Values) string { return strings.ReplaceAll(v.Encode(), "+", "%20") }

// percent escapes all but letters, digits and - _ . ~.
func percent(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// read takes the key from the answer of STS.
func (r request) read(a reply) (remote.Key, error) {
	if a.status != http.StatusOK {
		return remote.Key{}, r.refusal(a)
	}
	var body struct{ Credentials json.RawMessage }
	err := errJSON
	var k remote.Key
	if json.Unmarshal(a.body, &body) == nil && len(body.Credentials) > 0 {
		k, err = parseJSON(body.Credentials)
	}
	if err == nil && k.Expires.IsZero() {
		err = errExpires
	}
	if err != nil {
		return remote.Key{}, fmt.Errorf("STS gives no key of the role %s: %w: check %s", r.role, err, envSTSEndpoint)
	}
	k.Remedy = fmt.Sprintf("see that the role %s still exists; a new key is fetched by itself", r.role)
	return k, nil
}

// refusal is the error of STS in words, with what mends it. A code says more than
// its message does, and the message of a bad signature quotes what was signed.
func (r request) refusal(a reply) error {
	var body struct{ Code, Message, RequestID string }
	if json.Unmarshal(a.body, &body) != nil || body.Code == "" {
		return fmt.Errorf("STS refuses %s of the role %s (status %d): check %s and the proxy", r.action, r.role, a.status, envSTSEndpoint)
	}
	secrets := []string{r.form.Get("OIDCToken")}
	if r.signer != nil {
		secrets = append(secrets, r.signer.Secret, r.signer.Token)
	}
	text := cmp.Or(said(body.Message, secrets...), "without a word")
	if strings.Contains(strings.ToLower(text), "string to sign") {
		text = "the signature is wrong"
	}
	what := fmt.Sprintf("STS refuses %s of the role %s: %s: %s (request %s)", r.action, r.role, said(body.Code), text, said(body.RequestID))
	if strings.HasPrefix(body.Code, "Throttling") {
		return fmt.Errorf("%s: %w for now; it is asked again", what, ErrNoAnswer)
	}
	return fmt.Errorf("%s: %s", what, remedy(body.Code))
}

// remedy says what mends a refusal.
func remedy(code string) string {
	for _, m := range []struct{ prefix, remedy string }{
		{"NoPermission", "the trust policy of the role must name who assumes it, and that one needs sts:AssumeRole"},
		{"AuthenticationFail.NoPermission", "the trust policy of the role must allow this OIDC provider, and the subject and audience of the token"},
		{"EntityNotExist.Role", "there is no such role: correct its ARN"},
		{"AuthenticationFail.OIDCToken.Expired", "see that something renews the file that " + envTokenFile + " names"},
		{"AuthenticationFail", "see that " + envProviderARN + " is the provider that has issued the token, and " + envTokenFile + " the token"},
		{"InvalidParameter.RoleArn", "correct the ARN: acs:ram::ACCOUNT:role/NAME"},
		{"InvalidAccessKeyId", "the key that assumes the role is not valid: give another one"},
		{"SignatureDoesNotMatch", "the secret of the key that assumes the role is wrong: correct it"},
		{"IncompleteSignature", "the secret of the key that assumes the role is wrong: correct it"},
		{"InvalidSecurityToken", "the key that assumes the role has expired: give another one"},
		{"InvalidTimeStamp", "set the clock of this machine right"},
	} {
		if strings.HasPrefix(code, m.prefix) {
			return m.remedy
		}
	}
	return "look at the role in the RAM console"
}
