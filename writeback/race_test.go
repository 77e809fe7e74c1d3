//go:build race

package writeback

const modelDefault = 40 // histories
