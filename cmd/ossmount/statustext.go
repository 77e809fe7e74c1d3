package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/ossmount/ossmount/internal/screen"
	"github.com/ossmount/ossmount/writeback"
)

// The status as a person reads it.

// between is the time between two samples that make a rate.
const between = 500 * time.Millisecond

// showStatus prints the status once: of two samples where something is being sent.
func showStatus(c *cobra.Command, look func(ctx context.Context) (mountStatus, error)) error {
	m := newMeter()
	s, err := look(c.Context())
	if err != nil {
		return err
	}
	m.take(s.Queue, time.Now())
	if len(s.Queue.Uploading) > 0 {
		time.Sleep(between)
		if s, err = look(c.Context()); err != nil {
			return err
		}
		m.take(s.Queue, time.Now())
	}
	printStatus(screen.Writer(c.OutOrStdout(), os.Environ()), s, m)
	return nil
}

func printStatus(w io.Writer, s mountStatus, m *meter) {
	fmt.Fprintln(w, titleOf(s))
	for _, f := range facts(s, m) {
		fmt.Fprintln(w, f.String())
	}
	q := s.Queue
	section(w, uploadTable(s, m, 16, q.Uploading))
	section(w, waitTable("WHAT WAITS", s, q.Waiting))
	if more := q.Pending - len(q.Waiting) - carried(q); more > 0 && len(q.Waiting) > 0 {
		fmt.Fprintf(w, "and %d more: ossmount uploads list %s\n", more, quoted(s.Mountpoint))
	}
	section(w, waitTable("KEPT UNTIL YOU ACT", s, q.Kept))
	if more := q.Parked + q.Interrupted - len(q.Kept); more > 0 {
		fmt.Fprintf(w, "and %d more: ossmount recover list\n", more)
	}
	t := screen.Table{Header: []string{"FOUND", "SIZE", "WAS", "IN"}, Right: []int{1}}
	for _, l := range s.LostAndFound {
		t.Row(foundName(l.Number), size(l.Size), shown(l.Key()), l.Path)
	}
	if section(w, t); len(t.Rows) > 0 {
		fmt.Fprintln(w, "`ossmount recover list` tells what can be done")
	}
}

func section(w io.Writer, t screen.Table) {
	if len(t.Rows) > 0 {
		fmt.Fprintf(w, "\n%s", t.String())
	}
}

// carried is how many of the pending changes are under way.
func carried(q writeback.Status) (n int) {
	for _, u := range q.Uploading {
		if !u.Open {
			n++
		}
	}
	return n
}

func titleOf(s mountStatus) string {
	where := "not mounted"
	if s.Mountpoint != "" {
		where = "on " + s.Mountpoint
	}
	return screen.Head.In(shown(s.Source) + " " + shown(where))
}

// fact is one line about the whole: a name, and what is to be said.
type fact struct {
	name, text string
	style      screen.Style
	calm       bool // nothing that a display of uploads must show
}

func (f fact) String() string {
	return "  " + screen.Pad(f.name, 15, false) + " " + f.style.In(f.text)
}

// facts are what there is to say of the mount as a whole. What is well is not said.
func facts(s mountStatus, m *meter) (all []fact) {
	q := s.Queue
	say := func(y screen.Style, name, f string, args ...any) {
		all = append(all, fact{name: name, text: fmt.Sprintf(f, args...), style: y})
	}
	calm := func(name, f string, args ...any) {
		all = append(all, fact{name: name, text: fmt.Sprintf(f, args...), calm: true})
	}
	calm("endpoint", "%s", s.Endpoint)
	if q.Away != "" {
		say(screen.Bad, "OSS", "cannot be used since %s: %s; asked again in %s (ossmount retry --all: now)", time.Unix(0, q.AwaySince).Format(time.TimeOnly), oneLine(q.Away),
			max(0, time.Until(time.Unix(0, q.AwayNext)).Round(time.Second)))
	}
	for _, d := range q.Denied {
		more := ""
		if d.More {
			more = " or more"
		}
		say(screen.Bad, "OSS", "cannot %s, %d%s changes beneath %q: %s", d.What, d.Rows, more, d.Under, oneLine(d.Why))
	}
	if p := q.Paused; p != nil {
		what, point := "all uploads", s.Mountpoint
		switch {
		case p.All:
		case len(p.Keys) == 1:
			rel := strings.TrimPrefix(p.Keys[0], s.Prefix)
			what, point = shown(rel), filepath.Join(s.Mountpoint, rel)
		default:
			what = fmt.Sprintf("%d files", len(p.Keys))
		}
		say(screen.Warn, "paused", "%s, since %s: ossmount uploads resume %s", what, time.Unix(0, p.Since).Format(time.TimeOnly), shown(quoted(point)))
	}
	if q.Requests.Limit < q.Requests.Max {
		say(screen.Warn, "requests", "%d at once, of %d: OSS has asked for fewer", q.Requests.Limit, q.Requests.Max)
	}
	if q.Damaged != "" {
		say(screen.Bad, "cache disk", "FAILED, nothing is opened for writing: %s", oneLine(q.Damaged))
	}
	if b := q.Rebuilt; b != nil {
		say(screen.Warn, "journal", "%s; %d files were taken up from the cache directory, %d are in lost+found", oneLine(b.Why), b.Files, b.Lost)
		if b.Aside != "" {
			say(screen.Plain, "", "the damaged one is kept in %s", b.Aside)
		}
	}
	say(screen.Plain, "pending", "%s", pendingText(q))
	say(screen.Plain, "sending", "%s", sendingText(s, m))
	say(alarm(q.Parked), "parked", "%d", q.Parked)
	say(alarm(q.Interrupted), "interrupted", "%d", q.Interrupted)
	if s.InternalErrors > 0 {
		say(screen.Bad, "internal errors", "%d were caught: please report what the log says", s.InternalErrors)
	}
	calm("lost+found", "%d, %s on the disk", len(s.LostAndFound), size(s.LostBytes))
	calm("cache", "%s used, %s free, in %s", size(s.Cache.Used), size(s.Cache.Free), s.CacheDir)
	return append(all, roomFacts(s.Room)...)
}

