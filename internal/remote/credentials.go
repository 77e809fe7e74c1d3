package remote

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// Credentials fetch the access key. Get is called by many goroutines, and may
// ask the network. A key that expires is kept until it is about to, or until OSS
// refuses it, and fetched anew then (keyring.go); one that does not is asked for
// at each request, so that must be quick, and a changed one is used at once.
type Credentials interface {
	Get(ctx context.Context) (Key, error)
}

// Key is an access key.
type Key struct {
	ID, Secret string
	Token      string    // the security token of STS; empty with a permanent key
	Expires    time.Time // of temporary ones; zero: not known, or never
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

func (envCredentials) Get(context.Context) (Key, error) {
	k := Key{ID: os.Getenv(envID), Secret: os.Getenv(envSecret), Token: os.Getenv(envToken)}
	var missing []string
	if k.ID == "" {
		missing = append(missing, envID)
	}
	if k.Secret == "" {
		missing = append(missing, envSecret)
	}
	if len(missing) > 0 {
		return Key{}, fmt.Errorf("no credentials: set the environment variable %s", strings.Join(missing, " and "))
	}
	return k, nil
}

// provider is the keyring as the SDK wants it.
type provider struct{ from *keyring }

func (p provider) GetCredentials() oss.Credentials {
	k, _ := p.GetCredentialsE()
	return k
}

func (p provider) GetCredentialsE() (oss.Credentials, error) {
	k, err := p.from.current()
	if err != nil {
		return accessKey{}, &credentialsError{err}
	}
	return accessKey{k}, nil
}

// credentialsError marks an error of Credentials.Get, so that it can be told
// from one of the network behind the SDK.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

type accessKey struct{ Key }

func (k accessKey) GetAccessKeyID() string     { return k.ID }
func (k accessKey) GetAccessKeySecret() string { return k.Secret }
func (k accessKey) GetSecurityToken() string   { return k.Token }
