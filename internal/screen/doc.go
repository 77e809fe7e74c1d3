// Package screen shows text to a person at a terminal: tables, colours, bars, and a
// display that is drawn anew as things change.
//
// It promises that what is no terminal, or is told so (NO_COLOR, TERM=dumb), gets
// plain text without escape codes; that no line of a display is wider, and none are
// more, than the terminal has; and that the terminal is as it was when a display
// ends, also by Ctrl-C. Watch runs the goroutines of bubbletea and one that samples,
// and returns when they have ended. It keeps nothing, so a crash leaves nothing but,
// perhaps, a terminal that `reset` mends.
package screen
