package main

import (
	"os"
	"path/filepath"
)

// Lines of programs that make and remove trees.

// programs: tar, rsync and git, in a tree of their own in each round.
func (b *bench) programs() {
	b.at("programs", nil, func(s *site) {
		loop := s.loopback("fast")
		tree := s.goTree(b.sizes.source)
		tarball, repo := s.tarball(tree), s.repo(s.goTree(b.sizes.repo))
		steps := []struct {
			line string
			run  func(dir string)
		}{
			{"tar-x", func(dir string) {
				to := filepath.Join(dir, "tar")
				must(os.Mkdir(to, 0o755))
				s.command("tar", "-xf", tarball, "-C", to)
			}},
			{"rsync", func(dir string) { s.command("rsync", "-a", tree+"/", filepath.Join(dir, "rsync")) }},
			{"rsync-again", func(dir string) { s.command("rsync", "-a", tree+"/", filepath.Join(dir, "rsync")) }},
			{"git-clone", func(dir string) {
				s.command("git", "clone", "-q", "--local", "--no-hardlinks", repo, filepath.Join(dir, "git"))
			}},
			{"git-status", func(dir string) { s.command("git", "-C", filepath.Join(dir, "git"), "status", "--porcelain") }},
		}
		for _, step := range steps {
			s.compare(step.line, func(i int) cost {
				dir := s.in("round", i)
				must(os.MkdirAll(dir, 0o755))
				return s.limited(func() { step.run(dir) })
			}, func(i int) cost {
				dir := filepath.Join(loop, numbered("round", i))
				must(os.MkdirAll(dir, 0o755))
				return s.cost(func() { step.run(dir) })
			})
		}
	})
}

// removeTree: rm -rf of many small files, which are on OSS.
func (b *bench) removeTree() {
	tree := b.tree()
	b.at("rm-tree", nil, func(s *site) {
		loop := s.loopback("fast")
		// All trees are there before the first is removed, after which the disk may be slow.
		ours := func(i int) string { return s.in("tree", i) }
		plain := func(i int) string { return filepath.Join(loop, numbered("tree", i)) }
		for i := range b.rounds {
			s.command("cp", "-r", tree, ours(i))
			s.command("cp", "-r", tree, plain(i))
		}
		s.settle()
		s.compare("rm-tree", func(i int) cost {
			return s.limited(func() { s.command("rm", "-rf", ours(i)) })
		}, func(i int) cost {
			return s.cost(func() { s.command("rm", "-rf", plain(i)) })
		})
	})
}
