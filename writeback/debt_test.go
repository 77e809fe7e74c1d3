package writeback

import (
	"strings"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/object"
)

// What asked for an upload gets no answer, and lands when the next try has long got
// another: it is aborted, and nobody asks for it all the time until then. covers H26
func TestUploadThatBeginsLate(t *testing.T) {
	inOutage(t, func(o *outage) {
		lost := false
		o.store.set(func(op, key string) error {
			if op != opInitiate || lost {
				return nil
			}
			lost = true
			go func() {
				time.Sleep(5 * time.Second) // of ten in which it may
				_, _ = o.store.memStore.Initiate(direct, key, object.PutOptions{})
			}()
			return &object.Error{Op: op, Key: key, Kind: object.Again, Fate: object.Unknown}
		})
		o.write("big", strings.Repeat("x", 20))
		time.Sleep(4 * time.Second)
		o.arrived()
		was := o.store.count()
		time.Sleep(2 * time.Second)
		if n := len(o.store.open()); !lost || n != 1 {
			o.t.Fatalf("lost %t, %d uploads are open", lost, n)
		}
		if n := o.store.count() - was; n > 0 {
			o.t.Errorf("%d requests while it may begin yet", n)
		}
		began := time.Now()
		left, err := o.q.Drain(o.t.Context())
		o.ok(err)
		if left.Pending > 0 || time.Since(began) > 0 {
			o.t.Errorf("a drain waits for it for %s: %+v", time.Since(began), left)
		}
		time.Sleep(10 * time.Second)
		if s := o.status(); s.Debts != 0 || len(o.store.open()) != 0 {
			o.t.Errorf("left: %d debts, %v", s.Debts, o.store.open())
		}
	})
}
