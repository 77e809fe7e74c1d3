package main

import (
	"log/slog"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// timerSlack is how much later than asked the kernel may wake a thread of the daemon
// that waits for a time (PR_SET_TIMERSLACK(2const); 50 µs by default). Go's monitor
// thread asks for 20 µs again and again while others are in system calls, as those that
// wait for requests of the kernel always are: with the default that was a fifth of the
// processor's time, and each wait for a request lost its processor to it. With much more
// it is the network that waits for a processor (docs/decisions/0026).
const timerSlack = 200 * time.Microsecond

// hasSlack is in the environment of a daemon that has been through setSlack.
const hasSlack = "_OSSMOUNT_SLACK"

// setSlack gives this process its slack, and begins it anew, under its PID: threads that
// run already keep theirs, and the monitor is the first. Where it cannot be, the daemon
// is as good, and slower.
func setSlack(log *slog.Logger) {
	if os.Getenv(hasSlack) != "" {
		os.Unsetenv(hasSlack)
		return
	}
	runtime.LockOSThread() // the slack is one of the thread, and outlives exec
	defer runtime.UnlockOSThread()
	self, err := os.Executable()
	if err == nil {
		err = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0)
	}
	if err == nil {
		err = syscall.Exec(self, os.Args, append(os.Environ(), hasSlack+"=1"))
	}
	log.Debug("the timer slack cannot be set", "err", err)
}
