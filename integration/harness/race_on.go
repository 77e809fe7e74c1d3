//go:build race

package harness

// Race says that this program runs with the race detector; then the binary is
// built with it, too.
const Race = true
