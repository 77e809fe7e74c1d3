// Package object holds the nouns that every room shares: a version of an
// object, what OSS says of it, a page of a listing, a part of an upload, and
// the kinds of failure. It has no logic beyond comparing them, starts no
// goroutines, touches no disk and imports no room.
package object
