package web

import (
	"crypto/subtle"
	"embed"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

//go:embed page
var files embed.FS

// policy lets the page use its own files and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// TokenHeader is where a request that changes something has the token.
const TokenHeader = "X-Ossmount-Token"

// Page serves the page at / and its files beneath /page/.
func Page() http.Handler {
	sub, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // it is embedded above
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, sub, "page.html") })
	mux.Handle("GET /page/", http.StripPrefix("/page/", http.FileServerFS(sub)))
	return withHeaders(mux)
}

// withHeaders sets what a browser shall not do with an answer.
func withHeaders(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range map[string]string{
			"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
			"Cache-Control": "no-store",
		} {
			w.Header().Set(name, value)
		}
		h.ServeHTTP(w, r)
	})
}

// Guard stands before what is served over TCP.
type Guard struct {
	Token string // of requests that change something; empty: none may
	Host  string // the name that the address was given by, if it was one
	// Open are paths that tell nothing about files: they are answered under any name, as
	// probes and Prometheus may ask for them.
	Open []string
}

// Before returns h behind the guard.
func (g *Guard) Before(h http.Handler) http.Handler {
	foreign := http.NewCrossOriginProtection()
	foreign.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "this comes from the page of another site: open the page of this mount itself", http.StatusForbidden)
	}))
	return withHeaders(foreign.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !g.isOurName(r.Host) && !slices.Contains(g.Open, r.URL.Path):
			http.Error(w, "this mount is not known by that name: use localhost or the number of the address", http.StatusMisdirectedRequest)
		case r.Method != http.MethodGet && r.Method != http.MethodHead && !g.holds(r.Header.Get(TokenHeader)):
			http.Error(w, "the token is missing or wrong: `ossmount status --json MOUNTPOINT` has it, in http.token", http.StatusUnauthorized)
		default:
			h.ServeHTTP(w, r)
		}
	})))
}

func (g *Guard) holds(token string) bool {
	return g.Token != "" && subtle.ConstantTimeCompare([]byte(token), []byte(g.Token)) == 1
}

// isOurName reports that nobody else can have pointed the name here: a number, which
// asks no name server, localhost, or the name that the address was given by.
func (g *Guard) isOurName(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return strings.EqualFold(name, "localhost") || g.Host != "" && strings.EqualFold(name, g.Host)
}
