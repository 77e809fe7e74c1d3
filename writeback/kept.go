package writeback

import (
	"github.com/ossmount/ossmount/internal/extent"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// Held is what the cache directory holds of a file that has a row.
type Held struct {
	Waiting
	Content uint64     `json:"content,omitempty"` // 0: nothing
	Here    extent.Set `json:"here"`              // the bytes that the content has
	Base    object.Ref `json:"base,omitzero"`     // version on OSS that has the rest
	Text    string     `json:"text,omitempty"`    // the bytes, where they stand in the row
}

// HeldOf tells what is held of the file key; ErrNoRow: nothing is.
func HeldOf(j *journal.Journal, key string) (h Held, err error) {
	err = j.View(func(tx *journal.Tx) error {
		r, err := tx.Row(key)
		if err != nil {
			return err
		}
		if r == nil || r.Kind != journal.Put {
			return ErrNoRow
		}
		h = Held{Waiting: waitingOf(r), Content: r.Content, Here: r.Here(), Base: r.Base, Text: r.Text}
		return nil
	})
	return h, err
}

// HeldOf tells what is held of the file key.
func (q *Queue) HeldOf(key string) (Held, error) { return HeldOf(q.j, key) }
