package ossemu

import (
	"encoding/json"
	"io"
	"net/http"
	"time"
)

// Admin is the handler of the admin address. It is not signed: bind it to
// loopback.
//
//	GET  /healthz    {"ok":true}
//	GET  /counts     requests, bytes and statuses per operation and in all
//	GET  /log        the last 10,000 requests, oldest first
//	POST /reset      forgets counts and log
//	GET  /uploads    the open multipart uploads of all buckets
//	PUT  /bandwidth  {"bytes_per_second": n}, 0 for unlimited
//	PUT  /latency    {"milliseconds": n}
func (s *Server) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]bool{"ok": !s.closed.Load()})
	})
	mux.HandleFunc("GET /counts", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.tally.counts()) })
	mux.HandleFunc("GET /log", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.tally.requests()) })
	mux.HandleFunc("GET /uploads", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.openUploads()) })
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) {
		s.tally.reset()
		writeJSON(w, map[string]bool{"ok": true})
	})
	mux.HandleFunc("PUT /bandwidth", func(w http.ResponseWriter, r *http.Request) {
		var v struct {
			N *int64 `json:"bytes_per_second"`
		}
		if readJSON(w, r, &v, func() bool { return v.N != nil && *v.N >= 0 }) {
			s.shape.setBandwidth(*v.N)
			writeJSON(w, map[string]int64{"bytes_per_second": *v.N})
		}
	})
	mux.HandleFunc("PUT /latency", func(w http.ResponseWriter, r *http.Request) {
		var v struct {
			N *float64 `json:"milliseconds"`
		}
		if readJSON(w, r, &v, func() bool { return v.N != nil && *v.N >= 0 }) {
			s.shape.setLatency(time.Duration(*v.N * float64(time.Millisecond)))
			writeJSON(w, map[string]float64{"milliseconds": *v.N})
		}
	})
	return mux
}

// uploadInfo is one line of GET /uploads.
type uploadInfo struct {
	Bucket    string    `json:"bucket"`
	Key       string    `json:"key"`
	UploadID  string    `json:"upload_id"`
	Initiated time.Time `json:"initiated"`
	Parts     int       `json:"parts"`
	Bytes     int64     `json:"bytes"`
}

func (s *Server) openUploads() []uploadInfo {
	list := []uploadInfo{}
	s.store.view(func() error {
		for _, name := range s.store.bucketNamesLocked() {
			for n := s.store.buckets[name].uploads.first(); n != nil; n = n.following() {
				u := n.value
				info := uploadInfo{Bucket: name, Key: u.key, UploadID: u.id, Initiated: time.Unix(u.started, 0).UTC(), Parts: len(u.parts)}
				for _, p := range u.parts {
					info.Bytes += p.size
				}
				list = append(list, info)
			}
		}
		return nil
	})
	return list
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

// readJSON reads a small body into v and answers 400 unless it is valid.
func readJSON(w http.ResponseWriter, r *http.Request, v any, valid func() bool) bool {
	d := json.NewDecoder(io.LimitReader(r.Body, 1<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil || !valid() {
		http.Error(w, "the body must be a JSON object as the documentation of Admin shows", http.StatusBadRequest)
		return false
	}
	return true
}
