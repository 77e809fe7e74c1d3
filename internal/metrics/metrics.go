// Package metrics shows a mount to Prometheus. It is the only user of that library:
// the rooms count by themselves, and a Sample is asked for when somebody reads.
//
// # Promise
//
// What docs/metrics.md lists is exported under that name, and nothing else is. A
// registry of its own: no state is shared with others in this process. Nothing here
// names a file.
//
// # Goroutines
//
// None; a crash leaves nothing.
package metrics

import (
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ossmount/ossmount/internal/meter"
)

// Sample is how a mount stands. Sizes are bytes; counts are since the daemon started.
type Sample struct {
	Ready bool

	Pending, Uploading, Parked, Interrupted int // changes; Pending includes Uploading
	PendingBytes                            int64
	OldestPending                           time.Time // zero: nothing is pending

	Objects, Parts              int64 // uploaded
	Uploaded, Resumed, Received int64 // bytes
	Retries                     map[string]int64
	Conflicts                   int64
	Reachable                   bool
	Requests                    []Requests
	RequestLimit, InFlight      int
	Commits                     meter.Reading

	CacheUsed, CacheSize, DiskFree int64
	WritersWaiting                 int
	LostFiles                      int
	LostBytes                      int64
	OpenForWriting                 int
	InternalErrors                 int64
	Operations                     []Operation
}

// Requests is how many requests to OSS had one result.
type Requests struct {
	Operation, Result string
	Count             int64
}

// Operation is one kind of request of the kernel.
type Operation struct {
	Name   string
	Times  meter.Reading
	Errors map[string]int64 // by the name of the errno
}

// family is one metric by name; emit gives its values.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	emit func(s *Sample, out func(v float64, labels ...string))
}

func gauge(name, help string, value func(s *Sample) float64) family {
	return family{desc(name, help), prometheus.GaugeValue, one(value)}
}

func counter(name, help string, value func(s *Sample) int64) family {
	return family{desc(name, help), prometheus.CounterValue, one(func(s *Sample) float64 { return float64(value(s)) })}
}

