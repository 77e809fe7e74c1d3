package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/journal"
	"github.com/ossmount/ossmount/writeback"
)

// heldRequest and heldAnswer are the JSON of /held.
type heldRequest struct {
	Path string `json:"path"` // beneath the mount
}

type heldAnswer struct {
	Held writeback.Held `json:"held"`
	File string         `json:"file,omitempty"` // of the content, on the local disk
	None bool           `json:"none,omitempty"` // nothing is held of it
}

func recoverCommand() *cobra.Command {
	var cacheDir string
	c := &cobra.Command{
		Use:   "recover",
		Short: "Look at what waits for somebody to act, and take its bytes out",
		Long: `Look at what waits for somebody to act: changes that can never succeed as they
are (parked), files that were being written when the mount ended (interrupted),
and bytes that no name is known for (found). Nothing of it is dropped by itself.`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.PersistentFlags().StringVar(&cacheDir, "cache-dir", "", "a cache directory that is not mounted, in place of a mount")
	list := &cobra.Command{
		Use:   "list [MOUNTPOINT]",
		Short: "List what is parked, interrupted and found",
		Args:  usage(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if (len(args) == 1) == (cacheDir != "") {
				return exit(exitUsage, errors.New("name a mount point, or --cache-dir"))
			}
			s, err := statusOf(c.Context(), args, cacheDir)
			if err == nil {
				printKept(c.OutOrStdout(), s)
			}
			return err
		},
	}
	export := &cobra.Command{
		Use:   "export PATH FILE",
		Short: "Copy the bytes that are held of a file out of the cache directory",
		Long: `Copy the bytes that are held of a file out of the cache directory into FILE,
which must not exist. PATH is the file in its mount or, with --cache-dir, as
seen from the root of the mount. Where only what was changed is here, FILE has
holes in the place of the rest, and the ranges that were changed are printed.`,
		Args: usage(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			a, err := heldOf(c.Context(), args[0], cacheDir)
			if err != nil {
				return err
			}
			if a.None {
				return exit(exitFailed, fmt.Errorf("nothing is held of %s: it is on OSS as it is, or is not there", args[0]))
			}
			return a.export(c.OutOrStdout(), args[1])
		},
	}
	c.AddCommand(list, export)
	return c
}

func printKept(w io.Writer, s mountStatus) {
	n := 0
	for _, k := range s.Queue.Kept {
		fmt.Fprintf(w, "%-11s  %s  %s  %s\n", k.State, strings.TrimPrefix(k.Key, s.Prefix), size(k.Size), k.Reason)
		n++
	}
	for _, l := range s.LostAndFound {
		fmt.Fprintf(w, "%-11s  %s  %s  was %q\n", "found", l.Path, size(l.Size), l.Witness.Key)
		n++
	}
	if more := s.Queue.Parked + s.Queue.Interrupted - len(s.Queue.Kept); more > 0 {
		fmt.Fprintf(w, "and %d more\n", more)
	}
	if n == 0 {
		fmt.Fprintln(w, "nothing waits for anybody")
	}
}

// held answers /held.
func (d *daemon) held(_ context.Context, in heldRequest) (heldAnswer, error) {
	h, err := d.e.q.HeldOf(d.e.place.prefix + strings.TrimPrefix(in.Path, "/"))
	return answerHeld(d.e.cache, h, err)
}

func answerHeld(c *cache.Cache, h writeback.Held, err error) (heldAnswer, error) {
	if errors.Is(err, writeback.ErrNoRow) {
		return heldAnswer{None: true}, nil
	}
	a := heldAnswer{Held: h}
	if h.Content != 0 {
		a.File = c.Path(h.Content)
	}
	return a, err
}

func heldOf(ctx context.Context, path, dir string) (a heldAnswer, err error) {
	if dir == "" {
		socket, root, err := findControl(path)
		if err != nil {
			return a, err
		}
		rel, err := beneath(root, path)
		if err != nil {
			return a, err
		}
		return a, call(ctx, socket, "/held", heldRequest{Path: rel}, &a)
	}
	c, j, err := openQuietly(ctx, dir)
	if err != nil {
		return a, err
	}
	defer c.Close()
	defer j.Close()
	h, err := writeback.HeldOf(j, c.Identity().Prefix+strings.TrimPrefix(path, "/"))
	return answerHeld(c, h, err)
}

// openQuietly opens a cache directory that no daemon has, and changes nothing.
func openQuietly(ctx context.Context, dir string) (*cache.Cache, *journal.Journal, error) {
	if _, err := cache.ReadIdentity(dir); err != nil {
		return nil, nil, err
	}
	c, err := cache.Open(dir, cache.Options{})
	if err != nil {
		return nil, nil, err
	}
	j, err := journal.Open(ctx, filepath.Join(c.Dir(), "journal"), journal.Options{Contents: c, ReadOnly: true})
	if errors.Is(err, journal.ErrDamaged) {
		err = fmt.Errorf("%w: the next mount (or ossmount drain) keeps it aside, and takes pending files up from the contents of %s", err, c.Dir())
	}
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, j, nil
}

// export writes what is held to a new file.
func (a heldAnswer) export(say io.Writer, to string) (err error) {
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if a.File == "" && a.Held.Base.IsZero() {
		_, err := io.WriteString(out, a.Held.Text)
		return err
	}
	if err := out.Truncate(a.Held.Size); err != nil {
		return err
	}
	if a.File != "" {
		in, err := os.Open(a.File)
		if err != nil {
			return err
		}
		defer in.Close()
		for _, r := range a.Held.Here {
			if _, err := io.Copy(io.NewOffsetWriter(out, r.Off), io.NewSectionReader(in, r.Off, r.Len())); err != nil {
				return err
			}
		}
	}
	if a.Held.Here.Covers(0, a.Held.Size) {
		fmt.Fprintf(say, "%s: all %s\n", to, size(a.Held.Size))
		return nil
	}
	fmt.Fprintf(say, "%s: %s of %s; the rest were those of %q, ETag %s, and are holes here\n",
		to, size(a.Held.Here.Len()), size(a.Held.Size), a.Held.Base.Key, a.Held.Base.ETag)
	for _, r := range a.Held.Here {
		fmt.Fprintf(say, "  bytes %d to %d\n", r.Off, r.End-1)
	}
	return nil
}
