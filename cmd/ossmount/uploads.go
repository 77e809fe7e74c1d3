package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/internal/remote"
	"github.com/ossmount/ossmount/writeback"
)

// uploadsFlags are the flags of `ossmount uploads`.
type uploadsFlags struct {
	mountFlags
	mountpoint string
	olderThan  time.Duration
}

func uploadsCommand() *cobra.Command {
	f := &uploadsFlags{}
	c := &cobra.Command{
		Use:   "uploads",
		Short: "Look at uploads, pause them, and abort those that were left on OSS",
		Long: `Look at the uploads of a mount, and pause them: list, parts, pause, resume.

Look at multipart uploads that were left on OSS, by whomever, and abort them: list and
abort of oss://BUCKET. Their parts are paid for until then, and no listing shows them.

Uploads that belong to a journal are marked, and never aborted: those of the mounts
on this machine, of the cache directory that the bucket has here by default, and of
the one that --cache-dir names. An upload of a mount on another machine cannot be
told from one that was left: only its age can.

EXAMPLES
  ossmount uploads list oss://my-bucket
  ossmount uploads abort oss://my-bucket --older-than=168h

EXIT STATUS
  0  done
  1  failed
  2  wrong usage`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	fl := c.PersistentFlags()
	fl.StringVar(&f.endpoint, "endpoint", os.Getenv("OSS_ENDPOINT"), "URL of OSS, as for mount (OSS_ENDPOINT)")
	fl.StringVar(&f.region, "region", os.Getenv("OSS_REGION"), "region, as for mount (OSS_REGION)")
	f.credentialsFlag(fl)
	fl.BoolVar(&f.payer, "requester-pays", false, "be charged for the requests, as a bucket of others may demand")
	fl.StringVar(&f.cacheDir, "cache-dir", "", "a cache directory whose uploads are marked, too")
	fl.StringVar(&f.mountpoint, "mountpoint", "", "a mount whose uploads are marked, too")
	fl.DurationVar(&f.olderThan, "older-than", 0, "only uploads that began so long ago, or longer")
	markSettings(fl, "endpoint", "region", "requester-pays")
	c.AddCommand(uploadsList(f), uploadsParts(), uploadsPause(), uploadsResume(), uploadsAbort(f))
	return c
}

func uploadsList(f *uploadsFlags) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "list MOUNTPOINT|PATH | oss://BUCKET[/PREFIX]",
		Short: "List what a mount sends or will send, or the multipart uploads of a bucket",
		Long: `List what a mount sends, or will send, beneath a path: state, size, progress, and what
it waits for.

Of oss://BUCKET list the multipart uploads beneath a prefix: key, ID, age, parts and
their bytes, and whether a journal here knows them.

EXAMPLES
  ossmount uploads list /mnt/data
  ossmount uploads list oss://my-bucket --older-than=168h
  ossmount uploads list oss://my-bucket/data --json

EXIT STATUS
  0  done
  1  failed
  2  wrong usage`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if !isSource(args[0]) {
				return listIntents(c, args[0], asJSON)
			}
			b, err := f.open(args[0])
			if err != nil {
				return err
			}
			defer b.c.Close()
			all, err := b.find(c.Context())
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(all)
			}
			printUploads(c.OutOrStdout(), all)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}

