package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ossmount/ossmount/internal/screen"
	"github.com/ossmount/ossmount/writeback"
)

// The uploads of a mount: looking at them, and pausing them.

// pathRequest is the JSON of /uploads/list and /uploads/parts.
type pathRequest struct {
	Path string `json:"path"` // beneath the mount, "" for all
}

// intentItem is one change of /uploads/list.
type intentItem struct {
	Path string `json:"path"` // beneath the mount
	writeback.Intent
}

type intentsAnswer struct {
	Uploads []intentItem `json:"uploads"`
	More    bool         `json:"more,omitempty"`
}

// pauseRequest and pauseAnswer are the JSON of /uploads/pause.
type pauseRequest struct {
	Path   string `json:"path"` // of a file beneath the mount, "" for all
	Resume bool   `json:"resume"`
}

type pauseAnswer struct {
	Was     bool              `json:"was"`              // it was paused already
	Paused  *writeback.Paused `json:"paused,omitempty"` // what is paused now
	Pending int               `json:"pending"`
	Bytes   int64             `json:"pending_bytes"`
}

// listedIntents is how many changes a list has at most.
const listedIntents = 10_000

// errKept refuses to give up what a program has written.
var errKept = errors.New("what a mount has to send is not given up: ossmount uploads pause stops it and keeps it, rm removes the file itself, and ossmount recover discard gives up what is parked; only uploads of oss://BUCKET are aborted")

func isSource(s string) bool {
	return strings.HasPrefix(s, "oss://") || strings.HasPrefix(s, "local:")
}

// keyOf is the key of a path beneath the mount; of a directory as of all in it.
func (d *daemon) keyOf(path string) string {
	if path == "" {
		return ""
	}
	return d.e.place.prefix + strings.Trim(path, "/")
}

func (d *daemon) rel(key string) string { return strings.TrimPrefix(key, d.e.place.prefix) }

// intents answers /uploads/list.
func (d *daemon) intents(_ context.Context, in pathRequest) (a intentsAnswer, err error) {
	key := d.keyOf(in.Path)
	keys := []string{key}
	if key != "" {
		keys = append(keys, key+"/") // one of them is not there
	}
	a.Uploads = []intentItem{}
	for _, key := range keys {
		all, more, err := d.e.q.Intents(key, listedIntents)
		if err != nil {
			return a, err
		}
		for _, w := range all {
			a.Uploads = append(a.Uploads, intentItem{Path: d.rel(w.Key), Intent: w})
		}
		a.More = a.More || more
	}
	return a, nil
}

// parts answers /uploads/parts.
func (d *daemon) parts(_ context.Context, in pathRequest) (writeback.PartsOf, error) {
	p, err := d.e.q.PartsOf(d.keyOf(in.Path))
	if errors.Is(err, writeback.ErrNoRow) {
		err = fmt.Errorf("nothing of %q is to be sent: it is on OSS as it is, or is not there", in.Path)
	}
	return p, err
}

// pause answers /uploads/pause.
func (d *daemon) pause(_ context.Context, in pauseRequest) (a pauseAnswer, err error) {
	key := d.keyOf(in.Path)
	if in.Resume {
		a.Was = d.e.q.Resume(key)
	} else {
		a.Was = !d.e.q.Pause(key)
	}
	s, err := d.e.q.Status()
	a.Paused, a.Pending, a.Bytes = s.Paused, s.Pending, s.Bytes
	return a, err
}

// upload asks the mount that path lies in, about that path.
func askAbout(c *cobra.Command, path, what string, request func(rel string) any, out any) (root string, err error) {
	socket, root, err := findControl(path)
	if err != nil {
		return "", err
	}
	rel, err := beneath(root, path)
	if err != nil {
		return "", err
	}
	return root, call(c.Context(), socket, what, request(rel), out)
}

func listIntents(c *cobra.Command, path string, asJSON bool) error {
	var a intentsAnswer
	root, err := askAbout(c, path, "/uploads/list", func(rel string) any { return pathRequest{rel} }, &a)
	if err != nil {
		return err
	}
	w := c.OutOrStdout()
	if asJSON {
		return indented(w, a)
	}
	t := screen.Table{Header: []string{"STATE", "FILE", "SIZE", "SENT", "PARTS", "WHY"}, Right: []int{2, 3, 4}}
	for _, u := range a.Uploads {
		sent, parts, why := "", "", u.Reason
		if u.State == "uploading" {
			sent = size(min(u.Sent+u.Under, u.Size))
		}
		if u.Parts > 0 {
			parts = fmt.Sprintf("%d/%d", u.Done, u.Parts)
		}
		if u.Remedy != "" {
			why += ": " + u.Remedy
		}
		kind := ""
		if u.Kind != "put" {
			kind = u.Kind + " "
		}
		t.Row(u.State, kind+shown(filepath.Join(root, u.Path)), size(u.Size), sent, parts, why)
	}
	out := screen.Writer(w, os.Environ())
	if len(t.Rows) > 0 {
		fmt.Fprint(out, t.String())
	}
	fmt.Fprintf(out, "%d changes\n", len(a.Uploads))
	if a.More {
		fmt.Fprintln(out, "and more, which are not listed")
	}
	return nil
}

