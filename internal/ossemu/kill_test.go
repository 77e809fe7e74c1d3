package ossemu

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("OSSEMU_TEST_SERVE"); dir != "" {
		serveUntilKilled(dir)
	}
	os.Exit(m.Run())
}

// serveUntilKilled is the child process of the kill tests.
func serveUntilKilled(dir string) {
	s, err := Open(context.Background(), dir, testOptions())
	if err == nil {
		err = s.CreateBucket(testBucket)
	}
	l, listenErr := net.Listen("tcp", "127.0.0.1:0")
	if err != nil || listenErr != nil {
		fmt.Println("error", err, listenErr)
		os.Exit(1)
	}
	fmt.Println("http://" + l.Addr().String())
	http.Serve(l, s)
}

// TestKillNine kills a serving process at random moments under load. After
// each life everything that was acknowledged must be there and equal, and
// nothing that is there may be half.
func TestKillNine(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 3
	}
	r := &rig{t: t, dir: t.TempDir()}
	sent := &acknowledged{puts: map[string]string{}, parts: map[string]oss.UploadPart{}}
	for round := range rounds {
		r.liveAndDie(round, sent)
		r.open(testOptions())
		r.check()
		sent.verify(r)
		r.web.Close()
		r.s.Close()
	}
	if len(sent.puts) == 0 || len(sent.parts) == 0 {
		t.Error("nothing was acknowledged")
	}
	t.Logf("%d objects and %d parts were acknowledged in %d lives", len(sent.puts), len(sent.parts), rounds)
}

// acknowledged is what a server said it has.
type acknowledged struct {
	mu    sync.Mutex
	puts  map[string]string // key: its body
	parts map[string]oss.UploadPart
}

func (r *rig) liveAndDie(round int, sent *acknowledged) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "OSSEMU_TEST_SERVE="+r.dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(url, "http") {
		r.t.Fatal(url, err)
	}
	r.web = &httptest.Server{URL: strings.TrimSpace(url)}
	killAt := int64(20 + rand.IntN(200))
	var done sync.WaitGroup
	var acked sync.Mutex
	count := int64(0)
	for worker := range 4 {
		done.Go(func() {
			b := r.bucket(oss.AuthV4)
			for i := 0; sent.one(b, round, worker, i); i++ {
				acked.Lock()
				if count++; count == killAt {
					cmd.Process.Kill()
				}
				acked.Unlock()
			}
		})
	}
	done.Wait()
	cmd.Wait()
}

// one sends an object or a part, until the server does not answer.
func (a *acknowledged) one(b *oss.Bucket, round, worker, i int) bool {
	key := fmt.Sprintf("w%d/k%d", worker, i%40)
	if i%5 == 4 {
		up, err := b.InitiateMultipartUpload("up-" + key)
		if err != nil {
			return false
		}
		body := pattern(i+round, 3000+i)
		p, err := b.UploadPart(up, bytes.NewReader(body), int64(len(body)), 1)
		if err != nil {
			return false
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.parts[up.Key+" "+up.UploadID] = p
		return true
	}
	body := fmt.Sprintf("%d %s ", round, strings.Repeat(key, i%3000))
	a.mu.Lock()
	old := a.puts[key]
	a.mu.Unlock()
	err := b.PutObject(key, strings.NewReader(body))
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		// It may have been stored or not; both bodies are whole.
		a.puts[key] = old + "\x00" + body
		return false
	}
	a.puts[key] = body
	return true
}

func (a *acknowledged) verify(r *rig) {
	r.t.Helper()
	b := r.bucket(oss.AuthV4)
	for key, body := range a.puts {
		choices := strings.Split(body, "\x00")
		if choices[0] == "" {
			if ok, _ := b.IsObjectExist(key); !ok {
				delete(a.puts, key)
				continue
			}
		}
		got := string(r.get(key))
		found := false
		for _, choice := range choices {
			found = found || got == choice
		}
		if !found {
			r.t.Fatalf("%s has %d bytes that were never acknowledged", key, len(got))
		}
		a.puts[key] = got
	}
	for name, want := range a.parts {
		key, id, _ := strings.Cut(name, " ")
		list, err := b.ListUploadedParts(oss.InitiateMultipartUploadResult{Bucket: testBucket, Key: key, UploadID: id})
		if err != nil || len(list.UploadedParts) != 1 || list.UploadedParts[0].ETag != want.ETag {
			r.t.Fatalf("%s: %+v %v, want %s", name, list.UploadedParts, err, want.ETag)
		}
	}
}
