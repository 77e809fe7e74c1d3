// Package writeback carries the journal's intents to OSS.
//
// # Promise
//
// A change that Apply or its relatives have returned from is in the journal; the queue
// carries it out, in the order that the rules R1 to R9 of docs/architecture.md
// ask for, until OSS has confirmed it, over any number of failures, restarts
// and power cuts. A row leaves only then; a row that cannot succeed stays,
// parked, with its bytes. Nothing is inferred from silence.
//
// # Goroutines
//
// Open starts three, Close ends them: the scheduler (schedule.go), which alone
// owns the table of what is running; the payer of debts (debt.go); the janitor
// (janitor.go), which drops contents that nothing needs once the horizon
// allows it. The scheduler starts one goroutine for each row that it carries
// (carry.go), or hands it to one that has carried another a moment ago, and that one
// starts some for the parts of a multipart upload; they read
// and change shared state only through the journal and under Queue.mu.
//
// # What a crash leaves
//
// The journal, at some state. Each step of a transfer is safe to repeat, and
// is found again from the row, its note, and its upload (start.go). What a
// request in flight did becomes known by its tag (R7) or is in doubt (R8).
package writeback
