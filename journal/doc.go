// Package journal keeps what OSS still has to learn, and how far the telling
// has come, in a Badger database.
//
// # Promise
//
// Update returns after all of its rows, or none of them, are part of the
// newest state; a crash of the process at any moment leaves a state that some
// Update has returned from or was about to return from. Each state has a
// sequence, the timestamp of its commit. WaitHorizon(seq) returns after the
// state seq, and the bytes of every content that its rows name, are on the
// disk; after a power cut Open goes back to the newest such state, the durable
// horizon, wholly. JoinHorizon is the same for those who can wait for others.
//
// # What is in it
//
// Rows (intents) by key, with three indexes over them: by due time, by the key
// of the base, by content number. Uploads and their parts by key. Doubts,
// debts, clean copies, attributes learnt. See docs/format.md for the bytes.
//
// # Goroutines
//
// Two, started by Open and ended by Close: one moves the horizon every second
// and whenever somebody waits for it (horizon.go), one makes room for what comes
// and merges Badger's tables (merge.go). Commits are made by their callers, one
// at a time, under one lock that also assigns the timestamps: Badger accepts
// commits out of order and then changes the past. A batch goes on while Badger
// writes what it has so far (batch.go).
//
// # A full disk
//
// Badger writes into mappings, and a store without a block ends the process. No
// commit reaches it unless what it may need is reserved (room.go); else it is
// ErrNoRoom, and nothing was changed.
//
// # What a crash leaves
//
// The process killed: the page cache holds every commit that returned; Badger
// replays its log. The machine's power cut: anything after the horizon may be
// there or not, in any mixture, and so is undone (undo.go). The horizon itself
// is a small file of two checksummed slots written in turn (horizon.go).
package journal
