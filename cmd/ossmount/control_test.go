package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// listens serves h on a socket as a daemon does, and returns its path.
func listens(t *testing.T, h http.Handler) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "control.sock")
	srv, err := listenControl(path, h, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close() })
	return path
}

func TestCommandThatPanicsFailsAlone(t *testing.T) {
	var log bytes.Buffer
	d := &daemon{log: slog.New(slog.NewTextHandler(&log, nil))}
	mux := http.NewServeMux()
	mux.Handle("POST /bad", handle(func(context.Context, struct{}) (struct{}, error) { panic("out of luck") }))
	mux.Handle("POST /good", handle(func(context.Context, struct{}) (string, error) { return "fine", nil }))
	socket := listens(t, d.recovering(mux))
	var out string
	if err := call(t.Context(), socket, "/bad", struct{}{}, &out); err == nil || !strings.Contains(err.Error(), "internal error: out of luck") {
		t.Errorf("the command that panicked says: %v", err)
	}
	if err := call(t.Context(), socket, "/good", struct{}{}, &out); err != nil || out != "fine" {
		t.Errorf("the next command: %q %v", out, err)
	}
	if d.panics.Load() != 1 || strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "control_test.go") {
		t.Errorf("%d are counted; the log says:\n%s", d.panics.Load(), log.String())
	}
}

// Who may connect is answered only if the kernel says that it is our user or root.
func TestControlSocketAsksWhoItIs(t *testing.T) {
	h := fromOurUser(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "told") }))
	for name, c := range map[string]struct {
		peer any
		code int
	}{
		"our user":     {uint32(os.Geteuid()), 200},
		"root":         {uint32(0), 200},
		"another user": {uint32(os.Geteuid() + 1234), 403},
		"not known":    {nil, 403},
	} {
		r := httptest.NewRequest("POST", "/status", nil)
		r = r.WithContext(context.WithValue(r.Context(), peerKey{}, c.peer))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.code || (w.Code == 200) != (w.Body.String() == "told") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

// A planted link is neither listened on nor spoken to, and what it leads to is
// left alone.
func TestPlantedControlSocket(t *testing.T) {
	dir := t.TempDir()
	target, socket := filepath.Join(dir, "target"), filepath.Join(dir, "control.sock")
	l, err := net.Listen("unix", target)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Symlink(target, socket); err != nil {
		t.Fatal(err)
	}
	if _, err := listenControl(socket, http.NotFoundHandler(), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("a link in the place of the socket: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := call(ctx, socket, "/status", struct{}{}, nil); err == nil || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a client of the link: %v", err)
	}
	if st, err := os.Lstat(target); err != nil || st.Mode().Type() != os.ModeSocket {
		t.Errorf("the target is %v %v", st, err)
	}
	os.Remove(socket)
	os.Remove(target)
	if path := listens(t, http.NotFoundHandler()); path != "" {
		if st, err := os.Lstat(path); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("the socket is %v %v", st.Mode(), err)
		}
	}
}
