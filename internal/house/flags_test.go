package house

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// testedBy says which test each flag has. The test, or else its file, names the flag;
// where it knows it by another word, that stands after a colon. "as mount" is a flag of
// mount with the same meaning, which the same lines of code define.
var testedBy = map[string]map[string]string{
	"mount": {
		"--allow-other":         "TestOtherUsersOfAMount",
		"--background":          "TestPlantedLinksAreNotFollowed",
		"--cache-dir":           "TestCacheDirectoryOfOthersIsRefused",
		"--cache-min-free":      "TestDiskFullOfOthers",
		"--cache-size":          "TestWritersWaitForTheUploads",
		"--close":               "TestCloseWaitsForOSS",
		"--config":              "TestEverySettingStandsEverywhere",
		"--conflict":            "TestConflicts",
		"--dir-mode":            "TestOwnerAndModeOfObjectsThatCarryNone",
		"--doubt":               "TestLostAnswerToCompleteOverItsOwnBase",
		"--drain":               "TestSIGTERMInterruptsOpenFiles",
		"--eager":               "TestNothingIsSentAheadWithEagerOff",
		"--eager-skip":          "TestNamesOfEagerSkipAreNotSentAhead",
		"--endpoint":            "TestRefusalsAreOneClearLine",
		"--file-mode":           "TestOwnerAndModeOfObjectsThatCarryNone",
		"--fsync":               "TestFsyncWaitsForOSS",
		"--gid":                 "TestOwnerAndModeOfObjectsThatCarryNone",
		"--handle-grace":        "TestWhatIsOpenKeepsTheBytesOfItsOldName",
		"--keep-acl":            "TestRewritesKeepTagsAndACL",
		"--log-format":          "TestLogInJSON",
		"--log-level":           "TestRefusalsAreOneClearLine",
		"--max-dirty-age":       "TestCloseOfAFileThatIsAlwaysOpenIsPublishedInTheEnd",
		"--meta-ttl":            "TestChangesOfOthersAreSeen",
		"--multipart-threshold": "TestUploadHeaders",
		"--no-exec":             "TestMount8:noexec",
		"--credentials":         "TestKeysAreRenewedInTheMiddleOfAnUpload",
		"--http":                "TestWhatIsServedOverHTTP",
		"--options":             "TestMount8: -o ",
		"--part-size":           "TestChangesOfABigObjectSurviveSIGKILL",
		"--passthrough":         "TestPassthroughIsThere",
		"--pprof":               "TestProfilesOnTheControlSocket",
		"--read-only":           "TestReadOnlyMount",
		"--region":              "TestSecretIsInNoOutput",
		"--requester-pays":      "TestRequesterPays",
		"--room-wait":           "TestNoProgressIsNoSpace",
		"--stall":               "TestErrorsOfClose",
		"--traffic-limit":       "TestTrafficLimit:TrafficLimit",
		"--uid":                 "TestOwnerAndModeOfObjectsThatCarryNone",
		"--upload-concurrency":  "TestThrottlingLowersWhatIsUnderWay",
		"--upload-header":       "TestUploadHeaders",
		"--upload-limit":        "TestWritersWaitForTheUploads",
		"--write-back-delay":    "TestFileRemovedWithinTheDelayCostsNothing",
	},
	"drain": {
		"--cache-dir":           "TestDrainFinishesWithoutAMount",
		"--config":              "TestDrainTakesItsPartOfAFile:OSSMOUNT_CONFIG",
		"--conflict":            "as mount",
		"--credentials":         "as mount",
		"--doubt":               "as mount",
		"--endpoint":            "as mount",
		"--keep-acl":            "as mount",
		"--log-format":          "as mount",
		"--log-level":           "as mount",
		"--multipart-threshold": "as mount",
		"--part-size":           "as mount",
		"--region":              "TestDrainFinishesWithoutAMount",
		"--requester-pays":      "as mount",
		"--timeout":             "TestMount8Refuses",
		"--traffic-limit":       "as mount",
		"--upload-concurrency":  "as mount",
		"--upload-header":       "as mount",
		"--upload-limit":        "as mount",
	},
	"config": {
		"--config":  "TestCheckSaysAllThatIsWrong",
		"--options": "TestHelpersOfMount",
	},
	"umount": {
		"--drain": "TestDrainFinishesWithoutAMount",
		"--force": "TestUmountWithOpenFiles",
	},
	"status": {
		"--cache-dir": "TestSecretsStayWhereTheyAre",
		"--json":      "TestSecretsStayWhereTheyAre",
		"--watch":     "TestStatusIsWatchedInATerminal",
	},
	"wait": {
		"--timeout": "TestPlantedLinksAreNotFollowed",
	},
	"recover": {
		"--all":         "TestEverythingIsTakenOutAtOnce",
		"--cache-dir":   "TestSecretsStayWhereTheyAre",
		"--force":       "TestFoundBytesGetANameAgain",
		"--json":        "TestSecretsStayWhereTheyAre",
		"--credentials": "as mount",
		"--mountpoint":  "TestFoundBytesGetANameAgain",
		"--region":      "as mount",
		"--yes":         "TestInterruptedFilesArePublishedOrGivenUp",
	},
	"retry": {
		"--all":         "TestPausesAndGoesOnWhenMended",
		"--cache-dir":   "TestParkedChangesAreTriedAgainOrGivenUp",
		"--credentials": "as mount",
		"--mountpoint":  "TestPausesAndGoesOnWhenMended",
		"--region":      "as mount",
	},
	"uploads": {
		"--cache-dir":      "TestUploadsThatWereLeftAreAbortedByAge",
		"--credentials":    "as mount",
		"--dry-run":        "TestUploadsThatWereLeftAreAbortedByAge",
		"--endpoint":       "TestUploadsThatWereLeftAreAbortedByAge",
		"--json":           "TestUploadsThatWereLeftAreAbortedByAge",
		"--mountpoint":     "TestUploadsThatWereLeftAreAbortedByAge",
		"--older-than":     "TestUploadsThatWereLeftAreAbortedByAge",
		"--region":         "TestUploadsThatWereLeftAreAbortedByAge",
		"--requester-pays": "as mount",
		"--yes":            "TestUploadsThatWereLeftAreAbortedByAge",
	},
	"server": {
		"--access-key-id":     "TestFaultFlags",
		"--access-key-secret": "TestFaultFlags",
		"--admin":             "TestAdminCountsAndLog:Admin",
		"--bandwidth":         "TestOthersSeeOldOrNew",
		"--create-bucket":     "TestUploadsThatWereLeftAreAbortedByAge",
		"--data":              "TestFaultFlags",
		"--domain":            "TestHostNamesStandForBuckets:Domains",
		"--fault":             "TestFaultFlags",
		"--faults":            "TestFaultFlags",
		"--latency":           "TestKillBetweenRenamesLeavesOldOrNewNames",
		"--listen":            "TestFaultFlags",
		"--log-level":         "as mount",
		"--shape":             "TestShapeFlag",
	},
}

