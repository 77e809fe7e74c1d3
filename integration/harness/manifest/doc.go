// Package manifest reads what is deployed on Kubernetes: it renders a kustomization, and
// decodes it into the types of the Kubernetes API.
//
// # Promise
//
// Nothing is passed over: an unknown field, a field given twice, a kind that is not
// known here, and two objects of one kind and name are errors. What a kustomization
// refers to lies beneath its own directory or beside it; nothing is fetched.
//
// # Goroutines
//
// None.
package manifest
