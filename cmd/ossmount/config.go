package main

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func configCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Check settings, and show where each comes from",
		Long: `Check the settings of mount, or show them and where each comes from: a flag, -o,
the environment, a file or the default. Takes what mount takes.

EXAMPLES
  ossmount config check --config=/etc/ossmount/data.yaml
  ossmount config print --config=/etc/ossmount/data.yaml`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(configCheck(), configPrint())
	return c
}

func configCheck() *cobra.Command {
	return likeMount(&cobra.Command{
		Use:   "check [SOURCE MOUNTPOINT]",
		Short: "Say all that is wrong with the settings",
		Long: `Say all that is wrong with the settings of mount, a line for each mistake, with
where it stands. Nothing is mounted, and OSS is not asked.

EXAMPLES
  ossmount config check --config=/etc/ossmount/data.yaml

EXIT STATUS
  0  nothing is wrong
  2  something is`,
	}, func(c *cobra.Command, _ *mountFlags) error {
		_, err := fmt.Fprintln(c.OutOrStdout(), "the settings are valid")
		return err
	})
}

func configPrint() *cobra.Command {
	return likeMount(&cobra.Command{
		Use:   "print [SOURCE MOUNTPOINT]",
		Short: "Print the settings that mount would have, and where each comes from",
		Long: `Print the settings that mount would have, as a file for --config; a comment says
where each comes from. No secret is printed, but whether it is there.

EXAMPLES
  ossmount config print --config=/etc/ossmount/data.yaml

EXIT STATUS
  0  done
  2  the settings are wrong`,
	}, func(c *cobra.Command, _ *mountFlags) error { return printSettings(c.OutOrStdout(), c.Flags()) })
}

// likeMount makes a command that takes what mount takes; do is given valid settings.
func likeMount(c *cobra.Command, do func(c *cobra.Command, f *mountFlags) error) *cobra.Command {
	f := &mountFlags{}
	f.mountFlags(c)
	c.Flags().VisitAll(func(fl *pflag.Flag) { // mount has them in its help
		fl.Hidden = fl.Name != "config" && fl.Name != "options"
	})
	c.Args = usage(bothOrNone)
	c.PersistentPreRunE = func(*cobra.Command, []string) error { return nil } // it is done below
	c.RunE = func(c *cobra.Command, args []string) error {
		err := settle(c, args)
		if err == nil {
			err = whence(c.Flags(), f.check())
		}
		mistakes := each(err)
		for _, e := range mistakes {
			fmt.Fprintln(os.Stderr, "ossmount:", strings.ReplaceAll(e.Error(), "\n", "; "))
		}
		if len(mistakes) > 0 {
			return exit(exitUsage, nil)
		}
		return do(c, f)
	}
	return c
}

// secrets are the variables whose values nobody is shown.
var secrets = []string{"OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"}

// printSettings prints settings as a file that says the same.
func printSettings(w io.Writer, fl *pflag.FlagSet) error {
	all := settingsOf(fl)
	names := make([]string, 0, len(all))
	for name, f := range all {
		if !slices.Contains(notInAFile, name) && (f.Changed || f.DefValue != "" || !f.Hidden) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	for _, name := range names {
		value, err := settingText(all[name])
		if err != nil {
			return err
		}
		where := setWhere(all[name])
		if where == "" {
			where = "default"
		}
		fmt.Fprintf(t, "%s: %s\t# %s\n", name, value, where)
	}
	for _, name := range secrets {
		is := "not set"
		if os.Getenv(name) != "" {
			is = "set"
		}
		fmt.Fprintf(t, "# %s\t# %s\n", name, is)
	}
	return t.Flush()
}

// settingText is the value of a setting in YAML, on one line.
func settingText(f *pflag.Flag) (string, error) {
	var v any = masked(f.Value.String())
	switch list, isList := f.Value.(pflag.SliceValue); {
	case isList:
		v = list.GetSlice()
	case f.Value.Type() == "bool", f.Value.Type() == "int", f.Value.Type() == "uint32":
		return f.Value.String(), nil
	}
	text, err := yaml.MarshalWithOptions(v, yaml.Flow(true))
	return strings.TrimSpace(string(text)), err
}

// masked is a text without the password of a URL.
func masked(text string) string {
	if u, err := url.Parse(text); err == nil && u.User != nil {
		return u.Redacted()
	}
	return text
}
