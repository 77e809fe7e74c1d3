package credentials

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/ossmount/ossmount/internal/remote"
)

const (
	// processTimeout bounds the command.
	processTimeout = 45 * time.Second
	// processKeeps is how long a key is used whose end the command does not tell.
	processKeeps = time.Hour
)

// process is a command that prints a key as JSON on stdout.
type process struct{ command string }

func newProcess(command string) (remote.Credentials, error) {
	if strings.TrimSpace(command) == "" {
		return nil, errors.New("--credentials=process: name the command that prints a key")
	}
	return process{command}, nil
}

func (p process) Get(ctx context.Context) (remote.Key, error) {
	ctx, cancel := context.WithTimeout(ctx, processTimeout)
	defer cancel()
	out, errs := &head{most: maxAnswer}, &head{most: 4 << 10}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", p.command)
	cmd.Stdout, cmd.Stderr = out, errs
	// The shell and all that it starts, in a group that a signal to us does not reach
	// and that ends as a whole.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return remote.Key{}, fmt.Errorf("the credentials process %w within %v: see what it waits for", errNotEnded, processTimeout)
	}
	if err != nil {
		return remote.Key{}, fmt.Errorf("the credentials process fails (%w): %s: run it as this user and see", err, said(lastLine(string(errs.b))))
	}
	k, err := parseJSON(out.b)
	if err != nil {
		return remote.Key{}, fmt.Errorf("what the credentials process prints cannot be used: %w: it must print {\"AccessKeyId\": ..., \"AccessKeySecret\": ..., \"SecurityToken\": ..., \"Expiration\": ...}", err)
	}
	if k.Expires.IsZero() {
		k.Expires = time.Now().Add(processKeeps)
	}
	k.Remedy = "see that the credentials process prints a key that is valid; it is run again by itself"
	return k, nil
}

var errNotEnded = errors.New("has not ended")

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// head keeps the beginning of what is written to it.
type head struct {
	b    []byte
	most int
}

func (h *head) Write(p []byte) (int, error) {
	h.b = append(h.b, p[:min(len(p), h.most-len(h.b))]...)
	return len(p), nil
}
