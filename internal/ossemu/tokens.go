package ossemu

import (
	"cmp"
	"crypto/subtle"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Token is a temporary access key, as STS gives it out: whoever signs with it
// must send the security token too.
type Token struct {
	AccessKeyID     string    `json:"access_key_id"`
	AccessKeySecret string    `json:"access_key_secret"`
	SecurityToken   string    `json:"security_token"`
	Expires         time.Time `json:"expires,omitzero"` // zero: never
}

func (t Token) valid() bool {
	return t.AccessKeyID != "" && t.AccessKeySecret != "" && t.SecurityToken != ""
}

// tokenSet is the temporary keys that are believed until they expire.
type tokenSet struct {
	mu   sync.Mutex
	list []Token
}

// add has t believed, in the place of what had its security token before.
func (s *tokenSet) add(t Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.indexLocked(t.SecurityToken); i >= 0 {
		s.list[i] = t
		return
	}
	s.list = append(s.list, t)
}

// remove has the keys with an ID believed no more; "" is all of them.
func (s *tokenSet) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.DeleteFunc(s.list, func(t Token) bool { return id == "" || t.AccessKeyID == id })
}

func (s *tokenSet) find(token string) (Token, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.indexLocked(token); i >= 0 {
		return s.list[i], true
	}
	return Token{}, false
}

func (s *tokenSet) indexLocked(token string) int {
	return slices.IndexFunc(s.list, func(t Token) bool {
		return subtle.ConstantTimeCompare([]byte(t.SecurityToken), []byte(token)) == 1
	})
}

// tokenInfo is one line of GET /tokens: nothing of it is secret.
type tokenInfo struct {
	AccessKeyID string    `json:"access_key_id"`
	Expires     time.Time `json:"expires,omitzero"`
	Expired     bool      `json:"expired"`
}

func (s *tokenSet) infos(now time.Time) []tokenInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	infos := []tokenInfo{}
	for _, t := range s.list {
		infos = append(infos, tokenInfo{t.AccessKeyID, t.Expires, !t.Expires.IsZero() && now.After(t.Expires)})
	}
	slices.SortStableFunc(infos, func(a, b tokenInfo) int { return cmp.Compare(a.AccessKeyID, b.AccessKeyID) })
	return infos
}

func (s *Server) adminTokens(mux *http.ServeMux) {
	answer := func(w http.ResponseWriter) { writeJSON(w, s.tokens.infos(s.o.Now())) }
	mux.HandleFunc("GET /tokens", func(w http.ResponseWriter, _ *http.Request) { answer(w) })
	mux.HandleFunc("PUT /tokens", func(w http.ResponseWriter, r *http.Request) {
		var t Token
		if readJSON(w, r, &t, func() bool { return t.valid() }) {
			s.tokens.add(t)
			answer(w)
		}
	})
	mux.HandleFunc("DELETE /tokens", func(w http.ResponseWriter, _ *http.Request) {
		s.tokens.remove("")
		answer(w)
	})
	mux.HandleFunc("DELETE /tokens/{id}", func(w http.ResponseWriter, r *http.Request) {
		s.tokens.remove(r.PathValue("id"))
		answer(w)
	})
}
