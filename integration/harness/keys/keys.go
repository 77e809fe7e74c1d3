// Package keys stands in for those who give out temporary access keys of Alibaba
// Cloud: the Security Token Service, and the metadata service of an ECS instance in
// its hardened mode. It knows what ossmount asks of them, checks it as they do
// (signature, time, nonce, tokens), and can be made to refuse. That it speaks as
// they do is judged by the provider's own client, in its tests.
//
// It is used by the tests only. A Service starts no goroutine; what serves it does.
package keys

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"
)

// Key is a temporary access key.
type Key struct {
	ID, Secret, Token string
	Expires           time.Time // in whole seconds, as it is written
}

// Service gives out keys over HTTP. Its fields are set before it serves.
type Service struct {
	Life  time.Duration   // of each key
	Issue func(Key) error // is told of each key before it is given out

	Users    map[string]string // who may assume the role: access key ID to secret
	Role     string            // that may be assumed, an ARN
	Provider string            // ARN of the OIDC provider
	Bearer   string            // the OIDC token that the role is for
	Instance string            // the name of the role of the ECS instance; empty: it has none

	mu     sync.Mutex
	issued []Key
	asked  int
	nonces map[string]bool
	tokens map[string]time.Time // of the metadata service
	refuse *refusal
}

// refusal is an answer that is no key.
type refusal struct {
	status        int
	code, message string
}

// Refuse has all that comes refused, until Refuse(0, "", "").
func (s *Service) Refuse(status int, code, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = &refusal{status, code, message}
	if status == 0 {
		s.refuse = nil
	}
}

// Issued are the keys that were given out, and Asked is how many requests there were.
func (s *Service) Issued() []Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Key(nil), s.issued...)
}

// Asked is how many requests there were.
func (s *Service) Asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// ServeHTTP is STS at /, the metadata service beneath /latest, and a key without more
// ado at /key, for a command that prints one.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if no := s.begin(); no != nil {
		no.write(w)
		return
	}
	switch {
	case r.URL.Path == "/":
		s.sts(w, r)
	case r.URL.Path == "/key":
		k, err := s.issue()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		writeJSON(w, http.StatusOK, k.fields())
	default:
		s.metadata(w, r)
	}
}

func (s *Service) begin() *refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	return s.refuse
}

func (no *refusal) write(w http.ResponseWriter) {
	writeJSON(w, no.status, map[string]string{"RequestId": "7FA0-ID", "HostId": "sts.aliyuncs.com", "Code": no.code, "Message": no.message})
}

// issue makes a key, and tells of it.
func (s *Service) issue() (Key, error) {
	k := Key{ID: "STS." + rand.Text(), Secret: "secret-" + rand.Text(), Token: "token-" + rand.Text(),
		Expires: time.Now().Add(s.Life).Truncate(time.Second)}
	if s.Issue != nil {
		if err := s.Issue(k); err != nil {
			return k, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.issued = append(s.issued, k)
	return k, nil
}

// secretOf finds the secret of a permanent key, or of one that was given out.
func (s *Service) secretOf(id, token string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if secret, ok := s.Users[id]; ok && token == "" {
		return secret, nil
	}
	for _, k := range s.issued {
		if k.ID == id && k.Token == token && time.Now().Before(k.Expires) {
			return k.Secret, nil
		}
	}
	return "", errors.New("unknown")
}

func (k Key) fields() map[string]string {
	return map[string]string{"AccessKeyId": k.ID, "AccessKeySecret": k.Secret, "SecurityToken": k.Token,
		"Expiration": k.Expires.UTC().Format("2006-01-02T15:04:05Z")}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