func TestEachFlagHasATest(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "ossmount")
	if out, err := exec.Command("go", "build", "-o", bin, module+"cmd/ossmount").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	commands := commandsOf(help(t, bin))
	if len(commands) < 5 {
		t.Fatalf("--help lists the commands %v only", commands)
	}
	texts := sources(t, true)
	for _, name := range commands {
		flags := flagsOf(t, bin, name)
		for f := range flags {
			if f != "--help" && testedBy[name][f] == "" {
				t.Errorf("no test is named for %s of %s.\nRule: each flag has a test. Why: one that does nothing is found by its user. Name it in internal/house/flags_test.go.", f, name)
			}
		}
		for f, test := range testedBy[name] {
			switch {
			case !flags[f]:
				t.Errorf("internal/house/flags_test.go names %s of %s, which has no such flag", f, name)
			case test == "as mount" && (name == "mount" || testedBy["mount"][f] == ""):
				t.Errorf("%s of %s is tested as that of mount, which has none", f, name)
			case test != "as mount":
				isAbout(t, texts, test, f)
			}
		}
	}
}

// isAbout fails the test unless the one that is named is there and names the flag.
func isAbout(t *testing.T, texts map[string]string, test, flag string) {
	t.Helper()
	test, word, other := strings.Cut(test, ":")
	if !other {
		word = flag
	}
	head := regexp.MustCompile(`(?m)^func ` + test + `\(`)
	mention := regexp.MustCompile(regexp.QuoteMeta(word) + `([^a-z-]|$)`)
	found := false
	for _, text := range texts {
		if head.MatchString(text) {
			if found = true; mention.MatchString(text) {
				return
			}
		}
	}
	if found {
		t.Errorf("%s, which shall be the test of %s, does not name %q, nor does its file", test, flag, word)
	} else {
		t.Errorf("there is no %s, which shall be the test of %s", test, flag)
	}
}