func indented(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func uploadsParts() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "parts PATH",
		Short: "Show the parts of a file that is to be sent, and which OSS has",
		Long: `Show the parts of a file of a mount that is sent or will be: number, place, size, and
whether OSS has acknowledged them, as the journal has it.

EXAMPLES
  ossmount uploads parts /mnt/data/big.iso

EXIT STATUS
  0  done
  1  failed, or nothing of the file is to be sent
  2  wrong usage`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			var p writeback.PartsOf
			if _, err := askAbout(c, args[0], "/uploads/parts", func(rel string) any { return pathRequest{rel} }, &p); err != nil {
				return err
			}
			w := c.OutOrStdout()
			if asJSON {
				return indented(w, p)
			}
			printParts(screen.Writer(w, os.Environ()), args[0], p)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}

func printParts(w io.Writer, path string, p writeback.PartsOf) {
	how := map[string]string{"put": "one request", "multipart": "in parts", "copy": "a copy on the server", "delete": "a delete"}[p.Way]
	fmt.Fprintf(w, "%s  %s  %s, %s\n", shown(path), size(p.Size), p.State, how)
	if p.ID != "" {
		fmt.Fprintf(w, "upload %s\n", p.ID)
	}
	if len(p.Parts) == 0 {
		return
	}
	t := screen.Table{Header: []string{"PART", "OFFSET", "SIZE", "STATE"}, Right: []int{0, 1, 2}}
	done := 0
	for _, s := range p.Parts {
		if s.State == "sent" || s.State == "copied" {
			done++
		}
		t.Row(fmt.Sprint(s.Number), fmt.Sprint(s.Off), size(s.Size), s.State)
	}
	fmt.Fprint(w, t.String())
	fmt.Fprintf(w, "%d of %d parts are on OSS\n", done, len(p.Parts))
}

func uploadsPause() *cobra.Command {
	return &cobra.Command{
		Use:   "pause MOUNTPOINT|FILE",
		Short: "Pause all uploads of a mount, or that of one file",
		Long: `Pause all uploads of a mount, or that of one file. Nothing is lost: changes are kept
in the journal as ever, parts that OSS has stay there, and the upload goes on behind
them. Parts and requests that are under way are finished, no other is begun.

A pause is of a name; it ends with uploads resume, or when the mount ends. While it
lasts, wait and umount do not wait for what is paused: they exit with 3.

EXAMPLES
  ossmount uploads pause /mnt/data
  ossmount uploads pause /mnt/data/big.iso

EXIT STATUS
  0  paused
  1  failed
  2  wrong usage`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error { return pauseOrResume(c, args[0], false) },
	}
}

func uploadsResume() *cobra.Command {
	return &cobra.Command{
		Use:   "resume MOUNTPOINT|FILE",
		Short: "End a pause",
		Long: `End a pause: of one file, or, with the mount point, all pauses of the mount.

EXAMPLES
  ossmount uploads resume /mnt/data

EXIT STATUS
  0  uploads go on
  1  failed
  2  wrong usage`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error { return pauseOrResume(c, args[0], true) },
	}
}

func pauseOrResume(c *cobra.Command, path string, resume bool) error {
	socket, root, err := findControl(path)
	if err != nil {
		return err
	}
	rel, err := beneath(root, path)
	if err != nil {
		return err
	}
	if st, err := os.Lstat(path); err == nil && st.IsDir() && rel != "" {
		return exit(exitUsage, fmt.Errorf("%s is a directory: name a file, or the mount point %s for all", path, root))
	}
	var a pauseAnswer
	if err := call(c.Context(), socket, "/uploads/pause", pauseRequest{rel, resume}, &a); err != nil {
		return err
	}
	w := c.OutOrStdout()
	pending := fmt.Sprintf("%d changes, %s, are pending", a.Pending, size(a.Bytes))
	switch {
	case !resume:
		fmt.Fprintf(w, "paused; %s. To go on: ossmount uploads resume %s\n", pending, quoted(path))
	case a.Paused != nil && a.Paused.All:
		return exit(exitFailed, fmt.Errorf("all of %s is paused: ossmount uploads resume %s", root, quoted(root)))
	case !a.Was:
		fmt.Fprintf(w, "it was not paused; %s\n", pending)
	default:
		fmt.Fprintf(w, "uploads go on; %s\n", pending)
	}
	return nil
}
