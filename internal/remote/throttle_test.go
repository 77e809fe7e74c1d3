package remote

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// A limit that is changed is so at once for bodies that wait under the old one, also
// for the last of many; and one that is set holds back what had none.
func TestALimitIsChangedForBodiesUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, bodies = 1 << 20, 30
		limit := newThrottle(1 << 10)
		start := time.Now()
		ended := make(chan time.Duration, bodies)
		for range bodies {
			go func() {
				b := &body{ctx: t.Context(), from: &zeros{}, size: size, limit: limit}
				if n, err := io.Copy(io.Discard, b); n != size || err != nil {
					t.Error(n, err)
				}
				ended <- time.Since(start)
			}()
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if len(ended) > 0 {
			t.Fatal("it is not limited")
		}
		limit.set(0)
		for range bodies {
			if took := <-ended; took > 11*time.Second {
				t.Fatalf("a body ended %s after the limit was lifted", took-10*time.Second)
			}
		}
		limit.set(100 << 10)
		start = time.Now()
		if _, err := io.Copy(io.Discard, &body{ctx: t.Context(), from: &zeros{}, size: size, limit: limit}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 9*time.Second || took > 11*time.Second { // virtual time
			t.Fatal(took)
		}
	})
}

// Who waits for a limit can be called off.
func TestWaitingForTheLimitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := newThrottle(1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		b := &body{ctx: ctx, from: &zeros{}, size: 1 << 20, limit: limit}
		if _, err := io.Copy(io.Discard, b); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	})
}
