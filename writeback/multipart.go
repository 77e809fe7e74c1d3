package writeback

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ossmount/ossmount/internal/crash"
	"github.com/ossmount/ossmount/internal/crc64"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// asked is how much earlier or later than our clock says OSS may have begun an
// upload whose ID we never learnt (H26).
const (
	askedBefore = 2 * time.Second
	askedAfter  = 5 * time.Minute
)

// multipart carries a big row: the upload begins or goes on, its missing parts
// are sent or copied, and it is completed.
func (t *transfer) multipart() error {
	src, err := t.source()
	if err != nil {
		return err
	}
	defer src.close()
	if err := t.keep(); err != nil {
		return err
	}
	u, todo, parts, err := t.begin(src)
	if err != nil {
		return t.restart(t.baseLost(err))
	}
	if parts, err = t.sendParts(u, todo, parts, src); err != nil {
		return t.restart(t.fillRefused(t.baseLost(err)))
	}
	if err := t.checksums(u, parts); err != nil {
		return t.restart(err)
	}
	if err := t.asWritten(parts, src); err != nil {
		return err
	}
	if err := t.look(); err != nil {
		return err
	}
	crash.At("all parts there")
	err = t.publish(u.Tag, func(ctx context.Context, _ string) (object.Ref, error) {
		return t.complete(ctx, u, parts)
	})
	if isTaken(err) {
		return t.taken(err)
	}
	return t.restart(err)
}

// restart deals with an upload that OSS does not know, or not so: a Complete
// without an answer may have ended it; otherwise it begins anew (crash table:
// "after Complete, before it was noted").
func (t *transfer) restart(err error) error {
	if err == nil || object.KindOf(err) != object.Restart {
		return err
	}
	if t.row.Note != nil && !t.q.o.rules.noR7 && !errors.Is(err, errIntegrity) {
		if done, herr := t.alreadyThere(); done || herr != nil {
			return herr
		}
	}
	level := slog.LevelInfo
	if t.q.tries(t.row.Key) > 0 {
		level = slog.LevelDebug // once is enough
	}
	t.q.log.Log(t.q.work, level, "the upload is not known to OSS any more; it begins anew from the local bytes", "key", t.row.Key, "err", err)
	return errors.Join(err, t.giveUploadUp())
}

// giveUploadUp ends the upload of the row's key: it begins anew, under the same tag
// if that is in the row's note. What it began with is kept then: its Complete may
// have landed, and the object carries that (H21).
func (t *transfer) giveUploadUp() error {
	_, err := t.q.j.Update(func(tx *journal.Tx) error {
		u, err := tx.Upload(t.row.Key)
		if err != nil || u == nil {
			return err
		}
		cur, err := tx.Row(t.row.Key)
		if err != nil {
			return err
		}
		if cur != nil && cur.Note != nil && u.Tag == cur.Note.Tag && u.Differs(cur) {
			cur.Note.Begun = &u.Begun
			if err := tx.PutRow(cur); err != nil {
				return err
			}
		}
		return oweAbort(tx, t.row.Key, u)
	})
	return err
}

