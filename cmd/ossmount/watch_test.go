package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/screen"
	"github.com/ossmount/ossmount/writeback"
)

func TestRatesAreMadeOfTwoSamples(t *testing.T) {
	m, at := newMeter(), time.Unix(1000, 0)
	sample := func(sent, moving, whole int64) {
		m.take(writeback.Status{Uploading: []writeback.Uploading{{Key: "a", Kind: "put", Size: 1 << 30, Sent: sent, Under: moving}}, Stats: writeback.Stats{BytesSent: whole}}, at)
		at = at.Add(2 * time.Second)
	}
	sample(0, 100, 0)
	if m.of["a"] != 0 || m.all != 0 {
		t.Errorf("one sample has made a rate: %v %v", m.of, m.all)
	}
	sample(1000, 1100, 5000)
	if m.of["a"] != 1000 || m.all != 3000 {
		t.Errorf("%v %v, want 1000 and 3000", m.of, m.all)
	}
	for range 20 { // it stands still
		sample(1000, 1100, 5000)
	}
	if m.of["a"] > 1 || m.all > 1 {
		t.Errorf("what stands still has the rate %v, all %v", m.of, m.all)
	}
	sample(500, 0, 0) // parts were in vain
	if m.of["a"] < 0 || m.all < 0 {
		t.Errorf("a rate is negative: %v %v", m.of, m.all)
	}
}

func TestTheDisplayFitsAnyTerminal(t *testing.T) {
	s := mountStatus{Mountpoint: "/mnt/with a long name that goes on and on", Source: "oss://bucket/prefix/"}
	for i := range 50 {
		s.Queue.Uploading = append(s.Queue.Uploading, writeback.Uploading{Key: fmt.Sprintf("dir/日本/file-%d", i), Kind: "put", Size: 1 << 30, Sent: int64(i) << 20, Parts: 128, Done: int64(i)})
	}
	for i := range 20 {
		s.Queue.Kept = append(s.Queue.Kept, writeback.Waiting{Key: fmt.Sprint("k", i), State: "parked", Reason: "too large", Remedy: "ossmount recover export"})
	}
	m := newMeter()
	m.of["dir/日本/file-3"], m.all = 1e6, 1e6
	for width := 1; width <= 200; width += 7 {
		for height := 1; height <= 90; height++ {
			lines := frame(s, m, width, height)
			if len(lines) > height {
				t.Fatalf("%d lines in %d by %d", len(lines), width, height)
			}
			text := strings.Join(lines, "\n")
			shown := strings.Count(text, "%")
			if hidden := len(s.Queue.Uploading) - shown; width >= 50 && shown > 0 && hidden > 0 && !strings.Contains(text, fmt.Sprintf("and %d more uploads", hidden)) {
				t.Fatalf("%d of 50 are shown in %d by %d, and the rest is not counted:\n%s", shown, width, height, text)
			}
		}
	}
	for _, l := range frame(s, m, 60, 30) {
		if n := screen.Width(l); strings.Contains(l, "file-") && n > 60 {
			t.Errorf("%d cells: %s", n, l)
		}
	}
}

// A name is data of somebody else's: it must not command the terminal.
func TestNamesCannotCommandTheTerminal(t *testing.T) {
	evil := "\x1b]0;owned\x07\x1b[2J\nline"
	s := mountStatus{Source: "oss://b/", Mountpoint: "/m"}
	s.Queue.Uploading = []writeback.Uploading{{Key: evil, Kind: "put", Size: 10}}
	s.Queue.Waiting = []writeback.Waiting{{Key: evil, State: "pending", Reason: evil}}
	s.Queue.Kept = []writeback.Waiting{{Key: evil, State: "parked", Reason: evil}}
	s.Queue.Away, s.Room.Why = evil, evil
	var b bytes.Buffer
	printStatus(&b, s, newMeter())
	if err := line(&b, s, newMeter(), false); err != nil {
		t.Fatal(err)
	}
	text := b.String() + strings.Join(frame(s, newMeter(), 200, 50), "\n")
	for _, bad := range []string{"\x1b]", "\x07", "\x1b[2J", "\nline"} {
		if strings.Contains(text, bad) {
			t.Errorf("%q is in the status:\n%q", bad, text)
		}
	}
	if !strings.Contains(text, `\x1b]0;owned`) {
		t.Errorf("the name is not shown:\n%q", text)
	}
}

func TestWhatIsLeftIsSaidShortly(t *testing.T) {
	for want, c := range map[string]struct {
		n    int64
		rate float64
	}{"?": {100, 0}, "10s": {100, 10}, "1m05s": {65, 1}, "2h03m": {2*3600 + 3*60 + 5, 1}, "days": {1 << 40, 1}} {
		if got := left(c.n, c.rate); got != want {
			t.Errorf("%d at %v: %s, want %s", c.n, c.rate, got, want)
		}
	}
}
