// Package credentials has the sources that the access key of OSS can come from: the
// environment, a file, the RAM role of an ECS instance, an OIDC token (RRSA), a
// command, and a role that is assumed at STS.
//
// What it promises:
//
//   - New finds out what is wrong with the configuration and asks no service.
//   - Get asks the source and keeps nothing: when a key is fetched anew, and that
//     one fetch serves all, is decided by its caller (internal/remote, keyring.go).
//     It honours its context, and none waits for ever. Environment and file are so
//     quick that they can be asked at each request.
//   - An error is one line that names the source and what to do. ErrNoAnswer is in
//     those of a service that could not be asked, and may be by and by.
//   - No error holds a secret: neither a key nor what it was fetched with. What a
//     service or a command says in words is shown, cut to one line, with all that
//     was sent to it taken out.
//   - Metadata are asked for without a proxy, with a token (the hardened mode of
//     the service) and never without. STS is asked by HTTPS; by HTTP only on
//     loopback.
//
// A source starts no goroutine that outlives Get, writes nothing, and leaves
// nothing behind in a crash; a command that is running then ends by itself.
package credentials
