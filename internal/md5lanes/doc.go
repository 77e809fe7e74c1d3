// Package md5lanes computes the MD5 of several streams at once. A step of MD5
// needs the result of the one before, so one stream leaves most of a core idle
// and cannot be made faster; but a register of 256 bits takes the same step of
// eight streams in the same time (AVX2 on amd64). An ETag of OSS is an MD5, and
// it is most of what a server has to do for an upload.
//
// # How streams meet
//
// The Hashes of a Group are written by goroutines of their own. A Write begins
// at once while few are at work, with those that are waiting, if any. Otherwise
// it waits, and the first that is done hands all that wait by then, eight at
// most, to one of them, which hashes for all. So nobody waits for company that
// may not come, and the more streams there are, the more of them go together.
// One stream alone costs what crypto/md5 costs, which does all that is not done
// in lanes.
//
// There are no goroutines, and nothing to close.
package md5lanes
