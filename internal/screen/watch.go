package screen

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/term"
)

// Frame draws what was sampled, in at most height lines of width cells.
type Frame func(width, height int) []string

// Watch shows on the terminal out what sample returns, every interval, until ctx
// ends, or somebody presses Ctrl-C or q, which is no error, or sample fails.
func Watch(ctx context.Context, out io.Writer, interval time.Duration, sample func(ctx context.Context) (Frame, error)) error {
	options := []tea.ProgramOption{tea.WithContext(ctx), tea.WithOutput(out)}
	if !term.IsTerminal(os.Stdin.Fd()) {
		options = append(options, tea.WithInput(nil)) // signals end it all the same
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	last, err := tea.NewProgram(&display{ctx: ctx, every: interval, sample: sample}, options...).Run()
	if errors.Is(err, tea.ErrInterrupted) || errors.Is(err, tea.ErrProgramKilled) && ctx.Err() != nil {
		return nil
	}
	if d, ok := last.(*display); ok && err == nil {
		err = d.err
	}
	return err
}

// display is the model of bubbletea. All its methods are called by one goroutine, but
// for the commands that they return.
type display struct {
	ctx    context.Context
	every  time.Duration
	sample func(ctx context.Context) (Frame, error)

	frame         Frame // nil: none yet
	width, height int
	err           error
}

// Messages to display.
type (
	sampled struct {
		frame Frame
		err   error
	}
	due struct{} // another sample is
)

func (d *display) take() tea.Msg {
	f, err := d.sample(d.ctx)
	return sampled{f, err}
}

// Init implements tea.Model.
func (d *display) Init() tea.Cmd { return d.take }

// Update implements tea.Model.
func (d *display) Update(m tea.Msg) (tea.Model, tea.Cmd) {
	switch m := m.(type) {
	case tea.WindowSizeMsg:
		d.width, d.height = m.Width, m.Height
	case tea.KeyPressMsg:
		if s := m.String(); s == "ctrl+c" || s == "q" || s == "esc" {
			return d, tea.Quit
		}
	case sampled:
		if d.err = m.err; d.err != nil {
			return d, tea.Quit
		}
		d.frame = m.frame
		return d, tea.Tick(d.every, func(time.Time) tea.Msg { return due{} })
	case due:
		return d, d.take
	}
	return d, nil
}

// View implements tea.Model.
func (d *display) View() tea.View {
	v := tea.NewView("")
	v.AltScreen = true
	if d.frame == nil || d.width <= 0 || d.height <= 0 {
		return v
	}
	lines := d.frame(d.width, d.height)
	lines = lines[:min(len(lines), d.height)]
	for i, l := range lines {
		lines[i] = ansi.Truncate(l, d.width, "…")
	}
	v.SetContent(strings.Join(lines, "\n"))
	return v
}
