package integration

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The benchmark of docs/performance.md measures each of its lines. What it finds at
// these sizes, on a busy machine, means nothing and is not looked at.
func TestBenchRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bench, results := filepath.Join(dir, "bench"), filepath.Join(dir, "results.json")
	for _, cmd := range []*exec.Cmd{
		exec.CommandContext(t.Context(), "go", "build", "-o", bench, "./bench"),
		exec.CommandContext(t.Context(), bench, "-short", "-rounds=1", "-bin="+binary, "-dir="+dir, "-json="+results),
	} {
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
		}
	}
	b, err := os.ReadFile(results)
	if err != nil {
		t.Fatal(err)
	}
	var found struct {
		Lines []struct {
			Name, Against, Error   string
			Ours, Yardstick, Ratio float64
		} `json:"lines"`
	}
	if err := json.Unmarshal(b, &found); err != nil {
		t.Fatal(err)
	}
	if n := len(found.Lines); n != 22 {
		t.Errorf("%d lines, want 22", n)
	}
	positive := func(v float64) bool { return v > 0 && !math.IsInf(v, 0) }
	for _, l := range found.Lines {
		if l.Error != "" || !positive(l.Ours) || l.Against != "" && !(positive(l.Yardstick) && positive(l.Ratio)) {
			t.Errorf("%+v", l)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "ossmount-bench-*")); err != nil || len(left) > 0 {
		t.Errorf("it has left %v %v", left, err)
	}
}
