package ossemu

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
	if err == nil {
		s.store.compactAt = 16 << 10 // it rewrites its log all the time
		s.store.packs.repackAt = 128 << 10
	}
	l, listenErr := net.Listen("tcp", "127.0.0.1:0")
	if err != nil || listenErr != nil {
		fmt.Println("error", err, listenErr)
		os.Exit(1)
	}
	fmt.Println("http://" + l.Addr().String())
	http.Serve(l, s)
}

// TestKillNine kills a serving process at random moments under load, also
// while it rewrites its log. After each life everything that was acknowledged
// must be there and equal, what was not is there as a whole or not at all, and
// there is nothing else.
func TestKillNine(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 3
	}
	r := &rig{t: t, dir: t.TempDir()}
	l := &ledger{t: t, objects: map[string][]string{}, uploads: map[string]*sentUpload{}, acks: map[string]int{}}
	for round := range rounds {
		r.liveAndDie(round, l)
		r.open(testOptions())
		r.check()
		l.verify(r)
		if round == rounds-1 {
			l.finish(r)
		}
		r.web.Close()
		r.s.Close()
	}
	for _, what := range []string{"put", "delete", "deletes", "copy", "append", "part", "complete", "abort"} {
		if l.acks[what] == 0 {
			t.Errorf("no %s was acknowledged", what)
		}
	}
	t.Logf("acknowledged in %d lives: %v", rounds, l.acks)
}

// absent is the state of a key without an object.
const absent = "\x00absent"

// ledger is what the server may hold. Each key belongs to one worker.
type ledger struct {
	t       *testing.T
	mu      sync.Mutex             // owns all below
	objects map[string][]string    // key: its possible states, one if that was acknowledged
	uploads map[string]*sentUpload // by upload ID
	unnamed int                    // uploads that were asked for and not acknowledged
	acks    map[string]int         // by operation
}

// sentUpload is an upload whose ID was acknowledged.
type sentUpload struct {
	up    oss.InitiateMultipartUploadResult
	parts map[int][]string // possible bodies by number; absent if not acknowledged
	end   string           // "complete" or "abort" if that was asked and not acknowledged
	made  string           // what complete makes
	old   []string         // what the key may have held before
}

// try notes that keys may become states, does the change, and notes that they
// have. It reports whether the server answered.
func (l *ledger) try(what string, change map[string]string, do func() error) bool {
	l.maybe(change)
	if err := do(); err != nil {
		l.dead(what, err)
		return false
	}
	l.is(what, change)
	return true
}

func (l *ledger) maybe(change map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, state := range change {
		l.objects[key] = append(slices.Clone(l.heldLocked(key)), state)
	}
}

func (l *ledger) is(what string, change map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, state := range change {
		l.objects[key] = []string{state}
	}
	l.acks[what]++
}

func (l *ledger) heldLocked(key string) []string {
	if held := l.objects[key]; held != nil {
		return held
	}
	return []string{absent}
}

// held is the one state of a key, whose last change was acknowledged.
func (l *ledger) held(key string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heldLocked(key)[0]
}

// dead checks that an operation failed because nobody answered.
func (l *ledger) dead(what string, err error) {
	var refusal oss.ServiceError
	if errors.As(err, &refusal) {
		l.t.Errorf("%s: %v", what, err)
	}
}

// liveAndDie starts a server, works on it with four workers, and kills it
// within a few milliseconds of a random answer.
func (r *rig) liveAndDie(round int, l *ledger) {
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
	var answers atomic.Int64
	var done sync.WaitGroup
	for worker := range 4 {
		done.Go(func() {
			b := r.bucket(oss.AuthV4)
			for i := 0; l.one(b, round, worker, i); i++ {
				if answers.Add(1) == killAt {
					time.AfterFunc(time.Duration(rand.IntN(4000))*time.Microsecond, func() { cmd.Process.Kill() })
				}
			}
		})
	}
	done.Wait()
	cmd.Wait()
}

