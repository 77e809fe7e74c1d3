package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Module is the path of the module that is built.
const Module = "github.com/ossmount/ossmount"

// Build builds the ossmount command into dir, with the build tags given, and
// returns its path.
func Build(ctx context.Context, dir string, tags ...string) (string, error) {
	bin := filepath.Join(dir, strings.Join(append([]string{"ossmount"}, tags...), "-"))
	args := []string{"build", "-o", bin, "-tags=" + strings.Join(tags, ",")}
	if Race {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, Module+"/cmd/ossmount")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build ossmount: %w\n%s", err, out)
	}
	return bin, nil
}

// CanMount tells, with a remedy, why this machine cannot mount.
func CanMount() error {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return errors.New("/dev/fuse is missing: load the kernel module (modprobe fuse), or start the container with --device /dev/fuse --cap-add SYS_ADMIN")
	case err != nil:
		return fmt.Errorf("/dev/fuse cannot be opened (%w): run this as root, or start the container with --device /dev/fuse --cap-add SYS_ADMIN", err)
	}
	f.Close()
	if os.Geteuid() == 0 {
		return nil
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		return errors.New("this is not root and fusermount3 is missing: run it as root, or install fuse3 (apt-get install fuse3)")
	}
	return nil
}

// Mounted returns the mount points in this process's mount table that are dir
// or lie beneath it.
func Mounted(dir string) ([]string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var found []string
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		at := unescape(fields[4])
		if at == dir || strings.HasPrefix(at, dir+"/") {
			found = append(found, at)
		}
	}
	return found, nil
}

// unescape undoes the \040 of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
