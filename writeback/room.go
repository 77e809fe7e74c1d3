package writeback

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/journal"
)

// shortage is how programs wait for room on the disk. Guarded by Queue.mu.
type shortage struct {
	waiting  map[*waiter]struct{}
	since    time.Time // when there was progress last, or the first began to wait; zero: nobody waits
	moved    int64     // what there had been of it then
	dropped  int64     // contents that are gone, since Open
	dropping bool      // some have been given up, and go as soon as the horizon has moved
	said     bool      // that somebody waits
	why      string    // why room was refused last, while it is
	spares   []func()  // give up what can be had again (Queue.Spare)
}

// waiter is one call that waits.
type waiter struct{ key string }

// Spare has f called when room is short, before copies of what OSS has are given
// up: it should give up what it can have again at once.
func (q *Queue) Spare(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.short.spares = append(q.short.spares, f)
}

// IsFull reports that err says there is no room, on the disk or in the quota.
func IsFull(err error) bool {
	return errors.Is(err, cache.ErrNoRoom) || errors.Is(err, journal.ErrNoRoom)
}

// WithRoom runs f, which takes n bytes of the disk for the file key, when there is
// room, and again when it finds none. It waits as long as the engine makes
// progress, and Options.RoomWait without any, with no lock held; the end of ctx
// ends the waiting.
func (q *Queue) WithRoom(ctx context.Context, key func() string, n int64, f func() error) error {
	if q.c.Room(cache.Writer) >= n {
		if err := f(); !IsFull(err) {
			return err
		}
	}
	w := &waiter{key()}
	q.enterShortage(w)
	defer q.leaveShortage(w)
	var last error = cache.ErrNoRoom
	for {
		if err := q.awaitRoom(ctx, w, last); err != nil {
			return err
		}
		if q.c.Room(cache.Writer) < n {
			continue
		}
		if last = f(); !IsFull(last) {
			return last
		}
	}
}

func (q *Queue) enterShortage(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.short.waiting) == 0 && q.short.since.IsZero() {
		q.short.since, q.short.moved = time.Now(), q.movedLocked()
		q.poke() // programs are given way to no more
	}
	q.short.waiting[w] = struct{}{}
}

func (q *Queue) leaveShortage(w *waiter) {
	q.forget(w)
	q.endShortage()
}

func (q *Queue) forget(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.short.waiting, w)
}

// mostOfWrite is the largest write that the kernel sends: with room for one more
// there is no shortage.
const mostOfWrite = 1 << 20

func (q *Queue) endShortage() {
	room := q.c.Room(cache.Writer) >= mostOfWrite
	q.mu.Lock()
	defer q.mu.Unlock()
	if !room || len(q.short.waiting) > 0 {
		return
	}
	if q.short.said || q.short.why != "" {
		q.log.Info("there is room again")
	}
	q.short.since, q.short.said, q.short.why = time.Time{}, false, ""
}

// movedLocked grows with what makes room sooner or later.
func (q *Queue) movedLocked() int64 { return q.stats.BytesSent + q.stats.Objects + q.short.dropped }

// roomLook is how often those who wait look for room.
const roomLook = 50 * time.Millisecond

// awaitRoom waits a moment, and returns an error when it is in vain.
func (q *Queue) awaitRoom(ctx context.Context, w *waiter, last error) error {
	nudge(q.tidy)
	if why := q.stuck(); why != "" {
		return q.refuse(w, why)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-q.work.Done():
		return last
	case <-time.After(roomLook):
	}
	u, _ := q.c.Usage()
	q.mu.Lock()
	defer q.mu.Unlock()
	if moved := q.movedLocked(); moved != q.short.moved || q.short.dropping {
		q.short.since, q.short.moved = time.Now(), moved
	}
	still := time.Since(q.short.since)
	if !q.short.said && still > q.o.RoomWait/4 {
		q.short.said = true
		q.log.Warn("no room: writers wait while the engine makes some", "file", w.key, "used", u.Used, "quota", u.Size, "disk_free", u.Disk, "reserve", u.MinFree, "err", last)
	}
	if still > q.o.RoomWait {
		return q.refuseLocked(w, fmt.Sprintf("nothing was sent or dropped for %s", q.o.RoomWait))
	}
	return nil
}

func (q *Queue) refuse(w *waiter, why string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.refuseLocked(w, why)
}

func (q *Queue) refuseLocked(w *waiter, why string) error {
	if q.short.why != why {
		q.log.Error("no room: writers get ENOSPC; what is closed is kept", "file", w.key, "reason", why)
	}
	q.short.why = why
	return fmt.Errorf("%w for %q: %s", cache.ErrNoRoom, w.key, why)
}

// ReaderRoom reports whether n bytes of what OSS has may be kept.
func (q *Queue) ReaderRoom(n int64) bool {
	if q.c.Room(cache.Reader) >= n {
		return true
	}
	nudge(q.tidy)
	return false
}

