package credentials

import (
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ossmount/ossmount/integration/harness/keys"
	"github.com/ossmount/ossmount/internal/remote"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testRole     = "acs:ram::1234567890123456:role/mounts"
	testProvider = "acs:ram::1234567890123456:oidc-provider/ack-rrsa"
	testBearer   = "bearer-that-nobody-may-print"
	testSecret   = "s3cr3t/+*~that-nobody-may-print"
)

// bare takes away what this process was given, and keeps it from asking the
// metadata service of the machine.
func bare(t *testing.T) {
	t.Helper()
	for _, name := range []string{envNames.id, envNames.secret, envNames.token, cloudNames.id, cloudNames.secret, cloudNames.token,
		envECSRole, envMetadataEndpoint, envRoleARN, envProviderARN, envTokenFile, envSTSEndpoint, envSTSRegion, envVPC, envSession, envExternalID} {
		t.Setenv(name, "")
	}
	t.Setenv(envNoMetadata, "true")
}

// serve has the services of the environment be those of the test.
func serve(t *testing.T) *keys.Service {
	t.Helper()
	bare(t)
	s := &keys.Service{Life: time.Hour, Users: map[string]string{"user": testSecret}, Role: testRole, Provider: testProvider,
		Bearer: testBearer, Instance: "instance-role"}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	t.Setenv(envNoMetadata, "")
	t.Setenv(envMetadataEndpoint, h.URL)
	t.Setenv(envSTSEndpoint, h.URL)
	t.Setenv(envRoleARN, testRole)
	t.Setenv(envProviderARN, testProvider)
	t.Setenv(envTokenFile, write(t, "token", testBearer+"\n"))
	t.Setenv(envNames.id, "user")
	t.Setenv(envNames.secret, testSecret)
	return s
}

// write writes a file that is the user's alone.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func get(t *testing.T, spec string) (remote.Key, error) {
	t.Helper()
	from, err := New(spec)
	if err != nil {
		return remote.Key{}, err
	}
	return from.Get(t.Context())
}

// wantLast demands the key that was given out last.
func wantLast(t *testing.T, s *keys.Service, spec string) {
	t.Helper()
	k, err := get(t, spec)
	if err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	all := s.Issued()
	if len(all) == 0 {
		t.Fatalf("%s: %v, and no key was given out", spec, k)
	}
	last := all[len(all)-1]
	if k.ID != last.ID || k.Secret != last.Secret || k.Token != last.Token || !k.Expires.Equal(last.Expires) || k.Remedy == "" {
		t.Errorf("%s: %v until %v with the remedy %q, want %v until %v", spec, k, k.Expires, k.Remedy, last.ID, last.Expires)
	}
}

func TestServicesGiveKeys(t *testing.T) {
	s := serve(t)
	for _, spec := range []string{"ecs", "ecs:instance-role", "oidc", "assume-role:" + testRole,
		"assume-role:" + testRole + ",from=ecs", "assume-role:" + testRole + ",from=oidc", // a temporary key signs
	} {
		wantLast(t, s, spec)
	}
	t.Setenv(envExternalID, "an id, with * and ~")
	t.Setenv(envSession, "mounts@here")
	wantLast(t, s, "assume-role:"+testRole)
}

// Which source auto takes, by what is set.
func TestAutoTakesTheFirstThatIsConfigured(t *testing.T) {
	s := serve(t)
	given := func(id string) {
		t.Helper()
		if k, err := get(t, "auto"); err != nil || k.ID != id {
			t.Errorf("want the key %s: %v %v", id, k, err)
		}
	}
	given("user")
	t.Setenv(cloudNames.id, "cloud")
	t.Setenv(cloudNames.secret, "x")
	given("user")
	t.Setenv(envNames.id, "")
	t.Setenv(envNames.secret, "")
	given("cloud")
	t.Setenv(cloudNames.id, "")
	t.Setenv(cloudNames.secret, "")
	s.Bearer = "another" // so that OIDC fails: no other source is tried then
	if _, err := get(t, "auto"); err == nil || !strings.Contains(err.Error(), "AssumeRoleWithOIDC") {
		t.Errorf("want a refusal of the OIDC token: %v", err)
	}
	t.Setenv(envTokenFile, "")
	t.Setenv(envECSRole, "instance-role")
	wantLast(t, s, "auto")
	t.Setenv(envECSRole, "")
	product = write(t, "product", "Alibaba Cloud ECS\n")
	defer func() { product = "/sys/class/dmi/id/product_name" }()
	wantLast(t, s, "auto")
	product = write(t, "product", "Standard PC\n")
	asked := s.Asked()
	_, err := get(t, "auto")
	if err == nil || !strings.Contains(err.Error(), envNames.id) || !strings.Contains(err.Error(), "file:PATH") {
		t.Errorf("nothing is configured: %v", err)
	}
	if s.Asked() != asked {
		t.Error("the metadata service was asked, and this is no ECS instance")
	}
}

