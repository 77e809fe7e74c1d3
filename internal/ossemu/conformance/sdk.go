package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// sdkModule is the SDK, in the version of our own go.mod.
const sdkModule = "github.com/aliyun/aliyun-oss-go-sdk"

// The SDK has no go.mod. These name what its tests need, in fixed versions and
// with their sums.
var (
	//go:embed sdk.mod
	goMod []byte
	//go:embed sdk.sum
	goSum []byte
)

// sdk is the SDK's test suite, built.
type sdk struct {
	tree     string // its sources and sample files; tests run in a copy
	binary   string
	binaryV4 string // the same, with V4 as the signature of clients that ask for none
}

// buildSDK copies the SDK out of the module cache and builds its tests.
func buildSDK(ctx context.Context, scratch string) (sdk, error) {
	s := sdk{tree: filepath.Join(scratch, "sdk"), binary: filepath.Join(scratch, "sdk.test"), binaryV4: filepath.Join(scratch, "sdk-v4.test")}
	version, err := output(ctx, "", "go", "list", "-m", "-f", "{{.Version}}", sdkModule)
	if err != nil {
		return s, err
	}
	module := sdkModule + "@" + strings.TrimSpace(version)
	described, err := output(ctx, "", "go", "mod", "download", "-json", module)
	if err != nil {
		return s, err
	}
	var at struct{ Dir string }
	if err := json.Unmarshal([]byte(described), &at); err != nil {
		return s, fmt.Errorf("go mod download %s: %w", module, err)
	}
	for _, part := range []string{"oss", "sample"} {
		if err := copyTree(filepath.Join(at.Dir, part), filepath.Join(s.tree, part)); err != nil {
			return s, err
		}
	}
	for name, content := range map[string][]byte{"go.mod": goMod, "go.sum": goSum} {
		if err := os.WriteFile(filepath.Join(s.tree, name), content, 0o600); err != nil {
			return s, err
		}
	}
	if err := s.build(ctx, s.binary); err != nil {
		return s, err
	}
	if err := signWithV4(filepath.Join(s.tree, "oss", "conf.go")); err != nil {
		return s, err
	}
	return s, s.build(ctx, s.binaryV4)
}

// build builds the tests as they are in the tree. They do not vet clean under
// the Go of today.
func (s sdk) build(ctx context.Context, binary string) error {
	_, err := output(ctx, filepath.Join(s.tree, "oss"), "go", "test", "-vet=off", "-c", "-o", binary, ".")
	return err
}

// signWithV4 changes with what the SDK signs by default.
func signWithV4(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	changed := strings.Replace(string(content), "config.AuthVersion = AuthV1", `config.AuthVersion, config.Region = AuthV4, "`+region+`"`, 1)
	if changed == string(content) {
		return fmt.Errorf("%s does not set V1 as the default any more", path)
	}
	return os.WriteFile(path, []byte(changed), 0o600)
}

// tests are the names of all tests of the SDK, as Suite.Test.
func (s sdk) tests(ctx context.Context) ([]string, error) {
	out, err := output(ctx, filepath.Join(s.tree, "oss"), s.binary, "-check.list")
	var names []string
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "Oss") {
			names = append(names, line)
		}
	}
	return names, err
}

// output runs a program and gives what it says on stdout.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = dir
	var complaint strings.Builder
	c.Stderr = &complaint
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out, complaint.String())
	}
	return string(out), nil
}

// copyTree copies a folder, writable, as the module cache is not.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, below)
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o600)
	})
}
