package writeback

import (
	"testing"

	"go.uber.org/goleak"
)

// Whoever opens the room closes it, and then nothing of it goes on.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
