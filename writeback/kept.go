package writeback

import (
	"strings"

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

// HeldOf tells what is held of the file or directory key; ErrNoRow: nothing is.
func HeldOf(j *journal.Journal, key string) (h Held, err error) {
	err = j.View(func(tx *journal.Tx) error {
		r, err := tx.Row(key)
		if err != nil {
			return err
		}
		if r == nil {
			return ErrNoRow
		}
		h = Held{Waiting: waitingOf(r), Content: r.Content, Here: r.Here(), Base: r.Base, Text: r.Text}
		return nil
	})
	return h, err
}

// HeldOf tells what is held of the file or directory key.
func (q *Queue) HeldOf(key string) (Held, error) { return HeldOf(q.j, key) }

// Stuck returns the first max of the rows that wait for somebody to act, by key,
// and how many more there are.
func (q *Queue) Stuck(max int) (all []Waiting, more int, err error) {
	err = q.j.View(func(tx *journal.Tx) error {
		for key := range tx.Stuck() {
			if len(all) == max {
				more++
				continue
			}
			r, err := tx.Row(key)
			if err != nil {
				return err
			}
			if r != nil {
				all = append(all, waitingOf(r))
			}
		}
		return nil
	})
	return all, more, err
}

// why and remedy of a row that waits for somebody to act. A remedy names the
// commands that change that; PATH stands for the file.
func stuckWhy(r *Row) (why, remedy string) {
	const (
		export  = "take its bytes out with `ossmount recover export PATH FILE`"
		discard = "give it up with `ossmount recover discard PATH`"
	)
	switch {
	case r.Parked == "":
		return "it was being written when the mount ended",
			"open it for writing and close it again, or publish it as it is with `ossmount recover publish PATH`; " + export + "; " + discard
	case strings.HasPrefix(r.Parked, damagedPrefix+missing):
		return r.Parked, discard
	case strings.HasPrefix(r.Parked, damagedPrefix):
		return r.Parked, export + " and look at them; publish them as they are with `ossmount recover publish --force PATH`; " + discard
	case isGone(r):
		return r.Parked, export + "; write it anew; " + discard
	case r.Kind == journal.Delete:
		return r.Parked, "try again with `ossmount retry PATH`; keep the object with `ossmount recover discard PATH`"
	}
	return r.Parked, "when the cause is mended, try again with `ossmount retry PATH`; " + export + "; " + discard
}

// missing is in the reason of a row whose content is not there.
const missing = "its bytes are missing"

// isGone reports that the row was parked because its bytes are gone from OSS.
func isGone(r *Row) bool { return strings.Contains(r.Parked, ": "+goneBase+": ") }
