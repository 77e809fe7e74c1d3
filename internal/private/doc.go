// Package private opens files and directories that belong to this process's user
// alone: those of a cache directory, which hold other people's data and say what is
// done to a bucket.
//
// # Promise
//
// A symbolic link is followed nowhere, whoever has put it there and wherever it
// leads; what is no directory or no regular file is not taken for one; a directory
// that belongs to somebody else, or in which others may put something, is refused.
// Each refusal says what stands there and what to do.
//
// The check of a directory comes before the use of what is in it, and nobody else
// may change anything in between, because the directory is ours alone. So one look
// when it is opened is enough, and O_NOFOLLOW where a file is opened later.
//
// # Goroutines
//
// None.
package private
