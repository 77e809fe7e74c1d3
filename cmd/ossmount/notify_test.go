package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// manager stands in for a service manager: a datagram socket at NOTIFY_SOCKET. What
// it was told comes out of the channel.
func manager(t *testing.T) <-chan string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 1000)
	go func() {
		defer close(told)
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			told <- string(buf[:n])
		}
	}()
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return told
}

func next(t *testing.T, told <-chan string) string {
	t.Helper()
	select {
	case s := <-told:
		return s
	case <-time.After(time.Minute):
		t.Fatal("the service manager is told nothing")
		return ""
	}
}

func TestServiceManagerIsToldOfReadinessAndEnd(t *testing.T) {
	told := manager(t)
	n := notifier{slog.New(slog.DiscardHandler)}
	n.ready("oss://bkt/p/", "/mnt/oss")
	if s, want := next(t, told), "READY=1\nSTATUS=serving oss://bkt/p/ on /mnt/oss"; s != want {
		t.Errorf("told %q, want %q", s, want)
	}
	n.stopping(2 * time.Minute)
	if s, want := next(t, told), "STOPPING=1\nEXTEND_TIMEOUT_USEC=150000000\nSTATUS=uploading what is pending, for at most 2m0s"; s != want {
		t.Errorf("told %q, want %q", s, want)
	}
}

func TestWithoutServiceManagerNobodyIsTold(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	var log strings.Builder
	n := notifier{slog.New(slog.NewTextHandler(&log, nil))}
	n.ready("oss://bkt/", "/mnt/oss")
	if log.Len() > 0 {
		t.Errorf("the log says: %s", log.String())
	}
}

// The watchdog is told only while the mount answers: that is what it is for.
func TestWatchdogIsToldWhileTheMountAnswers(t *testing.T) {
	told := manager(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", "") // restored afterwards
	os.Unsetenv("WATCHDOG_PID")
	n := notifier{slog.New(slog.DiscardHandler)}
	ctx, end := context.WithCancel(t.Context())
	answers := []bool{true, true, false, false, true}
	n.watchdog(ctx, func(context.Context) bool {
		if len(answers) == 0 {
			end()
			return false
		}
		now := answers[0]
		answers = answers[1:]
		return now
	})
	n.tell("end")
	var all []string
	for s := next(t, told); s != "end"; s = next(t, told) {
		all = append(all, s)
	}
	if got := strings.Join(all, " "); got != "WATCHDOG=1 WATCHDOG=1 WATCHDOG=1" {
		t.Errorf("told %q, want the watchdog three times, for each time that the mount has answered", got)
	}
}

// WATCHDOG_USEC is inherited by processes that are not watched.
func TestWatchdogOfAnotherProcessIsLeftAlone(t *testing.T) {
	told := manager(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", "1")
	n := notifier{slog.New(slog.DiscardHandler)}
	n.watchdog(t.Context(), func(context.Context) bool { t.Error("the mount is asked"); return true })
	n.tell("end")
	if s := next(t, told); s != "end" {
		t.Errorf("told %q", s)
	}
}
