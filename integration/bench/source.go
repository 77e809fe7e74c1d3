package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
	"golang.org/x/sync/errgroup"

	"github.com/ossmount/ossmount/integration/harness"
)

// What is copied, unpacked, cloned and read. It is made when it is first asked for, and
// lies on the disk of the cache.

// source returns a path of the sources, and makes it if it is not there.
func (b *bench) source(name string, create func(path string) error) string {
	path := filepath.Join(b.dir, "source", name)
	if _, err := os.Lstat(path); err == nil {
		return path
	}
	must(os.MkdirAll(filepath.Dir(path), 0o755))
	must(create(path))
	return path
}

// bigFile is one big file.
func (b *bench) bigFile() string {
	return b.source("big", func(path string) error { return harness.WriteFile(path, 1, b.sizes.big) })
}

// smallFile is the size of many small files.
const smallFile = 4096

// tree is a directory of small files.
func (b *bench) tree() string {
	return b.source("tree", func(path string) error { return b.smallFiles(path, b.sizes.files, b.sizes.dirs) })
}

// fewFiles is one directory with some small files.
func (b *bench) fewFiles() string {
	return b.source("few", func(path string) error { return b.smallFiles(path, b.sizes.few, 1) })
}

// smallFiles makes files in so many directories, each with other bytes.
func (b *bench) smallFiles(root string, files, dirs int) error {
	workers, ctx := errgroup.WithContext(b.ctx)
	workers.SetLimit(runtime.NumCPU())
	for i := range dirs {
		workers.Go(func() error {
			dir := filepath.Join(root, numbered("dir", i))
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			p := bytes.Repeat([]byte(dir), smallFile/len(dir)+1)[:smallFile]
			for j := range files / dirs {
				copy(p, numbered("file", j))
				if err := os.WriteFile(filepath.Join(dir, numbered("file", j)), p, 0o644); err != nil {
					return err
				}
			}
			return ctx.Err()
		})
	}
	return workers.Wait()
}

// goTree is a tree of Go's own root.
func (s *site) goTree(name string) string {
	r, err := harness.Run(s.b.ctx, nil, "go", "env", "GOROOT")
	must(err)
	return filepath.Join(strings.TrimSpace(r.Out), name)
}

// tarball is a tar file of a tree.
func (s *site) tarball(tree string) string {
	return s.b.source("tree.tar", func(path string) error {
		return attempt(func() { s.command("tar", "-cf", path, "-C", tree, ".") })
	})
}

// repo is a git repository with one commit of a tree, in one pack.
func (s *site) repo(tree string) string {
	return s.b.source("repo", func(path string) error {
		return attempt(func() {
			s.command("cp", "-r", tree, path)
			s.command("git", "-C", path, "init", "-q")
			s.command("git", "-C", path, "add", "--all", "--force", ".")
			s.command("git", "-C", path, "-c", "user.name=bench", "-c", "user.email=bench@example.com", "commit", "-q", "-m", "all of it")
			s.command("git", "-C", path, "gc", "-q")
		})
	})
}

// objects makes many small objects beneath prefix, without the mount.
func (s *site) objects(prefix string) {
	s.sdk("make", prefix, strconv.Itoa(s.b.sizes.objects))
}

// makeObjects makes small objects: PREFIX COUNT.
func makeObjects(b *oss.Bucket, a []string) error {
	n, err := strconv.Atoi(a[1])
	if err != nil {
		return err
	}
	var workers errgroup.Group
	workers.SetLimit(16)
	for i := range n {
		workers.Go(func() error { return b.PutObject(fmt.Sprintf("%sobject-%05d", a[0], i), strings.NewReader("small")) })
	}
	return workers.Wait()
}

// bigObject brings the big file to OSS, without the mount.
func (s *site) bigObject(key string) { s.sdk("put", key, s.b.bigFile(), "8") }

// removeObject removes one, without the mount.
func (s *site) removeObject(key string) {
	b, err := s.server.Client()
	must(err)
	must(b.DeleteObject(key))
}

// remove removes a big file in the mount, and its object.
func (s *site) remove(path string) {
	must(os.Remove(path))
	s.settle()
}