// begin takes up the upload of the row's key, or asks for a new one, and plans
// its parts. It returns those that are there already.
func (t *transfer) begin(src *source) (*journal.Upload, []span, map[int]journal.Part, error) {
	q, row := t.q, t.row
	var u *journal.Upload
	var parts map[int]journal.Part
	err := q.j.View(func(tx *journal.Tx) (err error) {
		if u, err = tx.Upload(row.Key); err != nil || u == nil {
			return err
		}
		parts, err = tx.Parts(u.Num)
		return err
	})
	if err != nil {
		return nil, nil, nil, err
	}
	switch {
	case u == nil:
	case u.ID == "":
		err := q.abortUnnamed(row.Key, time.Unix(0, u.Asked), "")
		if isDenied(err) { // that is owed, and keeps nobody
			_, err = q.j.Update(func(tx *journal.Tx) error { return oweAbort(tx, row.Key, u) })
		}
		if err != nil {
			return nil, nil, nil, err
		}
	case u.Content != row.Content || u.Base != row.Base: // not of these bytes: it fell behind a crash
		if err := t.giveUploadUp(); err != nil {
			return nil, nil, nil, err
		}
	default:
		todo, err := t.planned(u, parts)
		if err == nil {
			parts, err = t.resume(u, todo, parts, src)
		}
		return u, todo, parts, err
	}
	u = &journal.Upload{Content: row.Content, Base: row.Base, Size: row.Size, PartSize: q.wanted().part,
		Begun: row.Begin(), Tag: t.tag(), Seq: row.Seq, Asked: time.Now().UnixNano()}
	todo, err := t.planned(u, nil)
	if err == nil {
		err = t.initiate(u)
	}
	return u, todo, map[int]journal.Part{}, err
}

// planned are the parts that u shall have, numbered; parts are those that the
// journal knows.
func (t *transfer) planned(u *journal.Upload, parts map[int]journal.Part) ([]span, error) {
	wanted := t.q.wanted()
	wanted.part = u.PartSize
	todo, err := plan(t.row.Size, t.row.Changed(), wanted)
	if err != nil {
		return nil, &object.Error{Op: "InitiateMultipartUpload", Key: t.row.Key, Kind: object.Parked, Err: err}
	}
	have := map[extentOf]int{}
	for n, p := range parts {
		have[extentOf{p.Off, p.Size}] = n
	}
	numbered(todo, have, MaxParts)
	return todo, nil
}

// initiate asks for the upload u: that it was asked for is durable before the
// request, the ID before the first part.
func (t *transfer) initiate(u *journal.Upload) (err error) {
	q, row := t.q, t.row
	if t.isPaused() {
		return errPaused
	}
	if err := t.noteUpload(u); err != nil {
		return err
	}
	if err := q.pace.acquire(q.work); err != nil {
		return errStopped
	}
	defer q.pace.release()
	crash.At("upload asked for, not sent")
	if u.ID, err = q.remote.Initiate(q.send, row.Key, t.options(u.Tag)); err != nil {
		return t.initiateLost(u, err)
	}
	crash.At("upload begun, ID not noted")
	q.log.Debug("an upload has begun", "key", row.Key, "size", row.Size)
	q.mu.Lock()
	q.reconciled[u.ID] = true
	q.mu.Unlock()
	return t.noteUpload(u)
}

// initiateLost notes, where err tells no answer, that the upload may begin as late as
// any request may land (R8), and then is nobody's: the next try asks for its own.
func (t *transfer) initiateLost(u *journal.Upload, err error) error {
	if object.FateOf(err) != object.Unknown {
		return err
	}
	now := time.Now()
	_, jerr := t.q.j.Update(func(tx *journal.Tx) error {
		return tx.AddDebt(journal.Debt{Key: t.row.Key, Asked: time.Unix(0, u.Asked), Since: now, Until: now.Add(t.q.o.Doubt)})
	})
	if jerr != nil && stillOpen(jerr) {
		return jerr
	}
	return err
}

// noteUpload writes u, if the row is still there, and waits for the horizon.
func (t *transfer) noteUpload(u *journal.Upload) error {
	at, err := t.q.j.Update(func(tx *journal.Tx) error {
		if t.eager != nil {
			return t.eager.noteEager(tx, u)
		}
		cur, err := tx.Row(t.row.Key)
		if err != nil {
			return err
		}
		if cur == nil || cur.Seq != t.row.Seq {
			if u.ID == "" {
				return errSuperseded
			}
			return tx.AddDebt(journal.Debt{Key: t.row.Key, Upload: u.ID, Since: time.Now()})
		}
		return tx.PutUpload(t.row.Key, u)
	})
	if err != nil {
		return err
	}
	crash.At("upload noted, not durable")
	if err := t.q.j.JoinHorizon(t.q.work, at); err != nil {
		return errStopped
	}
	return nil
}

