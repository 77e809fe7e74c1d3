package journal

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// heldSync stops in the middle of a step until it is let go.
type heldSync struct{ begun, goOn chan struct{} }

func (h *heldSync) SyncContents([]uint64) map[uint64]error {
	h.begun <- struct{}{}
	<-h.goOn
	return nil
}

// What the newest state does not name is needed while a power cut may go back to one
// that does: that at the horizon, or that which a step under way goes to. covers H2
func TestNeeded(t *testing.T) {
	j := open(t, t.TempDir(), "boot1")
	held := &heldSync{make(chan struct{}), make(chan struct{})}
	j.o.Contents = held
	check := func(what string, n uint64, now, later bool) {
		t.Helper()
		gotNow, gotLater, err := j.Needed(n)
		if err != nil || gotNow != now || gotLater != later {
			t.Errorf("%s: content %d is needed now %v, later %v (%v), want %v, %v", what, n, gotNow, gotLater, err, now, later)
		}
	}
	drop := func(key string) uint64 {
		t.Helper()
		seq, err := j.Update(func(tx *Tx) error { return tx.DropRow(key) })
		if err != nil {
			t.Fatal(err)
		}
		return seq
	}
	moved := make(chan error, 1)
	step := func(seq uint64) { moved <- j.WaitHorizon(context.Background(), seq) }
	end := func() {
		t.Helper()
		held.goOn <- struct{}{}
		if err := <-moved; err != nil {
			t.Fatal(err)
		}
	}

	go step(put(t, j, &Row{Key: "a", Kind: Put, Content: 5}))
	<-held.begun
	check("named", 5, true, false)
	drop("a")
	check("a step goes to where it was named", 5, false, true)
	put(t, j, &Row{Key: "b", Kind: Put, Content: 6})
	last := drop("b")
	check("named after the step began, and not any more", 6, false, false)
	end()
	check("the horizon is where it was named", 5, false, true)
	go step(last)
	<-held.begun
	check("the horizon is still there", 5, false, true)
	end()
	check("the horizon has passed it", 5, false, false)
	check("never named", 7, false, false)
}

// Those who are one of many share a step; who is in a hurry waits for none of them.
func TestManyShareAStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := open(t, t.TempDir(), "boot1")
		steps := func() uint64 {
			j.hmu.Lock()
			defer j.hmu.Unlock()
			return j.slot.Gen
		}
		before := steps()
		var all sync.WaitGroup
		for n := range uint64(100) {
			seq := put(t, j, &Row{Key: "a", Kind: Put, Content: n})
			all.Go(func() {
				if err := j.JoinHorizon(t.Context(), seq); err != nil || !j.Covered(seq) {
					t.Errorf("state %d: %v", seq, err)
				}
			})
			time.Sleep(time.Millisecond)
		}
		all.Wait()
		if n := steps() - before; n > 25 || n < 10 {
			t.Errorf("%d steps for 100 changes in 100 ms", n)
		}
		start := time.Now()
		all.Go(func() { _ = j.JoinHorizon(t.Context(), put(t, j, &Row{Key: "b", Kind: Put, Content: 1000})) })
		synctest.Wait()
		if err := j.WaitHorizon(t.Context(), put(t, j, &Row{Key: "c", Kind: Put, Content: 1001})); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d > 0 {
			t.Errorf("it took %v for somebody in a hurry", d)
		}
		all.Wait()
	})
}
