package writeback

import (
	"slices"
	"strings"

	"github.com/ossmount/ossmount/journal"
)

// A list of changes is read in pages, by key: there may be a million of them.

// ChangesQuery says which changes a page shows.
type ChangesQuery struct {
	Stuck    bool   // those that wait for somebody to act, in place of those that are carried
	Contains string // in the key, without regard to case; "": all
	After    string // the key that the page before ended at; "": the first page
	Max      int    // rows of a page, at least 1
}

// ChangesPage is a page of a list.
type ChangesPage struct {
	Rows []Waiting
	Next string // After of the next page; "": this is the last one
}

// lookedAt is how many changes one page looks at: with a filter that few of them
// pass, a page may be short, and is still not the last.
const lookedAt = 20_000

// Changes returns a page of the changes by key, each with what it waits for.
func (q *Queue) Changes(c ChangesQuery) (ChangesPage, error) {
	p := ChangesPage{Rows: []Waiting{}}
	err := q.j.View(func(tx *journal.Tx) error {
		if c.Stuck {
			return c.stuck(tx, &p)
		}
		return c.carried(tx, &p)
	})
	if err == nil && !c.Stuck {
		q.sayWhy(p.Rows)
	}
	return p, err
}

func (c *ChangesQuery) wants(key string) bool {
	return c.Contains == "" || strings.Contains(strings.ToLower(key), strings.ToLower(c.Contains))
}

func (c *ChangesQuery) carried(tx *journal.Tx, p *ChangesPage) error {
	from, n, last := "", 0, ""
	if c.After != "" {
		from = c.After + "\x00"
	}
	for r, err := range tx.Rows("", from) {
		if err != nil {
			return err
		}
		if len(p.Rows) == c.Max || n == lookedAt {
			p.Next = last
			return nil
		}
		n, last = n+1, r.Key
		if r.Waiting() && c.wants(r.Key) {
			p.Rows = append(p.Rows, waitingOf(r))
		}
	}
	return nil
}

func (c *ChangesQuery) stuck(tx *journal.Tx, p *ChangesPage) error {
	var keys []string
	for key := range tx.Stuck() {
		if key > c.After && c.wants(key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	if len(keys) > c.Max {
		keys = keys[:c.Max]
		p.Next = keys[c.Max-1]
	}
	for _, key := range keys {
		r, err := tx.Row(key)
		if err != nil {
			return err
		}
		if r != nil {
			p.Rows = append(p.Rows, waitingOf(r))
		}
	}
	return nil
}

// sayWhy adds what each of the rows waits for.
func (q *Queue) sayWhy(rows []Waiting) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range rows {
		w := &rows[i]
		if q.running[w.Key] != nil {
			w.State = "uploading"
			continue
		}
		w.Reason = q.blocked[w.Key].why
		if r := q.retries[w.Key]; r != nil {
			w.Tries = r.n
		}
	}
}
