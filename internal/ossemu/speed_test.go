package ossemu

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"fmt"
	"hash/crc64"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	ours "github.com/ossmount/ossmount/internal/crc64"
)

// command is `ossmount server` as a user has it: the built binary, a process
// of its own.
type command struct {
	cmd *exec.Cmd
	url string
}

func startCommand(b *testing.B, dir string) *command {
	b.Helper()
	bin := filepath.Join(b.TempDir(), "ossmount")
	build := exec.Command("go", "build", "-trimpath", "-o", bin, "github.com/ossmount/ossmount/cmd/ossmount")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.Command(bin, "server", "--listen=127.0.0.1:0", "--data="+dir, "--create-bucket="+testBucket)
	cmd.Env = append(os.Environ(), "OSS_ACCESS_KEY_ID="+testKey, "OSS_ACCESS_KEY_SECRET="+testSecret)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "serving ")
	if err != nil || !ok {
		b.Fatal(line, err)
	}
	return &command{cmd, url}
}

func (c *command) bucket(b *testing.B) *oss.Bucket {
	b.Helper()
	client, err := oss.New(c.url, testKey, testSecret, oss.AuthVersion(oss.AuthV4), oss.Region(testRegion))
	if err != nil {
		b.Fatal(err)
	}
	bucket, err := client.Bucket(testBucket)
	if err != nil {
		b.Fatal(err)
	}
	return bucket
}

// memory is what the process holds (VmRSS) or ever held (VmHWM), in MiB.
func (c *command) memory(b *testing.B, field string) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), field+":")
	kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}

// processors is the time in seconds that the processors spent on this process
// and the server: unlike a clock, it says the same on a busy machine.
func (c *command) processors(b *testing.B) float64 {
	b.Helper()
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		b.Fatal(err)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest) // from the third on
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return time.Duration(own.Utime.Nano()+own.Stime.Nano()).Seconds() + (user+system)/100
}

// sumsOf is how long MD5 and a CRC64 of body take on all cores.
func sumsOf(body []byte, update func(uint64, []byte) uint64) float64 {
	const piece = 8 << 20
	start := time.Now()
	var next atomic.Int64
	var done sync.WaitGroup
	for range runtime.NumCPU() {
		done.Go(func() {
			for {
				at := int(next.Add(piece)) - piece
				if at >= len(body) {
					return
				}
				// As a server does it that reads a buffer at a time.
				sum, crc := md5.New(), uint64(0)
				for p := range slices.Chunk(body[at:min(at+piece, len(body))], 64<<10) {
					sum.Write(p)
					crc = update(crc, p)
				}
			}
		})
	}
	done.Wait()
	return time.Since(start).Seconds()
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// BenchmarkUploadGiB is the speed that the server promises: the SDK uploads
// 1 GiB with 8 routines, beside the time that MD5 and CRC64 (hash/crc64) of
// the same bytes take on all cores: "ratio" is to be 2 at most. "work-ratio" is
// the same in time of the processors, client and server together. The rounds
// alternate, and each figure is the median of them. The first is not counted:
// it is the one that finds the memory of the page cache for the first time.
func BenchmarkUploadGiB(b *testing.B) {
	const size, rounds = 1 << 30, 3
	body := bytes.Repeat(pattern(1, 1<<20), size>>20)
	file := filepath.Join(b.TempDir(), "file")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		b.Fatal(err)
	}
	server := startCommand(b, filepath.Join(b.TempDir(), "data"))
	bucket := server.bucket(b)
	table := crc64.MakeTable(crc64.ECMA)
	var sums, fast, uploads, ratios, works []float64
	for b.Loop() {
		for round := range 1 + rounds {
			work := server.processors(b)
			sum := sumsOf(body, func(crc uint64, p []byte) uint64 { return crc64.Update(crc, table, p) })
			sumWork := server.processors(b) - work
			quick := sumsOf(body, ours.Update)
			// What is measured is an upload, not the removal of what it replaces.
			if err := bucket.DeleteObject("k"); err != nil {
				b.Fatal(err)
			}
			work = server.processors(b)
			start := time.Now()
			if err := bucket.UploadFile("k", file, 8<<20, oss.Routines(8)); err != nil {
				b.Fatal(err)
			}
			upload := time.Since(start).Seconds()
			if round == 0 {
				continue
			}
			sums, fast = append(sums, sum), append(fast, quick)
			uploads, ratios = append(uploads, upload), append(ratios, upload/sum)
			works = append(works, (server.processors(b)-work)/sumWork)
		}
	}
	b.ReportMetric(median(sums), "sums-s")
	b.ReportMetric(median(fast), "fast-sums-s")
	b.ReportMetric(median(uploads), "upload-s")
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(median(works), "work-ratio")
	b.ReportMetric(server.memory(b, "VmHWM"), "peak-MiB")
}

// BenchmarkPuts is small objects, as many a second as go: put by the SDK, which
// takes more time for one than the server, and by net/http with a signature and
// nothing else. Both keep their connections.
func BenchmarkPuts(b *testing.B) {
	for name, client := range map[string]func(b *testing.B, server *command) func(key string, body []byte) error{"SDK": sdkPuts, "HTTP": plainPuts} {
		b.Run(name, func(b *testing.B) {
			server := startCommand(b, filepath.Join(b.TempDir(), "data"))
			put, body := client(b, server), pattern(0, 4<<10)
			var n atomic.Int64
			b.SetParallelism(8)
			work := server.processors(b)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := put(fmt.Sprint("k", n.Add(1)), body); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
			b.ReportMetric((server.processors(b)-work)*1e6/float64(b.N), "work-µs/put")
			b.ReportMetric(server.memory(b, "VmHWM"), "peak-MiB")
		})
	}
}

func sdkPuts(b *testing.B, server *command) func(string, []byte) error {
	bucket := server.bucket(b)
	return func(key string, body []byte) error { return bucket.PutObject(key, bytes.NewReader(body)) }
}

func plainPuts(b *testing.B, server *command) func(string, []byte) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	b.Cleanup(client.CloseIdleConnections)
	return func(key string, body []byte) error {
		r, err := http.NewRequest("PUT", server.url+"/"+testBucket+"/"+key, bytes.NewReader(body))
		if err != nil {
			return err
		}
		date := time.Now().UTC().Format(http.TimeFormat)
		r.Header.Set("Date", date)
		r.Header.Set("Authorization", "OSS "+testKey+":"+signV1(testSecret, "PUT\n\n\n"+date+"\n/"+testBucket+"/"+key))
		answer, err := client.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %v", answer.Status, err)
		}
		return nil
	}
}
