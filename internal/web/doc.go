// Package web is what a mount shows to a browser: one page without anything from
// elsewhere (page/), and the guard that stands before all that is served over TCP.
//
// # Promise
//
// Who only reads needs nothing but the address. What changes something needs the
// token of the daemon, in a header: there are no cookies, so that a page of somebody
// else cannot act in the name of who looks at this one. A request by a name that
// somebody else may have pointed here (DNS rebinding) is refused, as is one that
// another site's page sends. Nothing is loaded from elsewhere, and the policy of the
// page forbids it. No token is logged or part of an error.
//
// # Goroutines
//
// None; a crash leaves nothing.
package web
