package remote

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	// keyMargin is how long before its end a key is fetched anew: a request that
	// was signed with it may take that long to begin, and clocks differ.
	keyMargin = time.Minute
	// keyTimeout bounds the fetching of a key.
	keyTimeout = 15 * time.Second
)

// keyring holds the key in use. One fetch at a time serves all who need it.
type keyring struct {
	from   Credentials
	flight singleflight.Group

	mu   sync.Mutex
	kept Key // of those that expire; zero: none
}

// current returns a key that is valid now.
func (r *keyring) current() (Key, error) {
	k := r.held()
	left := time.Until(k.Expires)
	if k.ID != "" && left > keyMargin {
		return k, nil
	}
	fresh, err := r.fetch()
	if err != nil && k.ID != "" && left > 0 {
		return k, nil // good for a little while yet
	}
	return fresh, err
}

func (r *keyring) fetch() (Key, error) {
	v, err, _ := r.flight.Do("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), keyTimeout)
		defer cancel()
		k, err := r.from.Get(ctx)
		if err == nil {
			r.keep(k)
		}
		return k, err
	})
	return v.(Key), err
}

func (r *keyring) held() Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kept
}

func (r *keyring) keep(k Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kept = (Key{}); !k.Expires.IsZero() {
		r.kept = k
	}
}

// renew is called when OSS has refused the key of a request that was sent with
// header, and reports whether there is another one now.
func (r *keyring) renew(header http.Header) bool {
	k := r.held()
	if k.ID != "" && !isSignedBy(header, k) {
		return true // somebody else has noticed before
	}
	k, err := r.fetch()
	return err == nil && !isSignedBy(header, k)
}

// isSignedBy reports that a request was signed with k: V1 writes the ID before a
// colon, V4 before a slash.
func isSignedBy(header http.Header, k Key) bool {
	auth := header.Get("Authorization")
	return header.Get("X-Oss-Security-Token") == k.Token &&
		(strings.Contains(auth, " "+k.ID+":") || strings.Contains(auth, "Credential="+k.ID+"/"))
}

// renewable are the codes by which OSS refuses a key that may have a successor.
var renewable = map[string]bool{
	"InvalidAccessKeyId": true, "InvalidSecurityToken": true, "SecurityTokenExpired": true,
	"AccessKeyIdAndSecurityTokenNotMatch": true, "InactiveAccessKey": true, "AccessKeyDisabled": true,
}
