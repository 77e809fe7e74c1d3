package crc64

import "golang.org/x/sys/cpu"

// fast says that the processor has what fold needs.
var fast = cpu.ARM64.HasPMULL
