package writeback

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ossmount/ossmount/journal"
)

// What somebody may look at of single changes, beside the status as a whole.

// Intent is one row and how far it has come.
type Intent struct {
	Waiting
	Sent   int64 `json:"sent,omitempty"`
	Under  int64 `json:"under_way,omitempty"` // bytes of requests that have no answer yet
	Parts  int64 `json:"parts,omitempty"`
	Done   int64 `json:"parts_done,omitempty"`
	Closed int64 `json:"closed"` // Unix nanoseconds
}

// Intents returns the first n rows of the file key, or beneath it if it ends in "/",
// or of all if it is "", by key, and whether there are more.
func (q *Queue) Intents(key string, n int) (all []Intent, more bool, err error) {
	all = []Intent{}
	err = q.j.View(func(tx *journal.Tx) error {
		for r, err := range tx.Rows(key, "") {
			switch {
			case err != nil:
				return err
			case key != "" && r.Key != key && !strings.HasSuffix(key, "/"):
				continue
			case len(all) == n:
				more = true
				return nil
			}
			all = append(all, Intent{Waiting: waitingOf(r), Closed: r.Closed})
		}
		return nil
	})
	q.addProgress(all)
	return all, more, err
}

func (q *Queue) addProgress(all []Intent) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range all {
		w := &all[i]
		if w.State != "pending" {
			continue
		}
		if t := q.running[w.Key]; t != nil {
			w.State, w.Under = "uploading", t.flying.Load()
			if p := t.upload.Load(); p != nil {
				w.Parts, w.Done, w.Sent = p.parts.Load(), p.done.Load(), p.sent.Load()
			}
			continue
		}
		if w.Reason = q.blocked[w.Key].why; q.pausedLocked(w.Key) {
			w.State, w.Reason = pausedState, ""
		}
		if r := q.retries[w.Key]; r != nil {
			w.Tries = r.n
		}
	}
}

// Ways in which a row gets to OSS.
const (
	wayPut       = "put"       // one request with all bytes
	wayMultipart = "multipart" // in parts
	wayCopy      = "copy"      // on the server
	wayDelete    = "delete"
)

// PartsOf is the upload of one file.
type PartsOf struct {
	Key   string      `json:"key"`
	State string      `json:"state"`        // as user.ossmount.state has it
	Way   string      `json:"way"`          // put, multipart, copy or delete
	ID    string      `json:"id,omitempty"` // of the multipart upload, once OSS has given it
	Size  int64       `json:"size"`
	Parts []PartState `json:"parts"` // by their place
}

// PartState is one part of a file.
type PartState struct {
	Number int    `json:"number"`
	Off    int64  `json:"offset"`
	Size   int64  `json:"size"`
	State  string `json:"state"` // sent, copied, pending, or to be copied
	ETag   string `json:"etag,omitempty"`
}

// PartsOf tells of the upload of the file key what its parts are, as the journal has
// them, and which OSS has acknowledged. A file that has no row yet, because it is
// sent while it grows, has those only that were. ErrNoRow: there is none.
func (q *Queue) PartsOf(key string) (p PartsOf, err error) {
	var row *Row
	var u *journal.Upload
	sent := map[int]journal.Part{}
	err = q.j.View(func(tx *journal.Tx) (err error) {
		if row, err = tx.Row(key); err != nil {
			return err
		}
		if u, err = tx.Upload(key); err != nil || u == nil {
			return err
		}
		if row != nil && (u.Content != row.Content || u.Base != row.Base) {
			u = nil // of other bytes: it is about to be given up
			return nil
		}
		sent, err = tx.Parts(u.Num)
		return err
	})
	switch {
	case err != nil:
		return p, err
	case row == nil && u == nil:
		return p, ErrNoRow
	}
	p = PartsOf{Key: key, Way: wayMultipart, Parts: []PartState{}}
	if p.State, err = q.State(key); err != nil {
		return p, err
	}
	if u != nil {
		p.ID, p.Size = u.ID, u.Size
	}
	if row != nil {
		p.Size = row.Size
		if p.Way = q.wayOf(row); p.Way == wayMultipart {
			if err := q.addPlanned(&p, row, u, sent); err != nil {
				return p, err
			}
		}
	} else {
		p.State = "open"
	}
	for _, s := range sent { // beyond what was planned: the file grows
		p.Parts = append(p.Parts, acknowledged(s))
		p.Size = max(p.Size, s.Off+s.Size)
	}
	slices.SortFunc(p.Parts, func(a, b PartState) int { return cmp.Or(cmp.Compare(a.Off, b.Off), a.Number-b.Number) })
	return p, nil
}

func acknowledged(s journal.Part) PartState {
	state := "sent"
	if s.Copied {
		state = "copied"
	}
	return PartState{Number: s.Number, Off: s.Off, Size: s.Size, State: state, ETag: s.ETag}
}

// wayOf says how the row is carried (carry.go: carry).
func (q *Queue) wayOf(row *Row) string {
	switch {
	case row.Kind == journal.Delete:
		return wayDelete
	case row.IsHole():
		return wayCopy
	case row.Content != 0 && row.Size > q.o.Threshold:
		return wayMultipart
	}
	return wayPut
}

// addPlanned adds the parts that the row shall have, and takes those from sent that
// are among them.
func (q *Queue) addPlanned(p *PartsOf, row *Row, u *journal.Upload, sent map[int]journal.Part) error {
	t := &transfer{q: q, first: row, row: row}
	if u == nil {
		u = &journal.Upload{PartSize: q.wanted().part}
	}
	todo, err := t.planned(u, sent)
	if err != nil {
		return err
	}
	for _, s := range todo {
		if have, ok := sent[s.number]; ok && have.Off == s.off && have.Size == s.n && have.Copied == s.copy {
			p.Parts = append(p.Parts, acknowledged(have))
			delete(sent, s.number)
			continue
		}
		state := "pending"
		if s.copy {
			state = "to be copied"
		}
		p.Parts = append(p.Parts, PartState{Number: s.number, Off: s.off, Size: s.n, State: state})
	}
	if row.Open { // what else was sent is of bytes behind the last commit
		return nil
	}
	clear(sent)
	return nil
}

// Progress tells how many bytes of the file key OSS has acknowledged, of how many;
// ok is false where none are to be sent.
func (q *Queue) Progress(key string) (sent, size int64, ok bool, err error) {
	row, err := q.Row(key)
	if err != nil {
		return 0, 0, false, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if row != nil && row.Kind == journal.Put {
		size, ok = row.Size, true
	}
	if t := q.running[key]; t != nil {
		if t.eager != nil {
			size, ok = t.eager.frontier, true
		}
		if p := t.upload.Load(); p != nil {
			sent = p.sent.Load()
		}
		return min(sent, size), size, ok, nil
	}
	return 0, size, ok, nil
}
