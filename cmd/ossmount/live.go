package main

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/internal/metrics"
	"github.com/ossmount/ossmount/writeback"
)

// sample is how the mount stood at a moment, and how fast it was before.
type sample struct {
	At       int64 `json:"at"`       // Unix milliseconds
	Sent     int64 `json:"sent"`     // bytes per second
	Received int64 `json:"received"` // bytes per second
	Pending  int   `json:"pending"`
	Bytes    int64 `json:"pending_bytes"`
}

const (
	sampleEach  = 5 * time.Second
	manySamples = int(time.Hour / sampleEach)
)

// history is the samples of the last hour, in memory.
type history struct {
	mu   sync.Mutex
	ring [manySamples]sample
	n    int // samples that there ever were
}

func (h *history) add(s sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ring[h.n%manySamples] = s
	h.n++
}

// since returns the samples from the number first on that are still there, and the
// number of the next.
func (h *history) since(first int) (some []sample, next int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if first > h.n { // of a daemon before this one
		first = 0
	}
	some = []sample{}
	for i := max(first, h.n-manySamples, 0); i < h.n; i++ {
		some = append(some, h.ring[i%manySamples])
	}
	return some, h.n
}

// keepHistory takes a sample every few seconds until the mount has ended.
func (d *daemon) keepHistory() {
	t := time.NewTicker(sampleEach)
	defer t.Stop()
	last, was := time.Now(), d.e.remote.Tally()
	c := d.e.j.Counts()
	d.history.add(sample{At: last.UnixMilli(), Pending: c.Pending, Bytes: c.Bytes})
	for {
		select {
		case <-d.ended:
			return
		case now := <-t.C:
			is, c := d.e.remote.Tally(), d.e.j.Counts()
			per := func(n int64) int64 { return int64(float64(n) / max(now.Sub(last).Seconds(), 0.001)) }
			d.history.add(sample{At: now.UnixMilli(), Sent: per(is.Sent - was.Sent), Received: per(is.Received - was.Received), Pending: c.Pending, Bytes: c.Bytes})
			last, was = now, is
		}
	}
}

// liveAnswer is the JSON of /live: what changes from second to second.
type liveAnswer struct {
	Status   mountStatus `json:"status"` // without the lists that /changes has
	Found    int         `json:"found"`  // in lost+found; the first of them are in status
	Ending   bool        `json:"ending"`
	Prefix   string      `json:"prefix"`
	Now      int64       `json:"now"`      // Unix milliseconds
	Sent     int64       `json:"sent"`     // bytes of bodies handed to the network since the daemon started
	Received int64       `json:"received"` // bytes of objects
	Samples  []sample    `json:"samples"`
	Next     int         `json:"next"` // ?since= of the next request
}

// listedFound is how many things of lost+found the page shows.
const listedFound = 200

func (d *daemon) live(r *http.Request) (a liveAnswer, err error) {
	first, _ := strconv.Atoi(r.FormValue("since"))
	if a.Status, err = d.status(); err != nil {
		return a, err
	}
	s := &a.Status
	s.Queue.Waiting, s.Queue.Kept = []writeback.Waiting{}, []writeback.Waiting{}
	a.Found = len(s.LostAndFound)
	s.LostAndFound = s.LostAndFound[:min(listedFound, a.Found)]
	t := d.e.remote.Tally()
	a.Ending, a.Prefix, a.Now, a.Sent, a.Received = d.stopping.Load(), d.e.place.prefix, time.Now().UnixMilli(), t.Sent, t.Received
	a.Samples, a.Next = d.history.since(first)
	return a, nil
}

// changesAnswer is the JSON of /changes: a page of a list.
type changesAnswer struct {
	Rows []changeItem `json:"rows"`
	Next string       `json:"next,omitempty"` // ?after= of the next page; absent: this is the last
}

type changeItem struct {
	Path string `json:"path"` // beneath the mount
	writeback.Waiting
}

// mostChanges is how many rows a page has at most.
const mostChanges = 1000

func (d *daemon) changes(r *http.Request) (a changesAnswer, err error) {
	q := writeback.ChangesQuery{Contains: r.FormValue("contains"), After: r.FormValue("after"), Max: 100}
	switch list := r.FormValue("list"); list {
	case "", "carried":
	case "stuck":
		q.Stuck = true
	default:
		return a, fmt.Errorf("list=%s: use carried or stuck", list)
	}
	if n, err := strconv.Atoi(r.FormValue("max")); err == nil && n > 0 {
		q.Max = min(n, mostChanges)
	}
	p, err := d.e.q.Changes(q)
	if err != nil {
		return a, err
	}
	a = changesAnswer{Rows: []changeItem{}, Next: p.Next}
	for _, w := range p.Rows {
		a.Rows = append(a.Rows, changeItem{Path: strings.TrimPrefix(w.Key, d.e.place.prefix), Waiting: w})
	}
	return a, nil
}

// sample is how the mount stands for /metrics.
func (d *daemon) sample() (m metrics.Sample, err error) {
	s, err := d.status()
	if err != nil {
		return m, err
	}
	q, t := s.Queue, d.e.remote.Tally()
	m = metrics.Sample{Ready: !d.stopping.Load(),
		Pending: q.Pending, Uploading: len(q.Uploading), Parked: q.Parked, Interrupted: q.Interrupted, PendingBytes: q.Bytes,
		Objects: q.Stats.Objects, Parts: q.Stats.Parts, Uploaded: q.Stats.BytesSent, Resumed: q.Stats.BytesKept, Received: t.Received,
		Retries: d.e.q.RetriesByClass(), Conflicts: q.Stats.Conflicts, Reachable: q.Away == "",
		RequestLimit: q.Requests.Limit, InFlight: q.Requests.InFlight, Commits: d.e.j.Commits(),
		CacheUsed: s.Room.Used, CacheSize: cmp.Or(s.Room.Quota, s.Cache.Total), DiskFree: s.Room.Disk, WritersWaiting: len(s.Room.Waiting),
		LostFiles: len(s.LostAndFound), LostBytes: s.LostBytes, OpenForWriting: len(s.OpenFiles), InternalErrors: s.InternalErrors}
	if q.Oldest != 0 {
		m.OldestPending = time.Unix(0, q.Oldest)
	}
	for o, n := range t.Requests {
		m.Requests = append(m.Requests, metrics.Requests{Operation: o.Operation, Result: o.Result, Count: n})
	}
	for _, o := range d.fs.Operations() {
		op := metrics.Operation{Name: o.Name, Times: o.Times, Errors: map[string]int64{}}
		for errno, n := range o.Errors {
			op.Errors[cmp.Or(unix.ErrnoName(errno), strconv.Itoa(int(errno)))] += n
		}
		m.Operations = append(m.Operations, op)
	}
	return m, nil
}