// one does one operation, and reports whether the server answered.
func (l *ledger) one(b *oss.Bucket, round, worker, i int) bool {
	key := func(n int) string { return fmt.Sprintf("w%d/k%d", worker, n%20) }
	// Up to some writes long; each different.
	body := string(pattern(worker+100*i+100_000*round, 1+(i*i*977)%(bufferSize+bufferSize/2)))
	k := key(rand.IntN(20))
	switch i % 8 {
	case 2:
		return l.try("delete", map[string]string{k: absent}, func() error { return b.DeleteObject(k) })
	case 3:
		keys := []string{key(i), key(i + 1), key(i + 2)}
		return l.try("deletes", map[string]string{keys[0]: absent, keys[1]: absent, keys[2]: absent}, func() error {
			_, err := b.DeleteObjects(keys)
			return err
		})
	case 4:
		from := key(rand.IntN(20))
		if from == k || l.held(from) == absent {
			return true
		}
		return l.try("copy", map[string]string{k: l.held(from)}, func() error { _, err := b.CopyObject(from, k); return err })
	case 7:
		// Onto a name of its own, which nothing else turns into a normal object.
		log := fmt.Sprintf("w%d/log", worker)
		old := l.held(log)
		if old == absent {
			old = ""
		}
		return l.try("append", map[string]string{log: old + body}, func() error {
			_, err := b.AppendObject(log, strings.NewReader(body), int64(len(old)))
			return err
		})
	case 5, 6:
		return l.multipart(b, k, body, rand.IntN(8))
	}
	return l.try("put", map[string]string{k: body}, func() error { return b.PutObject(k, strings.NewReader(body)) })
}

// multipart begins an upload and sends two parts; then it completes it, aborts
// it, or leaves it.
func (l *ledger) multipart(b *oss.Bucket, key, body string, end int) bool {
	up, err := b.InitiateMultipartUpload(key)
	if err != nil {
		l.dead("initiate", err)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.unnamed++
		return false
	}
	u := &sentUpload{up: up, parts: map[int][]string{}}
	l.update(func() { l.uploads[up.UploadID] = u; l.acks["initiate"]++ })
	var parts []oss.UploadPart
	made := ""
	for n, part := range []string{1: string(pattern(len(body), minPart)), 2: body} {
		if n == 0 {
			continue
		}
		l.update(func() { u.parts[n] = []string{absent, part} })
		p, err := b.UploadPart(up, strings.NewReader(part), int64(len(part)), n)
		if err != nil {
			l.dead("part", err)
			return false
		}
		l.update(func() { u.parts[n] = []string{part}; l.acks["part"]++ })
		parts, made = append(parts, p), made+part
	}
	what := ""
	switch end {
	case 0, 1, 2, 3:
		what = "complete"
		l.update(func() { u.end, u.made, u.old = what, made, slices.Clone(l.heldLocked(key)) })
		l.maybe(map[string]string{key: made})
		_, err = b.CompleteMultipartUpload(up, parts)
	case 4, 5, 6:
		what = "abort"
		l.update(func() { u.end = what })
		err = b.AbortMultipartUpload(up)
	default:
		return true
	}
	if err != nil {
		l.dead(what, err)
		return false
	}
	l.update(func() { delete(l.uploads, up.UploadID) })
	if what == "complete" {
		l.is(what, map[string]string{key: made})
	} else {
		l.is(what, nil)
	}
	return true
}

