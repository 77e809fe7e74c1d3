// Package harness runs the built ossmount as its users do: as processes, with
// real mounts, against the OSS server in a process of its own. The integration
// tests and the demo share it.
//
// Nothing here touches a mount from the process that serves it, and whatever
// it starts it ends by its process ID. Functions return errors; the tests turn
// them into failures, the demo into a line and an exit code.
//
// It is the one place beside internal/remote that uses the OSS SDK: what the
// product has uploaded is judged by a client that it did not write.
package harness
