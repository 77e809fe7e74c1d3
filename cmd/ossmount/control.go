package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/writeback"
)

// The daemon of a mount answers HTTP over a Unix socket, 0600, whose path the
// root of the mount tells as user.ossmount.control (cache.ControlSocket).

const controlAttr = "user.ossmount.control"

// mountStatus is the JSON of `ossmount status --json`.
type mountStatus struct {
	Mountpoint   string               `json:"mountpoint,omitempty"`
	Source       string               `json:"source"`
	Bucket       string               `json:"bucket"`
	Prefix       string               `json:"prefix"`
	Endpoint     string               `json:"endpoint"`
	CacheDir     string               `json:"cache_dir"`
	PID          int                  `json:"pid,omitempty"`
	Version      string               `json:"version"`
	Since        int64                `json:"since,omitempty"`  // Unix seconds
	Ending       bool                 `json:"ending,omitempty"` // it drains, and ends then
	Queue        writeback.Status     `json:"queue"`
	UploadLimit  int64                `json:"upload_limit"` // bytes per second, all uploads together; 0: none
	OpenFiles    []string             `json:"open_for_writing"`
	Passthrough  bool                 `json:"passthrough"` // the kernel serves local files itself
	Cache        cacheStatus          `json:"cache"`
	Room         writeback.RoomStatus `json:"room"`
	LostAndFound []cache.Lost         `json:"lost_and_found"`
	LostBytes    int64                `json:"lost_and_found_bytes"` // that they take on the disk
	// Goroutines of the daemon: what grows without end is a mistake.
	Goroutines int `json:"goroutines,omitempty"`
	// InternalErrors were caught since the mount began: mistakes of this program.
	InternalErrors int64 `json:"internal_errors"`
	// HTTP is where --http serves.
	HTTP *httpStatus `json:"http,omitempty"`
}

// addLost says what is in lost+found.
func (s *mountStatus) addLost(c *cache.Cache) (err error) {
	s.LostAndFound, err = c.LostAndFound()
	if s.LostAndFound == nil {
		s.LostAndFound = []cache.Lost{}
	}
	for _, l := range s.LostAndFound {
		s.LostBytes += l.Disk
	}
	return err
}

type cacheStatus struct {
	Used     int64 `json:"used"`
	Free     int64 `json:"free"`
	Total    int64 `json:"total"`
	Nameless int   `json:"nameless"` // without a mount: contents that nothing names
}

// waitRequest and waitAnswer are the JSON of /wait.
type waitRequest struct {
	Path    string        `json:"path"` // beneath the mount, "" for all
	Timeout time.Duration `json:"timeout"`
}

type waitAnswer struct {
	Left  writeback.Left `json:"left"`
	Error string         `json:"error,omitempty"`
}

// umountRequest and umountAnswer are the JSON of /umount.
type umountRequest struct {
	Drain *time.Duration `json:"drain,omitempty"`
	Force bool           `json:"force"`
}

type umountAnswer struct {
	Code int      `json:"code"`
	Busy []string `json:"busy,omitempty"`
	Text string   `json:"text,omitempty"`
	PID  int      `json:"pid"` // of the daemon, which ends now
}

// listenControl serves h at path, which may have the socket of a daemon that was
// killed.
func listenControl(path string, h http.Handler, log *slog.Logger) (*http.Server, error) {
	var st unix.Stat_t
	switch err := unix.Lstat(path, &st); {
	case errors.Is(err, unix.ENOENT):
	case err != nil:
		return nil, fmt.Errorf("control socket: %w", &fs.PathError{Op: "lstat", Path: path, Err: err})
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return nil, fmt.Errorf("control socket: %s is something else: see who has made it, and remove it", path)
	default:
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("control socket: %w", err)
		}
	}
	l, err := net.Listen("unix", path) // for nobody else: the umask is 077
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	srv := &http.Server{Handler: fromOurUser(h), ReadHeaderTimeout: 10 * time.Second,
		ConnContext: withPeer, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	go srv.Serve(l)
	return srv, nil
}

type peerKey struct{}

// withPeer keeps in the context of a connection who has made it, as the kernel
// knows (SO_PEERCRED, unix(7)).
func withPeer(ctx context.Context, c net.Conn) context.Context {
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return ctx
	}
	var peer *unix.Ucred
	if err := raw.Control(func(fd uintptr) { peer, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil || peer == nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, peer.Uid)
}

// fromOurUser refuses requests that are not of the daemon's own user or of root,
// also where somebody has given them a way to the socket.
func fromOurUser(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uid, known := r.Context().Value(peerKey{}).(uint32)
		if !known || uid != 0 && int(uid) != os.Geteuid() {
			http.Error(w, fmt.Sprintf("this mount belongs to user %d: ask as that user, or as root", os.Geteuid()), http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// findControl asks the mount at or above path for its control socket.
func findControl(path string) (socket, root string, err error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", "", err
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	for at := abs; ; at = filepath.Dir(at) {
		buf := make([]byte, 4096)
		if n, err := unix.Getxattr(at, controlAttr, buf); err == nil {
			return string(buf[:n]), at, nil
		}
		if at == "/" {
			return "", "", exit(exitFailed, fmt.Errorf("%s is not on a mount of ossmount (or its daemon is gone: mount it again, or use --cache-dir)", path))
		}
	}
}

// call sends v to the daemon and reads its answer into out.
func call(ctx context.Context, socket, path string, v, out any) error {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			if st, err := os.Lstat(socket); err == nil && st.Mode().Type() != os.ModeSocket {
				return nil, fmt.Errorf("%s is no socket: see who has made it, and remove it", socket)
			}
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://ossmount"+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("the daemon of the mount does not answer: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("the daemon of the mount broke off: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(strings.TrimSpace(string(body)))
	}
	return json.Unmarshal(body, out)
}

// waitForEnd returns when the process pid has ended, so that the cache
// directory is free, or after a while.
func waitForEnd(pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // it has ended, or cannot be watched
	}
	defer unix.Close(fd)
	const patience = 15_000 // ms
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, patience)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// handle makes a handler of a function from request to answer.
func handle[In, Out any](f func(ctx context.Context, in In) (Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in In
		if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		out, err := f(r.Context(), in)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out)
	}
}
