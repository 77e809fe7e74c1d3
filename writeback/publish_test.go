package writeback

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/object"
)

// denying is a store that may refuse to be written to.
type denying struct {
	*memStore
	denies atomic.Bool
}

func (d *denying) Put(ctx context.Context, key string, body io.Reader, size int64, o object.PutOptions) (object.Ref, error) {
	if d.denies.Load() {
		return object.Ref{}, &object.Error{Op: "PutObject", Key: key, Kind: object.Denied, Fate: object.Answered, Status: 403, Err: errors.New("AccessDenied")}
	}
	return d.memStore.Put(ctx, key, body, size, o)
}

// Who waits for OSS learns that it refuses; the next time it is asked again, and
// not told what it has answered before. covers H40
func TestPublishAfterARefusal(t *testing.T) {
	store := &denying{memStore: newMemStore()}
	store.free = true
	store.denies.Store(true)
	r := openRooms(t, 0, store)
	n, _ := r.put(t, "file", "kept")
	if err := r.q.Publish(t.Context(), n, time.Minute); object.KindOf(err) != object.Denied {
		t.Errorf("refused: %v", err)
	}
	store.denies.Store(false)
	if err := r.q.Publish(t.Context(), n, time.Minute); err != nil {
		t.Errorf("allowed: %v", err)
	}
}