// resume reconciles the parts that the journal knows with those that OSS
// holds, and with the bytes: a part counts if both sides have it. One that OSS
// has and the journal misses is taken if its checksum is that of the local
// bytes (H27).
func (t *transfer) resume(u *journal.Upload, todo []span, noted map[int]journal.Part, src *source) (map[int]journal.Part, error) {
	q := t.q
	q.mu.Lock()
	sure := q.reconciled[u.ID]
	q.mu.Unlock()
	held := noted
	if !sure {
		list, err := q.remote.Parts(q.work, t.row.Key, u.ID)
		switch {
		case object.KindOf(err) == object.Denied && err != nil:
			q.log.Warn("no permission for ListParts: the journal is trusted", "key", t.row.Key, "err", err)
		case err != nil:
			return nil, err
		default:
			held = map[int]journal.Part{}
			for _, p := range list {
				held[p.Number] = journal.Part{Number: p.Number, Size: p.Size, ETag: p.ETag, CRC64: p.CRC64, HasCRC: p.HasCRC}
			}
		}
	}
	good := map[int]journal.Part{}
	var kept int64
	for _, s := range todo {
		p, ok := held[s.number]
		if !ok || p.Size != s.n {
			continue
		}
		n, known := noted[s.number]
		known = known && n.Off == s.off && n.Size == p.Size && n.Copied == s.copy && object.SameETag(n.ETag, p.ETag)
		if known && !p.HasCRC {
			p.CRC64, p.HasCRC = n.CRC64, n.HasCRC
		}
		switch {
		case known && (s.copy || u.Seq == t.row.Seq):
		case s.copy || !src.isLocal(s.off, s.off+s.n):
			continue // to copy or send it again is less than to read what it has
		default:
			same, err := src.sameBytes(s, p)
			if err != nil {
				return nil, err
			}
			if !same {
				continue
			}
		}
		p.Number, p.Off, p.Copied = s.number, s.off, s.copy
		good[s.number] = p
		kept += s.n
	}
	u.Seq, u.Size = t.row.Seq, t.row.Size
	if err := t.noteParts(u, noted, good); err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if !sure {
		q.reconciled[u.ID] = true
		q.stats.BytesKept += kept
		q.stats.PartsResumed += int64(len(good))
		q.log.Info("an upload goes on", "key", t.row.Key, "parts", len(good), "bytes", kept, "of", t.row.Size)
	}
	return good, nil
}

