package credentials

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/ossmount/ossmount/internal/remote"
)

const (
	envRoleARN     = "ALIBABA_CLOUD_ROLE_ARN"
	envProviderARN = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN"
	envTokenFile   = "ALIBABA_CLOUD_OIDC_TOKEN_FILE"
)

var roleARN = regexp.MustCompile(`^acs:ram::\d+:role/[A-Za-z0-9._-]+$`)

// role is a role that the owner of another key assumes.
type role struct {
	arn string
	by  remote.Credentials
	sts *sts
}

// newRole reads ARN[,from=SOURCE].
func newRole(text string) (remote.Credentials, error) {
	arn, by, given := strings.Cut(text, ",from=")
	if !given {
		by = "auto"
	}
	if !roleARN.MatchString(arn) {
		return nil, fmt.Errorf("--credentials=assume-role:%s: write it as assume-role:acs:ram::ACCOUNT:role/NAME[,from=SOURCE]", text)
	}
	s, err := newSTS()
	if err != nil {
		return nil, err
	}
	from, err := New(by)
	if err != nil {
		return nil, fmt.Errorf("who assumes the role %s: %w", arn, err)
	}
	return &role{arn, from, s}, nil
}

func (r *role) Get(ctx context.Context) (remote.Key, error) {
	k, err := r.by.Get(ctx)
	if err != nil {
		return remote.Key{}, fmt.Errorf("who assumes the role %s: %w", r.arn, err)
	}
	form := url.Values{}
	if id := os.Getenv(envExternalID); id != "" {
		form.Set("ExternalId", id)
	}
	return r.sts.assume(ctx, request{action: "AssumeRole", role: r.arn, form: form, signer: &k})
}

// oidc is a role that the bearer of an OIDC token assumes: in ACK, a pod whose service
// account has one (RRSA).
type oidc struct {
	arn, provider string
	tokenFile     string // read each time: who has put it there renews it
	sts           *sts
}

func newOIDC() (remote.Credentials, error) {
	o := &oidc{arn: os.Getenv(envRoleARN), provider: os.Getenv(envProviderARN), tokenFile: os.Getenv(envTokenFile)}
	var missing []string
	for _, name := range []string{envRoleARN, envProviderARN, envTokenFile} {
		if os.Getenv(name) == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("--credentials=oidc: %s not set: in ACK, enable RRSA for the service account of this pod", strings.Join(missing, " and "))
	}
	if !roleARN.MatchString(o.arn) {
		return nil, fmt.Errorf("%s=%s: write it as acs:ram::ACCOUNT:role/NAME", envRoleARN, o.arn)
	}
	var err error
	o.sts, err = newSTS()
	return o, err
}

func (o *oidc) Get(ctx context.Context) (remote.Key, error) {
	token, err := os.ReadFile(o.tokenFile)
	if err == nil && len(strings.TrimSpace(string(token))) == 0 {
		err = fmt.Errorf("%s is empty", o.tokenFile)
	}
	if err != nil {
		return remote.Key{}, fmt.Errorf("the OIDC token cannot be read: %w: see that %s names the token of this pod", err, envTokenFile)
	}
	form := url.Values{"OIDCProviderArn": {o.provider}, "OIDCToken": {strings.TrimSpace(string(token))}}
	return o.sts.assume(ctx, request{action: "AssumeRoleWithOIDC", role: o.arn, form: form})
}
