// Command bench measures what docs/performance.md promises: each line beside its
// yardstick (the bare disk, go-fuse's loopback, a plain SDK client), by turns, in one
// run, and prints medians. `make bench` runs it.
//
// Everything that is measured is a process of its own: the built ossmount, its OSS
// server, and the yardsticks, which are this program again (child.go). It ends them by
// their process IDs and takes their mounts off, also after Ctrl-C; what they wrote is
// removed at the very end only, because a disk on which thousands of files were just
// deleted may create others many times slower.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"

	"github.com/ossmount/ossmount/integration/harness"
)

func main() {
	if role := os.Getenv(roleEnv); role != "" {
		if err := play(role, os.Args[1:]); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", role, err)
			os.Exit(1)
		}
		return
	}
	rounds := flag.Int("rounds", 5, "measure each line so many times")
	only := flag.String("only", "", "only lines whose names match this regular expression")
	short := flag.Bool("short", false, "small sizes: a test of the benchmark, not of ossmount")
	file := flag.String("json", "", "write the results into this file, too")
	dir := flag.String("dir", "", "make the cache and the trees of the yardsticks in this directory (default: that of temporary files)")
	bin := flag.String("bin", "", "measure this ossmount (default: build the one of this checkout)")
	flag.Parse()
	which, err := regexp.Compile(*only)
	if err != nil || flag.NArg() > 0 || *rounds < 1 {
		fmt.Fprintln(os.Stderr, "bench: see -help:", err, flag.Args())
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := &bench{ctx: ctx, rounds: *rounds, only: which, sizes: fullSizes, bin: *bin}
	if *short {
		b.sizes = shortSizes
	}
	if err := errors.Join(b.all(*dir, *file), b.failed()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	ctx    context.Context
	rounds int
	only   *regexp.Regexp
	sizes  sizes

	commit string // of what is measured

	self string // this program
	bin  string // ossmount; "": to be built
	dir  string // of everything
}

// all measures, prints and writes.
func (b *bench) all(parent, file string) (err error) {
	if err := harness.CanMount(); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("run this as root: go-fuse's loopback has passthrough as root only")
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(parent, "ossmount-bench-"); err != nil {
		return err
	}
	if b.dir, err = filepath.EvalSymlinks(b.dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.clean()) }()
	b.commit = commit(b.bin)
	if b.bin == "" {
		if b.bin, err = harness.Build(b.ctx, b.dir); err != nil {
			return err
		}
	}
	for _, g := range groups {
		if b.wants(g) && b.ctx.Err() == nil {
			b.measure(g)
		}
	}
	r := b.report()
	r.print(os.Stdout)
	if file != "" {
		return r.write(file)
	}
	return nil
}

// wants reports that some line of the group was asked for.
func (b *bench) wants(g group) bool {
	for _, name := range g.lines {
		if b.only.MatchString(name) {
			return true
		}
	}
	return false
}

// measure runs one group; what goes wrong there is the error of its lines.
func (b *bench) measure(g group) {
	fmt.Fprintf(os.Stderr, "%v\n", g.lines)
	err := attempt(func() { g.run(b) })
	for _, name := range g.lines {
		l := byName(name)
		switch {
		case len(l.rounds) == b.rounds: // what went wrong did so after it
		case err != nil:
			l.err = err
		case len(l.rounds) == 0:
			l.err = errors.New("nothing was measured")
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%v: %v\n", g.lines, err)
	}
}

// clean removes everything, unless something is still mounted there.
func (b *bench) clean() error {
	if at, err := harness.Mounted(b.dir); err != nil || len(at) > 0 {
		return fmt.Errorf("%s is left: %q are mounted there %w", b.dir, at, err)
	}
	return os.RemoveAll(b.dir)
}

// failed is the error of all lines that could not be measured.
func (b *bench) failed() (err error) {
	for _, l := range lines {
		if l.err != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", l.name, l.err))
		}
	}
	return errors.Join(err, b.ctx.Err())
}

// failure is what must panics with.
type failure struct{ err error }

// must ends the group whose step has failed. A benchmark is a straight line of steps,
// none of which has anything to do about an error; attempt is the one place that has.
func must(err error) {
	if err != nil {
		panic(failure{err})
	}
}

// attempt returns what must has found within f.
func attempt(f func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			failed, ok := r.(failure)
			if !ok {
				panic(r)
			}
			err = failed.err
		}
	}()
	f()
	return nil
}
