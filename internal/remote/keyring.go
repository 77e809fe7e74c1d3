package remote

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	// keyMargin is how long before its end a key is fetched anew, at most: of one
	// that lives for less than four times that, it is the last quarter.
	keyMargin = 5 * time.Minute
	// keyTries is how often that is tried within the margin.
	keyTries = 10
	// keyTimeout bounds the fetching of a key.
	keyTimeout = time.Minute
)

// keyring holds the key in use. One fetch at a time serves all who need it. In the
// margin before its end a key is fetched anew beside the requests, which go on with
// the one at hand; they wait for a fetch only where there is no key that is valid.
//
//	fetched                      due    due    due ...      Expires
//	   |---------------------------|------|------|-- ... ------|
//	    nobody is asked             a fetch each, until one succeeds
type keyring struct {
	from   Credentials
	log    *slog.Logger
	flight singleflight.Group

	ctx     context.Context // of the fetches; ends with close
	stop    context.CancelFunc
	fetches sync.WaitGroup // of those beside the requests

	mu     sync.Mutex
	closed bool
	kept   Key           // the last one; zero: none
	due    time.Time     // of one that expires: when the next fetch begins
	pause  time.Duration // between two of them
	failed string        // why the last fetch failed; empty: it did not
}

func newKeyring(from Credentials, log *slog.Logger) *keyring {
	r := &keyring{from: from, log: log}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// close ends the fetches that are under way.
func (r *keyring) close() {
	r.stop()
	r.shut()
	r.fetches.Wait()
}

func (r *keyring) shut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}

// current returns a key that is valid now, as far as is known.
func (r *keyring) current() (Key, error) {
	k, valid := r.atHand()
	if valid {
		return k, nil
	}
	fresh, err := r.fetch()
	if err != nil && k.ID != "" && k.Expires.IsZero() {
		return k, nil // as far as is known, it is as good as ever
	}
	return fresh, err
}

// atHand returns the key that was fetched last, and whether it can be used without
// asking for another one. Where that is due, it has it begun.
func (r *keyring) atHand() (k Key, valid bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if r.kept.ID == "" || !now.Before(r.kept.Expires) {
		return r.kept, false
	}
	if !now.Before(r.due) && !r.closed {
		r.due = now.Add(r.pause)
		r.fetches.Go(func() { _, _ = r.fetch() })
	}
	return r.kept, true
}

// fetch asks for a key. That of another one who asks at this moment is as good.
func (r *keyring) fetch() (Key, error) {
	v, err, _ := r.flight.Do("", func() (any, error) {
		ctx, cancel := context.WithTimeout(r.ctx, keyTimeout)
		defer cancel()
		k, err := r.from.Get(ctx)
		if r.ctx.Err() == nil {
			r.note(k, err)
		}
		return k, err
	})
	return v.(Key), err
}

// note keeps what a fetch has brought, and tells what is new of it.
func (r *keyring) note(k Key, err error) {
	before, failed := r.keep(k, err)
	switch {
	case err != nil && before.ID != "" && failed != err.Error():
		r.log.Warn("no new access key could be had; the one at hand is used for as long as OSS takes it", "expires", expiry(before), "err", err)
	case err == nil && failed != "":
		r.log.Info("access keys can be had again", "expires", expiry(k))
	case err == nil && before.ID != "" && !before.sameAs(k):
		r.log.Info("there is a new access key", "expires", expiry(k))
	}
}

func expiry(k Key) string {
	if k.Expires.IsZero() {
		return "not known"
	}
	return k.Expires.UTC().Format(time.RFC3339)
}

// keep returns the key before, and why the fetch before failed.
func (r *keyring) keep(k Key, err error) (before Key, failed string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, failed = r.kept, r.failed
	if err != nil {
		r.failed = err.Error()
		return before, failed
	}
	r.kept, r.failed = k, ""
	if left := time.Until(k.Expires); left > 0 {
		margin := min(keyMargin, left/4)
		r.due, r.pause = k.Expires.Add(-margin), margin/keyTries
	}
	return before, failed
}

func (r *keyring) held() Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kept
}

// renew is called when OSS has refused the key of a request that was sent with
// header. It returns whether there is another one now, and if not, what mends it.
func (r *keyring) renew(header http.Header) (renewed bool, remedy string) {
	k := r.held()
	if k.ID != "" && !isSignedBy(header, k) {
		return true, "" // somebody else has noticed before
	}
	fresh, err := r.fetch()
	if err != nil {
		return false, "and no other key could be had: " + err.Error()
	}
	return !isSignedBy(header, fresh), fresh.Remedy
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