// noteParts brings the parts that the journal has for u from noted to good.
func (t *transfer) noteParts(u *journal.Upload, noted, good map[int]journal.Part) error {
	var changes []func(tx *journal.Tx) error
	for n := range noted {
		if _, ok := good[n]; !ok {
			changes = append(changes, func(tx *journal.Tx) error { return tx.DropPart(u.Num, n) })
		}
	}
	for n, p := range good {
		if p != noted[n] {
			changes = append(changes, func(tx *journal.Tx) error { return tx.PutPart(u.Num, p) })
		}
	}
	changes = append(changes, func(tx *journal.Tx) error { return tx.PutUpload(t.row.Key, u) })
	for some := range slices.Chunk(changes, 1000) {
		_, err := t.q.j.Update(func(tx *journal.Tx) error {
			cur, err := tx.Upload(t.row.Key)
			if err != nil || cur == nil || cur.Num != u.Num {
				return err
			}
			for _, change := range some {
				if err := change(tx); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sameBytes compares the part that OSS holds with the local bytes: by its CRC64,
// or, where OSS tells none, by its ETag, which is an MD5 unless it is encrypted by
// KMS; then nothing is like it, and the part is sent again (H27).
func (s *source) sameBytes(at span, p journal.Part) (bool, error) {
	h, want := hash.Hash(crc64.New()), binary.BigEndian.AppendUint64(nil, p.CRC64)
	if !p.HasCRC {
		sum, err := hex.DecodeString(p.ETag)
		if err != nil || len(sum) != md5.Size {
			return false, nil
		}
		h, want = md5.New(), sum
	}
	body := s.body(at.off, at.n)
	defer body.Close()
	if _, err := io.Copy(h, body); err != nil {
		return false, err
	}
	return bytes.Equal(h.Sum(nil), want), nil
}

// sendParts sends what is missing, several parts at once, each noted as soon
// as it is acknowledged. After a failure no further part is begun, but those
// under way are finished: their bytes are worth keeping.
func (t *transfer) sendParts(u *journal.Upload, todo []span, have map[int]journal.Part, src *source) (map[int]journal.Part, error) {
	q := t.q
	p := &progress{}
	p.parts.Store(int64(len(todo)))
	p.bytes.Store(t.row.Size)
	for _, h := range have {
		p.done.Add(1)
		p.sent.Add(h.Size)
	}
	t.upload.Store(p)
	var mu sync.Mutex
	all := make(map[int]journal.Part, len(todo))
	for n, h := range have {
		all[n] = h
	}
	var probe, paused error
	g, ctx := errgroup.WithContext(q.work) // ctx only keeps further parts from being begun
	for _, s := range todo {
		if _, ok := have[s.number]; ok {
			continue
		}
		release, err := t.partSlot(ctx, !s.copy, s.n)
		if errors.Is(err, errPaused) {
			paused = err
		}
		if err != nil {
			break
		}
		send := func() error {
			defer release()
			var part journal.Part
			err := q.guard(func() (err error) { part, err = t.sendPart(u, s, src); return err })
			if err != nil {
				return err
			}
			p.done.Add(1)
			p.sent.Add(s.n)
			mu.Lock()
			defer mu.Unlock()
			all[s.number] = part
			return nil
		}
		if !q.ill() {
			g.Go(send)
		} else if probe = send(); probe != nil { // one at a time, until OSS answers
			break
		}
	}
	if err := errors.Join(g.Wait(), probe); err != nil {
		return nil, err
	}
	switch {
	case t.superseded.Load() && t.changed():
		return nil, errSuperseded
	case t.isStopped() || q.work.Err() != nil:
		return nil, errStopped
	case paused != nil:
		return nil, paused
	case len(all) < len(todo):
		return nil, errAgainNow
	}
	return all, nil
}

// checksums asks for the CRC64 of those parts of which OSS has not said any: it
// does not, as a rule, when a part is copied. Where all of the base was copied,
// that must be the base's.
func (t *transfer) checksums(u *journal.Upload, parts map[int]journal.Part) error {
	q, missing := t.q, false
	for _, p := range parts {
		missing = missing || !p.HasCRC
	}
	if !missing || t.row.IsHole() { // of one that is all copied, the base tells
		return nil
	}
	list, err := q.remote.Parts(q.work, t.row.Key, u.ID)
	if err != nil && object.KindOf(err) == object.Denied {
		return nil // then its size must do (H27)
	}
	if err != nil {
		return err
	}
	for _, l := range list {
		if p, ok := parts[l.Number]; ok && l.HasCRC && l.Size == p.Size && object.SameETag(l.ETag, p.ETag) {
			p.CRC64, p.HasCRC = l.CRC64, true
			parts[l.Number] = p
		}
	}
	crc, n := uint64(0), int64(0)
	for _, p := range inOrder(parts) {
		if !p.Copied || !p.HasCRC {
			break
		}
		crc, n = crc64.Combine(crc, p.CRC64, p.Size), n+p.Size
	}
	if base := t.row.Base; n == base.Size && base.HasCRC && crc != base.CRC64 {
		return &object.Error{Op: "UploadPartCopy", Key: t.row.Key, Kind: object.Restart, Fate: object.Answered,
			Err: fmt.Errorf("%w: copied were %d bytes with CRC64 %d, those of the object have %d", errIntegrity, n, crc, base.CRC64)}
	}
	return nil
}

func inOrder(parts map[int]journal.Part) []journal.Part {
	return slices.SortedFunc(maps.Values(parts), func(a, b journal.Part) int { return a.Number - b.Number })
}

// complete makes the object of the parts, and compares what OSS says that it
// made with what was sent.
func (t *transfer) complete(ctx context.Context, u *journal.Upload, parts map[int]journal.Part) (object.Ref, error) {
	q := t.q
	list := make([]object.Part, 0, len(parts))
	for _, p := range inOrder(parts) {
		list = append(list, object.Part{Number: p.Number, Size: p.Size, ETag: p.ETag, CRC64: p.CRC64, HasCRC: p.HasCRC})
	}
	if err := q.pace.acquire(q.work); err != nil {
		return object.Ref{}, errStopped
	}
	defer q.pace.release()
	ref, err := q.remote.Complete(ctx, t.row.Key, u.ID, list, object.PutOptions{ForbidOverwrite: t.isNew(), Headers: t.headers()})
	if err != nil {
		return ref, err
	}
	t.joined = u.ID
	q.forgetUpload(u.ID)
	want, sure := t.expectedCRC(parts)
	if ref.Size != t.row.Size || sure && ref.HasCRC && ref.CRC64 != want {
		return ref, &object.Error{Op: "CompleteMultipartUpload", Key: t.row.Key, Kind: object.Restart, Fate: object.Answered,
			Err: fmt.Errorf("%w: OSS made an object of %d bytes with CRC64 %d, announced were %d bytes with %d", errIntegrity, ref.Size, ref.CRC64, t.row.Size, want)}
	}
	return ref, nil
}

func (q *Queue) forgetUpload(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.reconciled, id)
}

// expectedCRC is what the object will have if it is what its parts are.
func (t *transfer) expectedCRC(parts map[int]journal.Part) (crc uint64, sure bool) {
	if t.row.IsHole() {
		return t.row.Base.CRC64, t.row.Base.HasCRC
	}
	for _, p := range parts {
		if !p.HasCRC {
			return 0, false
		}
	}
	for _, p := range inOrder(parts) {
		crc = crc64.Combine(crc, p.CRC64, p.Size)
	}
	return crc, true
}

// partsCRC is expectedCRC of the upload that the journal has for the row, if
// those are all its parts.
func (t *transfer) partsCRC() (crc uint64, sure bool, err error) {
	err = t.q.j.View(func(tx *journal.Tx) error {
		u, err := tx.Upload(t.row.Key)
		if err != nil || u == nil || t.row.Note == nil || u.Tag != t.row.Note.Tag {
			return err
		}
		parts, err := tx.Parts(u.Num)
		n := int64(0)
		for _, p := range parts {
			n += p.Size
		}
		if err == nil && n == t.row.Size {
			crc, sure = t.expectedCRC(parts)
		}
		return err
	})
	return crc, sure, err
}

// abortUnnamed aborts the upload of key that was asked for at asked and whose
// ID was never noted: one of that very key, without a part, begun within the
// bounds of H26, and not the one known by the ID except.
func (q *Queue) abortUnnamed(key string, asked time.Time, except string) error {
	list, err := q.remote.Uploads(q.work, key)
	if err != nil {
		return err
	}
	for _, u := range list {
		if u.ID == except || u.Initiated.Before(asked.Add(-askedBefore)) || u.Initiated.After(asked.Add(askedAfter)) {
			continue
		}
		parts, err := q.remote.Parts(q.work, key, u.ID)
		if err != nil && object.KindOf(err) != object.Restart {
			return err
		}
		if err == nil && len(parts) == 0 {
			if err := q.remote.Abort(q.send, key, u.ID); err != nil {
				return err
			}
		}
	}
	return nil
}
