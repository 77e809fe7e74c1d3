package main

import (
	"fmt"
	"os"
	"slices"
)

// line is one line of the table: what is measured, against what, and what is allowed.
type line struct {
	name    string // in the table, and for -only
	against string // the yardstick; "" if the value itself has a limit
	unit    string // of the values
	limit   float64
	slack   float64 // what is allowed beyond limit times the yardstick, in unit
	least   bool    // the limit is the least, not the most

	rounds []round
	err    error
}

// round is one measurement of a line, and of its yardstick.
type round struct {
	Ours      cost `json:"ours"`
	Yardstick cost `json:"yardstick"`
}

// cost is what a piece of work has taken.
type cost struct {
	Value    float64 `json:"value"`      // in the unit of the line
	Daemon   float64 `json:"daemon_cpu"` // seconds of the processor
	Server   float64 `json:"server_cpu"` // the same
	Requests int64   `json:"requests"`   // that the server got
}

// Yardsticks.
const (
	disk     = "bare disk"
	loopback = "loopback"
	sdk      = "plain SDK"
	listing  = "listing alone"
)

// lines is the table, in its order.
var lines = []*line{
	{name: "cp-big", against: disk, unit: "s", limit: 1.5},
	{name: "cp-tree", against: loopback, unit: "s", limit: 1.6},
	{name: "tree-on-oss", against: "loopback + SDK", unit: "s", limit: 2},
	{name: "latency-on-oss", against: sdk, unit: "s", limit: 1.5},
	{name: "big-on-oss", against: sdk, unit: "s", limit: 1.3},
	{name: "big-cpu", against: sdk, unit: "CPU s/GiB", limit: 1.2},
	{name: "overwrite-4k", against: loopback, unit: "/s", limit: 8, least: true},
	{name: "tar-x", against: loopback, unit: "s", limit: 2},
	{name: "rsync", against: loopback, unit: "s", limit: 2},
	{name: "rsync-again", against: loopback, unit: "s", limit: 2},
	{name: "git-clone", against: loopback, unit: "s", limit: 2},
	{name: "git-status", against: loopback, unit: "s", limit: 2},
	{name: "rm-tree", against: loopback, unit: "s", limit: 2},
	{name: "mv-dir", against: listing, unit: "s", limit: 1.5, slack: 0.05},
	{name: "read-cold", against: sdk, unit: "s", limit: 1.3},
	{name: "read-warm", against: disk, unit: "s", limit: 1.3},
	{name: "read-random", against: "bytes read", unit: "MiB", limit: 1.2},
	{name: "ls-again", against: listing, unit: "s", limit: 2, slack: 0.1},
	{name: "mount-pending", unit: "s", limit: 2},
	{name: "mount-pending-rss", unit: "MiB", limit: 250},
	{name: "big-rss", unit: "MiB", limit: 120},
	{name: "read-rss", unit: "MiB", limit: 150},
}

func byName(name string) *line {
	return lines[slices.IndexFunc(lines, func(l *line) bool { return l.name == name })]
}

// add keeps a round of the line, and tells of it.
func add(name string, ours, yardstick cost) {
	l := byName(name)
	l.rounds = append(l.rounds, round{ours, yardstick})
	fmt.Fprintf(os.Stderr, "  %-18s %10s %s", name, number(ours.Value), l.unit)
	if l.against != "" {
		fmt.Fprintf(os.Stderr, ", %s %s", l.against, number(yardstick.Value))
	}
	fmt.Fprintln(os.Stderr)
}

// group is what is measured in one place, and one after another.
type group struct {
	lines []string
	run   func(*bench)
}

// groups in the order in which they are run: what deletes thousands of files comes last.
var groups = []group{
	{[]string{"cp-big"}, (*bench).copyBig},
	{[]string{"cp-tree"}, (*bench).copyTree},
	{[]string{"tree-on-oss"}, (*bench).treeOnOSS},
	{[]string{"latency-on-oss"}, (*bench).latencyOnOSS},
	{[]string{"big-on-oss", "big-cpu", "big-rss"}, (*bench).bigOnOSS},
	{[]string{"overwrite-4k"}, (*bench).overwrite},
	{[]string{"read-cold", "read-warm"}, (*bench).readAll},
	{[]string{"read-random"}, (*bench).readRandom},
	{[]string{"read-rss"}, (*bench).readMuch},
	{[]string{"mount-pending", "mount-pending-rss"}, (*bench).mountPending},
	{[]string{"ls-again"}, (*bench).listAgain},
	{[]string{"mv-dir"}, (*bench).renameDir},
	{[]string{"git-clone", "git-status"}, (*bench).git},
	{[]string{"tar-x"}, (*bench).tar},
	{[]string{"rsync", "rsync-again"}, (*bench).rsync},
	{[]string{"rm-tree"}, (*bench).removeTree},
}

// sizes of what is measured.
type sizes struct {
	big       uint64  // bytes of the big file
	copies    int     // of it that are read for read-rss
	files     int     // of the tree
	dirs      int     // that they lie in
	few       int     // files of latency-on-oss
	objects   int     // of the directory that is renamed, and of the one that is listed
	pending   int     // changes that a mount finds
	reads     int     // of read-random
	overwrite uint64  // bytes of the file that is overwritten
	seconds   float64 // for which it is
	source    string  // beneath Go's root, for tar and rsync
	repo      string  // the same, for git
}

const MiB = 1 << 20

var (
	fullSizes = sizes{big: 1024 * MiB, copies: 10, files: 5000, dirs: 50, few: 1000, objects: 10_000, pending: 100_000, reads: 500,
		overwrite: 64 * MiB, seconds: 1, source: "src", repo: "src/internal"}
	shortSizes = sizes{big: 16 * MiB, copies: 2, files: 200, dirs: 4, few: 50, objects: 200, pending: 300, reads: 10,
		overwrite: 4 * MiB, seconds: 0.05, source: "src/encoding", repo: "src/strings"}
)
