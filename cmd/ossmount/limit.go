package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

// limitRequest and limitAnswer are the JSON of /limit.
type limitRequest struct {
	Upload *int64 `json:"upload,omitempty"` // bytes per second, 0: none; absent: as it is
}

type limitAnswer struct {
	Upload int64 `json:"upload"`
}

// limit answers /limit.
func (d *daemon) limit(_ context.Context, in limitRequest) (limitAnswer, error) {
	switch {
	case in.Upload == nil:
	case *in.Upload < 0:
		return limitAnswer{}, fmt.Errorf("%d is no limit: give bytes per second, 0 for none", *in.Upload)
	default:
		d.e.remote.SetUploadLimit(*in.Upload)
		d.log.Info("the limit of uploads is another", "bytes_per_second", *in.Upload)
	}
	return limitAnswer{d.e.remote.UploadLimit()}, nil
}

func limitCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "limit MOUNTPOINT [RATE]",
		Short: "Show or change how many bytes a mount sends per second",
		Long: `Show how many bytes a mount sends per second at most, all uploads together, or change
it: at once, for uploads that are under way, too, and until the mount ends. The mount
begins with --upload-limit.

EXAMPLES
  ossmount limit /mnt/data 20MB/s
  ossmount limit /mnt/data 0        no limit
  ossmount limit /mnt/data          what it is

EXIT STATUS
  0  done
  1  failed
  2  wrong usage`,
		Args: usage(cobra.RangeArgs(1, 2)),
		RunE: func(c *cobra.Command, args []string) error {
			in := limitRequest{}
			if len(args) == 2 {
				n, err := parseBytes(args[1])
				if err != nil {
					return exit(exitUsage, fmt.Errorf("%q is no rate such as 20MB/s (0: no limit)", args[1]))
				}
				in.Upload = &n
			}
			socket, _, err := findControl(args[0])
			if err != nil {
				return err
			}
			var a limitAnswer
			if err := call(c.Context(), socket, "/limit", in, &a); err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), limitText(a.Upload))
			return nil
		},
	}
}

func limitText(perSecond int64) string {
	if perSecond == 0 {
		return "no limit"
	}
	return size(perSecond) + "/s"
}
