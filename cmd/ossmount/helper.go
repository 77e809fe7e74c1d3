package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// mount(8) and umount(8) look for a program of the type of a file system, such as
// /sbin/mount.fuse.ossmount: a link to this one, which knows by its name that it is
// called in their way, and ends with their exit codes.

// Exit codes of mount(8).
const (
	mountUsage  = 1  // wrong invocation, or no permission
	mountFailed = 32 // and of umount(8)
)

// called runs what the name and the arguments of this process ask for.
func called(args []string) int {
	switch filepath.Base(args[0]) {
	case "mount.ossmount", "mount.fuse.ossmount":
		return helped(asMount, args)
	case "umount.ossmount", "umount.fuse.ossmount":
		return helped(asUmount, args)
	}
	return run(args[1:])
}

// helped runs what mount(8) or umount(8) asks for.
func helped(translate func(args []string) ([]string, error), args []string) int {
	ours, err := translate(args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(args[0]), err)
		return mountUsage
	}
	os.Args = append([]string{"ossmount"}, ours...) // the background begins with them once more
	switch code := run(ours); code {
	case exitUsage:
		return mountUsage
	case exitFailed:
		return mountFailed
	default: // what is left, and said, does not make it less unmounted
		return 0
	}
}

// asMount translates SOURCE MOUNTPOINT [-sfnv] [-o OPTIONS] [-N NAMESPACE] [-t TYPE].
func asMount(args []string) ([]string, error) {
	fl := pflag.NewFlagSet("", pflag.ContinueOnError)
	options := fl.StringArrayP("options", "o", nil, "")
	sloppy := fl.BoolP("sloppy", "s", false, "")
	fake := fl.BoolP("fake", "f", false, "")
	rest, err := mountArgs(fl, args)
	if err != nil {
		return nil, err
	}
	if len(rest) != 2 {
		return nil, fmt.Errorf("usage: SOURCE MOUNTPOINT [-sfnv] [-o OPTIONS]")
	}
	ours := []string{"mount", "--background"}
	if *fake { // it does all but the mount
		ours = []string{"config", "check"}
	}
	for _, text := range *options {
		if *sloppy {
			text = knownOptions(text)
		}
		ours = append(ours, "--options="+text)
	}
	return append(append(ours, "--"), rest...), nil
}

// asUmount translates MOUNTPOINT [-flnrv] [-N NAMESPACE] [-t TYPE].
func asUmount(args []string) ([]string, error) {
	fl := pflag.NewFlagSet("", pflag.ContinueOnError)
	force := fl.BoolP("force", "f", false, "")
	lazy := fl.BoolP("lazy", "l", false, "")
	fl.BoolP("read-only", "r", false, "")
	rest, err := mountArgs(fl, args)
	if err != nil {
		return nil, err
	}
	if len(rest) != 1 {
		return nil, fmt.Errorf("usage: MOUNTPOINT [-flnrv]")
	}
	return []string{"umount", fmt.Sprintf("--force=%v", *force || *lazy), "--", rest[0]}, nil
}

// mountArgs parses what both take: -n, -v and -t say nothing to us.
func mountArgs(fl *pflag.FlagSet, args []string) (rest []string, err error) {
	fl.BoolP("no-mtab", "n", false, "")
	fl.BoolP("verbose", "v", false, "")
	fl.StringP("types", "t", "", "")
	namespace := fl.StringP("namespace", "N", "", "")
	fl.SetOutput(nil)
	fl.Usage = func() {}
	if err := fl.Parse(args); err != nil {
		return nil, err
	}
	if *namespace != "" {
		return nil, fmt.Errorf("-N %s: use nsenter(1)", *namespace)
	}
	return fl.Args(), nil
}

// knownOptions leaves out of a text of options those that nobody knows.
func knownOptions(text string) string {
	options, err := splitOptions(text)
	if err != nil {
		return text
	}
	known := settingsOf(mountCommand().Flags())
	options = slices.DeleteFunc(options, func(o option) bool {
		_, err := o.item(known)
		return err != nil
	})
	var kept []string
	for _, o := range options {
		kept = append(kept, o.String())
	}
	return strings.Join(kept, ",")
}
