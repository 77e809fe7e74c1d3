package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

// The yardsticks that are programs: this one, started again with a role.

// roleEnv is the variable that says which.
const roleEnv = "OSSMOUNT_BENCH_ROLE"

// partSize is that of the plain client: the default of ossmount.
const partSize = 8 * MiB

// told is what a client prints when it is done.
type told struct {
	Seconds float64 `json:"seconds"` // of its work
	CPU     float64 `json:"cpu"`     // seconds of the processor, of the whole process
}

// play is main of a process with a role.
func play(role string, args []string) error {
	if role == "loopback" {
		return serveLoopback(args[0], args[1], args[2] == "default")
	}
	clients := map[string]func(*oss.Bucket, []string) error{
		"put": putFile, "put-tree": putTree, "make": makeObjects, "get": getFile, "list": listAll}
	work, ok := clients[role]
	if !ok {
		return fmt.Errorf("there is no such role")
	}
	bucket, err := (&harness.Server{URL: args[0]}).Client()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := work(bucket, args[1:]); err != nil {
		return err
	}
	t := told{Seconds: time.Since(start).Seconds()}
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		return err
	}
	t.CPU = float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
	return json.NewEncoder(os.Stdout).Encode(t)
}

// putFile uploads a file in parts: KEY FILE ROUTINES.
func putFile(b *oss.Bucket, a []string) error {
	n, err := strconv.Atoi(a[2])
	if err != nil {
		return err
	}
	return b.UploadFile(a[0], a[1], partSize, oss.Routines(n))
}

// getFile downloads an object in ranges: KEY FILE ROUTINES.
func getFile(b *oss.Bucket, a []string) error {
	n, err := strconv.Atoi(a[2])
	if err != nil {
		return err
	}
	return b.DownloadFile(a[0], a[1], partSize, oss.Routines(n))
}

// putTree uploads each file beneath a directory: PREFIX DIR WORKERS.
func putTree(b *oss.Bucket, a []string) error {
	n, err := strconv.Atoi(a[2])
	if err != nil {
		return err
	}
	var workers errgroup.Group
	workers.SetLimit(n)
	err = filepath.WalkDir(a[1], func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(a[1], path)
		if err != nil {
			return err
		}
		workers.Go(func() error { return b.PutObjectFromFile(a[0]+rel, path) })
		return nil
	})
	return errors.Join(err, workers.Wait())
}

// listAll lists what lies beneath a prefix, a thousand at a time: PREFIX COUNT.
func listAll(b *oss.Bucket, a []string) error {
	want, err := strconv.Atoi(a[1])
	if err != nil {
		return err
	}
	options := []oss.Option{oss.Prefix(a[0]), oss.MaxKeys(1000)}
	for got := 0; ; {
		page, err := b.ListObjectsV2(options...)
		if err != nil {
			return err
		}
		got += len(page.Objects)
		if !page.IsTruncated {
			if got != want {
				return fmt.Errorf("%d objects beneath %q, want %d", got, a[0], want)
			}
			return nil
		}
		options = []oss.Option{oss.Prefix(a[0]), oss.MaxKeys(1000), oss.ContinuationToken(page.NextContinuationToken)}
	}
}

// serveLoopback serves dir at point, with passthrough, until it is told to end. With
// isDefault all options are those of go-fuse; else they are those of its example, with
// requests as large as ossmount has them.
func serveLoopback(dir, point string, isDefault bool) error {
	root, err := gofs.NewLoopbackRoot(dir)
	if err != nil {
		return err
	}
	o := &gofs.Options{MountOptions: fuse.MountOptions{DirectMount: true, FsName: dir, Name: "loopback"}}
	if !isDefault {
		second := time.Second
		o.EntryTimeout, o.AttrTimeout, o.NullPermissions, o.MaxWrite = &second, &second, true, MiB
	}
	server, err := gofs.Mount(point, root, o)
	if err != nil {
		return err
	}
	fmt.Println("mounted", point)
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	<-end
	return server.Unmount()
}
