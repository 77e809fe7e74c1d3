package keys

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const rolesPath = "/latest/meta-data/ram/security-credentials/"

// metadata answers one request to the metadata service, which demands a token.
func (s *Service) metadata(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/latest/api/token" {
		ttl, err := strconv.Atoi(r.Header.Get("X-Aliyun-Ecs-Metadata-Token-Ttl-Seconds"))
		switch {
		case r.Method != http.MethodPut:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case err != nil || ttl < 1 || ttl > 21600:
			w.WriteHeader(http.StatusBadRequest)
		default:
			fmt.Fprint(w, s.newToken(time.Duration(ttl)*time.Second))
		}
		return
	}
	switch {
	case r.Method != http.MethodGet:
		w.WriteHeader(http.StatusMethodNotAllowed)
	case !s.knows(r.Header.Get("X-Aliyun-Ecs-Metadata-Token")):
		w.WriteHeader(http.StatusForbidden)
	case s.Instance == "":
		w.WriteHeader(http.StatusNotFound)
	case r.URL.Path == rolesPath:
		fmt.Fprint(w, s.Instance)
	case r.URL.Path == rolesPath+s.Instance:
		k, err := s.issue()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		all := k.fields()
		all["Code"], all["LastUpdated"] = "Success", time.Now().UTC().Format("2006-01-02T15:04:05Z")
		writeJSON(w, http.StatusOK, all)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (s *Service) newToken(life time.Duration) string {
	token := "metadata-" + rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tokens == nil {
		s.tokens = map[string]time.Time{}
	}
	s.tokens[token] = time.Now().Add(life)
	return token
}

func (s *Service) knows(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.tokens[token])
}
