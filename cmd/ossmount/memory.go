package main

import (
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// gcPercent has the heap, which is small, collected half as often as Go would: what is
// pending lives on the disk (docs/performance.md).
const gcPercent = 300

// boundMemory has Go keep within the memory of its container. GOGC and GOMEMLIMIT of
// the environment are left as they are.
func boundMemory(log *slog.Logger) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	limit, err := memlimit.Set(memlimit.WithRatio(0.9), memlimit.WithProvider(memlimit.FromCgroup))
	if err != nil { // there is none
		return
	}
	log.Debug("the container has a limit of memory", "GOMEMLIMIT", limit)
}
