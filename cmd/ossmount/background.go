package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ossmount/ossmount/internal/private"
)

// inBackground runs the same command again as a daemon in a session of its
// own, and returns when that serves. Its log goes to daemon.log in the cache
// directory.
func inBackground(c *cobra.Command, f *mountFlags) error {
	p, err := parseSource(f.source)
	if err != nil {
		return err
	}
	dir, err := f.cacheDirOf(p)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cache directory: %w", err)
	}
	path := filepath.Join(dir, "daemon.log")
	if err := private.Top(dir); err != nil {
		return fmt.Errorf("cache directory: %w", err)
	}
	log, err := private.Open(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND)
	if err != nil {
		return err
	}
	defer log.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	daemon := exec.Command(self, inForeground(os.Args[1:])...)
	daemon.Stderr = log
	daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := daemon.StdoutPipe()
	if err != nil {
		return err
	}
	if err := daemon.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		fmt.Fprint(c.OutOrStdout(), line)
		return daemon.Process.Release()
	}
	err = daemon.Wait()
	code := exitFailed
	if e, ok := err.(*exec.ExitError); ok && e.ExitCode() > 0 {
		code = e.ExitCode()
	}
	return exit(code, fmt.Errorf("the mount did not come up: %s", lastLine(path)))
}

// inForeground are the arguments of mount for the daemon itself, wherever it is said
// that it runs in the background.
func inForeground(args []string) []string {
	out := []string{args[0], "--background=false"}
	for _, a := range args[1:] {
		if a != "--background" && !strings.HasPrefix(a, "--background=") {
			out = append(out, a)
		}
	}
	return out
}

// lastLine is why a daemon has ended, as its log says.
func lastLine(path string) string {
	b, err := os.ReadFile(path)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if err != nil || lines[len(lines)-1] == "" {
		return "see " + path
	}
	last := lines[len(lines)-1]
	var line struct {
		Msg string `json:"msg"`
	}
	if json.Unmarshal([]byte(last), &line) == nil && line.Msg != "" {
		return line.Msg
	}
	return strings.TrimPrefix(last, "ossmount: ")
}
