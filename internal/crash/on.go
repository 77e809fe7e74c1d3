//go:build crash

package crash

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

var (
	mu     sync.Mutex
	passed = map[string]int{}
	log    = os.Getenv("OSSMOUNT_CRASH_LOG")
)

// Boot stands for the boot ID of the machine, so that a test can have it believe in
// a power cut; "": the machine's own.
func Boot() string { return os.Getenv("OSSMOUNT_BOOT") }

// At is a moment that a crash could come at.
func At(point string) {
	mu.Lock()
	defer mu.Unlock()
	passed[point]++
	if log != "" {
		if f, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err == nil {
			fmt.Fprintln(f, point)
			f.Close()
		}
	}
	if isNow("OSSMOUNT_CRASH", point) {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until it arrives
	}
	if isNow("OSSMOUNT_PANIC", point) {
		panic("as asked for at: " + point)
	}
}

func isNow(env, point string) bool {
	at, n, _ := strings.Cut(os.Getenv(env), ":")
	want, err := strconv.Atoi(n)
	return err == nil && at == point && passed[point] == want
}
