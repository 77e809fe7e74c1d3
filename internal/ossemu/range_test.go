package ossemu

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

func TestRangesAsOSSDoesThem(t *testing.T) {
	const size = 1000
	cases := []struct {
		header          string
		normal          string // Content-Range, or "whole"
		standard        string // or "416"
		first, length   int
		first2, length2 int
	}{
		{"bytes=0-499", "0-499", "0-499", 0, 500, 0, 500},
		{"bytes=500-", "500-999", "500-999", 500, 500, 500, 500},
		{"bytes=-500", "500-999", "500-999", 500, 500, 500, 500},
		{"bytes=999-999", "999-999", "999-999", 999, 1, 999, 1},
		{"bytes=0-1000", "whole", "0-999", 0, 1000, 0, 1000},
		{"bytes=500-2000", "whole", "500-999", 0, 1000, 500, 500},
		{"bytes=1000-2000", "whole", "416", 0, 1000, 0, 0},
		{"bytes=1000-", "whole", "416", 0, 1000, 0, 0},
		{"bytes=-2000", "whole", "0-999", 0, 1000, 0, 1000},
		{"bytes=-1000", "0-999", "0-999", 0, 1000, 0, 1000},
		{"bytes=-0", "whole", "416", 0, 1000, 0, 0},
		{"byte=0-499", "whole", "whole", 0, 1000, 0, 1000},
		{"bytes=", "whole", "whole", 0, 1000, 0, 1000},
		{"bytes=-", "whole", "whole", 0, 1000, 0, 1000},
		{"bytes=a-b", "whole", "whole", 0, 1000, 0, 1000},
		{"bytes=+1-5", "whole", "whole", 0, 1000, 0, 1000},
		{"bytes=7-3", "whole", "whole", 0, 1000, 0, 1000},
		{"bytes=99999999999999999999-", "whole", "whole", 0, 1000, 0, 1000},
		{"bytes=0-99,200-299", "0-99", "0-99", 0, 100, 0, 100},
	}
	r := newRig(t)
	b := r.bucket(oss.AuthV1)
	body := pattern(5, size)
	r.put("k", body)
	check := func(header, want string, first, length int, options ...oss.Option) {
		t.Helper()
		var h http.Header
		options = append(options, oss.NormalizedRange(header[len("bytes="):]), oss.GetResponseHeader(&h), oss.SetHeader("Range", header))
		if want == "416" {
			_, err := b.GetObject("k", options...)
			wantCode(t, err, 416, "InvalidRange")
			return
		}
		contentRange := ""
		if want != "whole" {
			contentRange = fmt.Sprintf("bytes %s/%d", want, size)
		}
		if got := r.get("k", options...); !bytes.Equal(got, body[first:first+length]) || h.Get("Content-Range") != contentRange {
			t.Errorf("%s: %d bytes, Content-Range %q, want %q", header, len(got), h.Get("Content-Range"), contentRange)
		}
	}
	for _, c := range cases {
		check(c.header, c.normal, c.first, c.length)
		check(c.header, c.standard, c.first2, c.length2, oss.RangeBehavior("standard"))
	}
}

func FuzzRange(f *testing.F) {
	f.Add("bytes=0-1", int64(10), true)
	f.Add("bytes=-5", int64(0), false)
	f.Fuzz(func(t *testing.T, header string, size int64, standard bool) {
		if size < 0 || size > 1<<50 {
			return
		}
		h := http.Header{"Range": {header}}
		if standard {
			h.Set("x-oss-range-behavior", "standard")
		}
		r, err := chooseRange(h, size)
		if err == nil && (r.off < 0 || r.length < 0 || r.off+r.length > size || r.partial && r.length == 0 || !r.partial && r.length != size) {
			t.Errorf("%q of %d: %+v", header, size, r)
		}
	})
}
