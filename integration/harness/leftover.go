package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What a daemon must not keep: goroutines, descriptors, files.

// Resources are what a daemon at rest has: what is asked for at the beginning of a
// mount is the floor that it must come back to.
type Resources struct {
	Goroutines int      // but for those of connections and of go-fuse's readers, which are bounded
	Files      int      // descriptors, but for those of connections, of pipes to splice with, of the journal's tables and of what was read
	Busy       []string // goroutines of our own that are there while there is work
	Held       []string // contents that are open though nobody reads or writes them
}

// Above reports what of r is more than the floor allows.
func (r Resources) Above(floor Resources) error {
	// The first lists its goroutines while some that were begun with it are about to
	// stand where they belong.
	const some = 4
	switch {
	case len(r.Busy) > 0:
		return fmt.Errorf("%d goroutines of ours work on, as this one:\n%s", len(r.Busy), r.Busy[0])
	case len(r.Held) > 0:
		return fmt.Errorf("contents are open: %q", r.Held)
	case r.Goroutines > floor.Goroutines+some:
		return fmt.Errorf("%d goroutines, after %d at the beginning", r.Goroutines, floor.Goroutines)
	case r.Files > floor.Files+some:
		return fmt.Errorf("%d files are open, after %d at the beginning", r.Files, floor.Files)
	}
	return nil
}

// Resources asks the daemon for its goroutines, and the kernel for its files.
func (m *Mount) Resources(ctx context.Context) (r Resources, err error) {
	stacks, err := m.Goroutines(ctx)
	if err != nil {
		return r, err
	}
	for block := range strings.SplitSeq(stacks, "\n\n") {
		count, _, ok := strings.Cut(block, " @ ")
		n, err := strconv.Atoi(count[strings.LastIndexByte(count, '\n')+1:])
		if !ok || err != nil {
			continue
		}
		if isBounded(block) {
			continue
		}
		r.Goroutines += n
		if isOurs(block) && !isResident(block) {
			r.Busy = append(r.Busy, block)
		}
	}
	r.Files, r.Held, err = m.files()
	return r, err
}

func isBounded(block string) bool {
	return strings.Contains(block, "net/http.(*persistConn)") || strings.Contains(block, "fuse.(*Server).loop") ||
		strings.Contains(block, "net/http.(*conn).serve") || strings.Contains(block, "net/http.(*connReader)")
}

func isOurs(block string) bool {
	for _, room := range []string{"fs", "writeback", "journal", "cache", "internal/remote"} {
		if strings.Contains(block, Module+"/"+room+".") {
			return true
		}
	}
	return false
}

// isResident reports a goroutine that is there from the opening of its room to the
// end, at rest.
func isResident(block string) bool {
	for _, f := range []string{"writeback.(*Queue).schedule", "writeback.(*Queue).payDebts", "writeback.(*Queue).janitor", "journal.(*Journal).keep", "journal.(*Journal).tend", "fs.(*FS).watch"} {
		if strings.Contains(block, Module+"/"+f+"+") {
			return true
		}
	}
	return false
}

// files counts the daemon's descriptors, and returns the contents among them that
// are not mere copies of what OSS has: these are kept open for the next reader, a
// bounded number.
func (m *Mount) files() (n int, held []string, err error) {
	dir := fmt.Sprintf("/proc/%d/fd", m.P.PID())
	names, err := os.ReadDir(dir)
	if err != nil {
		return 0, nil, err
	}
	for _, e := range names {
		to, err := os.Readlink(filepath.Join(dir, e.Name()))
		switch {
		// A pipe: go-fuse keeps some to splice with.
		case err != nil, strings.HasPrefix(to, "socket:"), strings.HasPrefix(to, "pipe:"), strings.HasPrefix(to, filepath.Join(m.Cache, "journal", "db")+"/"), to == "/dev/fuse":
		case strings.HasPrefix(to, filepath.Join(m.Cache, "contents")+"/"):
			if !isCopy(filepath.Join(dir, e.Name())) {
				held = append(held, to)
			}
		default:
			n++
		}
	}
	return n, held, nil
}

func isCopy(path string) bool {
	buf := make([]byte, 4096)
	n, err := unix.Getxattr(path, "user.ossmount.witness", buf)
	if err != nil {
		return false
	}
	var w struct {
		State string `json:"st"`
	}
	return json.Unmarshal(buf[:n], &w) == nil && w.State == "clean"
}

// Goroutines of the daemon, with their stacks.
func (m *Mount) Goroutines(ctx context.Context) (stacks string, err error) {
	buf := make([]byte, 4096)
	n, err := unix.Getxattr(m.Point, "user.ossmount.control", buf)
	if err != nil {
		return "", fmt.Errorf("find the control socket of %s: %w", m.Point, err)
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", string(buf[:n]))
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://ossmount/goroutines", strings.NewReader("{}"))
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("goroutines: %s %s %v", resp.Status, b, err)
	}
	return stacks, json.Unmarshal(b, &stacks)
}

// Rubbish returns the files in the cache directory that no end of a daemon may
// leave there: those that are written under another name first, and its socket.
func (m *Mount) Rubbish() (found []string, err error) {
	err = filepath.WalkDir(m.Cache, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if strings.HasSuffix(name, "~") || strings.HasPrefix(name, ".new-") || strings.HasPrefix(name, ".probe-") || d.Type() == fs.ModeSocket {
			found = append(found, path)
		}
		return nil
	})
	slices.Sort(found)
	return found, err
}

// Listening returns the Unix sockets beneath dir that some process has bound.
func Listening(dir string) (found []string, err error) {
	b, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) > 7 && strings.HasPrefix(fields[7], dir+"/") {
			found = append(found, fields[7])
		}
	}
	return found, nil
}
