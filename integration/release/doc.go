// Package release tries what is published as its users do: the packages are
// installed on this machine and purged again, the archive is built twice, the
// container's steps are played, and the README is followed line by line.
//
// It holds tests and nothing else. They run as root, and fail where they cannot;
// what they install they take away, and say so if something is left.
package release
