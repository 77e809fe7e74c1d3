// Command conformance asks a witness whether internal/ossemu is an OSS server:
// the test suites of Alibaba Cloud's Go SDK, which were written against OSS
// itself. It takes the SDK's module from Go's module cache, builds its tests in
// a scratch folder, runs the suites, once with clients that sign with V1 by
// default and once with V4, against servers of ours on loopback, and
// compares with the kept list, tests.txt. It ends with 1 if a test that should
// pass fails, if one that is listed as failing passes, or if the list and the
// SDK do not name the same tests. Nothing of the SDK is in the repository.
//
// It starts one process of the SDK's tests for each suite, a few at a time, and
// one server, with its goroutines, for each of them. All are gone when it ends,
// also after Ctrl-C, and so is the scratch folder.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	parallel := flag.Int("parallel", 16, "how many groups of tests run at a time; they mostly sleep")
	keep := flag.String("keep", "", "leave the output of the SDK's tests in this folder")
	flag.Parse()
	if err := run(ctx, *parallel, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, parallel int, keep string) (err error) {
	start := time.Now()
	list, err := readList(keptList)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "ossmount-conformance-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	sdk, err := buildSDK(ctx, scratch)
	if err != nil {
		return err
	}
	there, err := sdk.tests(ctx)
	if err != nil {
		return err
	}
	complaints := list.compare(there)
	r := runner{sdk: sdk, dir: filepath.Join(scratch, "runs"), keep: keep}
	results := r.all(ctx, list.groups(), parallel)
	if err := ctx.Err(); err != nil {
		return err
	}
	passed, passedV4, wrong := list.judge(results)
	for _, c := range append(complaints, wrong...) {
		fmt.Println(c)
	}
	failed, unrun := list.count(expectFail), list.count(expectNotRun)
	fmt.Printf("conformance: %d tests of the SDK pass, %d of them also with V4 as the default; %d are excluded (%d fail as listed, %d are not run); %.0f s\n",
		passed, passedV4, failed+unrun, failed, unrun, time.Since(start).Seconds())
	if n := len(complaints) + len(wrong); n > 0 {
		return fmt.Errorf("%d tests are not as internal/ossemu/conformance/tests.txt has them", n)
	}
	return nil
}