func one(value func(s *Sample) float64) func(s *Sample, out func(v float64, labels ...string)) {
	return func(s *Sample, out func(v float64, labels ...string)) { out(value(s)) }
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("ossmount_"+name, help, labels, nil)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

var (
	commitSeconds = desc("journal_commit_seconds", "How long commits of the journal take.")
	fuseSeconds   = desc("fuse_request_seconds", "How long requests of the kernel take, by operation.", "operation")
)

var families = []family{
	gauge("ready", "1 while the mount serves and is not ending.", func(s *Sample) float64 { return truth(s.Ready) }),
	gauge("pending_changes", "Changes that are not on OSS yet and will be carried.", func(s *Sample) float64 { return float64(s.Pending) }),
	gauge("pending_bytes", "Bytes of the files that are not on OSS yet and will be carried.", func(s *Sample) float64 { return float64(s.PendingBytes) }),
	gauge("oldest_pending_age_seconds", "Time since the oldest change was made that is not on OSS yet; 0 if there is none.", func(s *Sample) float64 {
		if s.OldestPending.IsZero() {
			return 0
		}
		return max(0, time.Since(s.OldestPending).Seconds())
	}),
	{desc("changes", "Changes that are not on OSS yet, by state.", "state"), prometheus.GaugeValue, func(s *Sample, out func(float64, ...string)) {
		out(float64(max(0, s.Pending-s.Uploading)), "pending")
		out(float64(s.Uploading), "uploading")
		out(float64(s.Parked), "parked")
		out(float64(s.Interrupted), "interrupted")
	}},
	counter("uploaded_objects_total", "Changes that OSS has confirmed.", func(s *Sample) int64 { return s.Objects }),
	counter("uploaded_parts_total", "Parts of multipart uploads that OSS has confirmed.", func(s *Sample) int64 { return s.Parts }),
	counter("uploaded_bytes_total", "Bytes of bodies that OSS has confirmed.", func(s *Sample) int64 { return s.Uploaded }),
	counter("resumed_bytes_total", "Bytes of parts that an earlier process had sent and that were not sent again.", func(s *Sample) int64 { return s.Resumed }),
	counter("downloaded_bytes_total", "Bytes of objects read from OSS.", func(s *Sample) int64 { return s.Received }),
	{desc("retries_total", "Changes that failed and are tried again, by what the failure was.", "class"), prometheus.CounterValue, func(s *Sample, out func(float64, ...string)) {
		for class, n := range s.Retries {
			out(float64(n), class)
		}
	}},
	counter("conflicts_total", "Objects that somebody else had changed when ours was to be published.", func(s *Sample) int64 { return s.Conflicts }),
	gauge("oss_reachable", "1 unless the last answers say that OSS cannot be used.", func(s *Sample) float64 { return truth(s.Reachable) }),
	{desc("oss_requests_total", "Requests to OSS, by operation and result.", "operation", "result"), prometheus.CounterValue, func(s *Sample, out func(float64, ...string)) {
		for _, r := range s.Requests {
			out(float64(r.Count), r.Operation, r.Result)
		}
	}},
	gauge("request_limit", "How many requests of uploads may be under way at once; below --upload-concurrency while OSS asks for fewer.", func(s *Sample) float64 { return float64(s.RequestLimit) }),
	gauge("requests_in_flight", "Requests of uploads that are under way.", func(s *Sample) float64 { return float64(s.InFlight) }),
	gauge("cache_used_bytes", "Bytes of the cache disk that staged and cached files take.", func(s *Sample) float64 { return float64(s.CacheUsed) }),
	gauge("cache_size_bytes", "Bytes that staged and cached files may take.", func(s *Sample) float64 { return float64(s.CacheSize) }),
	gauge("cache_disk_free_bytes", "Bytes that the cache disk has left.", func(s *Sample) float64 { return float64(s.DiskFree) }),
	gauge("writers_waiting_for_room", "Calls that wait for room in the cache, up to 100.", func(s *Sample) float64 { return float64(s.WritersWaiting) }),
	gauge("lost_and_found_files", "Files in lost+found.", func(s *Sample) float64 { return float64(s.LostFiles) }),
	gauge("lost_and_found_bytes", "Bytes of the cache disk that the files in lost+found take.", func(s *Sample) float64 { return float64(s.LostBytes) }),
	gauge("open_for_writing_files", "Files that are open for writing.", func(s *Sample) float64 { return float64(s.OpenForWriting) }),
	counter("internal_errors_total", "Mistakes of this program that were caught.", func(s *Sample) int64 { return s.InternalErrors }),
	{desc("fuse_errors_total", "Requests of the kernel that were answered with an error, by operation and errno.", "operation", "errno"), prometheus.CounterValue, func(s *Sample, out func(float64, ...string)) {
		for _, o := range s.Operations {
			for errno, n := range o.Errors {
				out(float64(n), o.Name, errno)
			}
		}
	}},
}

// collector asks for a sample when it is read.
type collector struct{ sample func() (Sample, error) }

func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, f := range families {
		to <- f.desc
	}
	to <- commitSeconds
	to <- fuseSeconds
}

func (c collector) Collect(to chan<- prometheus.Metric) {
	s, err := c.sample()
	if err != nil {
		to <- prometheus.NewInvalidMetric(families[0].desc, err)
		return
	}
	for _, f := range families {
		f.emit(&s, func(v float64, labels ...string) { to <- prometheus.MustNewConstMetric(f.desc, f.kind, v, labels...) })
	}
	to <- histogram(commitSeconds, s.Commits)
	for _, o := range s.Operations {
		to <- histogram(fuseSeconds, o.Times, o.Name)
	}
}

func histogram(d *prometheus.Desc, r meter.Reading, labels ...string) prometheus.Metric {
	buckets, sum := make(map[float64]uint64, len(meter.Bounds)), uint64(0)
	for i, bound := range meter.Bounds {
		sum += uint64(r.In[i])
		buckets[bound.Seconds()] = sum
	}
	return prometheus.MustNewConstHistogram(d, uint64(r.Count()), r.Sum.Seconds(), buckets, labels...)
}

// registry returns a new registry with all that is exported.
func registry(version string, sample func() (Sample, error)) *prometheus.Registry {
	r := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "ossmount_build_info", Help: "1, with the version that runs.",
		ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version()}})
	info.Set(1)
	r.MustRegister(info, collector{sample},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Handler answers with the metrics of the mount that sample looks at, in the text
// formats of Prometheus. A sample that fails is an answer of 500.
func Handler(version string, sample func() (Sample, error)) http.Handler {
	return promhttp.HandlerFor(registry(version, sample), promhttp.HandlerOpts{MaxRequestsInFlight: 4, EnableOpenMetrics: true})
}
