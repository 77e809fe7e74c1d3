package writeback

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ossmount/ossmount/internal/crash"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// A file that grows is sent while it is still being written, so that the time
// from its close to the object does not grow with its size:
//
//	written   ████████████████████████████░░░
//	parts     │ 1 │ 2 │ 3 │ 4 │ 5 │ 6 │ 7 │
//	sent       ✓   ✓   ✓   ✓   …   …        behind the frontier of what was written
//
// No row speaks for these bytes yet, and they may change again. The parts are an
// upload of the content in the journal as any other: the transfer of the row,
// once there is one, goes on with it, and takes those parts whose bytes are still
// the same. An upload that no row has come for becomes a debt, at the next start
// at the latest (H26). Nothing is published here.

// eagerParts is how many parts a file must have before it is sent eagerly.
const eagerParts = 3

// eager is the sending of one growing content.
type eager struct {
	*transfer
	content  uint64
	frontier int64         // under Queue.mu: so many bytes are written
	ending   bool          // under Queue.mu: no further part is begun
	wake     chan struct{} // something has changed
}

// Grown tells that the content of r, a file that is open and whose bytes are all
// here, has r.Size bytes that are not expected to change, and returns from which
// size on it should be told again; 0: it need not.
func (q *Queue) Grown(r *Row) (next int64) {
	part := q.wanted().part
	switch {
	case !q.o.Eager:
		return 0
	case r.Size < eagerParts*part:
		return eagerParts * part
	}
	e, begin := q.grows(r)
	switch {
	case e == nil || e.first.Key != r.Key:
		return 0 // its name has another upload, or it has another name
	case begin:
		q.group.Go(func() error { q.runEager(e); return nil })
	}
	return r.Size + part
}

// grows moves the frontier of the content of r, which begins to be sent if it is
// not yet, and if the transfers of rows leave room.
func (q *Queue) grows(r *Row) (e *eager, begin bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e = q.eagers[r.Content]; e != nil {
		e.frontier = max(e.frontier, r.Size)
		if e.first.Key != r.Key {
			e.endLocked()
		}
		nudge(e.wake)
		return e, false
	}
	row := *r
	row.Kind = journal.Put
	e = &eager{transfer: &transfer{q: q, first: &row, row: &row}, content: r.Content, frontier: r.Size, wake: make(chan struct{}, 1)}
	e.eager = e
	switch {
	case q.running[r.Key] != nil: // R1
		return nil, false
	case q.health.away != nil, q.isDeniedAtLocked(&row), q.work.Err() != nil, len(q.eagers) >= q.o.Concurrency, q.pausedLocked(r.Key), time.Now().Before(q.eagerAfter):
		return e, false // perhaps later
	}
	q.running[r.Key], q.eagers[r.Content] = e.transfer, e
	return e, true
}

// eagerPause is how long no file begins to be sent ahead after that has failed.
const eagerPause = 2 * time.Second

