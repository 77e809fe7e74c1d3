package remote

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"net/http"
	"testing"

	"github.com/ossmount/ossmount/internal/object"
)

func TestGetTrustsNoAnswer(t *testing.T) {
	data := []byte("0123456789")
	crc := fmt.Sprint(crc64.Checksum(data, crcTable))
	ref := object.Ref{Key: "k", ETag: "E", Size: 10, CRC64: crc64.Checksum(data, crcTable), HasCRC: true}
	for name, tc := range map[string]struct {
		off, n int64
		status int
		header map[string]string
		body   string
		kind   object.Kind // 0: it is right
		cut    bool        // the answer ends before its announced length
	}{
		"a piece":                      {2, 3, 206, map[string]string{"Content-Range": "bytes 2-4/10"}, "234", 0, false},
		"a piece of unknown whole":     {2, 3, 206, map[string]string{"Content-Range": "bytes 2-4/*"}, "234", 0, false},
		"the whole object for a piece": {2, 3, 200, nil, "0123456789", object.Again, false},
		"another piece":                {2, 3, 206, map[string]string{"Content-Range": "bytes 3-5/10"}, "345", object.Again, false},
		"a shorter piece":              {2, 3, 206, map[string]string{"Content-Range": "bytes 2-3/10"}, "23", object.Again, false},
		"a piece of a longer object":   {2, 3, 206, map[string]string{"Content-Range": "bytes 2-4/11"}, "234", object.Conflict, false},
		"no range":                     {2, 3, 206, nil, "234", object.Again, false},
		"another version":              {2, 3, 206, map[string]string{"Content-Range": "bytes 2-4/10", "ETag": `"F"`}, "234", object.Conflict, false},
		"no version":                   {2, 3, 206, map[string]string{"Content-Range": "bytes 2-4/10", "ETag": ""}, "234", object.Again, false},
		"a cut piece":                  {2, 3, 206, map[string]string{"Content-Range": "bytes 2-4/10", "Content-Length": "3"}, "23", object.Again, true},
		"whole":                        {0, 10, 200, map[string]string{"X-Oss-Hash-Crc64ecma": crc}, "0123456789", 0, false},
		"whole, no sum":                {0, 10, 200, nil, "0123456789", 0, false},
		"whole, wrong sum":             {0, 10, 200, map[string]string{"X-Oss-Hash-Crc64ecma": "1"}, "0123456789", object.Again, false},
		"whole, wrong bytes":           {0, 10, 200, map[string]string{"X-Oss-Hash-Crc64ecma": crc}, "012345678X", object.Again, false},
		"whole, wrong bytes, no sum":   {0, 10, 200, nil, "012345678X", object.Again, false},
		"whole, too short":             {0, 10, 200, nil, "012345678", object.Again, false},
		"whole, too long":              {0, 10, 200, nil, "0123456789X", object.Again, false},
		"whole, chunked":               {0, 10, 200, map[string]string{"flush": "1"}, "0123456789", 0, false},
		"whole, chunked, too short":    {0, 10, 200, map[string]string{"flush": "1"}, "012345678", object.Again, false},
		"whole, chunked, too long":     {0, 10, 200, map[string]string{"flush": "1"}, "0123456789X", object.Again, false},
		"whole, cut":                   {0, 10, 200, map[string]string{"Content-Length": "10"}, "01234", object.Again, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("If-Match"); got != `"E"` {
					t.Errorf("If-Match %q", got)
				}
				if ranged := r.Header.Get("Range") != ""; ranged == (tc.n == 10) || ranged != (r.Header.Get("X-Oss-Range-Behavior") == "standard") {
					t.Errorf("headers %v", r.Header)
				}
				w.Header().Set("ETag", `"E"`)
				for k, v := range tc.header {
					w.Header().Set(k, v)
				}
				w.WriteHeader(tc.status)
				if tc.header["flush"] != "" {
					w.(http.Flusher).Flush()
				}
				io.WriteString(w, tc.body)
				if tc.cut {
					w.(http.Flusher).Flush()
					panic(http.ErrAbortHandler)
				}
			})), nil)
			rc, err := c.Get(t.Context(), ref, tc.off, tc.n)
			var got []byte
			if err == nil {
				got, err = io.ReadAll(rc)
				if err2 := rc.Close(); err2 != nil {
					t.Error(err2)
				}
			}
			if tc.kind == 0 {
				if err != nil || string(got) != tc.body {
					t.Fatalf("%q %v", got, err)
				}
				return
			}
			wantKind(t, err, tc.kind)
			var e *object.Error
			if !errors.As(err, &e) || e.Op != opGet {
				t.Fatalf("%#v", err)
			}
			if tc.cut && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatal(err)
			}
		})
	}
}

// An object stored with Content-Encoding gzip is read as it is stored.
func TestGzipIsBytes(t *testing.T) {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(bytes.Repeat([]byte("text "), 1000))
	w.Close()
	withOSS(t, func(t *testing.T, c *Client) {
		ref, err := c.Put(t.Context(), "t.txt", bytes.NewReader(z.Bytes()), int64(z.Len()),
			object.PutOptions{Headers: object.Headers{"Content-Encoding": "gzip", "Content-Type": "text/plain"}})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(mustGet(t, c, ref, 0, ref.Size), z.Bytes()) {
			t.Fatal("other bytes")
		}
	})
}

func TestGetIsGovernedByItsContextToTheEnd(t *testing.T) {
	c := open(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"E"`)
		w.Header().Set("Content-Length", "10")
		io.WriteString(w, "01234")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})), nil)
	ctx, cancel := context.WithCancel(t.Context())
	rc, err := c.Get(ctx, object.Ref{Key: "k", ETag: "E", Size: 10}, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if _, err := io.ReadFull(rc, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err = io.ReadAll(rc); !errors.Is(err, context.Canceled) || object.KindOf(err) != object.Again {
		t.Fatal(err)
	}
}
