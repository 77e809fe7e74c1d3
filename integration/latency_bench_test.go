package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ossmount/ossmount/integration/harness"
)

// BenchmarkNamesWithLatency shows that changes of names do not wait for OSS:
// for each of them the median time with 50 ms on each request, over that with
// none, measured in turns in one run.
func BenchmarkNamesWithLatency(b *testing.B) {
	const rounds, each = 5, 40
	near, far := newNamesBench(b, 0), newNamesBench(b, 50*time.Millisecond)
	for b.Loop() {
		for round := range rounds {
			for _, n := range []*namesBench{near, far} {
				n.prepare(round, each)
				n.round(round, each)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	for _, op := range near.order {
		x, y := median(near.took[op]), median(far.took[op])
		b.ReportMetric(float64(y)/float64(x), op+"-ratio")
		b.Logf("%-8s %10v without, %10v with 50 ms of latency: %.2f times", op, x, y, float64(y)/float64(x))
	}
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// namesBench is one server with one mount.
type namesBench struct {
	b       *testing.B
	server  *harness.Server
	m       *harness.Mount
	latency time.Duration
	took    map[string][]time.Duration
	order   []string
}

func newNamesBench(b *testing.B, latency time.Duration) *namesBench {
	dir, err := filepath.EvalSymlinks(b.TempDir())
	n := &namesBench{b: b, latency: latency, took: map[string][]time.Duration{}}
	n.ok(err)
	n.server = &harness.Server{Bin: binary, Dir: filepath.Join(dir, "objects")}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n.ok(n.server.Start(ctx))
	b.Cleanup(func() { n.ok(n.server.Stop()) })
	n.m = &harness.Mount{Bin: binary, Source: "oss://" + harness.Bucket, Point: filepath.Join(dir, "mnt"), Cache: filepath.Join(dir, "cache"),
		Flags: []string{"--endpoint=" + n.server.URL}}
	n.ok(os.MkdirAll(n.m.Point, 0o755))
	n.ok(n.m.Start(ctx))
	b.Cleanup(func() { n.ok(n.m.Destroy()) })
	return n
}

func (n *namesBench) ok(err error) {
	n.b.Helper()
	if err != nil {
		n.b.Fatal(err)
	}
}

func (n *namesBench) path(name string) string { return filepath.Join(n.m.Point, name) }

// prepare uploads the files that the round changes, and lists their directory,
// without latency.
func (n *namesBench) prepare(round, each int) {
	n.ok(n.server.Latency(0))
	dir := n.path(fmt.Sprint("round", round))
	n.ok(os.Mkdir(dir, 0o755))
	for i := range each {
		n.ok(os.WriteFile(filepath.Join(dir, fmt.Sprint("f", i)), []byte("x"), 0o644))
	}
	if r, err := n.m.Wait(n.m.Point, patience); err != nil || r.Code != 0 {
		n.b.Fatal(r, err)
	}
	names, err := os.ReadDir(dir)
	n.ok(err)
	for _, e := range names {
		_, err := e.Info()
		n.ok(err)
	}
	n.ok(n.server.Latency(n.latency))
}

func (n *namesBench) round(round, each int) {
	dir := n.path(fmt.Sprint("round", round))
	at := func(kind string, i int) string { return filepath.Join(dir, fmt.Sprint(kind, i)) }
	n.time("mkdir", each, func(i int) error { return os.Mkdir(at("d", i), 0o755) })
	n.time("create", each, func(i int) error { return os.WriteFile(at("new", i), []byte("x"), 0o644) })
	n.time("chmod", each, func(i int) error { return os.Chmod(at("f", i), 0o600) })
	n.time("mv", each, func(i int) error { return os.Rename(at("f", i), at("moved", i)) })
	n.time("rm", each, func(i int) error { return os.Remove(at("moved", i)) })
}

func (n *namesBench) time(op string, each int, f func(i int) error) {
	for i := range each {
		start := time.Now()
		n.ok(f(i))
		n.took[op] = append(n.took[op], time.Since(start))
	}
	if !slices.Contains(n.order, op) {
		n.order = append(n.order, op)
	}
}
