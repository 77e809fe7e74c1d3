package writeback

import (
	"errors"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// learn asks for the metadata of a base of which nothing is known, because it
// was moved with its directory: the copy shall carry what it carried.
func (t *transfer) learn() error {
	if !t.row.Unlearnt {
		return nil
	}
	info, err := t.q.remote.Head(t.q.work, t.row.Base.Key)
	if err != nil {
		return err
	}
	if !info.Ref.Same(t.row.Base) {
		return &object.Error{Op: "HeadObject", Key: t.row.Base.Key, Kind: object.Conflict, Fate: object.Answered,
			Err: errors.New("the object was replaced")}
	}
	_, err = t.q.j.Update(func(tx *journal.Tx) error {
		cur, err := tx.Row(t.row.Key)
		if err != nil {
			return err
		}
		if cur == nil || cur.Seq != t.row.Seq {
			return errSuperseded
		}
		learnt(cur, info)
		t.row = cur
		return tx.PutRow(cur)
	})
	return err
}

// learnt takes the metadata over into the row. Owner and mode that the object
// does not carry stay unknown, so that the mount's flags go on to decide them;
// its time is written down, because a copy has another LastModified.
func learnt(r *Row, info object.Info) {
	r.Unlearnt = false
	r.Headers, r.Meta = info.Headers, object.Meta{}
	for k, v := range info.Meta {
		r.Meta[k] = v
	}
	delete(r.Meta, object.TagMeta)
	r.Meta.KeepTime(info.LastModified)
	r.Base = info.Ref // with its CRC64
}
