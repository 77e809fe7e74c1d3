package keys

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/credentials-go/credentials/providers"
)

const role, provider = "acs:ram::1234567890123456:role/mounts", "acs:ram::1234567890123456:oidc-provider/ack-rrsa"

func newService() *Service {
	return &Service{Life: time.Hour, Users: map[string]string{"user": "user's secret/+*~"}, Role: role, Provider: provider,
		Bearer: "ey.J+*~.h", Instance: "instance-role"}
}

// The provider's own client gets keys from the service, so it speaks as those do for
// which that client was written.
func TestProvidersClient(t *testing.T) {
	s := newService()
	web := httptest.NewTLSServer(s)
	defer web.Close()
	plain := httptest.NewServer(s)
	defer plain.Close()
	host := strings.TrimPrefix(web.URL, "https://")
	// The client copies the default transport; it is given the certificate there.
	transport := http.DefaultTransport.(*http.Transport)
	before := transport.TLSClientConfig
	transport.TLSClientConfig = &tls.Config{RootCAs: web.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	defer func() { transport.TLSClientConfig = before }()

	file := t.TempDir() + "/token"
	write(t, file, s.Bearer)
	assume := func(secret string) providers.CredentialsProvider {
		p, err := providers.NewRAMRoleARNCredentialsProviderBuilder().WithAccessKeyId("user").WithAccessKeySecret(secret).
			WithRoleArn(role).WithRoleSessionName("a-session").WithExternalId("an id, with *").WithStsEndpoint(host).Build()
		return built(t, p, err)
	}
	bearer := func(token string) providers.CredentialsProvider {
		write(t, file, token)
		p, err := providers.NewOIDCCredentialsProviderBuilder().WithRoleArn(role).WithOIDCProviderARN(provider).
			WithOIDCTokenFilePath(file).WithSTSEndpoint(host).Build()
		return built(t, p, err)
	}
	instance := func(name string) providers.CredentialsProvider {
		// Its address is fixed, but it can be given a proxy.
		p, err := providers.NewECSRAMRoleCredentialsProviderBuilder().WithRoleName(name).WithDisableIMDSv1(true).
			WithHttpOptions(&providers.HttpOptions{Proxy: plain.URL}).Build()
		return built(t, p, err)
	}
	for name, c := range map[string]struct {
		from func() providers.CredentialsProvider
		says string // empty: there is a key
	}{
		"AssumeRole":                    {func() providers.CredentialsProvider { return assume(s.Users["user"]) }, ""},
		"AssumeRole, wrong secret":      {func() providers.CredentialsProvider { return assume("wrong") }, "SignatureDoesNotMatch"},
		"AssumeRoleWithOIDC":            {func() providers.CredentialsProvider { return bearer(s.Bearer) }, ""},
		"AssumeRoleWithOIDC, old token": {func() providers.CredentialsProvider { return bearer("old") }, "OIDCToken.Expired"},
		"metadata":                      {func() providers.CredentialsProvider { return instance("") }, ""},
		"metadata of a role":            {func() providers.CredentialsProvider { return instance("instance-role") }, ""},
		"metadata of another role":      {func() providers.CredentialsProvider { return instance("other") }, "404"},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := c.from().GetCredentials()
			switch {
			case c.says != "":
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("want %s: %v", c.says, err)
				}
			case err != nil:
				t.Error(err)
			default:
				last := s.Issued()[len(s.Issued())-1]
				if k.AccessKeyId != last.ID || k.AccessKeySecret != last.Secret || k.SecurityToken != last.Token {
					t.Errorf("got %q, want %q", k.AccessKeyId, last.ID)
				}
			}
		})
	}
}
