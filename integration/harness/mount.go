package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Mount is `ossmount mount` in a process of its own.
type Mount struct {
	Bin    string
	Source string // oss://BUCKET[/PREFIX] or local:DIR
	Point  string
	Cache  string   // the cache directory
	Flags  []string // beside these
	Env    []string // default: the right credentials
	P      *Process

	// Boot, if not empty, is the ID of the boot of a machine that the daemon takes
	// this one for. Its Point must lie beneath a directory that Share has been told of.
	Boot string
}

// Credentials is the environment that makes the server believe a client.
func Credentials() []string {
	return []string{"OSS_ACCESS_KEY_ID=" + KeyID, "OSS_ACCESS_KEY_SECRET=" + Secret, "OSS_ENDPOINT=", "OSS_REGION=", "OSS_SESSION_TOKEN="}
}

func (m *Mount) env() []string {
	if m.Env != nil {
		return m.Env
	}
	return Credentials()
}

// Start starts the daemon and waits until the mount serves.
func (m *Mount) Start(ctx context.Context) (err error) {
	args := append([]string{"mount", m.Source, m.Point, "--cache-dir=" + m.Cache}, m.Flags...)
	if m.P, err = m.process(args); err != nil {
		return err
	}
	if _, err = m.P.Out.Line(ctx, "mounted "); err != nil {
		return fmt.Errorf("mount %s: %w\n%s", m.Source, err, m.P.Err.Tail(20))
	}
	return nil
}

func (m *Mount) process(args []string) (*Process, error) {
	if m.Boot == "" {
		return Start(m.env(), m.Bin, args...)
	}
	// The released binary, which reads the ID where the kernel has it, in a mount
	// namespace in which another file stands there.
	id := m.Point + ".boot"
	if err := os.WriteFile(id, []byte(m.Boot+"\n"), 0o600); err != nil {
		return nil, err
	}
	const script = `mount --make-rprivate /proc && mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"`
	return start(m.env(), unix.CLONE_NEWNS, "/bin/sh", append([]string{"-c", script, id, m.Bin}, args...)...)
}

// Share makes the mounts beneath dir those of all mount namespaces that are made from
// now on. Detach(dir) takes it back.
func Share(dir string) error {
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("share %s: %w", dir, err)
	}
	return unix.Mount("", dir, "", unix.MS_SHARED, "")
}

// Kill9 ends the daemon as a crash does.
func (m *Mount) Kill9() error { return m.P.Kill() }

// Run runs another ossmount command.
func (m *Mount) Run(ctx context.Context, args ...string) (Result, error) {
	return Run(ctx, m.env(), m.Bin, args...)
}

// Umount runs `ossmount umount` and waits until the daemon has ended.
func (m *Mount) Umount(ctx context.Context, flags ...string) (Result, error) {
	r, err := m.Run(ctx, append([]string{"umount", m.Point}, flags...)...)
	if err != nil || r.Code != 0 && r.Code != 3 && r.Code != 4 {
		return r, err
	}
	code, err := m.P.Wait(20 * time.Second)
	if err == nil && code != r.Code {
		err = fmt.Errorf("umount says %d, but the daemon ended with %d\n%s", r.Code, code, m.P.Err.Tail(20))
	}
	return r, err
}

// Wait runs `ossmount wait PATH`.
func (m *Mount) Wait(path string, timeout time.Duration) (Result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout+30*time.Second)
	defer cancel()
	return m.Run(ctx, "wait", path, "--timeout="+timeout.String())
}

// Status is what `ossmount status --json` tells.
type Status struct {
	Mountpoint  string   `json:"mountpoint"`
	Bucket      string   `json:"bucket"`
	PID         int      `json:"pid"`
	Queue       Queue    `json:"queue"`
	UploadLimit int64    `json:"upload_limit"`
	OpenFiles   []string `json:"open_for_writing"`
	Passthrough bool     `json:"passthrough"`
	Room        Room     `json:"room"`
	Cache       struct {
		Nameless int `json:"nameless"`
	} `json:"cache"`
	Goroutines     int   `json:"goroutines"`
	InternalErrors int64 `json:"internal_errors"`
	LostAndFound   []struct {
		Path    string `json:"path"`
		Size    int64  `json:"size"`
		Witness struct {
			Key   string `json:"k"`
			State string `json:"st"`
		} `json:"witness"`
	} `json:"lost_and_found"`
	LostBytes int64 `json:"lost_and_found_bytes"`
}

