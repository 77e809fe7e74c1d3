package writeback

import (
	"flag"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/object"
)

var outageTime = flag.Duration("outage.time", 10*time.Minute, "how long a fault lasts, on a virtual clock")

// Whatever OSS answers, and for how long, costs delay and nothing else: once what
// was tried has failed, there is a handful of requests a minute, whatever waits,
// and a few lines in the log; and when it is over all arrives, soon.
func TestHoursOfAnyFaultCostDelayOnly(t *testing.T) {
	answered := func(kind object.Kind, status int, code string) object.Error {
		return object.Error{Kind: kind, Fate: object.Answered, Status: status, Code: code}
	}
	for name, f := range map[string]fault{
		"nobody answers":                    {"", "", object.Error{Kind: object.Again, Fate: object.NotSent}},
		"no answer comes":                   {"", "", object.Error{Kind: object.Again, Fate: object.Unknown}},
		"every answer is 500":               {"", "", object.Error{Kind: object.Again, Status: 500, Code: "InternalError"}},
		"500 to what writes":                {allPuts, "", object.Error{Kind: object.Again, Status: 500, Code: "InternalError"}},
		"500 to Complete":                   {opComplete, "", object.Error{Kind: object.Again, Status: 500, Code: "InternalError"}},
		"500 to HeadObject":                 {opHead, "", object.Error{Kind: object.Again, Status: 500, Code: "InternalError"}},
		"400 to PutObject that may pass":    {opPut, "", answered(object.Again, 400, "RequestTimeout")},
		"throttled":                         {"", "", object.Error{Kind: object.Again, Fate: object.Answered, Status: 503, Code: "TotalQpsLimitExceeded", Throttled: true}},
		"throttled to PutObject":            {opPut, "", object.Error{Kind: object.Again, Fate: object.Answered, Status: 503, Code: "UploadTrafficRateLimitExceeded", Throttled: true}},
		"the key is not known":              pauses("InvalidAccessKeyId"),
		"the clock is wrong":                pauses("RequestTimeTooSkewed"),
		"the bucket is gone":                pauses("NoSuchBucket"),
		"nothing is permitted":              denied("", ""),
		"writing is not permitted":          denied(allPuts, ""),
		"deleting is not permitted":         denied("DeleteObject DeleteMultipleObjects", ""),
		"copying is not permitted":          denied("CopyObject UploadPartCopy", ""),
		"listing is not permitted":          denied("ListObjectsV2 ListParts ListMultipartUploads", ""),
		"uploads are forgotten at once":     {"UploadPart CompleteMultipartUpload", "", answered(object.Restart, 404, "NoSuchUpload")},
		"a condition that nobody has set":   {"PutObject CopyObject", "", answered(object.Conflict, 412, "PreconditionFailed")},
		"an upload ID that is not accepted": {opInitiate, "", answered(object.Restart, 400, "InvalidPart")},
	} {
		t.Run(name, func(t *testing.T) {
			inOutage(t, func(o *outage) {
				o.work()
				o.store.set(f.fails)
				o.burden(200)
				time.Sleep(time.Minute)
				first := o.store.count()
				o.store.set(f.fails)
				long := *outageTime
				if name == "nobody answers" && long < 2*time.Hour {
					long = 2 * time.Hour
				}
				time.Sleep(long)
				minute := float64(o.store.count()) / long.Minutes()
				t.Logf("%d requests in the first minute, then %.1f a minute; %d lines", first, minute, len(o.log.with("level=")))
				if first > 1500 {
					t.Errorf("%d requests in the first minute", first)
				}
				if minute > 60 {
					t.Errorf("%.1f requests a minute", minute)
				}
				if n := len(o.log.with("level=")); n > 30 {
					t.Errorf("%d lines in the log:\n%s", n, strings.Join(o.log.with("level=")[:30], ""))
				}
				o.store.set(nil)
				o.drains(2 * time.Minute)
				if n := runtime.NumGoroutine(); n > 1000 {
					t.Errorf("%d goroutines", n)
				}
			})
		})
	}
}