func alarm(n int) screen.Style {
	if n > 0 {
		return screen.Bad
	}
	return screen.Plain
}

func pendingText(q writeback.Status) string {
	text := fmt.Sprintf("%d changes, %s", q.Pending, size(q.Bytes))
	if q.Oldest != 0 {
		text += fmt.Sprintf(", the oldest for %s", time.Since(time.Unix(0, q.Oldest)).Round(time.Second))
	}
	return text
}

// sendingText is how fast all uploads together are, and how long that takes.
func sendingText(s mountStatus, m *meter) string {
	text := fmt.Sprintf("%d uploads", len(s.Queue.Uploading))
	if n := m.all; n > 0 {
		text += fmt.Sprintf(" at %s, %s left", speed(n), left(remaining(s.Queue), n))
	}
	if s.UploadLimit > 0 {
		text += ", limited to " + limitText(s.UploadLimit)
	}
	return text
}

// remaining is how many of the pending bytes are still to be sent.
func remaining(q writeback.Status) int64 {
	n := q.Bytes
	for _, u := range q.Uploading {
		if !u.Open {
			n -= min(u.Sent+u.Under, u.Size)
		}
	}
	return max(n, 0)
}

func roomFacts(r writeback.RoomStatus) (all []fact) {
	of := ""
	if r.Quota > 0 {
		of = " of " + size(r.Quota)
	}
	all = append(all,
		fact{name: "room", calm: true, text: fmt.Sprintf("%s%s used: %s pending, %s parked or interrupted, %s found, %s copies and open files", size(r.Used), of, size(r.Pending), size(r.Stuck), size(r.Found), size(r.Clean))},
		fact{name: "cache disk", calm: true, text: fmt.Sprintf("%s free, %s of it left to others, ballast of the journal %s", size(r.Disk), size(r.Reserve), size(r.Journal.Ballast))})
	bad := func(f string, args ...any) {
		all = append(all, fact{name: "no room", text: fmt.Sprintf(f, args...), style: screen.Bad})
	}
	if len(r.Waiting) > 0 {
		bad("%d writers wait: %s", len(r.Waiting), oneLine(strings.Join(r.Waiting, ", ")))
	}
	for _, why := range []string{r.Why, r.Journal.Why} {
		if why != "" {
			bad("%s", oneLine(why))
		}
	}
	if r.Journal.Waits {
		bad("the journal waits for room to write a table")
	}
	return all
}

// uploadTable are uploads with their progress, in bars of width cells.
func uploadTable(s mountStatus, m *meter, width int, some []writeback.Uploading) screen.Table {
	t := screen.Table{Header: []string{"WHAT IS SENT", "SIZE", "", "DONE", "PART", "RATE", "LEFT"}, Right: []int{1, 3, 4, 5, 6}}
	for _, u := range some {
		name := shown(strings.TrimPrefix(u.Key, s.Prefix))
		if u.Kind != "put" {
			t.Row(name, "", "", u.Kind, "", "", "")
			continue
		}
		moved := min(u.Sent+u.Under, u.Size)
		part := ""
		if u.Parts > 0 {
			part = fmt.Sprintf("%d/%d", u.Done, u.Parts)
		}
		rate, eta := "", ""
		if n := m.of[u.Key]; n > 0 {
			rate, eta = speed(n), left(u.Size-moved, n)
		}
		if u.Open {
			eta = "it grows"
		}
		t.Row(name, size(u.Size), screen.Good.In(screen.Bar(moved, u.Size, width)), percent(moved, u.Size), part, rate, eta)
	}
	return t
}

// waitTable are changes at rest, with what they wait for and what mends it.
func waitTable(title string, s mountStatus, some []writeback.Waiting) screen.Table {
	t := screen.Table{Header: []string{title, "STATE", "SIZE", "WHY"}, Right: []int{2}}
	for _, k := range some {
		style := screen.Plain
		if k.Remedy != "" {
			style = screen.Bad
		}
		why := oneLine(k.Reason)
		if k.Tries > 0 {
			why += fmt.Sprintf(" (tried %d times)", k.Tries)
		}
		t.Row(shown(strings.TrimPrefix(k.Key, s.Prefix)), style.In(k.State), size(k.Size), why)
		if k.Remedy != "" {
			t.Row("", "", "", screen.Faint.In("→ "+k.Remedy))
		}
	}
	return t
}

// shown is a name as it may be shown: without what a terminal would obey.
func shown(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// oneLine is a text of somebody else's that must not break the display.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}

func percent(done, all int64) string {
	if all <= 0 {
		return ""
	}
	return fmt.Sprintf("%d%%", int64(100*float64(done)/float64(all)))
}

func speed(perSecond float64) string { return size(int64(perSecond)) + "/s" }

// left is how long n bytes take.
func left(n int64, perSecond float64) string {
	if perSecond < 1 {
		return "?"
	}
	seconds := float64(n) / perSecond
	switch {
	case seconds >= 100*3600:
		return "days"
	case seconds >= 3600:
		return fmt.Sprintf("%dh%02dm", int(seconds)/3600, int(seconds)/60%60)
	case seconds >= 60:
		return fmt.Sprintf("%dm%02ds", int(seconds)/60, int(seconds)%60)
	}
	return fmt.Sprintf("%ds", int(seconds+0.5))
}

func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