// What is wrong with the configuration is said before anybody is asked.
func TestWhatIsWronglyConfigured(t *testing.T) {
	bare(t)
	t.Setenv(envNoMetadata, "")
	arn := "assume-role:" + testRole
	for _, c := range []struct {
		spec string
		env  map[string]string
		says string
	}{
		{"", nil, Forms},
		{"vault", nil, Forms},
		{"env:x", nil, Forms},
		{"file", nil, Forms},
		{"file:", nil, Forms},
		{"process", nil, Forms},
		{"ecs:", nil, Forms},
		{"env", nil, envNames.id + " and " + envNames.secret},
		{"env", map[string]string{envNames.id: "x"}, "variable " + envNames.secret},
		{"env", map[string]string{cloudNames.secret: "x"}, "variable " + cloudNames.id},
		{"ecs:acs:ram::1:role/x", nil, "name alone"},
		{"ecs", map[string]string{envNoMetadata: "true"}, envNoMetadata},
		{"ecs", map[string]string{envMetadataEndpoint: "ftp://x"}, envMetadataEndpoint},
		{"oidc", nil, envRoleARN + " and " + envProviderARN + " and " + envTokenFile},
		{"oidc", map[string]string{envRoleARN: "mounts", envProviderARN: "p", envTokenFile: "t"}, "acs:ram::ACCOUNT:role/NAME"},
		{"assume-role:mounts", nil, "acs:ram::ACCOUNT:role/NAME"},
		{arn, nil, "who assumes the role"},
		{arn + ",from=assume-role:x", nil, "acs:ram::ACCOUNT:role/NAME"},
		{arn + ",from=env", map[string]string{envSession: "a b"}, envSession},
		{arn + ",from=env", map[string]string{envSTSEndpoint: "http://sts.example.com"}, "use https"},
		{arn + ",from=env", map[string]string{envSTSEndpoint: "https://u:p@sts.example.com"}, envSTSEndpoint},
		{"process: ", nil, "name the command"},
	} {
		t.Run(c.spec, func(t *testing.T) {
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			if _, err := New(c.spec); err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("it does not say %q: %v", c.says, err)
			}
		})
	}
}

func TestEndpointOfSTS(t *testing.T) {
	bare(t)
	for _, c := range []struct{ endpoint, region, vpc, want string }{
		{"", "", "", "https://sts.aliyuncs.com"},
		{"", "cn-hangzhou", "", "https://sts.cn-hangzhou.aliyuncs.com"},
		{"", "cn-hangzhou", "true", "https://sts-vpc.cn-hangzhou.aliyuncs.com"},
		{"sts-vpc.cn-beijing.aliyuncs.com", "cn-hangzhou", "", "https://sts-vpc.cn-beijing.aliyuncs.com"},
		{"https://sts.example.com:8443/", "", "", "https://sts.example.com:8443"},
		{"http://127.0.0.1:1", "", "", "http://127.0.0.1:1"},
		{"http://[::1]:1", "", "", "http://[::1]:1"},
	} {
		t.Setenv(envSTSEndpoint, c.endpoint)
		t.Setenv(envSTSRegion, c.region)
		t.Setenv(envVPC, c.vpc)
		if got, err := stsEndpoint(); got != c.want || err != nil {
			t.Errorf("%+v: %s %v", c, got, err)
		}
	}
}

