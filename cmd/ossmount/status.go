package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/journal"
	"github.com/ossmount/ossmount/writeback"
)

// inspect looks into a cache directory that no daemon has.
func inspect(ctx context.Context, dir string) (s mountStatus, err error) {
	c, j, err := openQuietly(ctx, dir)
	if err != nil {
		return s, err
	}
	defer c.Close()
	defer j.Close()
	id := c.Identity()
	p := place{bucket: id.Bucket, prefix: id.Prefix}
	p.local, _ = strings.CutPrefix(id.Endpoint, "local:")
	if p.local == id.Endpoint {
		p.local = ""
	}
	s = mountStatus{Source: p.String(), Bucket: id.Bucket, Prefix: id.Prefix,
		Endpoint: id.Endpoint, CacheDir: c.Dir(), Version: version(), OpenFiles: []string{}}
	if s.Queue, err = writeback.Inspect(j); err != nil {
		return s, err
	}
	if u, err := c.Usage(); err == nil {
		s.Cache = cacheStatus{Used: u.Used, Free: u.Free, Total: u.Total}
	}
	nameless, err := writeback.Nameless(j, c)
	if err != nil {
		return s, err
	}
	s.Cache.Nameless = len(nameless)
	if s.Room, err = writeback.RoomOf(j, c); err != nil {
		return s, err
	}
	return s, s.addLost(c)
}

// openQuietly opens a cache directory that no daemon has, and changes nothing.
func openQuietly(ctx context.Context, dir string) (*cache.Cache, *journal.Journal, error) {
	if _, err := cache.ReadIdentity(dir); err != nil {
		return nil, nil, err
	}
	c, err := cache.Open(dir, cache.Options{})
	if err != nil {
		return nil, nil, err
	}
	j, err := journal.Open(ctx, filepath.Join(c.Dir(), "journal"), journal.Options{Contents: c, ReadOnly: true})
	if errors.Is(err, journal.ErrDamaged) {
		err = fmt.Errorf("%w: the next mount (or ossmount drain) keeps it aside, and takes pending files up from the contents of %s", err, c.Dir())
	}
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, j, nil
}

func printJSON(w io.Writer, s mountStatus) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(s)
}

func printStatus(w io.Writer, s mountStatus) {
	q := s.Queue
	where := "not mounted"
	if s.Mountpoint != "" {
		where = "on " + s.Mountpoint
	}
	fmt.Fprintf(w, "%s %s\n", s.Source, where)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, f string, args ...any) { fmt.Fprintf(t, "  %s\t%s\n", name, fmt.Sprintf(f, args...)) }
	row("endpoint", "%s", s.Endpoint)
	if q.Away != "" {
		row("OSS", "cannot be used since %s: %s; asked again in %s (ossmount retry --all: now)", time.Unix(0, q.AwaySince).Format(time.TimeOnly), q.Away,
			max(0, time.Until(time.Unix(0, q.AwayNext)).Round(time.Second)))
	}
	for _, d := range q.Denied {
		more := ""
		if d.More {
			more = " or more"
		}
		row("OSS", "cannot %s, %d%s changes beneath %q: %s", d.What, d.Rows, more, d.Under, d.Why)
	}
	if q.Requests.Limit < q.Requests.Max {
		row("requests", "%d at once, of %d: OSS has asked for fewer", q.Requests.Limit, q.Requests.Max)
	}
	if q.Damaged != "" {
		row("cache disk", "FAILED, nothing is opened for writing: %s", q.Damaged)
	}
	if b := q.Rebuilt; b != nil {
		row("journal", "%s; %d files were taken up from the cache directory, %d are in lost+found", b.Why, b.Files, b.Lost)
		if b.Aside != "" {
			row("", "the damaged one is kept in %s", b.Aside)
		}
	}
	pending := fmt.Sprintf("%d changes, %s", q.Pending, size(q.Bytes))
	if q.Oldest != 0 {
		pending += fmt.Sprintf(", the oldest for %s", time.Since(time.Unix(0, q.Oldest)).Round(time.Second))
	}
	row("pending", "%s", pending)
	row("parked", "%d", q.Parked)
	row("interrupted", "%d", q.Interrupted)
	if s.InternalErrors > 0 {
		row("internal errors", "%d were caught: please report what the log says", s.InternalErrors)
	}
	row("lost+found", "%d, %s on the disk", len(s.LostAndFound), size(s.LostBytes))
	row("cache", "%s used, %s free, in %s", size(s.Cache.Used), size(s.Cache.Free), s.CacheDir)
	printRoom(row, s.Room)
	t.Flush()
	for _, u := range q.Uploading {
		if u.Parts > 0 {
			fmt.Fprintf(w, "  uploading  %s  %s of %s, part %d/%d %s\n", u.Key, size(u.Sent), size(u.Size), u.Done, u.Parts, bar(u.Sent, u.Size))
		} else {
			fmt.Fprintf(w, "  uploading  %s  %s\n", u.Key, size(u.Size))
		}
	}
	for _, list := range [][]writeback.Waiting{q.Kept, q.Waiting} {
		for _, k := range list {
			fmt.Fprintf(w, "  %-10s %s  %s  %s\n", k.State, k.Key, size(k.Size), k.Reason)
			if k.Remedy != "" {
				fmt.Fprintf(w, "  %-10s %s\n", "", k.Remedy)
			}
		}
	}
	for _, l := range s.LostAndFound {
		fmt.Fprintf(w, "  found      %s  %s  was %q, in %s\n", foundName(l.Number), size(l.Size), l.Key(), l.Path)
	}
	if len(s.LostAndFound) > 0 {
		fmt.Fprintf(w, "  %-10s `ossmount recover list` tells what can be done\n", "")
	}
}

func printRoom(row func(name, f string, args ...any), r writeback.RoomStatus) {
	of := ""
	if r.Quota > 0 {
		of = " of " + size(r.Quota)
	}
	row("room", "%s%s used: %s pending, %s parked or interrupted, %s found, %s copies and open files", size(r.Used), of, size(r.Pending), size(r.Stuck), size(r.Found), size(r.Clean))
	row("cache disk", "%s free, %s of it left to others, ballast of the journal %s", size(r.Disk), size(r.Reserve), size(r.Journal.Ballast))
	if len(r.Waiting) > 0 {
		row("no room", "%d writers wait: %s", len(r.Waiting), strings.Join(r.Waiting, ", "))
	}
	for _, why := range []string{r.Why, r.Journal.Why} {
		if why != "" {
			row("no room", "%s", why)
		}
	}
	if r.Journal.Waits {
		row("no room", "the journal waits for room to write a table")
	}
}

func bar(done, all int64) string {
	const width = 20
	n := 0
	if all > 0 {
		n = int(done * width / all)
	}
	return "[" + strings.Repeat("#", n) + strings.Repeat(".", width-n) + "]"
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
