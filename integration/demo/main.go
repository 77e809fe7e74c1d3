// Command demo shows what ossmount is for, on this machine alone: it starts the
// built-in OSS server, mounts a bucket, copies a tree and a big file through the
// mount, kills the daemon in the middle of the big upload, mounts again, and
// counts at the server what had to be sent again. It cleans up after itself,
// and ends with 1 if anything is not as promised.
//
// It starts two processes, and one goroutine that shows progress; nothing of it
// is left when it ends, also after Ctrl-C.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ossmount/ossmount/integration/harness"
)

const (
	MiB       = 1 << 20
	treeFiles = 300
	bigSize   = 256 * MiB
	wire      = 40 * MiB  // bytes per second that the server takes
	inFlight  = 128 * MiB // of part bodies, the default
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d := &demo{}
	err := d.run(ctx)
	if cerr := d.clean(); err == nil {
		err = cerr
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

type demo struct {
	dir    string
	server *harness.Server
	mount  *harness.Mount
}

// step says what is done next; done says how it ended.
func step(f string, args ...any) { fmt.Printf("\n» "+f+"\n", args...) }
func say(f string, args ...any)  { fmt.Printf("  "+f+"\n", args...) }

func (d *demo) run(ctx context.Context) (err error) {
	if err := harness.CanMount(); err != nil {
		return err
	}
	if d.dir, err = os.MkdirTemp("", "ossmount-demo-"); err != nil {
		return err
	}
	step("Building ossmount")
	bin, err := harness.Build(ctx, d.dir)
	if err != nil {
		return err
	}
	if err := d.start(ctx, bin); err != nil {
		return err
	}
	source, err := d.source()
	if err != nil {
		return err
	}
	if err := d.copyTree(ctx, source); err != nil {
		return err
	}
	if err := d.killInTheMiddle(ctx, source); err != nil {
		return err
	}
	if err := d.goOn(ctx); err != nil {
		return err
	}
	return d.compare(ctx, source)
}

func (d *demo) start(ctx context.Context, bin string) error {
	step("Starting the built-in OSS server (it checks signatures as OSS does)")
	d.server = &harness.Server{Bin: bin, Dir: filepath.Join(d.dir, "oss")}
	if err := d.server.Start(ctx); err != nil {
		return err
	}
	say("serving %s, with a bucket named %q", d.server.URL, harness.Bucket)
	d.mount = &harness.Mount{Bin: bin, Source: "oss://" + harness.Bucket + "/demo", Point: filepath.Join(d.dir, "mnt"),
		Cache: filepath.Join(d.dir, "cache"), Flags: []string{"--endpoint=" + d.server.URL, "--region=" + harness.Region}}
	if err := os.Mkdir(d.mount.Point, 0o755); err != nil {
		return err
	}
	step("Mounting %s on %s", d.mount.Source, d.mount.Point)
	return d.mount.Start(ctx)
}

// source makes what is copied: a tree with odd names, links and times, and a
// big file.
func (d *demo) source() (string, error) {
	source := filepath.Join(d.dir, "source")
	if err := harness.Generate(filepath.Join(source, "tree"), 1, treeFiles); err != nil {
		return "", err
	}
	return source, harness.WriteFile(filepath.Join(source, "big"), 2, bigSize)
}

func (d *demo) cp(ctx context.Context, from, to string) (time.Duration, error) {
	begun := time.Now()
	r, err := harness.Run(ctx, nil, "cp", "-a", from, to)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("cp: %v", r)
	}
	return time.Since(begun), err
}

func (d *demo) copyTree(ctx context.Context, source string) error {
	step("Copying a tree of %d files through the mount", treeFiles)
	took, err := d.cp(ctx, filepath.Join(source, "tree"), d.mount.Point)
	if err != nil {
		return err
	}
	say("cp -a returned after %s: every file is in the journal", took.Round(time.Millisecond))
	return d.arrive(ctx, time.Minute)
}

// arrive waits until everything is on OSS, and shows how it gets there.
func (d *demo) arrive(ctx context.Context, patience time.Duration) error {
	show := newProgress(os.Stdout)
	defer show.end()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return harness.Poll(ctx, "everything is on OSS", func() (bool, error) {
		s, err := d.mount.Status()
		if err != nil {
			return false, err
		}
		if s.Queue.Parked+s.Queue.Interrupted > 0 {
			return false, fmt.Errorf("%d changes are stuck", s.Queue.Parked+s.Queue.Interrupted)
		}
		show.now(describe(s.Queue))
		return s.Queue.Pending == 0, nil
	})
}

func describe(q harness.Queue) string {
	for _, u := range q.Uploading {
		if u.Parts > 0 {
			const width = 30
			n := int(u.Done * width / u.Parts)
			return fmt.Sprintf("uploading %-8s [%s%s] part %d of %d", filepath.Base(u.Key), strings.Repeat("#", n), strings.Repeat("·", width-n), u.Done, u.Parts)
		}
	}
	return fmt.Sprintf("%d changes pending", q.Pending)
}

// killInTheMiddle copies the big file and kills the daemon when a good part of
// it is on OSS.
func (d *demo) killInTheMiddle(ctx context.Context, source string) error {
	if err := errors.Join(d.server.Reset(), d.server.Bandwidth(wire)); err != nil {
		return err
	}
	step("Copying a file of %d MiB; OSS takes %d MiB a second", bigSize/MiB, wire/MiB)
	took, err := d.cp(ctx, filepath.Join(source, "big"), d.mount.Point)
	if err != nil {
		return err
	}
	say("cp -a returned after %s; the upload goes on behind", took.Round(time.Millisecond))
	show := newProgress(os.Stdout)
	err = harness.Poll(ctx, "nearly half of the upload", func() (bool, error) {
		s, err := d.mount.Status()
		if err != nil {
			return false, err
		}
		show.now(describe(s.Queue))
		sent, _, _, err := d.mount.Progress("demo/big")
		if err == nil && sent == 0 && s.Queue.Pending == 0 {
			err = errors.New("the upload was over before it could be interrupted")
		}
		return sent >= bigSize*4/10, err
	})
	show.end()
	if err != nil {
		return err
	}
	step("kill -9 of the daemon")
	if err := d.mount.Kill9(); err != nil {
		return err
	}
	keys, err := d.server.Keys("demo/big")
	if err == nil && len(keys) > 0 {
		err = errors.New("the object is there already")
	}
	if err == nil {
		say("the object does not exist yet")
	}
	return err
}

func (d *demo) goOn(ctx context.Context) error {
	step("Mounting again")
	if err := d.mount.Start(ctx); err != nil {
		return err
	}
	if err := d.arrive(ctx, 2*time.Minute); err != nil {
		return err
	}
	s, err := d.mount.Status()
	if err != nil {
		return err
	}
	var kept struct{ BytesKept, PartsResumed, BytesSent int64 }
	if err := json.Unmarshal(s.Queue.Stats, &kept); err != nil {
		return err
	}
	c, err := d.server.Counts()
	if err != nil {
		return err
	}
	all := c.Ops["UploadPart"].BytesIn
	say("parts kept:          %4d MiB (%d parts)", kept.BytesKept/MiB, kept.PartsResumed)
	say("sent after the kill: %4d MiB", kept.BytesSent/MiB)
	say("received in all:     %4d MiB for a file of %d MiB: what was in flight at the kill came twice", all/MiB, bigSize/MiB)
	if kept.BytesKept == 0 || c.Ops["InitiateMultipartUpload"].Requests != 1 {
		return errors.New("the upload began anew instead of going on")
	}
	if all > bigSize+inFlight {
		return fmt.Errorf("%d bytes were sent, more than the file and what was in flight", all)
	}
	uploads, err := d.server.Uploads()
	if err == nil && len(uploads) > 0 {
		err = fmt.Errorf("%d uploads were left open on the server", len(uploads))
	}
	return err
}

func (d *demo) compare(ctx context.Context, source string) error {
	step("Comparing every object with its source, over signed HTTP")
	if err := d.server.Bandwidth(0); err != nil {
		return err
	}
	v, err := d.server.Verify("demo/", source)
	if err != nil {
		return err
	}
	say("%d objects, %.0f MiB: all equal", v.Objects, float64(v.Bytes)/MiB)
	step("Unmounting")
	r, err := d.mount.Umount(ctx)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("umount: %v", r)
	}
	if err == nil {
		say("nothing is pending")
	}
	return err
}

// clean ends what was started and removes everything.
func (d *demo) clean() error {
	var errs []error
	if d.mount != nil {
		errs = append(errs, d.mount.Destroy())
	}
	if d.server != nil && d.server.P != nil {
		errs = append(errs, d.server.Stop())
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}

// progress is a line that changes, or, where the output is no terminal, a line
// now and then.
type progress struct {
	w        io.Writer
	terminal bool
	last     string
	at       time.Time
}

func newProgress(w *os.File) *progress {
	st, err := w.Stat()
	return &progress{w: w, terminal: err == nil && st.Mode()&os.ModeCharDevice != 0}
}

func (p *progress) now(s string) {
	switch {
	case s == p.last:
	case p.terminal:
		fmt.Fprintf(p.w, "\r\033[K  %s", s)
	case time.Since(p.at) < time.Second:
		return
	default:
		fmt.Fprintf(p.w, "  %s\n", s)
	}
	p.last, p.at = s, time.Now()
}

func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.w, "\r\033[K")
	}
}
