package remote

import (
	"fmt"
	"os"
	"strings"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// Credentials hands out the access key. Get is called once for each request
// and by many goroutines, so it must be quick and must hand out what is valid
// now; token is the security token of STS, empty with a permanent key.
type Credentials interface {
	Get() (id, secret, token string, err error)
}

// Names of the environment variables that EnvCredentials reads.
const (
	envID     = "OSS_ACCESS_KEY_ID"
	envSecret = "OSS_ACCESS_KEY_SECRET"
	envToken  = "OSS_SESSION_TOKEN"
)

// EnvCredentials reads OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and
// OSS_SESSION_TOKEN (optional) at each request. If one of the first two is
// missing, Get fails with an error that names what to set.
func EnvCredentials() Credentials { return envCredentials{} }

type envCredentials struct{}

func (envCredentials) Get() (id, secret, token string, err error) {
	id, secret, token = os.Getenv(envID), os.Getenv(envSecret), os.Getenv(envToken)
	var missing []string
	if id == "" {
		missing = append(missing, envID)
	}
	if secret == "" {
		missing = append(missing, envSecret)
	}
	if len(missing) > 0 {
		return "", "", "", fmt.Errorf("no credentials: set the environment variable %s", strings.Join(missing, " and "))
	}
	return id, secret, token, nil
}

// provider is Credentials as the SDK wants them.
type provider struct{ from Credentials }

func (p provider) GetCredentials() oss.Credentials {
	k, _ := p.GetCredentialsE()
	return k
}

func (p provider) GetCredentialsE() (oss.Credentials, error) {
	id, secret, token, err := p.from.Get()
	if err != nil {
		return accessKey{}, &credentialsError{err}
	}
	return accessKey{id, secret, token}, nil
}

// credentialsError marks an error of Credentials.Get, so that it can be told
// from one of the network behind the SDK.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

type accessKey struct{ id, secret, token string }

func (k accessKey) GetAccessKeyID() string     { return k.id }
func (k accessKey) GetAccessKeySecret() string { return k.secret }
func (k accessKey) GetSecurityToken() string   { return k.token }
