package screen

import (
	"io"
	"os"
	"strings"

	"github.com/charmbracelet/colorprofile"
	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/term"
)

// Writer returns a writer that passes on of colours what w can show, as the
// environment says; nothing if it is no terminal.
func Writer(w io.Writer, environ []string) io.Writer { return colorprofile.NewWriter(w, environ) }

// IsTerminal reports that w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(f.Fd())
}

// Style is how a text stands out.
type Style int

// What a style is used for.
const (
	Plain Style = iota
	Head        // headings
	Good        // what moves
	Warn        // what waits, and should be known
	Bad         // what somebody must act on
	Faint       // what is beside the point
)

// In returns s in the style.
func (y Style) In(s string) string {
	if s == "" || y == Plain {
		return s
	}
	return map[Style]ansi.Style{
		Head:  ansi.NewStyle().Bold(),
		Good:  ansi.NewStyle().ForegroundColor(ansi.Green),
		Warn:  ansi.NewStyle().ForegroundColor(ansi.Yellow),
		Bad:   ansi.NewStyle().Bold().ForegroundColor(ansi.Red),
		Faint: ansi.NewStyle().Faint(),
	}[y].Styled(s)
}

// Width is how many cells of a terminal s takes.
func Width(s string) int { return ansi.StringWidth(s) }

// Cut returns s in at most width cells, with … in place of what is cut off its end.
func Cut(s string, width int) string { return ansi.Truncate(s, max(width, 0), "…") }

// CutLeft is Cut for what is best known by its end, such as a path.
func CutLeft(s string, width int) string {
	w := Width(s)
	if w <= width {
		return s
	}
	for off := w - max(width, 1) + 1; ; off++ { // a wide character may be cut in two
		if cut := ansi.TruncateLeft(s, off, "…"); off >= w || Width(cut) <= width {
			return cut
		}
	}
}

// Pad fills s up to width cells: on its left side if right is true.
func Pad(s string, width int, right bool) string {
	fill := strings.Repeat(" ", max(0, width-Width(s)))
	if right {
		return fill + s
	}
	return s + fill
}

// Bar is a bar of width cells, of which the share done of all is full.
func Bar(done, all int64, width int) string {
	n := 0
	if all > 0 {
		n = int(float64(width) * float64(min(max(done, 0), all)) / float64(all))
	}
	full, empty := "█", "░"
	if !isUTF8() {
		full, empty = "#", "."
	}
	return strings.Repeat(full, n) + strings.Repeat(empty, max(0, width-n))
}

// isUTF8 reports that the locale says so.
func isUTF8() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(os.Getenv(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// Table is text in columns.
type Table struct {
	Header []string
	Right  []int // columns that are aligned at their right
	Rows   [][]string
}

// Row adds a row, of as many cells as the header has.
func (t *Table) Row(cells ...string) { t.Rows = append(t.Rows, cells) }

// Widths returns how many cells the column i takes, and how many a line.
func (t *Table) Widths(i int) (column, line int) {
	all := t.widths()
	for k, w := range all {
		if w == 0 {
			continue
		}
		if line > 0 {
			line += len(gap)
		}
		line += w
		if k == i {
			column = w
		}
	}
	return column, line
}

// gap stands between columns.
const gap = "  "

// widths are the widths of the columns; 0: there is nothing in it.
func (t *Table) widths() []int {
	widths := make([]int, len(t.Header))
	for _, row := range t.Rows {
		for i, cell := range row {
			widths[i] = max(widths[i], Width(cell))
		}
	}
	for i, w := range widths {
		if w > 0 {
			widths[i] = max(w, Width(t.Header[i]))
		}
	}
	return widths
}

// String is the table, a line for each row, and the header before them. Columns that
// have nothing in them are left out.
func (t *Table) String() string {
	widths := t.widths()
	right := map[int]bool{}
	for _, i := range t.Right {
		right[i] = true
	}
	var b strings.Builder
	line := func(cells []string, y Style) {
		var l strings.Builder
		for i, cell := range cells {
			if widths[i] == 0 {
				continue
			}
			if l.Len() > 0 {
				l.WriteString(gap)
			}
			l.WriteString(Pad(cell, widths[i], right[i]))
		}
		b.WriteString(y.In(strings.TrimRight(l.String(), " ")) + "\n")
	}
	line(t.Header, Head)
	for _, row := range t.Rows {
		line(row, Plain)
	}
	return b.String()
}
