package remote

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// slowSource gives out keys that live for an hour, and takes its time.
type slowSource struct {
	takes time.Duration

	mu      sync.Mutex
	fetched int
	atOnce  int
	most    int
	fails   error
}

func (s *slowSource) Get(ctx context.Context) (Key, error) {
	s.begin()
	defer s.end()
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		return Key{}, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails != nil {
		return Key{}, s.fails
	}
	return Key{ID: "id", Secret: string(rune('a' + s.fetched)), Token: "t", Expires: time.Now().Add(time.Hour)}, nil
}

func (s *slowSource) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetched++
	s.atOnce++
	s.most = max(s.most, s.atOnce)
}

func (s *slowSource) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.atOnce--
}

func (s *slowSource) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails = err
}

// ask asks for the key as often as requests would, and returns how long the last
// one waited.
func ask(t *testing.T, r *keyring, n int, want string) time.Duration {
	t.Helper()
	start := time.Now()
	var g sync.WaitGroup
	for range n {
		g.Go(func() {
			if k, err := r.current(); err != nil || want != "" && k.Secret != want {
				t.Errorf("%v %v, want %q", k.Secret, err, want)
			}
		})
	}
	g.Wait()
	return time.Since(start)
}

// On a clock that the test moves: within the margin one fetch is under way beside
// the requests, and none of them waits for it.
func TestKeyIsRenewedAheadOfItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := &slowSource{takes: 3 * time.Second}
		r := newKeyring(from, slog.New(slog.DiscardHandler))
		defer r.close()
		if d := ask(t, r, 20, "b"); d != from.takes {
			t.Errorf("the first ones waited for %v", d)
		}
		time.Sleep(time.Hour - keyMargin - time.Second)
		if d := ask(t, r, 20, "b"); d != 0 || from.fetched != 1 {
			t.Errorf("before the margin: waited for %v, %d fetches", d, from.fetched)
		}
		time.Sleep(2 * time.Second)
		if d := ask(t, r, 20, "b"); d != 0 {
			t.Errorf("they waited for %v, though the key at hand is good for minutes", d)
		}
		time.Sleep(from.takes + time.Second)
		if d := ask(t, r, 20, "c"); d != 0 || from.fetched != 2 || from.most != 1 {
			t.Errorf("after the renewal: waited for %v, %d fetches, at most %d at once", d, from.fetched, from.most)
		}
	})
}

// The source is away in the margin and beyond: the old key goes on to its end, and
// is asked after now and then; then there is an error, until the source is back.
func TestKeyThatCannotBeRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, log := &slowSource{}, &logBuffer{}
		r := newKeyring(from, log.logger())
		defer r.close()
		ask(t, r, 1, "b")
		from.set(errors.New("STS is away"))
		end := time.Now().Add(time.Hour)
		for time.Now().Before(end) {
			ask(t, r, 3, "b")
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if from.fetched < 3 || from.fetched > 1+keyTries {
			t.Errorf("%d fetches in the margin, want about %d", from.fetched-1, keyTries)
		}
		if _, err := r.current(); err == nil || err.Error() != "STS is away" {
			t.Errorf("the key has expired: %v", err)
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings, want one:\n%s", n, log)
		}
		from.set(nil)
		ask(t, r, 3, "")
		if !strings.Contains(log.String(), "had again") {
			t.Errorf("it is not said that keys can be had again:\n%s", log)
		}
	})
}

// A key that lives for a moment only is renewed in its last quarter.
func TestShortLivedKeyIsNotAskedForAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := &source{keys: []Key{temporary("first", 8*time.Second), temporary("second", time.Hour)}}
		r := newKeyring(keys, slog.New(slog.DiscardHandler))
		defer r.close()
		for range 59 { // 5.9 s
			if k, err := r.current(); err != nil || k.ID != "first" {
				t.Fatal(k, err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := keys.fetches(); n != 1 {
			t.Errorf("%d fetches before the last quarter", n)
		}
		time.Sleep(time.Second)
		r.current()
		synctest.Wait()
		if k, err := r.current(); err != nil || k.ID != "second" {
			t.Error(k, err)
		}
	})
}

// A permanent key goes on where its source fails, and a changed one is used at once.
func TestPermanentKeyWhoseSourceFails(t *testing.T) {
	keys, log := &source{keys: []Key{{ID: "old", Secret: "s"}}}, &logBuffer{}
	r := newKeyring(keys, log.logger())
	defer r.close()
	r.current()
	keys.fail(errors.New("the file cannot be read"))
	for range 3 {
		if k, err := r.current(); err != nil || k.ID != "old" {
			t.Errorf("%v %v", k, err)
		}
	}
	if n := strings.Count(log.String(), "the file cannot be read"); n != 1 {
		t.Errorf("it was said %d times:\n%s", n, log)
	}
	keys.fail(nil)
	keys.keys = []Key{{ID: "new", Secret: "s"}}
	if k, err := r.current(); err != nil || k.ID != "new" {
		t.Errorf("%v %v", k, err)
	}
}

// Close does not wait for a source that hangs.
func TestCloseCallsOffAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, log := &slowSource{}, &logBuffer{}
		r := newKeyring(from, log.logger())
		ask(t, r, 1, "b")
		time.Sleep(time.Hour - time.Minute)
		from.takes = time.Hour
		ask(t, r, 1, "b")
		synctest.Wait()
		start := time.Now()
		r.close()
		if d := time.Since(start); d != 0 || log.String() != "" {
			t.Errorf("it took %v, and says %q", d, log)
		}
		ask(t, r, 1, "b") // begins no other
	})
}
