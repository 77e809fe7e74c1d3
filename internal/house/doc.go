// Package house keeps the rules of the house: which room may import which,
// where a library may be used, what lies where, and that the command line is
// written down. It holds tests and nothing else; each failure says the rule
// and the reason for it. docs/contributing.md has the rules in prose.
package house
