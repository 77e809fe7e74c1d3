package remote

import (
	"context"
	"fmt"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// Credentials fetch the access key. Get is called by many goroutines, and may
// ask the network; the error says what to do. A key that expires is kept until it
// is about to, or until OSS refuses it, and fetched anew then (keyring.go); one
// that does not is asked for at each request, so that must be quick, and a changed
// one is used at once.
type Credentials interface {
	Get(ctx context.Context) (Key, error)
}

// Key is an access key.
type Key struct {
	ID, Secret string
	Token      string    // the security token of STS; empty with a permanent key
	Expires    time.Time // of temporary ones; zero: not known, or never
	Remedy     string    // what to do where OSS refuses it, for error messages
}

// String shows which key it is, and nothing that is secret.
func (k Key) String() string { return fmt.Sprintf("key %q", k.ID) }

// GoString is String, for %#v.
func (k Key) GoString() string { return k.String() }

// sameAs reports that OSS cannot tell k from another key.
func (k Key) sameAs(other Key) bool {
	return k.ID == other.ID && k.Secret == other.Secret && k.Token == other.Token
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

// codeNoKey stands in an error where a code of OSS would, when there is no key to
// ask OSS with.
const codeNoKey = "NoCredentials"

// credentialsError marks an error of Credentials.Get, so that it can be told
// from one of the network behind the SDK.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

type accessKey struct{ Key }

func (k accessKey) GetAccessKeyID() string     { return k.ID }
func (k accessKey) GetAccessKeySecret() string { return k.Secret }
func (k accessKey) GetSecurityToken() string   { return k.Token }
