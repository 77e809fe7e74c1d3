package writeback

import "github.com/ossmount/ossmount/journal"

// OwnUpload is a multipart upload that the journal knows of.
type OwnUpload struct {
	Key string `json:"key"`
	ID  string `json:"id,omitempty"` // empty: it was asked for, and its ID is not known
	// Unwanted: nothing is sent to it any more, and the engine aborts it.
	Unwanted bool `json:"unwanted,omitempty"`
}

// OwnUploads returns the uploads that the journal knows of: those that go on, and
// those that are still to be aborted.
func OwnUploads(j *journal.Journal) (all []OwnUpload, err error) {
	err = j.View(func(tx *journal.Tx) error {
		for key, u := range tx.Uploads() {
			all = append(all, OwnUpload{Key: key, ID: u.ID})
		}
		for d, err := range tx.Debts() {
			if err != nil {
				return err
			}
			if !d.Object {
				all = append(all, OwnUpload{Key: d.Key, ID: d.Upload, Unwanted: true})
			}
		}
		return nil
	})
	return all, err
}
