package release

import (
	"crypto/x509"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/ossmount/ossmount/integration/harness"
)

// instruction is one of a Containerfile, with its lines joined.
type instruction struct{ verb, args string }

// containerfile returns the stages.
func containerfile(t *testing.T) (stages [][]instruction) {
	t.Helper()
	text := regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(read(t, filepath.Join(checkout(t), "deploy/container/Containerfile")), "")
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", "")) {
		verb, args, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case verb == "":
		case verb == "FROM":
			stages = append(stages, nil)
			fallthrough
		default:
			last := len(stages) - 1
			stages[last] = append(stages[last], instruction{verb, strings.TrimSpace(args)})
		}
	}
	if len(stages) != 2 {
		t.Fatalf("the Containerfile has %d stages", len(stages))
	}
	return stages
}

// all returns the arguments of each instruction of that verb.
func all(stage []instruction, verb string) (args []string) {
	for _, i := range stage {
		if i.verb == verb {
			args = append(args, i.args)
		}
	}
	return args
}

// words reads the exec form, which alone works without a shell.
func words(t *testing.T, list string) (args []string) {
	t.Helper()
	if err := json.Unmarshal([]byte(list), &args); err != nil {
		t.Fatalf("%q is not the exec form, and there is no shell in the image: %v", list, err)
	}
	return args
}

// image plays the steps of the first stage on what the build is given, and returns
// the root of the image.
func image(t *testing.T) string {
	t.Helper()
	given, root := t.TempDir(), t.TempDir()
	for line := range strings.Lines(read(t, filepath.Join(checkout(t), "deploy/container/Containerfile.dockerignore"))) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "!"); ok {
			must(t, checkout(t), nil, "cp", "-a", name, given)
		}
	}
	must(t, given, nil, "find", ".", "-name", "*_test.go", "-delete")
	stage := containerfile(t)[0]
	for _, step := range all(stage, "RUN") {
		step = regexp.MustCompile(`(^|[ >])/out/`).ReplaceAllString(step, "${1}"+root+"/")
		must(t, given, []string{"VERSION=1.2.3", "TARGETARCH=" + runtime.GOARCH}, "sh", "-euc", step)
	}
	return root
}

// The image has labels, a health check, an entry point, a place for what is pending,
// and nothing in it but what a test has seen the steps make.
func TestContainerfileHasWhatAnImageMustHave(t *testing.T) {
	t.Parallel()
	stages := containerfile(t)
	final := stages[1]
	if from := all(final, "FROM"); from[0] != "scratch" {
		t.Errorf("the image is made from %s", from[0])
	}
	if copies := all(final, "COPY"); len(copies) != 1 || copies[0] != "--from=build /out/ /" || len(all(final, "RUN")) > 0 {
		t.Errorf("the image has %q, beside what the steps make", copies)
	}
	labels := strings.Join(all(final, "LABEL"), " ")
	for _, name := range []string{"title", "description", "source", "documentation", "licenses", "version"} {
		if !strings.Contains(labels, "org.opencontainers.image."+name+"=") {
			t.Errorf("there is no label org.opencontainers.image.%s", name)
		}
	}
	if !strings.Contains(labels, `licenses="Apache-2.0"`) {
		t.Error("the label does not have the licence")
	}
	// The oldest Go that builds it is not older than the module asks for.
	want := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, filepath.Join(checkout(t), "go.mod")))[1]
	if from := all(stages[0], "FROM")[0]; !strings.Contains(from, "golang:"+want) {
		t.Errorf("it is built by %s, and go.mod asks for %s", from, want)
	}
}

// The steps make a root in which the program mounts with nothing else there; it is
// healthy while it serves, and uploads what is pending when it is stopped.
func TestContainerMounts(t *testing.T) {
	t.Parallel()
	lookPath(t, "unshare", "nsenter", "chroot")
	chroot, err := exec.LookPath("chroot")
	if err != nil {
		t.Fatal(err)
	}
	root, final := image(t), containerfile(t)[1]
	isStatic(t, filepath.Join(root, "usr/bin/ossmount"))
	if !x509.NewCertPool().AppendCertsFromPEM([]byte(read(t, filepath.Join(root, "etc/ssl/certs/ca-certificates.crt")))) {
		t.Error("the image trusts nobody")
	}
	if to, err := os.Readlink(filepath.Join(root, "sbin/mount.fuse.ossmount")); err != nil || to != "../usr/bin/ossmount" {
		t.Errorf("the mount helper leads to %q: %v", to, err)
	}
	for _, volume := range words(t, all(final, "VOLUME")[0]) {
		if st, err := os.Stat(filepath.Join(root, volume)); err != nil || !st.IsDir() {
			t.Errorf("there is no directory for the volume %s: %v", volume, err)
		}
	}
	out := must(t, "/", nil, "chroot", "--userspec=65532:65532", root, "/usr/bin/ossmount", "version")
	if !strings.HasPrefix(out, "ossmount 1.2.3 ") {
		t.Errorf("it calls itself %q", out)
	}

	// What an engine gives to a container: /proc, the device, an environment.
	s := server(t, filepath.Join(root, "usr/bin/ossmount"))
	for _, dir := range []string{"proc", "dev"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "dev/fuse"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const start = `mount -t proc proc "$0/proc"; mount --bind /dev/fuse "$0/dev/fuse"; exec env -i "$@"`
	inside := slices.Concat(all(final, "ENV"), harness.Credentials(), []string{chroot, root})
	args := slices.Concat([]string{"-m", "--propagation", "slave", "sh", "-euc", start, root}, inside, words(t, all(final, "ENTRYPOINT")[0]),
		[]string{"mount", "oss://" + harness.Bucket, "/mnt/oss", "--endpoint=" + s.URL, "--region=" + harness.Region, "--write-back-delay=1h"})
	p, err := harness.Start(nil, "unshare", args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	})
	if _, err := p.Out.Line(soon(t), "mounted "); err != nil {
		t.Fatalf("%v\n%s", err, p.Err.Tail(20))
	}
	pid := strconv.Itoa(p.PID())
	if err := os.WriteFile(filepath.Join("/proc", pid, "root", "mnt/oss/hello"), []byte("from the container"), 0o644); err != nil {
		t.Fatal(err)
	}
	if held, err := filepath.Glob(filepath.Join(root, "var/cache/ossmount/*")); err != nil || len(held) == 0 {
		t.Errorf("what is pending is not in the volume: %q %v", held, err)
	}
	_, check, _ := strings.Cut(all(final, "HEALTHCHECK")[0], " CMD ")
	healthy := append([]string{"-t", pid, "-m", "-r", "--"}, words(t, check)...)
	must(t, "/", nil, "nsenter", healthy...)
	p.Signal(syscall.SIGTERM)
	if code, err := p.Wait(patience); err != nil || code != 0 {
		t.Fatalf("it ends with %d: %v\n%s", code, err, p.Err.Tail(20))
	}
	holds(t, s, "hello", "from the container")
}