// stuck returns why waiting is in vain: what nobody carries takes more than half
// of the quota (H44).
func (q *Queue) stuck() string {
	u, err := q.c.Usage()
	if err != nil || u.Size == 0 {
		return ""
	}
	if n := q.j.Counts().Stuck + u.Found; n > u.Size/2 {
		return fmt.Sprintf("parked, interrupted and found files take %d bytes, more than half of the quota of %d: see ossmount status, and act on them or give a larger --cache-size", n, u.Size)
	}
	return ""
}

// low is from when on copies are given up, before anybody must wait.
func low(size int64) int64 { return min(max(size/32, 2<<20), 256<<20) }

// fewInodes is from how many files less on.
const fewInodes = 64

// evict gives up copies of what OSS has, those that were used longest ago first,
// when there is little room. They go whole.
func (q *Queue) evict() {
	u, err := q.c.Usage()
	if err != nil {
		return
	}
	low, free := low(u.Total), q.c.Room(cache.Reader)
	inodes := u.Files > 0 && u.FilesFree < fewInodes
	if free >= low && !inodes {
		return
	}
	q.mu.Lock()
	spares := q.short.spares
	q.mu.Unlock()
	for _, f := range spares {
		f()
	}
	want := 2*low - free
	if inodes {
		want = 1 << 62
	}
	seq := q.giveUpCopies(want)
	q.setDropping(seq != 0)
	defer q.setDropping(false)
	if seq == 0 {
		seq = q.j.Last() // of what was spared
	}
	if q.j.WaitHorizon(q.work, seq) == nil {
		q.sweep()
	}
}

func (q *Queue) setDropping(on bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.short.dropping = on
}

// giveUpCopies takes their records from copies of want bytes in all, a batch at most.
func (q *Queue) giveUpCopies(want int64) (seq uint64) {
	var cleans []*journal.Clean
	err := q.j.View(func(tx *journal.Tx) error {
		for c, err := range tx.Cleans() {
			if err != nil {
				return err
			}
			cleans = append(cleans, c)
		}
		return nil
	})
	if err != nil {
		return 0
	}
	sort.Slice(cleans, func(i, k int) bool { return cleans[i].Used < cleans[k].Used })
	cleans = q.unread(cleans, want)
	if len(cleans) == 0 {
		return 0
	}
	seq, err = q.j.Update(func(tx *journal.Tx) error {
		for _, c := range cleans {
			if err := tx.DropClean(c.Key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0
	}
	q.log.Debug("room is short: clean copies are given up", "copies", len(cleans))
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range cleans {
		q.unneedLocked(c.Content, seq)
	}
	return seq
}

// unread returns the first of cleans that nobody has open, up to want bytes: the
// others take their room until they are closed.
func (q *Queue) unread(cleans []*journal.Clean, want int64) (out []*journal.Clean) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range cleans {
		if want <= 0 || len(out) == evictBatch {
			break
		}
		if len(q.follows[c.Content]) == 0 && len(q.readers[c.Content]) == 0 && q.open[c.Content] == 0 {
			out, want = append(out, c), want-c.Ref.Size
		}
	}
	return out
}

// evictBatch is how many clean copies lose their record in one commit.
const evictBatch = 256

// engineRoom returns an error unless the engine may take n bytes: it tries again.
func (q *Queue) engineRoom(n int64) error {
	if q.c.Room(cache.Engine) >= n {
		return nil
	}
	nudge(q.tidy)
	return fmt.Errorf("%w: %d bytes must be fetched", cache.ErrNoRoom, n)
}

// RoomStatus is how the cache disk stands.
type RoomStatus struct {
	Quota   int64        `json:"quota"`   // bytes that contents may take
	Used    int64        `json:"used"`    // and take
	Pending int64        `json:"pending"` // of these: of files that are to be uploaded
	Stuck   int64        `json:"stuck"`   // of parked and interrupted ones
	Found   int64        `json:"found"`   // in lost+found
	Clean   int64        `json:"clean"`   // the rest: copies of what OSS has, and files that are open
	Reserve int64        `json:"reserve"` // bytes of the disk left to others
	Disk    int64        `json:"disk"`    // bytes that the disk has left
	Journal journal.Room `json:"journal"`
	Waiting []string     `json:"waiting"`       // the first files whose writers wait for room
	Why     string       `json:"why,omitempty"` // why writers get ENOSPC
}

// RoomOf looks at the cache disk.
func RoomOf(j *journal.Journal, c *cache.Cache) (RoomStatus, error) {
	u, err := c.Usage()
	if err != nil {
		return RoomStatus{}, err
	}
	n := j.Counts()
	return RoomStatus{Quota: u.Size, Used: u.Used, Pending: n.Here, Stuck: n.Stuck, Found: u.Found,
		Clean: max(0, u.Used-n.Here-n.Stuck-u.Found), Reserve: u.MinFree, Disk: u.Disk,
		Journal: j.Room(), Waiting: []string{}}, nil
}

// Room looks at the cache disk, and who waits for it.
func (q *Queue) Room() (RoomStatus, error) {
	s, err := RoomOf(q.j, q.c)
	if err != nil {
		return s, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	s.Why = q.short.why
	for w := range q.short.waiting {
		if len(s.Waiting) < listed {
			s.Waiting = append(s.Waiting, w.key)
		}
	}
	sort.Strings(s.Waiting)
	return s, nil
}
