package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// choices are the values of the flags that take one of a few words, by name:
// what oneOf refuses the rest by, and what a shell offers.
var choices = map[string][]string{
	"close":       {"journal", "disk", "remote"},
	"fsync":       {"journal", "disk", "remote"},
	"eager":       {"on", "off"},
	"passthrough": {"auto", "off"},
	"conflict":    {"overwrite", "keep-both"},
	"log-level":   {"debug", "info", "warn", "error"},
	"log-format":  {"text", "json"},
}

// oneOf refuses what is not one of the words that the flag takes.
func oneOf(flag, v string) error {
	if slices.Contains(choices[flag], v) {
		return nil
	}
	return exit(exitUsage, fmt.Errorf("--%s=%s: use %s", flag, v, strings.Join(choices[flag], " or ")))
}

// Flags whose value is a path; of the others a shell offers no files.
var (
	directories = []string{"cache-dir", "data"}
	files       = []string{"faults", "config"}
)

// ofMounts are the commands whose first argument is a mount of ours, or in one.
var ofMounts = []string{"ossmount umount", "ossmount status", "ossmount wait", "ossmount recover list"}

func completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print the script by which a shell completes commands, flags and their values",
		Long: `Print the script by which a shell completes commands, flags and their values. The
packages install it; otherwise have the shell read it.

EXAMPLES
  source <(ossmount completion bash)
  ossmount completion zsh >"${fpath[1]}/_ossmount"
  ossmount completion fish >~/.config/fish/completions/ossmount.fish`,
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args:      usage(cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)),
		RunE: func(c *cobra.Command, args []string) error {
			root, out := c.Root(), c.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			default:
				return root.GenFishCompletion(out, true)
			}
		},
	}
}

// complete tells what a shell may offer for the flags and arguments of c and of
// the commands beneath it.
func complete(c *cobra.Command) {
	for _, flags := range []*pflag.FlagSet{c.LocalNonPersistentFlags(), c.PersistentFlags()} {
		flags.VisitAll(func(f *pflag.Flag) {
			// An error would be a flag that has a completion already.
			_ = c.RegisterFlagCompletionFunc(f.Name, valuesOf(f))
		})
	}
	switch {
	case c.ValidArgsFunction != nil:
	case c.CommandPath() == "ossmount mount":
		c.ValidArgsFunction = mountArguments
	case slices.Contains(ofMounts, c.CommandPath()):
		c.ValidArgsFunction = mountpoints
	}
	for _, sub := range c.Commands() {
		complete(sub)
	}
}

func valuesOf(f *pflag.Flag) cobra.CompletionFunc {
	switch {
	case choices[f.Name] != nil:
		return cobra.FixedCompletions(choices[f.Name], cobra.ShellCompDirectiveNoFileComp)
	case slices.Contains(directories, f.Name):
		return cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
	case slices.Contains(files, f.Name):
		return cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
	case f.Name == "mountpoint":
		return mountpoints
	}
	return cobra.NoFileCompletions
}

// mountpoints offers the mounts of ours, and then other names: of what is in them.
func mountpoints(_ *cobra.Command, args []string, _ string) (points []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, m := range mountTable() {
		points = append(points, cobra.CompletionWithDesc(m.point, m.source))
	}
	return points, cobra.ShellCompDirectiveDefault
}

// mountArguments offers what a source begins with, then directories.
func mountArguments(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return []string{"oss://", "local:"}, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	case 1:
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}
