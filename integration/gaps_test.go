package integration

import (
	"flag"
	"strings"
	"testing"
)

var all = flag.Bool("all", false, "run also what is listed as not done yet")

// notYet lists what this version does not do: names of tests, and beginnings
// of names of their cases. -all runs them all the same.
var notYet = []string{
	"TestRemovalOfFiveThousandObjectsIsAFewBatches",
	"TestAttributesOfOthersAreAskedForOnce",
	"TestRsyncOfATreeIsOneRequestEach",
	"TestRenameOfALargeDirectoryReturnsAfterItsListing",
	"TestLifeGoesOnInADirectoryThatMoves",
	"TestRenameOfADirectorySparesWhatOthersChanged",
	"TestHabitsOfALocalFileSystem/after_a_remount/rename_to_where_it_cannot_go",
	"TestHabitsOfALocalFileSystem/after_a_remount/exchange_of_anything_with_anything",
	"TestHabitsOfALocalFileSystem/after_a_remount/exchange_of_trees",
}

// notYetOr skips a test that is listed in notYet.
func notYetOr(t *testing.T) {
	t.Helper()
	if *all {
		return
	}
	for _, name := range notYet {
		if t.Name() == name || strings.HasPrefix(t.Name(), name+"/") {
			t.Skip("not done yet; -all runs it")
		}
	}
}