func (l *ledger) update(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// verify compares the server with the ledger, which knows afterwards what of
// the unanswered was done.
func (l *ledger) verify(r *rig) {
	l.t.Helper()
	there := l.listed(r)
	for key := range there {
		if l.objects[key] == nil {
			l.t.Fatalf("%s is there, and nobody put it", key)
		}
	}
	for key, states := range l.objects {
		now := absent
		if there[key] {
			now = string(r.get(key))
		}
		if !slices.Contains(states, now) {
			l.t.Fatalf("%s has %d bytes (absent: %v), which is none of its %d possible states", key, len(now), now == absent, len(states))
		}
		l.objects[key] = []string{now}
	}
	l.verifyUploads(r)
}

func (l *ledger) listed(r *rig) map[string]bool {
	there := map[string]bool{}
	for token, more := "", true; more; {
		page, err := r.bucket(oss.AuthV4).ListObjectsV2(oss.MaxKeys(1000), oss.ContinuationToken(token))
		if err != nil {
			l.t.Fatal(err)
		}
		for _, o := range page.Objects {
			there[o.Key] = true
		}
		token, more = page.NextContinuationToken, page.IsTruncated
	}
	return there
}

func (l *ledger) verifyUploads(r *rig) {
	l.t.Helper()
	b := r.bucket(oss.AuthV4)
	open := map[string]bool{}
	for id, more, key := "", true, ""; more; {
		page, err := b.ListMultipartUploads(oss.MaxUploads(1000), oss.KeyMarker(key), oss.UploadIDMarker(id))
		if err != nil {
			l.t.Fatal(err)
		}
		for _, u := range page.Uploads {
			open[u.UploadID] = true
		}
		key, id, more = page.NextKeyMarker, page.NextUploadIDMarker, page.IsTruncated
	}
	for id, u := range l.uploads {
		if !open[id] {
			if u.end == "" {
				l.t.Fatalf("upload %s of %s is gone", id, u.up.Key)
			}
			// It ended as a whole: with the object, or with nothing.
			if u.end == "complete" && l.objects[u.up.Key][0] != u.made {
				l.t.Fatalf("upload %s of %s is gone, and its object is not there", id, u.up.Key)
			}
			delete(l.uploads, id)
			continue
		}
		delete(open, id)
		if u.end == "complete" && !slices.Contains(u.old, l.objects[u.up.Key][0]) {
			l.t.Fatalf("the object of upload %s is there, and the upload still open", id)
		}
		u.end = ""
		l.verifyParts(b, u)
	}
	if len(open) > l.unnamed {
		l.t.Fatalf("%d uploads that nobody knows, %d were not answered", len(open), l.unnamed)
	}
}

func (l *ledger) verifyParts(b *oss.Bucket, u *sentUpload) {
	l.t.Helper()
	list, err := b.ListUploadedParts(u.up)
	if err != nil {
		l.t.Fatal(err)
	}
	now := map[int]string{}
	for _, p := range list.UploadedParts {
		now[p.PartNumber] = p.ETag
		if u.parts[p.PartNumber] == nil {
			l.t.Fatalf("part %d of %s is there, and nobody sent it", p.PartNumber, u.up.Key)
		}
	}
	for n, states := range u.parts {
		sent := states[len(states)-1]
		switch {
		case now[n] == "" && states[0] == absent:
			delete(u.parts, n)
		case strings.Trim(now[n], `"`) != etagOf([]byte(sent)):
			l.t.Fatalf("part %d of %s has ETag %s", n, u.up.Key, now[n])
		default:
			u.parts[n] = []string{sent}
		}
	}
}

// finish completes what is left and reads it: parts that were acknowledged in
// any life have their bytes.
func (l *ledger) finish(r *rig) {
	l.t.Helper()
	b := r.bucket(oss.AuthV4)
	for id, u := range l.uploads {
		if len(u.parts) == 0 {
			continue
		}
		var parts []oss.UploadPart
		want := ""
		for _, n := range slices.Sorted(maps.Keys(u.parts)) {
			parts = append(parts, oss.UploadPart{PartNumber: n, ETag: etagOf([]byte(u.parts[n][0]))})
			want += u.parts[n][0]
		}
		if _, err := b.CompleteMultipartUpload(u.up, parts); err != nil {
			l.t.Fatalf("%s: %v", id, err)
		}
		if got := string(r.get(u.up.Key)); got != want {
			l.t.Fatalf("%s, made of the parts of %s, differs", u.up.Key, id)
		}
	}
}
