package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ossmount/ossmount/internal/screen"
	"github.com/ossmount/ossmount/writeback"
)

// `ossmount status --watch`: the status again and again.

// meter makes rates of successive samples of the status.
type meter struct {
	at   time.Time // of the last sample; zero: there is none
	was  map[string]int64
	sum  int64
	of   map[string]float64 // bytes per second, by key
	all  float64            // bytes per second, all uploads together
	told int                // samples that have made a rate
}

func newMeter() *meter { return &meter{was: map[string]int64{}, of: map[string]float64{}} }

// smooth is how long it takes until a rate shows most of a change.
const smooth = 4 * time.Second

// take takes a sample of now.
func (m *meter) take(q writeback.Status, now time.Time) {
	was, of, sum := map[string]int64{}, map[string]float64{}, q.Stats.BytesSent
	dt := now.Sub(m.at)
	first := m.at.IsZero() || dt <= 0
	rate := func(old float64, known bool, n int64) float64 {
		v := max(0, float64(n)) / dt.Seconds()
		if !known {
			return v
		}
		a := 1 - math.Exp(-float64(dt)/float64(smooth))
		return old + a*(v-old)
	}
	for _, u := range q.Uploading {
		moved := u.Sent + u.Under
		was[u.Key], sum = moved, sum+u.Under
		if before, seen := m.was[u.Key]; seen && !first {
			old, known := m.of[u.Key]
			of[u.Key] = rate(old, known, moved-before)
		}
	}
	if !first {
		m.all = rate(m.all, m.told > 0, sum-m.sum)
		m.told++
	}
	m.at, m.was, m.of, m.sum = now, was, of, sum
}

// leastInterval keeps a display from being a load.
const leastInterval = 100 * time.Millisecond

// watch shows the status every interval until somebody interrupts it.
func watch(c *cobra.Command, interval time.Duration, asJSON bool, look func(ctx context.Context) (mountStatus, error)) error {
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	out := c.OutOrStdout()
	m := newMeter()
	if !asJSON && screen.IsTerminal(out) {
		return screen.Watch(ctx, out, interval, func(ctx context.Context) (screen.Frame, error) {
			s, err := look(ctx)
			if err != nil {
				return nil, err
			}
			m.take(s.Queue, time.Now())
			seen := *m // drawn by another goroutine
			return func(width, height int) []string { return frame(s, &seen, width, height) }, nil
		})
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		s, err := look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		m.take(s.Queue, time.Now())
		if err := line(out, s, m, asJSON); err != nil {
			if errors.Is(err, syscall.EPIPE) {
				return nil // whoever reads has seen enough
			}
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// line is the status in one line, for what is no terminal.
func line(w io.Writer, s mountStatus, m *meter, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(s)
	}
	q := s.Queue
	text := fmt.Sprintf("%s pending %s; sending %s; parked %d, interrupted %d", time.Now().Format(time.TimeOnly), pendingText(q), sendingText(s, m), q.Parked, q.Interrupted)
	if q.Paused != nil {
		text += "; paused"
	}
	if q.Away != "" {
		text += "; OSS cannot be used: " + oneLine(q.Away)
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

// frame is the status as a screen of that size. What does not fit is counted.
func frame(s mountStatus, m *meter, width, height int) []string {
	head := []string{screen.Pad(titleOf(s), width-9, false) + " " + screen.Faint.In(time.Now().Format(time.TimeOnly))}
	for _, f := range facts(s, m) {
		if !f.calm {
			head = append(head, f.String())
		}
	}
	foot := screen.Faint.In("q ends this")
	room := height - len(head) - 2 // a line between, and the last
	if room < 2 {
		return append(head[:min(len(head), height-1)], foot)
	}
	lines := append(head, "")
	all := s.Queue.Uploading
	fits := all[:min(len(all), room-1)]
	if len(fits) < len(all) {
		fits = all[:room-2]
	}
	bars := min(max(width/4, 4), 40)
	t := uploadTable(s, m, bars, fits)
	narrow(&t, width)
	if len(t.Rows) > 0 {
		lines = append(lines, linesOf(t)...)
		if n := len(all) - len(fits); n > 0 {
			lines = append(lines, fmt.Sprintf("and %d more uploads", n))
		}
	}
	if left := height - 1 - len(lines); left > 3 && len(s.Queue.Kept) > 0 {
		kept := linesOf(waitTable("KEPT UNTIL YOU ACT", s, s.Queue.Kept))
		lines = append(append(lines, ""), kept[:min(len(kept), left-1)]...)
	}
	return append(lines, foot)
}

func linesOf(t screen.Table) []string {
	return strings.Split(strings.TrimSuffix(t.String(), "\n"), "\n")
}

// narrow makes the table of uploads fit into width cells: names are cut, and if that
// is not enough, what matters less is left out: size, parts, the bar, the share.
func narrow(t *screen.Table, width int) {
	const least = 10 // cells of a name
	for _, drop := range []int{1, 4, 2, 3} {
		if name, wide := t.Widths(0); wide-name+least <= width || wide <= width {
			break
		}
		for _, row := range t.Rows {
			row[drop] = ""
		}
	}
	if name, wide := t.Widths(0); wide > width {
		for _, row := range t.Rows {
			row[0] = screen.CutLeft(row[0], max(least, name-(wide-width)))
		}
		t.Header[0] = screen.Cut(t.Header[0], max(least, name-(wide-width)))
	}
}
