package integration

import (
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/ossmount/ossmount/integration/harness"
)

// terminal is a program in a terminal of its own, that of tmux.
type terminal struct {
	e      *env
	socket string
}

// inTerminal runs a script of the shell in a terminal of that size.
func (e *env) inTerminal(width, height int, script string) *terminal {
	e.Helper()
	t := &terminal{e: e, socket: e.path("tmux.sock")}
	e.Cleanup(func() { _, _ = t.run("kill-server") })
	_, err := t.run("-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height), script)
	e.ok(err)
	return t
}

// run runs a command of tmux, with a server of the test's own.
func (t *terminal) run(args ...string) (string, error) {
	r, err := harness.Run(t.e.soon(), []string{"LC_ALL=C", "TMUX=", "TERM=xterm-256color"}, "tmux", append([]string{"-S", t.socket}, args...)...)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("tmux %q: %v", args, r)
	}
	return r.Out, err
}

// lines are what the terminal shows.
func (t *terminal) lines() []string {
	t.e.Helper()
	out, err := t.run("capture-pane", "-p")
	t.e.ok(err)
	return strings.Split(strings.TrimRight(out, "\n"), "\n")
}

// shows waits until the terminal shows what is wanted.
func (t *terminal) shows(what string, yes func(lines []string) bool) {
	t.e.Helper()
	t.e.Cleanup(func() {
		if t.e.Failed() {
			out, _ := t.run("capture-pane", "-p")
			t.e.Logf("%s: the terminal shows:\n%s", what, out)
		}
	})
	t.e.poll(what, patience, func() bool { return yes(t.lines()) })
}

// filled counts the cells of bars that are full.
func filled(lines []string) (n int) {
	for _, l := range lines {
		for _, bar := range regexp.MustCompile(`[#.]{4,}`).FindAllString(l, -1) {
			n += strings.Count(bar, "#")
		}
	}
	return n
}

func bars(lines []string) (n int) {
	for _, l := range lines {
		if regexp.MustCompile(`[#.]{4,}.*%`).MatchString(l) {
			n++
		}
	}
	return n
}

// Bars move, a resize is survived with more uploads than lines, and Ctrl-C gives the
// terminal back.
func TestStatusIsWatchedInATerminal(t *testing.T) {
	t.Parallel()
	const files = 24
	e := setup(t, "--bandwidth=500KiB")
	m := e.mount("cache", "--multipart-threshold=100KiB", "--part-size=100KiB", "--drain=0s")
	for i := range files {
		e.ok(harness.WriteFile(m.in(fmt.Sprintf("file-%02d", i)), uint64(i), 1<<20))
	}
	e.poll("all are being sent", patience, func() bool { return len(m.status().Queue.Uploading) >= files })

	tm := e.inTerminal(100, 20, fmt.Sprintf("LC_ALL=C %s status --watch=200ms %s; echo it ended with $?; exec cat", binary, m.Point))
	some := 0
	tm.shows("bars", func(lines []string) bool { some = filled(lines); return bars(lines) >= 8 && some > 0 })
	tm.shows("bars that move", func(lines []string) bool { return filled(lines) > some && bars(lines) >= 8 })
	tm.shows("rates, and what is left", func(lines []string) bool {
		return regexp.MustCompile(`file-\d\d .*%.* \d+/\d+ +\d.*/s +\d+`).MatchString(strings.Join(lines, "\n"))
	})
	tm.shows("that there are more", func(lines []string) bool {
		more := regexp.MustCompile(`and (\d+) more uploads`).FindStringSubmatch(strings.Join(lines, "\n"))
		return more != nil && fmt.Sprint(files-bars(lines)) == more[1]
	})
	for _, size := range [][2]int{{50, 14}, {140, 40}, {20, 3}, {90, 24}} {
		_, err := tm.run("resize-window", "-x", fmt.Sprint(size[0]), "-y", fmt.Sprint(size[1]))
		e.ok(err)
		tm.shows(fmt.Sprintf("all in %d by %d", size[0], size[1]), func(lines []string) bool {
			for _, l := range lines {
				if utf8.RuneCountInString(l) > size[0] {
					return false
				}
			}
			last := lines[len(lines)-1]
			return len(lines) <= size[1] && strings.Contains(last, "q ends this") && strings.Contains(lines[0], "oss://") &&
				(size[1] < 10 || strings.Contains(strings.Join(lines, "\n"), "LEFT") && bars(lines) > 0)
		})
	}
	some = filled(tm.lines())
	tm.shows("bars that move after all that", func(lines []string) bool { return filled(lines) > some || bars(lines) < files/2 })

	_, err := tm.run("send-keys", "C-c")
	e.ok(err)
	tm.shows("the end", func(lines []string) bool { return strings.Contains(strings.Join(lines, "\n"), "it ended with 0") })
	if state, err := tm.run("display-message", "-p", "#{cursor_flag} #{alternate_on}"); err != nil || strings.TrimSpace(state) != "1 0" {
		t.Errorf("the cursor is hidden, or the other screen is on: %q %v", state, err)
	}
}

// Where stdout is no terminal there is a line each time, without an escape code.
func TestStatusIsWatchedThroughAPipe(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--upload-limit=64KiB", "--drain=0s")
	e.ok(harness.WriteFile(m.in("big"), 1, 24<<20))
	e.poll("it is being sent", patience, func() bool { return len(m.status().Queue.Uploading) == 1 })
	env := append(harness.Credentials(), "TERM=xterm-256color", "CLICOLOR_FORCE=")
	p, err := harness.Start(env, binary, "status", "--watch=100ms", m.Point)
	e.ok(err)
	defer p.Kill()
	e.poll("some lines", patience, func() bool { return strings.Count(p.Out.String(), "\n") >= 4 })
	p.Signal(syscall.SIGINT)
	if code, err := p.Wait(patience); err != nil || code != 0 {
		t.Errorf("after an interrupt: exit %d, %v\n%s", code, err, p.Err.String())
	}
	line := regexp.MustCompile(`^\d\d:\d\d:\d\d pending 1 changes, 24\.0 MiB.*; sending 1 uploads.*limited to 64\.0 KiB/s; parked 0, interrupted 0$`)
	for l := range strings.Lines(p.Out.String()) {
		if !line.MatchString(strings.TrimSuffix(l, "\n")) {
			t.Errorf("a line is %q", l)
		}
	}
	r := e.command(0, "status", m.Point)
	if strings.Contains(r.Out, "\x1b") || !strings.Contains(r.Out, "WHAT IS SENT") || !strings.Contains(r.Out, "limited to 64.0 KiB/s") {
		t.Errorf("status: %q", r.Out)
	}
	e.command(2, "status", "--watch=1ms", m.Point)
}
