// Command ossmount mounts a bucket of Alibaba Cloud OSS as a directory.
//
// It wires the rooms together in order and closes them in reverse (mount.go),
// talks to the daemon of a mount over a Unix socket (control.go), and runs the
// built-in OSS server (server.go). Exit codes are part of its interface
// (exit.go, docs/cli.md).
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/ossmount/ossmount/internal/private"
)

func main() {
	if len(os.Args) == 2 && os.Args[0] == kernelProbe {
		os.Exit(runKernelProbe(os.Args[1], os.Stderr))
	}
	os.Exit(called(os.Args))
}

func run(args []string) int {
	private.Umask()
	root := rootCommand()
	root.SetArgs(args)
	c, err := root.ExecuteContextC(context.Background())
	return report(c, err)
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "ossmount",
		Short: "Mount an Alibaba Cloud OSS bucket as a directory; uploads survive crashes and go on at their last part",
		Long: `ossmount mounts an Alibaba Cloud OSS bucket, or a prefix of it, as a directory.

Programs write at the speed of the local disk. Each closed file is in a journal
before close returns, and is uploaded behind; an upload goes on at its last
part after an unmount, a crash or a power cut.

EXAMPLES
  ossmount mount oss://my-bucket /mnt/data --endpoint=https://oss-cn-hangzhou.aliyuncs.com --region=cn-hangzhou
  ossmount status /mnt/data
  ossmount umount /mnt/data

EXIT STATUS
  0  done
  1  failed
  2  wrong usage
  3  work is left pending in the journal
  4  something is parked: see ossmount status`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },

		PersistentPreRunE: settle,
	}
	root.CompletionOptions.DisableDefaultCmd = true // completionCommand is ours
	root.AddCommand(mountCommand(), umountCommand(), statusCommand(), waitCommand(), drainCommand(), recoverCommand(), retryCommand(), uploadsCommand(), limitCommand(), serverCommand(), configCommand(), versionCommand(), completionCommand(), manCommand())
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return exit(exitUsage, fmt.Errorf("%w (see ossmount %s --help)", err, c.Name()))
	})
	complete(root)
	return root
}

// usage wraps a check of arguments so that its error is one of usage.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return exit(exitUsage, fmt.Errorf("%w: usage: %s", err, c.UseLine()))
		}
		return nil
	}
}
