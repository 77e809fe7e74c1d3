package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a program that runs beside this one. It dies with it.
type Process struct {
	Out, Err *Output
	cmd      *exec.Cmd
	done     chan struct{} // closed when it has ended
}

// Start starts bin with the environment of this process and env.
func Start(env []string, bin string, args ...string) (*Process, error) {
	return start(env, 0, bin, args...)
}

// start is Start with namespaces of its own.
func start(env []string, namespaces uintptr, bin string, args ...string) (*Process, error) {
	p := prepare(env, bin, args...)
	p.cmd.Stdout = p.Out
	p.cmd.SysProcAttr.Cloneflags = namespaces
	if err := p.begin(); err != nil {
		return nil, err
	}
	return p, nil
}

// StartPiped is Start for a program that one talks with: in is its standard input, out
// what it prints.
func StartPiped(env []string, bin string, args ...string) (p *Process, in io.WriteCloser, out io.ReadCloser, err error) {
	p = prepare(env, bin, args...)
	if in, err = p.cmd.StdinPipe(); err != nil {
		return nil, nil, nil, err
	}
	// Not StdoutPipe, of which the rest is lost when the program has ended.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, err
	}
	defer w.Close()
	p.cmd.Stdout = w
	return p, in, r, p.begin()
}

// lasting runs what it is sent on a thread that does not end before this process: a
// Pdeathsig comes when the thread ends that has begun the child (PR_SET_PDEATHSIG(2const)),
// and Go ends one that a goroutine has locked and not unlocked.
var lasting = sync.OnceValue(func() chan<- func() {
	c := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range c {
			f()
		}
	}()
	return c
})

func prepare(env []string, bin string, args ...string) *Process {
	p := &Process{Out: newOutput(), Err: newOutput(), cmd: exec.Command(bin, args...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = p.Err
	p.cmd.WaitDelay = 5 * time.Second
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return p
}

func (p *Process) begin() (err error) {
	begun := make(chan struct{})
	lasting() <- func() { defer close(begun); err = p.cmd.Start() }
	<-begun
	if err != nil {
		return err
	}
	go func() {
		p.cmd.Wait()
		p.Out.end()
		p.Err.end()
		close(p.done)
	}()
	return nil
}

// PID of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended reports that the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Signal sends a signal, unless the process has ended.
func (p *Process) Signal(s syscall.Signal) {
	if !p.Ended() {
		p.cmd.Process.Signal(s)
	}
}

// Wait waits until the process has ended and returns its exit code, -1 after
// a signal.
func (p *Process) Wait(timeout time.Duration) (int, error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-time.After(timeout):
		return 0, fmt.Errorf("%s (process %d) has not ended within %v", strings.Join(p.cmd.Args[:2], " "), p.PID(), timeout)
	}
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() error {
	p.Signal(syscall.SIGKILL)
	_, err := p.Wait(30 * time.Second)
	return err
}

// Result is what a command that has ended left.
type Result struct {
	Code     int
	Out, Err string
}

func (r Result) String() string {
	return fmt.Sprintf("exit %d\nstdout: %s\nstderr: %s", r.Code, r.Out, r.Err)
}

// Run runs a command to its end; a command that outlives ctx is killed and an
// error.
func Run(ctx context.Context, env []string, bin string, args ...string) (Result, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	r := Result{Code: cmd.ProcessState.ExitCode(), Out: out.String(), Err: errs.String()}
	var ended *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return r, fmt.Errorf("%s %s: killed, it took too long\n%v", bin, strings.Join(args, " "), r)
	case errors.As(err, &ended):
		err = nil
	}
	return r, err
}

// Output keeps what a process writes.
type Output struct {
	mu      sync.Mutex // owns all below
	b       bytes.Buffer
	ended   bool
	changed chan struct{}
}

func newOutput() *Output { return &Output{changed: make(chan struct{})} }

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pokeLocked()
	return o.b.Write(p)
}

func (o *Output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.pokeLocked()
}

func (o *Output) pokeLocked() {
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// Tail returns the last n lines.
func (o *Output) Tail(n int) string {
	lines := strings.SplitAfter(o.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-n-1):], "")
}

// Line waits for a whole line that begins with prefix and returns what follows
// it.
func (o *Output) Line(ctx context.Context, prefix string) (string, error) {
	for {
		o.mu.Lock()
		text, ended, changed := o.b.String(), o.ended, o.changed
		o.mu.Unlock()
		for line := range strings.Lines(text) {
			if rest, ok := strings.CutPrefix(line, prefix); ok && strings.HasSuffix(rest, "\n") {
				return strings.TrimSpace(rest), nil
			}
		}
		if ended {
			return "", fmt.Errorf("it ended before it printed %q", prefix)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", fmt.Errorf("no line %q: %w", prefix, ctx.Err())
		}
	}
}

// Say waits until part is in the output.
func (o *Output) Say(ctx context.Context, part string) error {
	for {
		o.mu.Lock()
		said, ended, changed := strings.Contains(o.b.String(), part), o.ended, o.changed
		o.mu.Unlock()
		switch {
		case said:
			return nil
		case ended:
			return fmt.Errorf("it ended before it said %q", part)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("it did not say %q: %w", part, ctx.Err())
		}
	}
}

// Poll asks until the answer is yes, an error, or ctx ends.
func Poll(ctx context.Context, what string, yes func() (bool, error)) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := yes()
		if ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: not within the time given", what)
		}
	}
}
