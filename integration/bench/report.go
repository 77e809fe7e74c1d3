package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// report is what a run has found.
type report struct {
	Date   string   `json:"date"`
	Commit string   `json:"commit"`
	Kernel string   `json:"kernel"`
	Cores  int      `json:"cores"`
	Disk   string   `json:"disk"` // the file system of cache and yardsticks
	Rounds int      `json:"rounds"`
	Short  bool     `json:"short"`
	Lines  []result `json:"lines"`
}

// result is a line as it is printed: medians.
type result struct {
	Name      string  `json:"name"`
	Against   string  `json:"against,omitempty"`
	Unit      string  `json:"unit"`
	Ours      float64 `json:"ours"`
	Yardstick float64 `json:"yardstick,omitempty"`
	Ratio     float64 `json:"ratio,omitempty"` // of the rounds
	Limit     string  `json:"limit"`
	OK        bool    `json:"ok"`
	Daemon    float64 `json:"daemon_cpu"` // seconds
	Server    float64 `json:"server_cpu"` // seconds
	Requests  float64 `json:"requests"`
	Rounds    []round `json:"rounds"`
	Error     string  `json:"error,omitempty"`
}

func (b *bench) report() report {
	r := report{Date: time.Now().UTC().Format(time.DateOnly), Commit: b.commit, Cores: runtime.NumCPU(), Rounds: b.rounds, Short: b.sizes == shortSizes}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		r.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	var st unix.Statfs_t
	if unix.Statfs(b.dir, &st) == nil {
		r.Disk = fileSystem(int64(st.Type))
	}
	for _, l := range lines {
		if len(l.rounds) > 0 || l.err != nil {
			r.Lines = append(r.Lines, l.result())
		}
	}
	return r
}

// commit is that of the checkout, or, where another ossmount is measured, its path.
func commit(bin string) string {
	if bin != "" {
		return "of " + bin
	}
	out, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func fileSystem(magic int64) string {
	names := map[int64]string{unix.EXT4_SUPER_MAGIC: "ext4", unix.TMPFS_MAGIC: "tmpfs", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs"}
	if s, ok := names[magic]; ok {
		return s
	}
	return fmt.Sprintf("%#x", magic)
}

// result makes medians of the rounds.
func (l *line) result() result {
	r := result{Name: l.name, Against: l.against, Unit: l.unit, Limit: l.allowed(), Rounds: l.rounds}
	if l.err != nil {
		r.Error = l.err.Error()
	}
	if len(l.rounds) == 0 {
		return r
	}
	of := func(f func(round) float64) float64 { return median(l.rounds, f) }
	r.Ours = of(func(x round) float64 { return x.Ours.Value })
	r.Daemon = of(func(x round) float64 { return x.Ours.Daemon })
	r.Server = of(func(x round) float64 { return x.Ours.Server })
	r.Requests = of(func(x round) float64 { return float64(x.Ours.Requests) })
	judged := r.Ours
	if l.against != "" {
		r.Yardstick = of(func(x round) float64 { return x.Yardstick.Value })
		r.Ratio = of(func(x round) float64 { return x.Ours.Value / x.Yardstick.Value })
		judged = of(func(x round) float64 { return (x.Ours.Value - l.slack) / x.Yardstick.Value })
	}
	r.OK = l.err == nil && (judged <= l.limit) != l.least
	return r
}

func median(rounds []round, f func(round) float64) float64 {
	var v []float64
	for _, x := range rounds {
		v = append(v, f(x))
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// allowed is the limit as it is printed.
func (l *line) allowed() string {
	switch {
	case l.against == "":
		return fmt.Sprintf("≤ %g %s", l.limit, l.unit)
	case l.least:
		return fmt.Sprintf("≥ %g ×", l.limit)
	case l.slack > 0:
		return fmt.Sprintf("≤ %g × + %g %s", l.limit, l.slack, l.unit)
	}
	return fmt.Sprintf("≤ %g ×", l.limit)
}

// print prints the table.
func (r report) print(w io.Writer) {
	fmt.Fprintf(w, "%s, commit %s, Linux %s, %d cores, %s, medians of %d\n", r.Date, r.Commit, r.Kernel, r.Cores, r.Disk, r.Rounds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "line\tours\tyardstick\t\tratio\tlimit\t\tdaemon CPU s\tserver CPU s\trequests")
	for _, l := range r.Lines {
		if l.Error != "" {
			fmt.Fprintf(t, "%s\tERROR: %.200s\n", l.Name, strings.ReplaceAll(l.Error, "\n", " "))
			continue
		}
		yardstick, ratio, verdict := "", "", "ok"
		if l.Against != "" {
			yardstick, ratio = number(l.Yardstick), fmt.Sprintf("%.2f", l.Ratio)
		}
		if !l.OK {
			verdict = "MISSED"
		}
		fmt.Fprintf(t, "%s\t%s %s\t%s\t%s\t%s\t%s\t%s\t%.2f\t%.2f\t%.0f\n", l.Name, number(l.Ours), l.Unit, yardstick, l.Against, ratio, l.Limit, verdict, l.Daemon, l.Server, l.Requests)
	}
	t.Flush()
}

// number writes a value with as many digits as mean something.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// write writes the results as JSON.
func (r report) write(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}
