package ossemu

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// shape changes the shape over the admin address.
func (r *rig) shape(fields string) {
	r.t.Helper()
	if code := r.admin("PUT", "/shape", fields, nil); code != 200 {
		r.t.Fatalf("shape %s: status %d", fields, code)
	}
}

// atLeast fails if do is done sooner than the shape allows. That it takes
// longer is no error: machines are slow for many reasons.
func atLeast(t *testing.T, d time.Duration, what string, do func()) {
	t.Helper()
	start := time.Now()
	do()
	if took := time.Since(start); took < d {
		t.Errorf("%s took %v, which is less than %v", what, took, d)
	}
}

// One byte per second in the other direction would not let the test end.
func TestDirectionsAreLimitedForThemselves(t *testing.T) {
	r := newRig(t)
	body := pattern(1, 70_000) // of which a lane that has rested lets 50,000 pass at once
	for _, all := range []string{"", "connection_"} {
		r.shape(`{"` + all + `in": 1000000, "` + all + `out": 1}`)
		atLeast(t, 20*time.Millisecond, "the upload", func() { r.put("k", body) })
		r.shape(`{"` + all + `in": 1, "` + all + `out": 1000000}`)
		atLeast(t, 20*time.Millisecond, "the download", func() { r.get("k") })
		r.shape(`{"` + all + `in": 0, "` + all + `out": 0}`)
	}
	for _, both := range []string{"bandwidth", "connection"} {
		r.shape(`{"` + both + `": 1000000}`)
		atLeast(t, 20*time.Millisecond, "the upload", func() { r.put("k", body) })
		atLeast(t, 20*time.Millisecond, "the download", func() { r.get("k") })
		r.shape(`{"` + both + `": 0}`)
	}
}

// What is limited in total is shared by the connections, and what is limited for
// each connection is not: four uploads of 25,000 bytes are 100,000.
func TestATotalIsSharedAndALimitOfAConnectionIsNot(t *testing.T) {
	r := newRig(t)
	four := func() {
		var done sync.WaitGroup
		for i := range 4 {
			done.Go(func() {
				if err := r.once().PutObject(fmt.Sprint(i), bytes.NewReader(pattern(i, 25_000))); err != nil {
					t.Error(err)
				}
			})
		}
		done.Wait()
	}
	for _, field := range []string{"bandwidth", "in"} {
		r.shape(`{"` + field + `": 200000}`)
		atLeast(t, 450*time.Millisecond, field+": 100,000 bytes at 200,000 per second", four) // 10,000 may pass at once
		r.shape(`{"` + field + `": 0}`)
	}
	for _, field := range []string{"connection", "connection_in"} {
		r.shape(`{"` + field + `": 100000}`)
		mark := r.mark()
		four()
		for i := range 4 {
			if e := r.logged(mark + int64(i)); e.DurationMS < 240 {
				t.Errorf("%s: 25,000 bytes at 100,000 per second took %v ms", field, e.DurationMS)
			}
		}
		if l := r.s.shape.load(); l.both != nil || l.in != nil || l.out != nil {
			t.Errorf("%s is limited in total", field)
		}
		r.shape(`{"` + field + `": 0}`)
	}
}

// A lane of a connection begins empty: else short bodies would all be free.
func TestShortBodiesGetNoMoreThanALongOne(t *testing.T) {
	r := newRig(t)
	r.shape(`{"connection_in": 100000}`)
	b := r.bucket(oss.AuthV4)
	atLeast(t, 50*time.Millisecond, "5,000 bytes at 100,000 per second", func() {
		for i := range 10 {
			if err := b.PutObject(fmt.Sprint(i), bytes.NewReader(pattern(i, 500))); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestAChangeOfTheShapeReachesRequestsUnderWay(t *testing.T) {
	for _, field := range []string{"in", "connection_in", "bandwidth"} {
		r := newRig(t)
		r.shape(`{"` + field + `": 1}`)
		end := make(chan error, 1)
		go func() { end <- r.once().PutObject("k", bytes.NewReader(pattern(1, 10_000))) }()
		r.until("the upload is under way", func() bool {
			r.s.running.mu.Lock()
			defer r.s.running.mu.Unlock()
			return len(r.s.running.calls) == 1
		})
		// Others are not in its way.
		var v Shape
		if r.admin("GET", "/shape", "", &v); v == (Shape{}) {
			t.Errorf("%+v", v)
		}
		r.shape(`{"` + field + `": 1000000}`)
		if err := <-end; err != nil {
			t.Error(err)
		}
	}
}

func TestLatencies(t *testing.T) {
	o := testOptions()
	o.Shape = Shape{Latency: Duration(10 * time.Millisecond), LatencyIn: Duration(10 * time.Millisecond), Connect: Duration(10 * time.Millisecond)}
	r := newRigWith(t, o)
	atLeast(t, 20*time.Millisecond, "a request", func() { r.put("k", nil) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: r.s}
	go web.Serve(r.s.Listener(l))
	defer web.Close()
	atLeast(t, 30*time.Millisecond, "the first request of a connection", func() {
		resp, err := http.Get("http://" + l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	})
	for _, bad := range []string{``, `{"in": -1}`, `{"latency": "-1s"}`, `{"latency": 5}`, `{"up": 1}`, `{} {}`} {
		if code := r.admin("PUT", "/shape", bad, nil); code != 400 {
			t.Errorf("%q: status %d", bad, code)
		}
	}
	o.Shape.In = -1
	if s, err := Open(context.Background(), t.TempDir(), o); err == nil {
		s.Close()
		t.Error("a negative bandwidth was taken")
	}
}

func TestTheLogCanBeWaitedFor(t *testing.T) {
	r := newRig(t)
	for i := range 5 {
		r.put(fmt.Sprint("k", i), nil)
	}
	var list []requestInfo
	if r.admin("GET", "/log?after=1&limit=2", "", &list); len(list) != 2 || list[0].Seq != 2 || list[0].Key != "k1" || list[1].Seq != 3 {
		t.Errorf("%+v", list)
	}
	next := make(chan requestInfo, 1)
	go func() { next <- r.logged(5) }()
	r.until("somebody waits for the log", func() bool {
		r.s.tally.mu.Lock()
		defer r.s.tally.mu.Unlock()
		return r.s.tally.bell.next != nil
	})
	wantCode(t, r.once().DeleteObject("x/"+strings.Repeat("y", 2000)), 400, "InvalidObjectName")
	if e := <-next; e.Seq != 6 || e.Op != "DeleteObject" || e.Status != 400 || e.Code != "InvalidObjectName" {
		t.Errorf("%+v", e)
	}
	if r.admin("GET", "/log?after=6&wait=1ms", "", &list); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	r.admin("POST", "/reset", "", nil)
	r.put("after", nil)
	if e := r.logged(6); e.Seq != 7 { // the numbers go on
		t.Errorf("%+v", e)
	}
	for _, bad := range []string{"after=x", "after=-1", "limit=x", "wait=soon"} {
		if code := r.admin("GET", "/log?"+bad, "", nil); code != 400 {
			t.Errorf("%s: status %d", bad, code)
		}
	}
}