// Room is the part of a Status about the cache disk.
type Room struct {
	Quota   int64 `json:"quota"`
	Used    int64 `json:"used"`
	Pending int64 `json:"pending"`
	Stuck   int64 `json:"stuck"`
	Found   int64 `json:"found"`
	Clean   int64 `json:"clean"`
	Reserve int64 `json:"reserve"`
	Disk    int64 `json:"disk"`
	Journal struct {
		Ballast int64  `json:"ballast"`
		Waits   bool   `json:"waits"`
		Why     string `json:"why"`
	} `json:"journal"`
	Waiting []string `json:"waiting"`
	Why     string   `json:"why"`
}

// Queue is the part of a Status about what is pending.
type Queue struct {
	Pending     int    `json:"pending"`
	Bytes       int64  `json:"pending_bytes"`
	Parked      int    `json:"parked"`
	Interrupted int    `json:"interrupted"`
	Debts       int    `json:"debts"`
	Doubts      int    `json:"doubts"`
	Away        string `json:"oss_away"`
	AwayNext    int64  `json:"oss_away_next_try"`
	Denied      []struct {
		What  string `json:"what"`
		Under string `json:"under"`
		Rows  int    `json:"rows"`
		Why   string `json:"why"`
	} `json:"denied"`
	Requests struct {
		Limit     int   `json:"limit"`
		Max       int   `json:"max"`
		Throttled int64 `json:"throttled"`
	} `json:"requests"`
	Damaged string `json:"damaged"`
	Horizon uint64 `json:"horizon"`
	Last    uint64 `json:"last"`
	Rebuilt *struct {
		Why   string `json:"why"`
		Aside string `json:"aside"`
		Files int    `json:"files"`
		Lost  int    `json:"lost"`
	} `json:"rebuilt"`
	Uploading []struct {
		Key   string `json:"key"`
		Size  int64  `json:"size"`
		Sent  int64  `json:"sent"`
		Parts int64  `json:"parts"`
		Done  int64  `json:"parts_done"`
	} `json:"uploading"`
	Waiting []Waiting       `json:"waiting"`
	Kept    []Waiting       `json:"kept"`
	Stats   json.RawMessage `json:"stats"`
}

// Waiting is a change at rest.
type Waiting struct {
	Key    string `json:"key"`
	Kind   string `json:"kind"`
	Size   int64  `json:"size"`
	State  string `json:"state"`
	Reason string `json:"reason"`
	Tries  int    `json:"tries"`
}

// Status of the mount.
func (m *Mount) Status() (Status, error) { return m.status(m.Point) }

// CacheStatus is the status of the cache directory, mounted or not.
func (m *Mount) CacheStatus() (Status, error) { return m.status("--cache-dir=" + m.Cache) }

func (m *Mount) status(what string) (s Status, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := m.Run(ctx, "status", "--json", what)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("status: %v", r)
	}
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(r.Out), &s)
}

// Progress is how much of the upload of key the daemon says it has sent, and
// how many of its parts are done.
func (m *Mount) Progress(key string) (sent, parts, done int64, err error) {
	s, err := m.Status()
	if err != nil {
		return 0, 0, 0, err
	}
	for _, u := range s.Queue.Uploading {
		if u.Key == key {
			return u.Sent, u.Parts, u.Done, nil
		}
	}
	return 0, 0, 0, nil
}

// Memory is the resident memory of the daemon and the most that it ever was,
// in bytes.
func (m *Mount) Memory() (rss, peak int64, err error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(m.P.PID()) + "/status")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "VmRSS:":
			rss = kib << 10
		case "VmHWM:":
			peak = kib << 10
		}
	}
	return rss, peak, nil
}

// Dead reports that the mount point is that of a daemon which is gone.
func (m *Mount) Dead() bool {
	var st unix.Stat_t
	return errors.Is(unix.Stat(m.Point, &st), unix.ENOTCONN)
}

// Destroy ends the daemon whatever it takes, and takes every mount off the
// mount point.
func (m *Mount) Destroy() error {
	var errs []error
	if m.P != nil {
		m.P.Signal(syscall.SIGKILL)
		_, err := m.P.Wait(30 * time.Second)
		errs = append(errs, err)
	}
	return errors.Join(append(errs, Detach(m.Point))...)
}

// Detach takes every mount off dir, also a dead one.
func Detach(dir string) error {
	for {
		at, err := Mounted(dir)
		if err != nil || len(at) == 0 {
			return err
		}
		if err := unix.Unmount(at[len(at)-1], unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("detach %s: %w", at[len(at)-1], err)
		}
	}
}
