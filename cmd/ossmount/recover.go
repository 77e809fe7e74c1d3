package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/internal/extent"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/internal/private"
)

// recoverFlags say which mount or cache directory is meant.
type recoverFlags struct {
	cacheDir, mountpoint string
	remote               mountFlags
}

func (f *recoverFlags) add(c *cobra.Command) {
	fl := c.PersistentFlags()
	fl.StringVar(&f.cacheDir, "cache-dir", "", "a cache directory that is not mounted, in place of a mount; paths are then as seen from its root")
	fl.StringVar(&f.mountpoint, "mountpoint", "", "the mount that is meant, where no path says so (default: the only one)")
	fl.StringVar(&f.remote.region, "region", os.Getenv("OSS_REGION"), "region, as for mount, where OSS must be asked without a mount (OSS_REGION)")
	f.remote.credentialsFlag(fl)
	markSettings(fl, "region")
}

const recoverStatus = `

EXIT STATUS
  0  done
  1  failed: the rest was not touched
  2  wrong usage`

func recoverCommand() *cobra.Command {
	f := &recoverFlags{}
	c := &cobra.Command{
		Use:   "recover",
		Short: "Look at what waits for somebody to act, and act on it",
		Long: `Look at what waits for somebody to act, and act on it: changes that can never
succeed as they are (parked), files that were being written when the mount ended
(interrupted), and bytes that no name is known for (found). Nothing of it is
dropped by itself.

A file is named by its path in the mount or, with --cache-dir, as seen from the
root of the mount; found bytes are found:NUMBER, as "recover list" prints it. (A
file of that name is ./found:NUMBER.)

EXAMPLES
  ossmount recover list /mnt/data
  ossmount recover publish /mnt/data/big.iso
  ossmount recover discard found:1f` + recoverStatus,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f.add(c)
	c.AddCommand(recoverList(f), recoverPublish(f), recoverExport(f), recoverDiscard(f))
	return c
}

func recoverList(f *recoverFlags) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "list [MOUNTPOINT]",
		Short: "List what is parked, interrupted and found, and what can be done about it",
		Long: `List what is parked, interrupted and found, and what can be done about it. With
--cache-dir the directory is taken up as a mount would do it: then it is known
what was being written. OSS is not asked.

EXAMPLES
  ossmount recover list /mnt/data
  ossmount recover list --cache-dir=/var/cache/data --json` + recoverStatus,
		Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 && f.cacheDir+f.mountpoint != "" {
				return exit(exitUsage, errors.New("name a mount point, or --cache-dir"))
			}
			return f.with(c.Context(), args, func(r *recovery) error {
				a, err := r.do(c.Context(), recoverRequest{Do: "list"})
				if err != nil {
					return err
				}
				if asJSON {
					e := json.NewEncoder(c.OutOrStdout())
					e.SetIndent("", "  ")
					return e.Encode(a)
				}
				printKept(c.OutOrStdout(), r, a)
				return nil
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}

// with runs do at the desk that flags and paths are about.
func (f *recoverFlags) with(ctx context.Context, paths []string, do func(r *recovery) error) error {
	r, err := openRecovery(ctx, f, paths)
	if err != nil {
		return err
	}
	defer r.close()
	return do(r)
}

func printKept(w io.Writer, r *recovery, a recoverAnswer) {
	for _, h := range a.Held {
		fmt.Fprintf(w, "%-11s  %s  %s%s  %s\n", h.State, r.show(h.Path), size(h.Size), ofDelete(h.Kind), h.Reason)
		target := r.show(h.Path)
		if r.root == "" {
			target += " " + r.flag()
		}
		fmt.Fprintf(w, "%13s%s\n", "", strings.ReplaceAll(h.Remedy, "PATH", target))
	}
	for _, l := range a.Found {
		fmt.Fprintf(w, "%-11s  %s  %s  was %q, written to until %s, in %s\n", "found", l.Name, size(l.Size), l.Path, when(l.Mtime), l.File)
		fmt.Fprintf(w, "%13s%s\n", "", l.remedy(r.flag()))
	}
	if a.More > 0 {
		fmt.Fprintf(w, "and %d more\n", a.More)
	}
	if len(a.Held)+len(a.Found) == 0 {
		fmt.Fprintln(w, "nothing waits for anybody")
	}
}

func ofDelete(kind string) string {
	if kind == "delete" {
		return " (its delete)"
	}
	return ""
}

func when(ns int64) string { return time.Unix(0, ns).Format(time.DateTime) }

func (l *foundItem) remedy(flag string) string {
	target := flag + " " + l.Name
	publish := fmt.Sprintf("give it a name with `ossmount recover publish %s [PATH]`; ", target)
	if l.Why != "" {
		publish = ""
	}
	return publish + fmt.Sprintf("take it out with `ossmount recover export %s FILE`; give it up with `ossmount recover discard %s`", target, target)
}

// request is what is asked about one target.
func (r *recovery) request(do, target string) (in recoverRequest, err error) {
	in.Do = do
	if n, ok := strings.CutPrefix(target, foundPrefix); ok {
		if in.Found = n; n == "" {
			err = exit(exitUsage, fmt.Errorf("%q lacks the number: use one that ossmount recover list prints", target))
		}
		return in, err
	}
	if in.Path, err = r.rel(target); err == nil && in.Path == "" {
		err = exit(exitUsage, fmt.Errorf("%q names no file", target))
	}
	return in, err
}

// all are the requests about everything that has one of the states.
func (r *recovery) all(ctx context.Context, do string, states ...string) (ins []recoverRequest, err error) {
	a, err := r.do(ctx, recoverRequest{Do: "list"})
	if err != nil {
		return nil, err
	}
	is := func(state string) bool { return strings.Contains(strings.Join(states, " "), state) }
	for _, h := range a.Held {
		if is(h.State) {
			ins = append(ins, recoverRequest{Do: do, Path: h.Path})
		}
	}
	for _, l := range a.Found {
		if is("found") {
			ins = append(ins, recoverRequest{Do: do, Found: strings.TrimPrefix(l.Name, foundPrefix)})
		}
	}
	if a.More > 0 {
		err = fmt.Errorf("there are %d more than can be done at once: after these, say it again", a.More)
	}
	return ins, err
}

func recoverPublish(f *recoverFlags) *cobra.Command {
	var force, all bool
	c := &cobra.Command{
		Use:   "publish PATH | found:NUMBER [AS-PATH] | --all",
		Short: "Upload an interrupted file as it is, or give found bytes a name",
		Long: `Upload an interrupted file with the bytes that the disk has; nobody may have it
open for writing. Or give found bytes a name: AS-PATH, or the one that they had.
Directories that AS-PATH lies in need not exist. Where something is there already
it is refused; --force replaces it, as a rename would. Bytes that are a part of a
version on OSS are published only if OSS still holds that version.

With --all every interrupted file is published.

EXAMPLES
  ossmount recover publish /mnt/data/big.iso
  ossmount recover publish found:1f
  ossmount recover publish found:1f /mnt/data/found/report.odt` + recoverStatus,
		Args: usage(cobra.MaximumNArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			isFound := len(args) > 0 && strings.HasPrefix(args[0], foundPrefix)
			switch {
			case all == (len(args) > 0):
				return exit(exitUsage, errors.New("name a file, or found:NUMBER, or --all"))
			case len(args) == 2 && !isFound:
				return exit(exitUsage, errors.New("only found bytes get a name: rename the file in its mount"))
			}
			return f.with(c.Context(), args, func(r *recovery) error {
				ins, err := r.these(c.Context(), "publish", args[:min(len(args), 1)], all, "interrupted")
				if err != nil {
					return err
				}
				if len(args) == 2 {
					if ins[0].As, err = r.rel(args[1]); err != nil {
						return err
					}
				}
				return r.each(c.Context(), ins, func(in recoverRequest, a recoverAnswer) {
					for _, h := range a.Held {
						fmt.Fprintf(c.OutOrStdout(), "published %s  %s\n", r.show(h.Path), size(h.Size))
					}
					for _, l := range a.Found {
						fmt.Fprintf(c.OutOrStdout(), "published %s as %s  %s\n", l.Name, r.show(l.Path), size(l.Size))
					}
				}, force)
			})
		},
	}
	c.Flags().BoolVar(&force, "force", false, "replace what is there already; publish a damaged file, too")
	c.Flags().BoolVar(&all, "all", false, "every interrupted file")
	return c
}

// these are the requests about targets, or about all that have one of the states.
func (r *recovery) these(ctx context.Context, do string, targets []string, all bool, states ...string) (ins []recoverRequest, err error) {
	if all {
		return r.all(ctx, do, states...)
	}
	for _, t := range targets {
		in, err := r.request(do, t)
		if err != nil {
			return nil, err
		}
		ins = append(ins, in)
	}
	return ins, nil
}

// each makes the requests; the first that fails is the last.
func (r *recovery) each(ctx context.Context, ins []recoverRequest, say func(in recoverRequest, a recoverAnswer), force bool) error {
	for _, in := range ins {
		in.Force = force
		a, err := r.do(ctx, in)
		if err != nil {
			return err
		}
		say(in, a)
	}
	return nil
}

func recoverDiscard(f *recoverFlags) *cobra.Command {
	var yes, all bool
	c := &cobra.Command{
		Use:   "discard PATH|found:NUMBER... | --all",
		Short: "Give bytes up for good",
		Long: `Give bytes up for good: the change of a parked or interrupted file, whose name
then shows what OSS holds; or found bytes. Of a parked delete the object stays; of a
parked rename the file has its old name again.
On a terminal it is asked first.

EXAMPLES
  ossmount recover discard /mnt/data/big.iso
  ossmount recover discard --yes found:1f found:20` + recoverStatus,
		Args: usage(cobra.ArbitraryArgs),
		RunE: func(c *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return exit(exitUsage, errors.New("name files, or found:NUMBER, or --all"))
			}
			return f.with(c.Context(), args, func(r *recovery) error {
				looks, err := r.these(c.Context(), "look", args, all, "parked", "interrupted", "found")
				if err != nil {
					return err
				}
				var what []string // first all are looked at, so that a wrong name changes nothing
				err = r.each(c.Context(), looks, func(_ recoverRequest, a recoverAnswer) { what = append(what, r.lines(a)...) }, false)
				if err != nil || len(what) == 0 {
					return err
				}
				if err := confirm(c, yes, "these bytes are given up for good ("+r.flag()+"):", what); err != nil {
					return err
				}
				for i := range looks {
					looks[i].Do = "discard"
				}
				return r.each(c.Context(), looks, func(_ recoverRequest, a recoverAnswer) {
					for _, line := range r.lines(a) {
						fmt.Fprintln(c.OutOrStdout(), "gave up", line)
					}
					for _, h := range a.Held {
						if h.Back != "" {
							fmt.Fprintf(c.OutOrStdout(), "  the file is %s again, as it was before the rename\n", r.show(h.Back))
						}
					}
				}, false)
			})
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&all, "all", false, "everything that is parked, interrupted or found")
	return c
}

func (r *recovery) lines(a recoverAnswer) (out []string) {
	for _, h := range a.Held {
		out = append(out, fmt.Sprintf("%s  %s  %s%s", h.State, r.show(h.Path), size(h.Here.Len()), ofDelete(h.Kind)))
	}
	for _, l := range a.Found {
		out = append(out, fmt.Sprintf("found  %s  %s  was %q", l.Name, size(l.Size), l.Path))
	}
	return out
}

// confirm asks whether to go on, where somebody is there to answer.
func confirm(c *cobra.Command, yes bool, question string, what []string) error {
	if yes {
		return nil
	}
	in, ok := c.InOrStdin().(*os.File)
	if ok {
		_, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
		ok = err == nil
	}
	if !ok {
		return exit(exitUsage, errors.New("nobody can be asked, because this is no terminal: --yes says that it is meant"))
	}
	fmt.Fprintln(c.ErrOrStderr(), question)
	for _, line := range what {
		fmt.Fprintln(c.ErrOrStderr(), " ", line)
	}
	fmt.Fprint(c.ErrOrStderr(), "Go on? [y/N] ")
	line, _ := bufio.NewReader(in).ReadString('\n')
	if l := strings.ToLower(strings.TrimSpace(line)); l != "y" && l != "yes" {
		return exit(exitFailed, errors.New("nothing was changed"))
	}
	return nil
}

func recoverExport(f *recoverFlags) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "export PATH|found:NUMBER FILE | --all DIR",
		Short: "Copy the bytes that are held out of the cache directory",
		Long: `Copy the bytes that are held of a file, or found bytes, out of the cache
directory into FILE, which must not exist. Where only what was changed is here,
FILE has holes in the place of the rest, and the ranges that were changed are
printed; of found bytes they are known by whole blocks of the disk. With --all
everything that is held or found goes into the directory DIR, which must not exist:
files under their paths, found bytes under lost+found. Nothing is changed.

EXAMPLES
  ossmount recover export /mnt/data/big.iso /tmp/big.iso
  ossmount recover export --mountpoint=/mnt/data found:1f /tmp/1f` + recoverStatus,
		Args: usage(cobra.RangeArgs(1, 2)),
		RunE: func(c *cobra.Command, args []string) error {
			if all == (len(args) == 2) {
				return exit(exitUsage, errors.New("name a file or found:NUMBER and the FILE to make, or --all and a directory"))
			}
			targets, to := args[:len(args)-1], args[len(args)-1]
			return f.with(c.Context(), targets, func(r *recovery) error {
				ins, err := r.these(c.Context(), "look", targets, all, "parked", "interrupted", "found")
				if err != nil {
					return err
				}
				if all {
					if err := os.Mkdir(to, 0o700); err != nil {
						return err
					}
				}
				for _, in := range ins {
					a, err := r.do(c.Context(), in)
					if err != nil {
						return err
					}
					if err := exportThese(c.OutOrStdout(), a, to, all); err != nil {
						return fmt.Errorf("export: %w", err)
					}
				}
				return nil
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "everything that is parked, interrupted or found, into a directory")
	return c
}

func exportThese(say io.Writer, a recoverAnswer, to string, all bool) error {
	for _, h := range a.Held {
		e := export{path: h.File, text: h.Text, size: h.Size, here: h.Here, base: h.Base}
		switch {
		case all && (h.Kind == "delete" || strings.HasSuffix(h.Path, "/")):
			continue
		case h.Kind == "delete":
			return fmt.Errorf("%q is a delete, and has no bytes", h.Path)
		}
		if err := e.write(say, to, filepath.Join(".", h.Path), all); err != nil {
			return err
		}
	}
	for _, l := range a.Found {
		e := export{path: l.File, size: l.Size, here: l.Here, found: true, part: l.Holes}
		if err := e.write(say, to, filepath.Join("lost+found", strings.TrimPrefix(l.Name, foundPrefix)), all); err != nil {
			return err
		}
	}
	return nil
}

// export is what is copied to a new file.
type export struct {
	path  string // of the content; "": the bytes are text
	text  string
	size  int64
	here  extent.Set
	base  object.Ref
	found bool // what is not here is zeros, or, of a part, not known
	part  bool
}

func (e *export) write(say io.Writer, to, name string, beneath bool) (err error) {
	if beneath {
		root, err := os.OpenRoot(to) // names of objects must not lead out of it
		if err != nil {
			return err
		}
		defer root.Close()
		if err := root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		return e.fill(say, out, filepath.Join(to, name))
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return e.fill(say, out, to)
}

func (e *export) fill(say io.Writer, out *os.File, to string) (err error) {
	defer func() { err = errors.Join(err, out.Close()) }()
	if e.path == "" && e.base.IsZero() {
		_, err := io.WriteString(out, e.text)
		return err
	}
	if err := out.Truncate(e.size); err != nil {
		return err
	}
	if e.path != "" {
		in, err := private.Open(e.path, os.O_RDONLY)
		if err != nil {
			return err
		}
		defer in.Close()
		for _, r := range e.here {
			if _, err := io.Copy(io.NewOffsetWriter(out, r.Off), io.NewSectionReader(in, r.Off, r.Len())); err != nil {
				return err
			}
		}
	}
	switch {
	case e.found && !e.part, e.here.Covers(0, e.size):
		fmt.Fprintf(say, "%s: all %s\n", to, size(e.size))
		return nil
	case e.found:
		fmt.Fprintf(say, "%s: %s of %s, by whole blocks; the rest were those of a version on OSS, and are holes here\n", to, size(e.here.Len()), size(e.size))
	default:
		fmt.Fprintf(say, "%s: %s of %s; the rest were those of %q, ETag %s, and are holes here\n",
			to, size(e.here.Len()), size(e.size), e.base.Key, e.base.ETag)
	}
	for _, r := range e.here {
		fmt.Fprintf(say, "  bytes %d to %d\n", r.Off, r.End-1)
	}
	return nil
}

func retryCommand() *cobra.Command {
	f := &recoverFlags{}
	var all bool
	c := &cobra.Command{
		Use:   "retry PATH... | --all",
		Short: "Try parked changes again",
		Long: `Try parked changes again, when the cause is mended: they are pending from then on,
and are carried like any other. With --all every parked change is tried. What only
waits for OSS, because that could not be used or did not permit something, is tried
at once in either case.

EXAMPLES
  ossmount retry /mnt/data/big.iso
  ossmount retry --all --mountpoint=/mnt/data` + recoverStatus,
		Args: usage(cobra.ArbitraryArgs),
		RunE: func(c *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return exit(exitUsage, errors.New("name files, or --all"))
			}
			return f.with(c.Context(), args, func(r *recovery) error {
				ins, err := r.these(c.Context(), "retry", args, all, "parked")
				if err != nil {
					return err
				}
				ins = append(ins, recoverRequest{Do: "wake"})
				return r.each(c.Context(), ins, func(_ recoverRequest, a recoverAnswer) {
					for _, h := range a.Held {
						fmt.Fprintf(c.OutOrStdout(), "pending again: %s%s\n", r.show(h.Path), ofDelete(h.Kind))
					}
				}, false)
			})
		},
	}
	f.add(c)
	c.Flags().BoolVar(&all, "all", false, "every parked change")
	return c
}
