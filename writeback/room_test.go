package writeback

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ossmount/ossmount/cache"
)

// covers H44: who waits for room does so as long as something is dropped or sent,
// and not longer.
func TestWaitForRoom(t *testing.T) {
	r := openRooms(t, 0, silent{}, func(o *Options) { o.RoomWait = 300 * time.Millisecond })
	full := func() error { return cache.ErrNoRoom }
	key := func() string { return "k" }
	err := r.q.WithRoom(context.Background(), key, 0, full)
	if !errors.Is(err, cache.ErrNoRoom) {
		t.Fatalf("without progress: %v", err)
	}
	if s, err := r.q.Room(); err != nil || len(s.Waiting) != 0 {
		t.Errorf("after that: %+v %v", s, err)
	}
	tries := 0
	err = r.q.WithRoom(context.Background(), key, 0, func() error {
		r.q.sent(1) // progress
		if tries++; tries < 20 {
			return cache.ErrNoRoom
		}
		return nil
	})
	if err != nil || tries != 20 {
		t.Errorf("with progress: %v after %d", err, tries)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.q.o.RoomWait = time.Hour
	go func() {
		for {
			if s, err := r.q.Room(); err != nil || len(s.Waiting) > 0 {
				cancel()
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if err := r.q.WithRoom(ctx, key, 0, full); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	other := errors.New("something else")
	if err := r.q.WithRoom(context.Background(), key, 0, func() error { return other }); err != other {
		t.Errorf("another error: %v", err)
	}
}