func uploadsAbort(f *uploadsFlags) *cobra.Command {
	var yes, dry bool
	c := &cobra.Command{
		Use:   "abort oss://BUCKET[/PREFIX] --older-than=DURATION | oss://BUCKET KEY ID",
		Short: "Abort multipart uploads that nobody needs any more",
		Long: `Abort multipart uploads, all that are old enough, or the one of KEY with the ID:
what was sent of them is gone then. One that a journal here knows is left alone. A
mount on another machine sends anew what it loses so; choose an age that no upload
comes to. What a mount here has to send is never given up so: see uploads pause. It is shown what is about to be done, and, on a terminal, asked.

EXAMPLES
  ossmount uploads abort oss://my-bucket/data --older-than=168h --dry-run
  ossmount uploads abort oss://my-bucket data/big.iso 0004B999EF518A1FE585B0C9360DC4C8

EXIT STATUS
  0  done
  1  failed, or some could not be aborted
  2  wrong usage`,
		Args: usage(cobra.RangeArgs(1, 3)),
		RunE: func(c *cobra.Command, args []string) error {
			aged := c.Flags().Changed("older-than")
			switch {
			case !isSource(args[0]):
				return exit(exitUsage, errKept)
			case len(args) == 2:
				return exit(exitUsage, errors.New("an upload is named by its key and its ID: ossmount uploads list shows both"))
			case aged == (len(args) == 3), aged && f.olderThan <= 0:
				return exit(exitUsage, errors.New("say which uploads: --older-than=DURATION, or the key and the ID of one"))
			}
			b, err := f.open(args[0])
			if err != nil {
				return err
			}
			defer b.c.Close()
			var all []foreignUpload
			if len(args) == 3 {
				all, err = b.one(c.Context(), args[1], args[2])
			} else {
				all, err = b.find(c.Context())
			}
			if err != nil {
				return err
			}
			return b.abort(c, all, yes, dry)
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&dry, "dry-run", false, "only show what would be done")
	return c
}

// foreignUpload is one upload that OSS holds open.
type foreignUpload struct {
	Key       string    `json:"key"`
	ID        string    `json:"id"`
	Initiated time.Time `json:"initiated"`
	Age       int64     `json:"age"` // seconds, by the clock of OSS
	Parts     int       `json:"parts"`
	Bytes     int64     `json:"bytes"`
	Owner     string    `json:"owner,omitempty"` // the mount or cache directory whose journal knows it
}

// uploadsOf are the uploads of a bucket.
type uploadsOf struct {
	f *uploadsFlags
	p place
	c *remote.Client
}

func (f *uploadsFlags) open(source string) (*uploadsOf, error) {
	p, err := parseSource(source)
	switch {
	case err != nil:
		return nil, err
	case p.local != "":
		return nil, exit(exitUsage, fmt.Errorf("%s is served to its own mount only: serve the directory with ossmount server, and name that with --endpoint", source))
	case f.endpoint == "":
		return nil, exit(exitUsage, errors.New("--endpoint is missing: give the URL of OSS, such as https://oss-cn-hangzhou.aliyuncs.com, or set OSS_ENDPOINT"))
	}
	f.concurrency = askedAtOnce
	c, err := f.connect(f.remoteOptions(p, slog.New(slog.DiscardHandler)))
	if err != nil {
		return nil, exit(exitUsage, err)
	}
	return &uploadsOf{f: f, p: p, c: c}, nil
}

// askedAtOnce is how many requests are under way at once.
const askedAtOnce = 16

// find returns the uploads that are old enough. OSS is asked before the journals
// are: one that is ours and is listed stands in a journal by then, if only as one
// whose ID is not known yet.
func (b *uploadsOf) find(ctx context.Context) ([]foreignUpload, error) {
	all := []foreignUpload{}
	err := b.c.EachUpload(ctx, b.p.prefix, func(page []object.Upload, now time.Time) (bool, error) {
		if now.IsZero() {
			now = time.Now()
		}
		for _, u := range page {
			if age := now.Sub(u.Initiated); age >= b.f.olderThan {
				all = append(all, foreignUpload{Key: u.Key, ID: u.ID, Initiated: u.Initiated, Age: int64(age.Seconds())})
			}
		}
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the uploads of %s: %w", b.p, err)
	}
	return b.complete(ctx, all)
}

// complete adds what the listing does not tell: parts and owners.
func (b *uploadsOf) complete(ctx context.Context, all []foreignUpload) ([]foreignUpload, error) {
	own, err := b.owners(ctx)
	if err != nil {
		return nil, err
	}
	if len(own.silent) > 0 {
		fmt.Fprintf(os.Stderr, "ossmount: what belongs to the mounts on %s is not marked: their daemons do not answer\n", strings.Join(own.silent, ", "))
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(askedAtOnce)
	gone := make([]bool, len(all))
	for i := range all {
		u := &all[i]
		u.Owner = own.of(u.Key, u.ID)
		g.Go(func() error {
			parts, err := b.c.Parts(ctx, u.Key, u.ID)
			if object.KindOf(err) == object.Restart { // completed or aborted meanwhile
				gone[i] = true
				return nil
			}
			for _, p := range parts {
				u.Parts++
				u.Bytes += p.Size
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("ask for the parts of an upload: %w", err)
	}
	there := []foreignUpload{}
	for i, u := range all {
		if !gone[i] {
			there = append(there, u)
		}
	}
	return there, nil
}

// one returns the upload of key with an ID.
func (b *uploadsOf) one(ctx context.Context, key, id string) ([]foreignUpload, error) {
	var found []foreignUpload
	err := b.c.EachUpload(ctx, key, func(page []object.Upload, now time.Time) (bool, error) {
		for _, u := range page {
			if u.Key == key && u.ID == id {
				found = append(found, foreignUpload{Key: key, ID: id, Initiated: u.Initiated, Age: int64(now.Sub(u.Initiated).Seconds())})
			}
			if u.Key != key {
				return false, nil
			}
		}
		return len(found) == 0, nil
	})
	if err == nil {
		found, err = b.complete(ctx, found)
	}
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("there is no upload %s of %q: it was completed or aborted", id, key)
	}
	return found, err
}

// owners is whose journal knows an upload, by key and ID.
type owners struct {
	known  map[[2]string]string
	silent []string // mounts that could not be asked
}

// of returns who may have the upload: also who has asked for one of that key and
// does not know its ID yet.
func (o *owners) of(key, id string) string {
	if who := o.known[[2]string{key, id}]; who != "" {
		return who
	}
	return o.known[[2]string{key, ""}]
}

// owners asks the mounts of the bucket on this machine, and looks into the cache
// directories that are known. That what was named cannot be asked is an error.
func (b *uploadsOf) owners(ctx context.Context) (*owners, error) {
	own := &owners{known: map[[2]string]string{}}
	points := map[string]bool{}
	for _, m := range mountTable() {
		if strings.HasPrefix(m.source+"/", "oss://"+b.p.bucket+"/") {
			points[m.point] = true
		}
	}
	if b.f.mountpoint != "" {
		points[b.f.mountpoint] = true
	}
	for point := range points {
		socket, root, err := findControl(point)
		if err == nil {
			err = own.ask(ctx, socket, root)
		}
		switch {
		case err == nil:
		case point == b.f.mountpoint:
			return nil, fmt.Errorf("ask %s which uploads are its own: %w", point, err)
		default:
			own.silent = append(own.silent, point)
		}
	}
	dirs := []string{}
	if b.f.cacheDir != "" {
		dirs = append(dirs, b.f.cacheDir)
	}
	plain := b.f.mountFlags
	plain.cacheDir = ""
	if dir, err := plain.cacheDirOf(b.p); err == nil {
		if _, err := cache.ReadIdentity(dir); err == nil {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		if err := own.look(ctx, dir); err != nil {
			return nil, fmt.Errorf("look which uploads are those of %s: %w", dir, err)
		}
	}
	return own, nil
}

func (o *owners) add(who string, all []writeback.OwnUpload) {
	for _, u := range all {
		o.known[[2]string{u.Key, u.ID}] = who
	}
}

func (o *owners) ask(ctx context.Context, socket, who string) error {
	var all []writeback.OwnUpload
	err := call(ctx, socket, "/uploads", struct{}{}, &all)
	o.add(who, all)
	return err
}

func (o *owners) look(ctx context.Context, dir string) error {
	c, j, err := openQuietly(ctx, dir)
	if errors.Is(err, cache.ErrBusy) {
		socket, serr := cache.ControlSocket(dir)
		if serr != nil {
			return serr
		}
		return o.ask(ctx, socket, dir)
	}
	if err != nil {
		return err
	}
	defer c.Close()
	defer j.Close()
	all, err := writeback.OwnUploads(j)
	o.add(dir, all)
	return err
}

// uploads answers /uploads.
func (d *daemon) uploads(context.Context, struct{}) ([]writeback.OwnUpload, error) {
	all, err := writeback.OwnUploads(d.e.j)
	if all == nil {
		all = []writeback.OwnUpload{}
	}
	return all, err
}

func printUploads(w io.Writer, all []foreignUpload) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	bytes, parts := int64(0), 0
	for _, u := range all {
		who := ""
		if u.Owner != "" {
			who = "of " + u.Owner
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d parts\t%s\t%s\n", quoted(u.Key), u.ID, age(u.Age), u.Parts, size(u.Bytes), who)
		bytes, parts = bytes+u.Bytes, parts+u.Parts
	}
	t.Flush()
	fmt.Fprintf(w, "%d uploads, %d parts, %s\n", len(all), parts, size(bytes))
}

func age(seconds int64) string { return (time.Duration(seconds) * time.Second).String() }

// abort aborts those of the uploads that no journal here knows.
func (b *uploadsOf) abort(c *cobra.Command, all []foreignUpload, yes, dry bool) error {
	ctx, w := c.Context(), c.OutOrStdout()
	var these []foreignUpload
	for _, u := range all {
		if u.Owner == "" {
			these = append(these, u)
			continue
		}
		fmt.Fprintf(w, "left alone: %s %s, of %s\n", quoted(u.Key), u.ID, u.Owner)
	}
	printUploads(w, these)
	if dry || len(these) == 0 {
		if dry {
			fmt.Fprintln(w, "nothing was changed (--dry-run)")
		}
		return nil
	}
	if err := confirm(c, yes, fmt.Sprintf("%d uploads of %s are aborted: what was sent of them is gone then.", len(these), b.p), nil); err != nil {
		return err
	}
	// Time has passed: one may have become ours.
	own, err := b.owners(ctx)
	if err != nil {
		return err
	}
	if len(own.silent) > 0 { // what it has must not be taken for somebody else's
		return exit(exitFailed, fmt.Errorf("nothing was aborted: the daemon of the mount of this bucket on %s does not answer, and some may be its own: mount it again, or unmount it", strings.Join(own.silent, ", ")))
	}
	errs := make([]error, len(these))
	var g errgroup.Group
	g.SetLimit(askedAtOnce)
	for i, u := range these {
		g.Go(func() error {
			if who := own.of(u.Key, u.ID); who != "" {
				errs[i] = fmt.Errorf("%q %s is of %s", u.Key, u.ID, who)
			} else if err := b.c.Abort(ctx, u.Key, u.ID); err != nil {
				errs[i] = fmt.Errorf("abort %q %s: %w", u.Key, u.ID, err)
			}
			return nil
		})
	}
	_ = g.Wait()
	failed := 0
	var first error
	for _, err := range errs {
		if err != nil {
			failed++
			if first == nil {
				first = err
			}
		}
	}
	fmt.Fprintf(w, "aborted %d uploads\n", len(these)-failed)
	if failed > 0 {
		return exit(exitFailed, fmt.Errorf("%d uploads could not be aborted; the first: %w", failed, first))
	}
	return nil
}
