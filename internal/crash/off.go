//go:build !crash

package crash

// At is a moment that a crash could come at.
func At(string) {}

// Boot stands for the boot ID of the machine; "": the machine's own.
func Boot() string { return "" }
