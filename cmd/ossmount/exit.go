package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
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

// report prints the error of a command as one line on stderr, in the format of its
// log, and returns the exit code.
func report(c *cobra.Command, err error) int {
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
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	if f := c.Flags().Lookup("log-format"); f != nil && f.Value.String() == "json" {
		if log, err := newLogger("info", "json"); err == nil {
			log.Error(text, "exit", code)
			return code
		}
	}
	fmt.Fprintln(os.Stderr, "ossmount:", text)
	return code
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
