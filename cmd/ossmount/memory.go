package main

import (
	"os"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// boundMemory has Go keep within the memory of its container (docs/decisions/0016). A
// GOMEMLIMIT of the environment is left as it is.
func boundMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		_, _ = memlimit.Set(memlimit.WithRatio(0.9), memlimit.WithProvider(memlimit.FromCgroup)) // or there is none
	}
}
