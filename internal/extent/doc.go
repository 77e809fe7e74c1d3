// Package extent has sets of byte ranges, such as what of a file was written.
//
// A set is a sorted list of ranges that neither touch nor overlap:
//
//	0        10        20        30
//	├────────┤         ├─────────┤      {0,10} {20,30}
//
// It is a value: no method changes the set that it is called on, so that one who
// holds a set may go on reading it while its successor is made. It imports
// nothing of the project.
package extent
