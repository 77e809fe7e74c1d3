package main

import (
	"bytes"
	"context"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ossmount/ossmount/internal/ossemu"
)

const (
	accessKey = "conformance"
	secretKey = "secret"
	region    = "cn-hangzhou"
	// patience ends a suite that hangs; the longest takes half a minute.
	patience = 5 * time.Minute
	// slowly is the bandwidth for tests that must see a deadline pass.
	slowly = 10 << 20
)

// result is what came of one test.
type result struct {
	passed bool
	output string // of a test that did not pass; empty if it never ended
}

// runner runs groups of tests.
type runner struct {
	sdk  sdk
	dir  string // for their servers and the trees they run in
	keep string
}

// all runs the groups, a few at a time, and collects what came of their tests.
func (r runner) all(ctx context.Context, groups []group, parallel int) results {
	var (
		mu    sync.Mutex // owns what is in all
		all   = results{v1: map[string]result{}, v4: map[string]result{}}
		slots = make(chan struct{}, max(parallel, 1))
		wait  sync.WaitGroup
	)
	for _, g := range groups {
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			out, err := r.one(ctx, g)
			if err != nil {
				out += "\n" + err.Error()
			}
			mu.Lock()
			defer mu.Unlock()
			into := all.v1
			if g.v4 {
				into = all.v4
			}
			maps.Copy(into, parse(out))
		})
	}
	wait.Wait()
	return all
}

// one runs a group against a server of its own, in a tree of its own: the
// tests write where they stand.
func (r runner) one(ctx context.Context, g group) (out string, err error) {
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	dir := filepath.Join(r.dir, g.name())
	tree := filepath.Join(dir, "tree")
	if err := copyTree(r.sdk.tree, tree); err != nil {
		return "", err
	}
	options := ossemu.Options{Keys: map[string]string{accessKey: secretKey}, Region: region}
	if g.slow {
		options.Shape.Bandwidth = slowly
	}
	url, stop, err := serve(ctx, filepath.Join(dir, "data"), options)
	if err != nil {
		return "", err
	}
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	binary := r.sdk.binary
	if g.v4 {
		binary = r.sdk.binaryV4
	}
	c := exec.CommandContext(ctx, binary, "-check.v", "-check.f", `^`+g.suite+`\.(`+strings.Join(g.tests, "|")+`)$`)
	c.Dir = filepath.Join(tree, "oss")
	c.Env = append(plainEnv(), "OSS_TEST_ENDPOINT="+url, "OSS_TEST_ACCESS_KEY_ID="+accessKey,
		"OSS_TEST_ACCESS_KEY_SECRET="+secretKey, "OSS_TEST_REGION="+region, "TMPDIR="+dir,
		// A server that takes requests in absolute form is a proxy to itself.
		"OSS_TEST_PROXY_HOST="+url, "OSS_TEST_PROXY_USER=user", "OSS_TEST_PROXY_PASSWORD=password")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var all bytes.Buffer
	c.Stdout, c.Stderr = &all, &all
	err = c.Run()
	if _, failed := err.(*exec.ExitError); failed && ctx.Err() == nil {
		err = nil // tests failed: what is said of each counts
	}
	if r.keep != "" {
		err = keepOutput(r.keep, g.name(), all.Bytes(), err)
	}
	return all.String(), err
}

func keepOutput(dir, name string, out []byte, err error) error {
	if mkErr := os.MkdirAll(dir, 0o755); mkErr != nil {
		return mkErr
	}
	if wErr := os.WriteFile(filepath.Join(dir, name+".out"), out, 0o644); wErr != nil {
		return wErr
	}
	return err
}

// plainEnv is the environment without what would change the SDK's tests.
func plainEnv() (env []string) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "OSS_") {
			env = append(env, v)
		}
	}
	return env
}

// serve starts a server on a port that is free.
func serve(ctx context.Context, dir string, o ossemu.Options) (url string, stop func(), err error) {
	s, err := ossemu.Open(ctx, dir, o)
	if err != nil {
		return "", nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Close()
		return "", nil, err
	}
	web := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	go web.Serve(l)
	return "http://" + l.Addr().String(), func() { web.Close(); s.Close() }, nil
}

// verdict is the line with which a test ends.
var verdict = regexp.MustCompile(`(?m)^(PASS|FAIL|PANIC|MISS|SKIP): \S+ (\w+\.\w+)`)

// parse reads what the SDK's tests say: for each that did not pass, what it
// said from its verdict up to the line that ends it.
func parse(out string) map[string]result {
	results := map[string]result{}
	for _, at := range verdict.FindAllStringSubmatchIndex(out, -1) {
		word, name := out[at[2]:at[3]], out[at[4]:at[5]]
		if word == "PASS" {
			results[name] = result{passed: true}
			continue
		}
		said, _, _ := strings.Cut(out[at[0]:], "\n-----")
		results[name] = result{output: lastLines(said, 12)}
	}
	return results
}

// lastLines gives the last n lines of s.
func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
