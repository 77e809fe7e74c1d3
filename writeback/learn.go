package writeback

import (
	"context"
	"errors"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// learn asks for the metadata of a base of which nothing is known, because it
// was moved with its directory: the copy shall carry what it carried.
func (t *transfer) learn() error {
	row, err := t.q.learnRow(t.q.work, t.row)
	if err == nil {
		t.row = row
	}
	return err
}

// learnRow is learn for a row that need not be carried; it returns the row as it
// is then.
func (q *Queue) learnRow(ctx context.Context, row *Row) (*Row, error) {
	if !row.Unlearnt {
		return row, nil
	}
	info, err := q.headBase(ctx, row)
	if err != nil {
		return nil, err
	}
	var next *Row
	_, err = q.j.Update(func(tx *journal.Tx) error {
		cur, err := tx.Row(row.Key)
		if err != nil {
			return err
		}
		if cur == nil || cur.Seq != row.Seq || !cur.Base.Same(row.Base) {
			return errSuperseded
		}
		learnt(cur, info)
		next = cur
		return tx.PutRow(cur)
	})
	return next, err
}

// headBase asks for the base of row; it is a conflict if OSS holds another version.
func (q *Queue) headBase(ctx context.Context, row *Row) (object.Info, error) {
	info, err := q.remote.Head(ctx, row.Base.Key)
	if err == nil && !info.Ref.Same(row.Base) {
		err = &object.Error{Op: "HeadObject", Key: row.Base.Key, Kind: object.Conflict, Fate: object.Answered,
			Err: errors.New("the object was replaced")}
	}
	return info, err
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
