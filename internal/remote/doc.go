// Package remote speaks to one bucket of OSS. It is the only user of the OSS
// SDK, of which it takes the addressing and the signing; the HTTP transport,
// the reading of answers and the sorting of errors are its own.
//
// What it promises:
//
//   - One call is one exchange: nothing is retried here (net/http itself sends
//     a request again when an idle connection turns out to be dead before any
//     byte of it was used).
//   - Every call honours its context, and none waits for ever: a socket that
//     moves no byte for Options.Idle, and an answer that does not come within
//     Options.HeaderTimeout, are failures.
//   - A body reader is read by at most one call, in order, and never after the
//     call has returned.
//   - Every failure is an *object.Error: its kind says what can be done about
//     it, its fate what is known about the effect. When in doubt the fate is
//     object.Unknown.
//   - Bytes are checked: the CRC64 of what was sent is compared with what OSS
//     stored (PutObject, UploadPart), that of an object read whole with what
//     OSS announced. A ranged answer is checked against the range asked for.
//   - No error text and no log line holds a credential, a signature or a
//     string to sign.
//
// A Client is used by many goroutines at once. It starts goroutines of net/http,
// and one that fetches an access key before the old one expires (keyring.go);
// Close ends all of them. It touches no disk, so a crash leaves
// nothing here. What a crash leaves at OSS is the journal's concern.
package remote
