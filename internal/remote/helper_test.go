package remote

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"
)

const (
	testID     = "ak"
	testSecret = "tops3cret"
	testToken  = "tok3n"
)

type fixed struct{ id, secret, token string }

func (f fixed) Get(context.Context) (Key, error) {
	return Key{ID: f.id, Secret: f.secret, Token: f.token, Remedy: "write another one"}, nil
}

// open makes a client of the bucket bkt at url.
func open(t testing.TB, url string, set func(*Options)) *Client {
	t.Helper()
	o := Options{Endpoint: url, Bucket: "bkt", Credentials: fixed{testID, testSecret, ""},
		Idle: time.Minute, HeaderTimeout: time.Minute}
	if set != nil {
		set(&o)
	}
	c, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// logBuffer is a log that tests may read while it is written to.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