// What the services refuse, and what is said of it: one line, with what mends it, and
// no secret.
func TestRefusalsNameTheRemedy(t *testing.T) {
	arn := "assume-role:" + testRole
	for name, c := range map[string]struct {
		spec string
		set  func(t *testing.T, s *keys.Service)
		says string
	}{
		"no role at all":       {"ecs", func(_ *testing.T, s *keys.Service) { s.Instance = "" }, "attach one"},
		"another role":         {"ecs:other", nil, "correct the name"},
		"metadata are off":     {"ecs", func(_ *testing.T, s *keys.Service) { s.Refuse(403, "", "") }, "enable it for this instance"},
		"metadata are broken":  {"ecs", func(_ *testing.T, s *keys.Service) { s.Refuse(502, "", "") }, "out of order"},
		"wrong secret":         {arn, func(t *testing.T, _ *keys.Service) { t.Setenv(envNames.secret, "x"+testSecret) }, "the signature is wrong"},
		"wrong key":            {arn, func(t *testing.T, _ *keys.Service) { t.Setenv(envNames.id, "nobody") }, "give another one"},
		"no such role":         {"assume-role:acs:ram::1:role/other", nil, "correct its ARN"},
		"may not":              {arn, func(_ *testing.T, s *keys.Service) { s.Refuse(403, "NoPermission", "not\nallowed: "+testSecret) }, "trust policy"},
		"clock":                {arn, func(_ *testing.T, s *keys.Service) { s.Refuse(400, "InvalidTimeStamp.Expired", "") }, "clock"},
		"not STS at all":       {arn, func(_ *testing.T, s *keys.Service) { s.Refuse(404, "", "") }, envSTSEndpoint},
		"an old OIDC token":    {"oidc", func(_ *testing.T, s *keys.Service) { s.Bearer = "new" }, envTokenFile},
		"OIDC token quoted":    {"oidc", func(_ *testing.T, s *keys.Service) { s.Refuse(401, "AuthenticationFail.X", testBearer) }, envProviderARN},
		"no OIDC token":        {"oidc", func(t *testing.T, _ *keys.Service) { t.Setenv(envTokenFile, "/nonexistent/token") }, envTokenFile},
		"an empty OIDC token":  {"oidc", func(t *testing.T, _ *keys.Service) { t.Setenv(envTokenFile, write(t, "t", " \n")) }, "is empty"},
		"who assumes, refused": {arn + ",from=ecs", func(_ *testing.T, s *keys.Service) { s.Instance = "" }, "who assumes the role"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			if c.set != nil {
				c.set(t, s)
			}
			_, err := get(t, c.spec)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("it does not say %q: %v", c.says, err)
			}
			t.Log(err)
			for _, secret := range []string{testSecret, testBearer, "\n"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%q is in it: %v", secret, err)
				}
			}
		})
	}
}

// A service that is away is told from one that refuses.
func TestServiceThatDoesNotAnswer(t *testing.T) {
	s := serve(t)
	s.Refuse(500, "InternalError", "")
	for _, spec := range []string{"ecs", "oidc", "assume-role:" + testRole} {
		if _, err := get(t, spec); !errors.Is(err, ErrNoAnswer) {
			t.Errorf("%s: %v", spec, err)
		}
	}
	s.Refuse(400, "Throttling.User", "slow down")
	if _, err := get(t, "oidc"); !errors.Is(err, ErrNoAnswer) {
		t.Error(err)
	}
	s.Refuse(403, "NoPermission", "")
	if _, err := get(t, "oidc"); err == nil || errors.Is(err, ErrNoAnswer) {
		t.Errorf("a refusal is an answer: %v", err)
	}
	gone := httptest.NewServer(s)
	gone.Close()
	t.Setenv(envSTSEndpoint, gone.URL)
	t.Setenv(envMetadataEndpoint, gone.URL)
	for _, spec := range []string{"ecs", "oidc", "assume-role:" + testRole} {
		_, err := get(t, spec)
		if !errors.Is(err, ErrNoAnswer) || strings.Contains(err.Error(), "Signature=") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", spec, err)
		}
		t.Log(err)
	}
}

// The metadata service is asked without the proxy of the environment.
func TestMetadataGoThroughNoProxy(t *testing.T) {
	s := serve(t)
	e, err := newECS("")
	if err != nil {
		t.Fatal(err)
	}
	if hasProxy(e.(*ecs).client) {
		t.Error("the client of the metadata service has a proxy")
	}
	st, err := newSTS()
	if err != nil || !hasProxy(st.client) {
		t.Errorf("STS is to be reached through the proxy of the environment: %v", err)
	}
	wantLast(t, s, "ecs")
}
