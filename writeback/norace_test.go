//go:build !race

package writeback

const modelDefault = 200 // histories
