//go:build amd64 || arm64

package crc64

const (
	foldStep = 64
	// foldLeast is from where folding is faster than the table.
	foldLeast = 2 * foldStep
)

// fold puts into rest the 16 bytes that have the same remainder as p with
// register added to its first 8. The length of p is a multiple of foldStep,
// not 0.
//
//go:noescape
func fold(rest *[16]byte, register uint64, p []byte)
