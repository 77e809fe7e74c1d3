package writeback

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// While all is paused OSS is asked nothing, a drain returns at once and says why; then
// all arrives.
func TestWhilePausedNothingIsSent(t *testing.T) {
	inOutage(t, func(o *outage) {
		o.work()
		o.q.Pause("")
		before := o.store.count()
		o.burden(50)
		time.Sleep(time.Hour)
		start := time.Now()
		left, err := o.q.Drain(o.t.Context())
		o.ok(err)
		if took := time.Since(start); left.Pending == 0 || left.Paused != left.Pending || took > time.Second {
			o.t.Errorf("drain: %+v after %s", left, took)
		}
		if n := o.store.count() - before; n != 0 {
			o.t.Errorf("%d requests while paused", n)
		}
		s := o.status()
		if s.Paused == nil || !s.Paused.All || len(s.Waiting) == 0 || s.Waiting[0].State != pausedState {
			o.t.Errorf("status: %+v %+v", s.Paused, s.Waiting)
		}
		if o.q.Pause("") || !o.q.Resume("") || o.q.Resume("") {
			o.t.Error("who pauses or resumes twice is told that it was so already")
		}
		o.drains(time.Minute)
	})
}

// A pause that begins at any moment of an upload stops it at a part or before its end,
// as no failure, and no part is sent twice.
func TestAPauseAtAnyMomentCostsNothing(t *testing.T) {
	for after := range 14 {
		t.Run(fmt.Sprint("after request ", after), func(t *testing.T) {
			inOutage(t, func(o *outage) {
				var asked atomic.Int64
				o.store.set(func(_, _ string) error {
					if asked.Add(1) == int64(after) {
						o.q.Pause("")
					}
					return nil
				})
				if after == 0 {
					o.q.Pause("")
				}
				o.write("big", strings.Repeat("part", 9))
				time.Sleep(time.Minute)
				synctest.Wait()
				s, n := o.status(), int(asked.Load())
				if len(s.Uploading) > 0 || n != after && s.Pending != 0 {
					o.t.Errorf("while paused: %d requests, %+v", n, s.Uploading)
				}
				if paused := o.q.Resume(""); paused != (n >= after) {
					o.t.Errorf("it was paused: %v, after %d requests", paused, n)
				}
				o.drains(time.Minute)
				if got := o.store.count(opPart); got != 9 {
					o.t.Errorf("%d parts were sent for 9", got)
				}
				if s := o.status(); s.Stats.Retries != 0 {
					o.t.Errorf("%d retries", s.Stats.Retries)
				}
			}, func(o *Options) { o.Concurrency = 1 })
		})
	}
}

// One file waits, and what needs the object that it replaces; all else goes.
func TestOneFilePausedKeepsWhatNeedsItOnly(t *testing.T) {
	inOutage(t, func(o *outage) {
		o.work()
		o.q.Pause("moved/3")
		o.burden(20)
		ctx, cancel := context.WithTimeout(o.t.Context(), time.Hour)
		defer cancel()
		left, err := o.q.Drain(ctx)
		o.ok(err)
		if left != (Left{Pending: 2, Paused: 2}) || ctx.Err() != nil {
			o.t.Errorf("left: %+v %v", left, ctx.Err())
		}
		if got, ok := o.store.get("old/3"); !ok || string(got.data) != "before 3" {
			o.t.Errorf("the object that is still needed: %q", got.data)
		}
		if left, err := o.q.Wait(ctx, "moved/3"); err != nil || left.Paused != 1 {
			o.t.Errorf("wait for it: %+v %v", left, err)
		}
		if left, err := o.q.Wait(ctx, "moved/4"); err != nil || left != (Left{}) {
			o.t.Errorf("wait for another: %+v %v", left, err)
		}
		if p, err := o.q.PartsOf("moved/3"); err != nil || p.State != pausedState || p.Way != wayCopy {
			o.t.Errorf("parts: %+v %v", p, err)
		}
		time.Sleep(time.Minute)
		o.q.Resume("moved/3")
		time.Sleep(time.Minute) // nobody asks for it
		o.arrived()
	})
}
