package metrics

import (
	"errors"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ossmount/ossmount/internal/meter"
)

// full is a sample in which nothing is missing.
func full() (Sample, error) {
	var h meter.Histogram
	h.Observe(20 * time.Microsecond)
	h.Observe(2 * time.Second)
	h.Observe(time.Hour)
	return Sample{Ready: true, Pending: 7, Uploading: 2, Parked: 3, Interrupted: 1, PendingBytes: 1 << 20,
		OldestPending: time.Now().Add(-time.Minute), Objects: 11, Parts: 12, Uploaded: 13, Resumed: 14, Received: 15,
		Retries: map[string]int64{"network": 2, "throttled": 1}, Conflicts: 1, Reachable: true,
		Requests:     []Requests{{"PutObject", "success", 9}, {"PutObject", "again", 1}},
		RequestLimit: 32, InFlight: 4, Commits: h.Read(), CacheUsed: 1, CacheSize: 2, DiskFree: 3, WritersWaiting: 1,
		LostFiles: 1, LostBytes: 4096, OpenForWriting: 1, InternalErrors: 1,
		Operations: []Operation{{"Lookup", h.Read(), map[string]int64{"ENOENT": 5}}, {"Write", h.Read(), nil}}}, nil
}

// documented are the metrics of docs/metrics.md: name, type and labels.
func documented(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(ossmount_[a-z_]+)` \\| (\\w+) \\|([^|]*)\\|").FindAllStringSubmatch(string(b), -1) {
		if all[m[1]] != "" {
			t.Errorf("docs/metrics.md has two rows of %s", m[1])
		}
		labels := strings.FieldsFunc(m[3], func(r rune) bool { return strings.ContainsRune("`, ", r) })
		slices.Sort(labels)
		all[m[1]] = strings.ToLower(m[2]) + " " + strings.Join(labels, ",")
	}
	return all
}

func TestWhatIsDocumentedIsExported(t *testing.T) {
	got := map[string]string{}
	all, err := registry("v1", full).Gather()
	if err != nil {
		t.Fatal(err)
	}
	library := 0
	for _, f := range all {
		if !strings.HasPrefix(f.GetName(), "ossmount_") {
			if !strings.HasPrefix(f.GetName(), "go_") && !strings.HasPrefix(f.GetName(), "process_") {
				t.Errorf("%s is exported", f.GetName())
			}
			library++
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		slices.Sort(labels)
		got[f.GetName()] = strings.ToLower(f.GetType().String()) + " " + strings.Join(labels, ",")
	}
	if library < 20 {
		t.Errorf("%d metrics of Go and of the process", library)
	}
	want := documented(t)
	for name, is := range got {
		if want[name] != is {
			t.Errorf("%s is exported as %q; docs/metrics.md has %q", name, is, want[name])
		}
	}
	for name := range want {
		if got[name] == "" {
			t.Errorf("docs/metrics.md has %s, which is not exported", name)
		}
	}
}

func TestMetricsAreAsPrometheusWantsThem(t *testing.T) {
	problems, err := testutil.GatherAndLint(registry("v1", full))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestValuesAreThoseOfTheSample(t *testing.T) {
	w := httptest.NewRecorder()
	Handler("v1", full).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	got := w.Body.String()
	for _, line := range []string{
		`ossmount_build_info{go_version="go`,
		"\nossmount_pending_changes 7\n",
		"\nossmount_oldest_pending_age_seconds 6",
		`ossmount_changes{state="pending"} 5`,
		`ossmount_changes{state="uploading"} 2`,
		`ossmount_changes{state="interrupted"} 1`,
		`ossmount_retries_total{class="network"} 2`,
		`ossmount_oss_requests_total{operation="PutObject",result="again"} 1`,
		`ossmount_journal_commit_seconds_bucket{le="1e-05"} 0`,
		`ossmount_journal_commit_seconds_bucket{le="5e-05"} 1`,
		`ossmount_journal_commit_seconds_bucket{le="5"} 2`,
		`ossmount_journal_commit_seconds_bucket{le="+Inf"} 3`,
		`ossmount_fuse_request_seconds_count{operation="Lookup"} 3`,
		`ossmount_fuse_errors_total{errno="ENOENT",operation="Lookup"} 5`,
	} {
		if !strings.Contains(got, line) {
			t.Errorf("there is no %q", line)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

func TestSampleThatFailsIsNoEmptyAnswer(t *testing.T) {
	w := httptest.NewRecorder()
	Handler("v1", func() (Sample, error) { return Sample{}, errors.New("the journal is closed") }).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 500 || !strings.Contains(w.Body.String(), "the journal is closed") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
