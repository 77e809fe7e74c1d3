package fs

import (
	"fmt"
	"runtime/debug"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// A mistake of this program in one call fails that call, and no other: locks are
// given back by defer, and a change of the journal that has not been committed is
// none. So the mount goes on, and status counts what was wrong with it.

// panicked is what a call ends with that has panicked; go-fuse recovers it.
func (f *FS) panicked(what any) fuse.Status {
	f.notePanic(what)
	return fuse.EIO
}

func (f *FS) notePanic(what any) {
	f.panics.Add(1)
	f.o.Log.Error("an internal error has ended a call; please report it", "what", fmt.Sprint(what), "stack", string(debug.Stack()))
}

// guard runs what goes on beside the calls, and returns as an error how it panicked.
func (f *FS) guard(run func()) (err error) {
	defer func() {
		if what := recover(); what != nil {
			f.notePanic(what)
			err = fmt.Errorf("internal error: %v; please report it", what)
		}
	}()
	run()
	return nil
}

// Panics returns how many calls were ended by an internal error.
func (f *FS) Panics() int64 { return f.panics.Load() }
