package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ossmount/ossmount/internal/metrics"
	"github.com/ossmount/ossmount/internal/private"
	"github.com/ossmount/ossmount/internal/web"
)

// What can be looked at is served on the control socket, and on --http for those who
// cannot reach that: a browser, Prometheus, the probes of Kubernetes. What changes
// something needs a token there (internal/web).

// httpStatus is how the mount can be looked at over TCP. The token is told on the
// control socket only.
type httpStatus struct {
	Address string `json:"address"`
	Token   string `json:"token,omitempty"`
}

// views adds to mux what can be looked at.
func (d *daemon) views(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", d.healthz)
	mux.HandleFunc("GET /readyz", d.readyz)
	mux.Handle("GET /metrics", metrics.Handler(version(), d.sample))
	mux.HandleFunc("GET /live", show(d.live))
	mux.HandleFunc("GET /changes", show(d.changes))
	mux.Handle("GET /{$}", web.Page())
	mux.Handle("GET /page/", web.Page())
}

// show makes a handler of a function whose answer is JSON.
func show[Out any](f func(r *http.Request) (Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		out, err := f(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out)
	}
}

// parseHTTP returns the address to listen on, and the name in it, if it has one. What
// names no host is of loopback.
func parseHTTP(s string) (address, name string, err error) {
	host, port := "", s
	if _, err := strconv.ParseUint(s, 10, 16); err != nil {
		if host, port, err = net.SplitHostPort(s); err != nil {
			return "", "", exit(exitUsage, fmt.Errorf("--http=%s: use a port such as 9100, or an address such as 127.0.0.1:9100", s))
		}
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", "", exit(exitUsage, fmt.Errorf("--http=%s: %q is not a port: use 1 to 65535, or 0 for any that is free", s, port))
	}
	if host == "" {
		host = "127.0.0.1"
	}
	if _, err := netip.ParseAddr(host); err != nil {
		name = host
	}
	return net.JoinHostPort(host, port), name, nil
}

// tokenFile is where the token lies in the cache directory while the daemon runs.
const tokenFile = "http-token"

// page is what the daemon serves over TCP.
type page struct {
	listener net.Listener
	server   *http.Server
	name     string // that the address was given by
	status   httpStatus
	file     string // of the token
}

// listenHTTP takes the address of --http, before anything is mounted; nil: there is
// none. A token is drawn for this daemon, and kept for its user.
func listenHTTP(f *mountFlags, cacheDir string, log *slog.Logger) (*page, error) {
	if f.http == "" {
		return nil, nil
	}
	address, name, err := parseHTTP(f.http)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--http=%s: %w: choose another address", f.http, err)
	}
	warnIfPublic(l.Addr().(*net.TCPAddr).IP, log)
	p := &page{listener: l, name: name, file: filepath.Join(cacheDir, tokenFile), status: httpStatus{Address: l.Addr().String(), Token: rand.Text()}}
	if err := p.keepToken(); err != nil {
		l.Close()
		return nil, fmt.Errorf("--http: keep the token: %w", err)
	}
	return p, nil
}

func warnIfPublic(ip net.IP, log *slog.Logger) {
	if !ip.IsLoopback() {
		log.Warn("--http: whoever reaches this address can read the names and sizes of what is pending", "address", ip)
	}
}

func (p *page) keepToken() error {
	if err := os.Remove(p.file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := private.Open(p.file, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	_, err = f.WriteString(p.status.Token + "\n")
	return errors.Join(err, f.Close())
}

// serve answers with what can be looked at, and to who has the token with what the
// page does.
func (p *page) serve(d *daemon) {
	if p == nil {
		return
	}
	mux := http.NewServeMux()
	d.views(mux)
	mux.HandleFunc("GET /status", show(func(*http.Request) (mountStatus, error) { return d.status() }))
	mux.Handle("POST /recover", handle(d.fromPage))
	g := &web.Guard{Token: p.status.Token, Host: p.name, Open: []string{"/healthz", "/readyz", "/metrics"}}
	p.server = &http.Server{Handler: g.Before(d.recovering(mux)), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelDebug)} // anybody can send what is no HTTP
	d.log.Info("what can be looked at is served", "at", "http://"+p.status.Address+"/")
	go p.server.Serve(p.listener)
}

// fromPage is /recover for the page: what needs no look at this machine.
func (d *daemon) fromPage(ctx context.Context, in recoverRequest) (recoverAnswer, error) {
	switch in.Do {
	case "retry", "wake", "discard":
		return d.desk().do(ctx, in)
	}
	return recoverAnswer{}, fmt.Errorf("%q cannot be done over HTTP: retry, wake and discard can, and `ossmount recover` does the rest", in.Do)
}

// close ends the answers under way, after a moment.
func (p *page) close() {
	if p == nil {
		return
	}
	if p.server != nil {
		_ = p.server.Shutdown(boundedContext(context.Background(), time.Second))
		p.server.Close()
	}
	p.listener.Close()
	os.Remove(p.file)
}
