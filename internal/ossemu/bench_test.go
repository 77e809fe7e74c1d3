package ossemu

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

func benchBucket(b *testing.B) *oss.Bucket {
	s, err := Open(context.Background(), b.TempDir(), testOptions())
	if err != nil {
		b.Fatal(err)
	}
	web := httptest.NewServer(s)
	b.Cleanup(func() { web.Close(); s.Close() })
	if err := s.CreateBucket(testBucket); err != nil {
		b.Fatal(err)
	}
	c, _ := oss.New(web.URL, testKey, testSecret, oss.AuthVersion(oss.AuthV4), oss.Region(testRegion))
	bucket, _ := c.Bucket(testBucket)
	return bucket
}

func BenchmarkUploadPart(b *testing.B) {
	bucket := benchBucket(b)
	body := pattern(0, 8<<20)
	up, err := bucket.InitiateMultipartUpload("k")
	if err != nil {
		b.Fatal(err)
	}
	var n atomic.Int64
	b.SetBytes(int64(len(body)))
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := bucket.UploadPart(up, bytes.NewReader(body), int64(len(body)), int(n.Add(1)%64)+1); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkSums is the floor: MD5 and CRC64 of the same bytes.
func BenchmarkSums(b *testing.B) {
	body := pattern(0, 8<<20)
	b.SetBytes(int64(len(body)))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			newDigest().Write(body)
		}
	})
}

func BenchmarkGet(b *testing.B) {
	bucket := benchBucket(b)
	body := pattern(0, 8<<20)
	if err := bucket.PutObject("k", bytes.NewReader(body)); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		r, err := bucket.GetObject("k")
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, r)
		r.Close()
	}
}

// BenchmarkOpen loads a log of 100,000 objects.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s, err := Open(context.Background(), dir, testOptions())
	if err != nil {
		b.Fatal(err)
	}
	s.CreateBucket(testBucket)
	for i := range 100000 {
		o := &object{key: fmt.Sprintf("dir%d/key%d", i%100, i), kind: kindNormal, etag: strings.Repeat("A", 32), attrs: attrs{class: classStandard, meta: []pair{{"a", "b"}}}}
		s.store.change(func() (record, error) { return record{kind: recPut, bucket: testBucket, object: o}, nil })
	}
	s.Close()
	for b.Loop() {
		s, err := Open(context.Background(), dir, testOptions())
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}
