package ossemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Admin is the handler of the admin address. It is not signed: bind it to
// loopback.
//
//	GET    /healthz      {"ok":true}
//	GET    /counts       requests, bytes and statuses per operation and in all
//	GET    /log          the last 10,000 requests, oldest first; ?after=N those behind number N, ?wait=10s
//	                     until there is one (an empty list when the time is over), ?limit=N at most so many
//	POST   /reset        forgets counts and log; the numbers of the log go on
//	GET    /uploads      the open multipart uploads of all buckets
//	GET    /faults       the faults in force, and what they have done
//	POST   /faults       brings a fault into force: the JSON of Fault, or the text of ParseFault
//	DELETE /faults       takes all out of force
//	GET    /faults/ID    one of them; ?fired=N&wait=10s waits until it has fired N times, ?held=N until it holds N
//	DELETE /faults/ID    takes one out of force
//	GET    /tokens       the temporary keys that are believed, without what is secret of them
//	PUT    /tokens       has one believed: the JSON of Token; again, with another end, for one that is there
//	DELETE /tokens       believes none any more; /tokens/ID: not that one
//	GET    /shape        the Shape in force
//	PUT    /shape        changes the fields that are named
//	PUT    /bandwidth    {"bytes_per_second": n}, 0 for unlimited
//	PUT    /latency      {"milliseconds": n}
func (s *Server) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]bool{"ok": !s.closed.Load()})
	})
	mux.HandleFunc("GET /counts", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.tally.counts()) })
	mux.HandleFunc("GET /log", s.adminLog)
	mux.HandleFunc("GET /uploads", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.openUploads()) })
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) {
		s.tally.reset()
		writeJSON(w, map[string]bool{"ok": true})
	})
	s.adminFaults(mux)
	s.adminTokens(mux)
	mux.HandleFunc("GET /shape", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.shape.load().Shape) })
	mux.HandleFunc("PUT /shape", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, maxAdminBody))
		read := func(v *Shape) error { return strictJSON(body, v) }
		if probe := (Shape{}); err != nil || read(&probe) != nil || !probe.valid() {
			http.Error(w, "the body must be a JSON object with fields of GET /shape: bytes per second, and durations such as \"20ms\"", http.StatusBadRequest)
			return
		}
		s.shape.change(func(v *Shape) { read(v) })
		writeJSON(w, s.shape.load().Shape)
	})
	mux.HandleFunc("PUT /bandwidth", func(w http.ResponseWriter, r *http.Request) {
		var v struct {
			N *int64 `json:"bytes_per_second"`
		}
		if readJSON(w, r, &v, func() bool { return v.N != nil && *v.N >= 0 }) {
			s.shape.change(func(sh *Shape) { sh.Bandwidth = *v.N })
			writeJSON(w, map[string]int64{"bytes_per_second": *v.N})
		}
	})
	mux.HandleFunc("PUT /latency", func(w http.ResponseWriter, r *http.Request) {
		var v struct {
			N *float64 `json:"milliseconds"`
		}
		if readJSON(w, r, &v, func() bool { return v.N != nil && *v.N >= 0 }) {
			s.shape.change(func(sh *Shape) { sh.Latency = Duration(*v.N * float64(time.Millisecond)) })
			writeJSON(w, map[string]float64{"milliseconds": *v.N})
		}
	})
	return mux
}

func (s *Server) adminFaults(mux *http.ServeMux) {
	mux.HandleFunc("GET /faults", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.Faults()) })
	mux.HandleFunc("DELETE /faults", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.ClearFaults()) })
	mux.HandleFunc("POST /faults", func(w http.ResponseWriter, r *http.Request) {
		spec, err := io.ReadAll(io.LimitReader(r.Body, maxAdminBody))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		f, err := ParseFault(string(spec))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		state, err := s.AddFault(f)
		writeResult(w, state, err, http.StatusBadRequest)
	})
	mux.HandleFunc("DELETE /faults/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, _ := strconv.Atoi(r.PathValue("id"))
		state, err := s.RemoveFault(id)
		writeResult(w, state, err, http.StatusNotFound)
	})
	mux.HandleFunc("GET /faults/{id}", s.adminFault)
	mux.HandleFunc("GET /faults/kinds", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, Kinds()) })
}

// adminFault waits until a fault has done what the caller waits for, or is
// removed.
func (s *Server) adminFault(w http.ResponseWriter, r *http.Request) {
	fired, err1 := number(r, "fired", 0)
	held, err2 := number(r, "held", 0)
	id, _ := strconv.Atoi(r.PathValue("id"))
	f := s.faults.find(id)
	if f == nil {
		http.Error(w, errNoFault.Error(), http.StatusNotFound)
		return
	}
	s.poll(w, r, errors.Join(err1, err2), func() (any, bool, <-chan struct{}) {
		state, next := f.watch()
		select {
		case <-f.removed:
			return state, true, nil
		default:
			return state, state.Fired >= fired && state.Held >= held, next
		}
	})
}

func (s *Server) adminLog(w http.ResponseWriter, r *http.Request) {
	after, err1 := number(r, "after", 0)
	limit, err2 := number(r, "limit", ringSize)
	s.poll(w, r, errors.Join(err1, err2), func() (any, bool, <-chan struct{}) {
		list, next := s.tally.since(after, int(min(limit, ringSize)))
		return list, len(list) > 0, next
	})
}

// poll answers with what look gives, at once or, with ?wait, as soon as look
// says that it is worth an answer.
func (s *Server) poll(w http.ResponseWriter, r *http.Request, err error, look func() (v any, enough bool, next <-chan struct{})) {
	wait := time.Duration(0)
	if text := r.URL.Query().Get("wait"); text != "" && err == nil {
		wait, err = time.ParseDuration(text)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	over := time.NewTimer(wait)
	defer over.Stop()
	for {
		v, enough, next := look()
		if enough || wait <= 0 {
			writeJSON(w, v)
			return
		}
		select {
		case <-next:
		case <-over.C:
			wait = 0
		case <-s.closing:
			wait = 0
		case <-r.Context().Done():
			return
		}
	}
}

// number reads a parameter that is a number.
func number(r *http.Request, name string, without int64) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return without, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s=%s is not a number", name, text)
	}
	return n, nil
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

// maxAdminBody is far above what any request of the admin address needs.
const maxAdminBody = 1 << 20

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

func writeResult(w http.ResponseWriter, v any, err error, status int) {
	if err != nil {
		http.Error(w, err.Error(), status)
		return
	}
	writeJSON(w, v)
}

// readJSON reads a small body into v and answers 400 unless it is valid.
func readJSON(w http.ResponseWriter, r *http.Request, v any, valid func() bool) bool {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAdminBody))
	if err != nil || strictJSON(body, v) != nil || !valid() {
		http.Error(w, "the body must be a JSON object as the documentation of Admin shows", http.StatusBadRequest)
		return false
	}
	return true
}