func (q *Queue) runEager(e *eager) {
	err := q.guard(e.run)
	var failed *object.Error
	if errors.As(err, &failed) {
		q.log.Debug("an open file is not sent ahead for now", "key", e.first.Key, "err", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.running, e.first.Key)
	delete(q.eagers, e.content)
	q.again[e.first.Key] = struct{}{}
	if failed != nil || errors.Is(err, errInternal) {
		q.eagerAfter = time.Now().Add(eagerPause)
	}
	q.poke()
}

// endLocked has e begin no further part.
func (e *eager) endLocked() {
	e.ending = true
	nudge(e.wake)
}

// run sends parts as the file grows, until the transfer of its row is due.
func (e *eager) run() error {
	src, err := e.source()
	if err != nil {
		return err
	}
	defer src.close()
	if err := e.keep(); err != nil {
		return err
	}
	u, have, err := e.take()
	if err != nil {
		return err
	}
	wanted := e.q.wanted()
	wanted.part = u.PartSize
	p := &progress{}
	e.upload.Store(p)
	g, ctx := errgroup.WithContext(e.q.work)
	for s := (span{number: 1}); s.number < MaxParts; s.number, s.off = s.number+1, s.off+s.n {
		s.n = wanted.steadyPart(s.number)
		if !e.awaits(ctx, u, s.off+s.n) {
			break
		}
		p.parts.Store(int64(s.number))
		p.bytes.Store(s.off + s.n)
		if h, ok := have[s.number]; ok && h.Off == s.off && h.Size == s.n {
			p.done.Add(1)
			p.sent.Add(s.n)
			continue
		}
		release, err := e.partSlot(ctx, true, s.n)
		if err != nil {
			break
		}
		g.Go(func() error {
			defer release()
			err := e.q.guard(func() error { _, err := e.sendPart(u, s, src); return err })
			if err == nil {
				p.done.Add(1)
				p.sent.Add(s.n)
			}
			return err
		})
	}
	return g.Wait()
}

// awaits returns true when the file is written up to end, and false when nothing
// more shall be sent.
func (e *eager) awaits(ctx context.Context, u *journal.Upload, end int64) bool {
	for {
		frontier, ok := e.ready()
		if !ok || e.superseded.Swap(false) && !e.isOf(u) {
			return false
		}
		if frontier >= end {
			return true
		}
		select {
		case <-e.wake:
		case <-ctx.Done():
			return false
		}
	}
}

func (e *eager) ready() (frontier int64, ok bool) {
	e.q.mu.Lock()
	defer e.q.mu.Unlock()
	return e.frontier, !e.ending && e.q.work.Err() == nil
}

// isOf reports that the journal still has u for the key.
func (e *eager) isOf(u *journal.Upload) (yes bool) {
	_ = e.q.j.View(func(tx *journal.Tx) error {
		cur, err := tx.Upload(e.first.Key)
		yes = err == nil && cur != nil && cur.Num == u.Num
		return err
	})
	return yes
}

// take takes up the upload of the content, or asks for one.
func (e *eager) take() (u *journal.Upload, have map[int]journal.Part, err error) {
	err = e.q.j.View(func(tx *journal.Tx) (err error) {
		if u, err = tx.Upload(e.first.Key); err != nil || u == nil {
			return err
		}
		have, err = tx.Parts(u.Num)
		return err
	})
	switch {
	case err != nil:
		return nil, nil, err
	case u != nil && u.Content == e.content && u.ID != "":
		return u, have, nil
	case u != nil:
		return nil, nil, errSuperseded // of other bytes
	}
	u = &journal.Upload{Content: e.content, PartSize: e.q.wanted().part, Begun: e.row.Begin(), Asked: time.Now().UnixNano()}
	return u, nil, e.initiate(u)
}

// noteEager is noteUpload (multipart.go) for a content that no row names yet.
func (e *eager) noteEager(tx *journal.Tx, u *journal.Upload) error {
	key := e.first.Key
	row, err := tx.Row(key)
	if err != nil {
		return err
	}
	cur, err := tx.Upload(key)
	if err != nil {
		return err
	}
	name, _, _ := tx.Named(e.content) // another: it was renamed, and is sent ahead under that
	free := row == nil && name == "" || row != nil && row.Kind == journal.Put && row.Content == e.content
	switch {
	case u.ID == "" && (!free || cur != nil):
		return errSuperseded
	case u.ID == "":
		u.Tag = e.q.tag(tx.Seq())
		tx.BeforeCommit(func() error { return e.q.sentAhead(e.content, key) })
	case !free || cur == nil || cur.Num != u.Num:
		return tx.AddDebt(journal.Debt{Key: key, Upload: u.ID, Since: time.Now()})
	}
	return tx.PutUpload(key, u)
}

// sentAhead remembers under which key content n is sent while it is open. If it
// is not any more, nobody would end its upload (sealAhead).
func (q *Queue) sentAhead(n uint64, key string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open[n] == 0 {
		return errSuperseded
	}
	q.ahead[n] = key
	return nil
}

// sealAhead gives the upload of content n up if its file was closed under another
// name than it had, or under none ("").
func (q *Queue) sealAhead(n uint64, name string) {
	key, ok := q.takeAhead(n, name)
	if !ok {
		return
	}
	_, err := q.j.Update(func(tx *journal.Tx) error {
		u, err := tx.Upload(key)
		if err != nil || u == nil || u.Content != n {
			return err
		}
		return oweAbort(tx, key, u)
	})
	crash.At("what was sent ahead given up")
	if err != nil && stillOpen(err) {
		q.log.Warn("an upload is given up at the next start only", "key", key, "err", err)
	}
}

func (q *Queue) takeAhead(n uint64, name string) (key string, other bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	key, ok := q.ahead[n]
	delete(q.ahead, n)
	if ok && key != name {
		if e := q.eagers[n]; e != nil {
			e.endLocked()
		}
		return key, true
	}
	return key, false
}
