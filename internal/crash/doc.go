// Package crash ends the process at a named moment, for tests: between any two
// steps that a crash could come between. In a normal build it does nothing and
// costs nothing.
//
// Built with the tag crash, a process writes each point that it passes to the file
// named in OSSMOUNT_CRASH_LOG, and kills itself with SIGKILL where OSSMOUNT_CRASH
// says so: "point:n" is the n-th passing of a point. So a test learns from one run
// which points a case passes, and walks them all in the runs after it. OSSMOUNT_PANIC,
// in the same form, has the code panic there instead. With OSSMOUNT_BOOT it is told
// another boot ID than the machine's, which is what a power cut looks like when all that
// was written has reached the disk.
package crash
