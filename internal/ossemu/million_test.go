package ossemu

import (
	"context"
	"fmt"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// million puts n objects in directories of 1000 into the store, by its own
// face: a PUT for each would take minutes and show nothing.
func million(tb testing.TB, s *Server, n int) {
	tb.Helper()
	etag := etagOf(nil)
	for i := range n {
		o := &object{key: millionth(i), kind: kindNormal, etag: etag, modified: 1700000000, attrs: attrs{class: classStandard}}
		err := s.store.change(func() (record, error) { return record{kind: recPut, bucket: testBucket, object: o}, nil })
		if err != nil {
			tb.Fatal(err)
		}
	}
}

func millionth(i int) string { return fmt.Sprintf("dir%04d/file-%03d.txt", i/1000, i%1000) }

// everyPage lists all keys in pages of 1000, and checks their order.
func everyPage(tb testing.TB, b *oss.Bucket, options ...oss.Option) (names, pages int) {
	tb.Helper()
	for token, last, more := "", "", true; more; pages++ {
		page, err := b.ListObjectsV2(append(options, oss.MaxKeys(1000), oss.ContinuationToken(token))...)
		if err != nil {
			tb.Fatal(err)
		}
		for _, o := range page.Objects {
			if o.Key <= last {
				tb.Fatalf("%q after %q", o.Key, last)
			}
			last = o.Key
		}
		names += len(page.Objects) + len(page.CommonPrefixes)
		token, more = page.NextContinuationToken, page.IsTruncated
	}
	return names, pages
}

// TestAPageCostsTheSameHoweverManyKeysThereAre counts the memory that is
// allocated for a page, folded and not, in a small bucket and a large one.
func TestAPageCostsTheSameHoweverManyKeysThereAre(t *testing.T) {
	r := newRig(t)
	cost := func(query string) (pages [2]float64) {
		for i, marker := range []string{"", "dir0002/file-400.txt"} { // where a large bucket goes on
			query := "max-keys=500&marker=" + escape(marker) + query
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range 10 {
				w := httptest.NewRecorder()
				r.s.ServeHTTP(w, r.signedWith("GET", "/"+testBucket+"/", query, nil))
				if w.Code != 200 {
					t.Fatal(w.Code, w.Body)
				}
			}
			runtime.ReadMemStats(&after)
			pages[i] = float64(after.TotalAlloc - before.TotalAlloc)
		}
		return pages
	}
	million(t, r.s, 3000)
	small, smallFolded := cost(""), cost("&prefix=dir000&delimiter=%2F")
	million(t, r.s, 60_000)
	large, largeFolded := cost(""), cost("&prefix=dir000&delimiter=%2F")
	for i := range large {
		if large[i] > 2*small[i] {
			t.Errorf("ten pages allocate %.0f bytes among 60,000 keys, and %.0f among 3,000", large[i], small[i])
		}
		// Ten directories rather than three.
		if largeFolded[i] > 4*smallFolded[i] {
			t.Errorf("ten folded pages allocate %.0f bytes among 60,000 keys, and %.0f among 3,000", largeFolded[i], smallFolded[i])
		}
	}
}

// BenchmarkMillionKeys opens a directory of a million objects and lists all of
// it over HTTP, from a server of its own process. "listed" is more than "loaded"
// by what the collector lets lie, which is as much again as lives.
func BenchmarkMillionKeys(b *testing.B) {
	const n = 1_000_000
	dir := b.TempDir()
	s, err := Open(context.Background(), dir, testOptions())
	if err != nil {
		b.Fatal(err)
	}
	if err := s.CreateBucket(testBucket); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	million(b, s, n)
	load := time.Since(start).Seconds()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	server := startCommand(b, dir)
	bucket := server.bucket(b)
	before := server.memory(b, "VmRSS")
	var list, folded time.Duration
	for b.Loop() {
		start = time.Now()
		if names, pages := everyPage(b, bucket); names != n || pages != n/1000 {
			b.Fatalf("%d names on %d pages", names, pages)
		}
		list = time.Since(start)
		start = time.Now()
		if names, _ := everyPage(b, bucket, oss.Delimiter("/")); names != n/1000 {
			b.Fatalf("%d directories", names)
		}
		folded = time.Since(start)
	}
	b.ReportMetric(load, "load-s")
	b.ReportMetric(list.Seconds(), "list-s")
	b.ReportMetric(float64(folded.Milliseconds()), "folded-list-ms")
	b.ReportMetric(before, "loaded-MiB")
	b.ReportMetric(server.memory(b, "VmRSS"), "listed-MiB")
	b.ReportMetric(server.memory(b, "VmHWM"), "peak-MiB")
}
