package main

import (
	"os"
	"path/filepath"
)

// Lines of programs that make and remove trees.

// tar: a tree is unpacked.
func (b *bench) tar() {
	b.at("tar", nil, func(s *site) {
		tarball := s.tarball(s.goTree(b.sizes.source))
		s.inTurn(step{"tar-x", func(dir string) { s.command("tar", "-xf", tarball, "-C", dir) }})
	})
}

// rsync: a tree is copied, and once more.
func (b *bench) rsync() {
	b.at("rsync", nil, func(s *site) {
		tree := s.goTree(b.sizes.source)
		run := func(dir string) { s.command("rsync", "-a", tree+"/", dir) }
		s.inTurn(step{"rsync", run}, step{"rsync-again", run})
	})
}

// git: a repository is cloned, and looked at.
func (b *bench) git() {
	b.at("git", nil, func(s *site) {
		repo := s.repo(s.goTree(b.sizes.repo))
		s.inTurn(
			step{"git-clone", func(dir string) { s.command("git", "clone", "-q", "--local", "--no-hardlinks", repo, dir) }},
			step{"git-status", func(dir string) { s.command("git", "-C", dir, "status", "--porcelain") }},
		)
	})
}

// step is what a program does in a directory, and the line that it is.
type step struct {
	line string
	run  func(dir string)
}

// inTurn measures each step in all rounds, then the next; each round has a directory of
// its own, which is empty at first.
func (s *site) inTurn(steps ...step) {
	loop := s.loopback("fast")
	for _, x := range steps {
		s.compare(x.line, func(i int) cost {
			dir := s.in("round", i)
			must(os.MkdirAll(dir, 0o755))
			return s.limited(func() { x.run(dir) })
		}, func(i int) cost {
			dir := filepath.Join(loop, numbered("round", i))
			must(os.MkdirAll(dir, 0o755))
			return s.cost(func() { x.run(dir) })
		})
	}
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
