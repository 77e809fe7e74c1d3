package fs

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

type aKey struct{}

// Whether its timer was started or not, patience ends as a context with a timeout does.
func TestPatienceEndsAsAContextDoes(t *testing.T) {
	for _, looked := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			call, stop := context.WithCancel(context.WithValue(t.Context(), aKey{}, 5))
			stop() // an interrupt of the call does not end it
			begin := func() *patience {
				p := newPatience(call, time.Minute)
				if looked {
					p.Done()
				}
				return p
			}
			p := begin()
			if until, ok := p.Deadline(); !ok || time.Until(until) != time.Minute {
				t.Errorf("it ends at %v, %v", until, ok)
			}
			if p.Value(aKey{}) != 5 || p.Err() != nil {
				t.Errorf("value %v, %v", p.Value(aKey{}), p.Err())
			}
			child, cancel := context.WithCancel(p)
			defer cancel()
			select {
			case <-child.Done():
				t.Errorf("ended at once: %v", child.Err())
			case <-time.After(59 * time.Second):
			}
			<-child.Done()
			if !errors.Is(p.Err(), context.DeadlineExceeded) || !errors.Is(child.Err(), context.DeadlineExceeded) {
				t.Errorf("after a minute: %v, %v", p.Err(), child.Err())
			}

			p = begin()
			p.end()
			<-p.Done()
			if p.end(); !errors.Is(p.Err(), context.Canceled) {
				t.Errorf("when it was ended: %v", p.Err())
			}

			p = begin()
			time.Sleep(2 * time.Minute)
			if !errors.Is(p.Err(), context.DeadlineExceeded) {
				t.Errorf("long after: %v", p.Err())
			}
			<-p.Done()
			p.end()
			if !errors.Is(p.Err(), context.DeadlineExceeded) {
				t.Errorf("long after, and ended: %v", p.Err())
			}
		})
	}
}
