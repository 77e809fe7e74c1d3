package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// notifier tells the service manager that started this process how the mount fares,
// by the protocol of sd_notify(3). Where none has asked for it (NOTIFY_SOCKET is not
// set) it tells nobody.
type notifier struct{ log *slog.Logger }

func (d *daemon) notifier() notifier { return notifier{d.log} }

func (n notifier) tell(state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		n.log.Warn("the service manager could not be told", "state", state, "err", err)
	}
}

// ready says that the mount serves.
func (n notifier) ready(what, where string) {
	n.tell(fmt.Sprintf("%s\nSTATUS=serving %s on %s", sd.SdNotifyReady, what, where))
}

// afterDrain is what an end may take beside the drain: committing what is open,
// letting go of the mount, answering who has asked, closing the journal.
const afterDrain = 30 * time.Second

// stopping says that the mount is about to end, and how long that may take: the
// time to stop that the manager grants is extended, whatever --drain is.
func (n notifier) stopping(drain time.Duration) {
	n.tell(fmt.Sprintf("%s\nEXTEND_TIMEOUT_USEC=%d\nSTATUS=uploading what is pending, for at most %v", sd.SdNotifyStopping, (drain + afterDrain).Microseconds(), drain))
}

// watchdog tells the manager twice in the time that it demands (WATCHDOG_USEC) that
// the mount is alive, while that is so, until ctx ends. A mount that does not answer
// is killed by the manager then, and started again.
func (n notifier) watchdog(ctx context.Context, alive func(context.Context) bool) {
	every, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		n.log.Warn("there is no watchdog: WATCHDOG_USEC or WATCHDOG_PID is no number", "err", err)
	}
	if err != nil || every == 0 {
		return
	}
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		if alive(ctx) {
			n.tell(sd.SdNotifyWatchdog)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// alive reports that requests of the kernel are answered; how the disk is or OSS is no
// matter of this. While the mount ends nothing is asked: the time for that has a bound
// of its own.
func (d *daemon) alive(ctx context.Context) bool {
	return d.stopping.Load() || d.health.mount.ask(ctx) == nil
}
