package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// Exit codes; docs/cli.md promises them.
const (
	exitFailed  = 1
	exitUsage   = 2
	exitPending = 3
	exitParked  = 4
)

// exitError is an error with the code that it ends the program with.
type exitError struct {
	code int
	err  error // nil: the code says it all
}

func exit(code int, err error) error { return &exitError{code, err} }

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// report prints err as one line on stderr and returns the exit code.
func report(err error) int {
	if err == nil {
		return 0
	}
	code := exitFailed
	var e *exitError
	if errors.As(err, &e) {
		code = e.code
		if e.err == nil {
			return code
		}
	} else if strings.HasPrefix(err.Error(), "unknown command") {
		code = exitUsage
		err = fmt.Errorf("%s (see ossmount --help)", firstLine(err.Error()))
	}
	fmt.Fprintln(os.Stderr, "ossmount:", strings.ReplaceAll(err.Error(), "\n", "; "))
	return code
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
