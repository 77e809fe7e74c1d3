package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/fs"
	"github.com/ossmount/ossmount/internal/headers"
	"github.com/ossmount/ossmount/internal/remote"
	"github.com/ossmount/ossmount/writeback"
)

// bytesValue is a flag in bytes: a number with an optional K, M, G or T (binary
// multiples; KiB, MB and the like are understood too).
type bytesValue int64

// String is the size in the largest unit of which it is a multiple.
func (v *bytesValue) String() string {
	n, unit := int64(*v), 0
	for n != 0 && n%1024 == 0 && unit < 4 {
		n, unit = n/1024, unit+1
	}
	return strconv.FormatInt(n, 10) + []string{"", "KiB", "MiB", "GiB", "TiB"}[unit]
}

func (v *bytesValue) Type() string { return "bytes" }
func (v *bytesValue) Set(s string) error {
	n, err := parseBytes(s)
	if err == nil {
		*v = bytesValue(n)
	}
	return err
}

func parseBytes(s string) (int64, error) {
	num := strings.TrimRight(strings.ToUpper(strings.TrimSuffix(strings.TrimSpace(s), "/s")), "IB ")
	shift := 0
	if i := strings.IndexAny(num, "KMGT"); i >= 0 && i == len(num)-1 {
		shift = 10 * (strings.IndexByte("KMGT", num[i]) + 1)
		num = num[:i]
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(num), 64)
	if err != nil || !(n >= 0) || n*float64(int64(1)<<shift) > 1<<62 {
		return 0, fmt.Errorf("%q is not a size such as 8MiB or 1073741824", s)
	}
	return int64(n * float64(int64(1)<<shift)), nil
}

// mountFlags are the flags of mount, and those of drain that have the same
// meaning.
type mountFlags struct {
	source     string // oss://BUCKET[/PREFIX] or local:DIR
	mountpoint string

	endpoint, region string
	credentials      string
	cacheDir         string
	cacheSize        bytesValue
	cacheMinFree     bytesValue
	roomWait         time.Duration

	delay       time.Duration
	partSize    bytesValue
	threshold   bytesValue
	concurrency int
	uploadLimit bytesValue
	traffic     bytesValue
	headers     []string // rules, as internal/headers reads them
	payer       bool
	doubt       time.Duration
	maxDirtyAge time.Duration
	grace       time.Duration

	close, fsync, conflict string
	keepACL                bool
	metaTTL                string
	stall                  time.Duration
	drain                  time.Duration

	uid, gid          uint32
	fileMode, dirMode string
	eager             string
	passthrough       string
	pprof             bool
	eagerSkip         []string
	readOnly          bool
	noExec            bool
	allowOther        bool
	background        bool
	http              string
	logLevel          string
	logFormat         string
	config            string
	options           []string
}

func (f *mountFlags) engineFlags(c *cobra.Command) {
	fl := c.Flags()
	fl.StringVar(&f.config, "config", "", "file of settings in YAML, named as the flags (docs/configuration.md)")
	fl.StringVar(&f.endpoint, "endpoint", "", "URL of OSS, such as https://oss-cn-hangzhou.aliyuncs.com (OSS_ENDPOINT)")
	fl.StringVar(&f.region, "region", "", "region such as cn-hangzhou: requests are signed with V4 if given, else V1 (OSS_REGION)")
	f.credentialsFlag(fl)
	fl.StringVar(&f.cacheDir, "cache-dir", "", "directory for staged files and the journal, one for each mount (default: under the user's cache directory, by bucket and prefix)")
	fl.Var(&f.partSize, "part-size", "bytes in each part of a multipart upload (0: 8 MiB, growing so that 10,000 parts suffice)")
	f.threshold = 10 << 20
	fl.Var(&f.threshold, "multipart-threshold", "bytes up to which a file is one PutObject")
	fl.IntVar(&f.concurrency, "upload-concurrency", 32, "requests under way at once")
	fl.Var(&f.uploadLimit, "upload-limit", "bytes sent per second (0: no limit)")
	fl.Var(&f.traffic, "traffic-limit", "bytes per second at which OSS serves each single request, 30KiB to 100MiB (0: no limit)")
	fl.StringArrayVar(&f.headers, "upload-header", nil, "header of objects that the mount makes, as NAME: VALUE or PATTERN=NAME: VALUE, such as *.html=Cache-Control: no-cache; may be repeated, the last that fits wins")
	fl.BoolVar(&f.payer, "requester-pays", false, "be charged for requests and traffic, as a bucket of others may demand")
	fl.DurationVar(&f.doubt, "doubt", time.Minute, "how long a request that got no answer may still take effect")
	fl.StringVar(&f.conflict, "conflict", "overwrite", "when somebody else has changed the object: overwrite (the last writer wins) or keep-both (ours becomes NAME.conflict-HOST-TIME)")
	fl.BoolVar(&f.keepACL, "keep-acl", false, "an object that is rewritten keeps its ACL, at one request more each (tags are kept anyway)")
	fl.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fl.StringVar(&f.logFormat, "log-format", "text", "text, or json: each line of the log is an object")
	markSettings(fl)
	_ = fl.SetAnnotation("endpoint", alsoIn, []string{"OSS_ENDPOINT"})
	_ = fl.SetAnnotation("region", alsoIn, []string{"OSS_REGION"})
}

func (f *mountFlags) mountFlags(c *cobra.Command) {
	f.engineFlags(c)
	fl := c.Flags()
	fl.DurationVar(&f.delay, "write-back-delay", time.Second, "time from the first close to the upload, in which rewrites, renames and deletes cost no request")
	fl.DurationVar(&f.maxDirtyAge, "max-dirty-age", time.Minute, "age of an unpublished close from which on a rewrite does not stop its upload any more")
	fl.DurationVar(&f.grace, "handle-grace", 30*time.Second, "how long a change waits for readers of the version that it replaces")
	fl.StringVar(&f.close, "close", "journal", "what close waits for: journal (a crash of the daemon loses nothing), disk (nor does a power cut) or remote (nor does the loss of the disk: it is on OSS)")
	fl.StringVar(&f.fsync, "fsync", "disk", "what fsync waits for: journal, disk or remote")
	fl.StringVar(&f.eager, "eager", "on", "send files while they still grow: on or off")
	fl.StringVar(&f.passthrough, "passthrough", "auto", "let the kernel read and write local files itself: auto (where it can, with root's rights and room on the cache disk) or off")
	fl.StringSliceVar(&f.eagerSkip, "eager-skip", []string{".*.??????", "*.tmp", "*.part", "*.partial", "*.crdownload", "*~", ".#*"}, "patterns of names that are there for a while only: such files are sent when they are closed")
	fl.StringVar(&f.metaTTL, "meta-ttl", "5s", "how old a listing may be before OSS is asked again; inf for a bucket that nobody else writes")
	fl.DurationVar(&f.stall, "stall", 30*time.Second, "how long a call waits for the network without progress before it fails with EIO")
	fl.DurationVar(&f.drain, "drain", 20*time.Second, "how long an unmount uploads what is pending; the rest stays in the journal")
	fl.Var(&f.cacheSize, "cache-size", "bytes that staged and cached files may take (0: 80 % of the cache disk)")
	fl.Var(&f.cacheMinFree, "cache-min-free", "bytes of the cache disk left to others (0: 5 %, at least 64 MiB or a quarter of a small disk, at least 1 GiB where the disk is larger than 10)")
	fl.DurationVar(&f.roomWait, "room-wait", time.Minute, "how long a writer waits for room in the cache while nothing is uploaded, before it gets ENOSPC")
	fl.BoolVar(&f.pprof, "pprof", false, "serve Go's profiles on the control socket, at /debug/pprof/")
	fl.Uint32Var(&f.uid, "uid", uint32(os.Getuid()), "owner of objects that carry none (default: yours)")
	fl.Uint32Var(&f.gid, "gid", uint32(os.Getgid()), "group of objects that carry none (default: yours)")
	fl.Lookup("uid").DefValue, fl.Lookup("gid").DefValue = "0", "0" // help and manual are the same for all
	fl.StringVar(&f.fileMode, "file-mode", "0644", "mode of objects that carry none, octal")
	fl.StringVar(&f.dirMode, "dir-mode", "0755", "mode of directories that carry none, octal")
	fl.BoolVar(&f.readOnly, "read-only", false, "refuse every change")
	fl.BoolVar(&f.noExec, "no-exec", false, "no program on the mount can be started")
	fl.BoolVar(&f.allowOther, "allow-other", false, "let other users use the mount")
	fl.StringVar(&f.http, "http", "", "address to serve the web page, /status, /metrics, /healthz and /readyz on; a port alone is one of loopback (default: none)")
	fl.BoolVar(&f.background, "background", false, "return as soon as the mount serves")
	fl.StringVar(&f.source, "source", "", "what is mounted, as the first argument says it")
	fl.StringVar(&f.mountpoint, "mountpoint", "", "where, as the second argument says it")
	_ = fl.MarkHidden("source") // they are arguments; a file and the environment have none
	_ = fl.MarkHidden("mountpoint")
	markSettings(fl)
	fl.StringArrayVarP(&f.options, "options", "o", nil, "flags in the form of fstab(5), such as cache_dir=DIR,ro,allow_other (may be repeated)")
}

func (f *mountFlags) logger() (*slog.Logger, error) { return newLogger(f.logLevel, f.logFormat) }

// place is what is mounted.
type place struct {
	bucket, prefix string
	local          string // directory of local:DIR
}

func (p place) String() string {
	if p.local != "" {
		return "local:" + p.local
	}
	return "oss://" + p.bucket + "/" + p.prefix
}

// localBucket is the bucket of local:DIR.
const localBucket = "local"

func parseSource(s string) (place, error) {
	if dir, ok := strings.CutPrefix(s, "local:"); ok && dir != "" {
		abs, err := filepath.Abs(dir)
		return place{bucket: localBucket, local: abs}, err
	}
	rest, ok := strings.CutPrefix(s, "oss://")
	bucket, prefix, _ := strings.Cut(rest, "/")
	if !ok || bucket == "" {
		return place{}, exit(exitUsage, fmt.Errorf("%q is not what can be mounted: use oss://BUCKET[/PREFIX] or local:DIR", s))
	}
	prefix = strings.Trim(prefix, "/")
	if prefix != "" {
		prefix += "/"
	}
	return place{bucket: bucket, prefix: prefix}, nil
}

func octal(flag, v string) (os.FileMode, error) {
	n, err := strconv.ParseUint(v, 8, 32)
	if err != nil || n > 0o777 {
		return 0, exit(exitUsage, fmt.Errorf("--%s=%s: use octal permission bits such as 0644", flag, v))
	}
	return os.FileMode(n), nil
}

// check refuses flags that mean nothing, before anything is touched: its error holds
// all that do.
func (f *mountFlags) check() error {
	_, ttl := f.ttl()
	_, fileMode := octal("file-mode", f.fileMode)
	_, dirMode := octal("dir-mode", f.dirMode)
	errs := []error{
		oneOf("close", f.close),
		oneOf("fsync", f.fsync),
		oneOf("eager", cmp.Or(f.eager, "off")),
		oneOf("passthrough", cmp.Or(f.passthrough, "off")),
		f.checkEngine(), ttl, fileMode, dirMode,
	}
	for _, p := range f.eagerSkip {
		if _, err := path.Match(p, ""); err != nil {
			errs = append(errs, exit(exitUsage, fmt.Errorf("--eager-skip=%s: use patterns such as *.tmp", p)))
		}
	}
	if f.source != "" {
		if _, err := parseSource(f.source); err != nil {
			errs = append(errs, fmt.Errorf("--source: %w", err))
		}
	}
	if strings.HasPrefix(f.source, "oss://") && f.endpoint == "" {
		errs = append(errs, exit(exitUsage, errors.New("--endpoint is missing: give the URL of OSS, such as https://oss-cn-hangzhou.aliyuncs.com, or set OSS_ENDPOINT")))
	}
	if f.http != "" {
		if _, _, err := parseHTTP(f.http); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// checkEngine is check for what engineFlags defines.
func (f *mountFlags) checkEngine() error {
	_, log := f.logger()
	errs := []error{log, oneOf("conflict", f.conflict)}
	if f.concurrency < 1 || f.concurrency > 1000 {
		errs = append(errs, exit(exitUsage, fmt.Errorf("--upload-concurrency=%d: use 1 to 1000", f.concurrency)))
	}
	if f.partSize != 0 && (f.partSize < writeback.MinPartSize || f.partSize > writeback.MaxPartSize) {
		errs = append(errs, exit(exitUsage, fmt.Errorf("--part-size=%s: OSS takes parts of 100 KiB to 5 GiB", &f.partSize)))
	}
	if f.threshold < 1 || f.threshold > writeback.MaxPartSize {
		errs = append(errs, exit(exitUsage, fmt.Errorf("--multipart-threshold=%s: a PutObject holds at most 5 GiB", &f.threshold)))
	}
	if f.traffic != 0 && (f.traffic < remote.MinTrafficLimit || f.traffic > remote.MaxTrafficLimit) {
		errs = append(errs, exit(exitUsage, fmt.Errorf("--traffic-limit=%s: OSS takes 30KiB to 100MiB (0: no limit)", &f.traffic)))
	}
	if _, err := headers.Parse(f.headers); err != nil {
		errs = append(errs, exit(exitUsage, fmt.Errorf("--upload-header=%w", err)))
	}
	return errors.Join(errs...)
}

func (f *mountFlags) ttl() (time.Duration, error) {
	if f.metaTTL == "inf" {
		return 100 * 365 * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(f.metaTTL)
	if err != nil || d < 0 {
		return 0, exit(exitUsage, fmt.Errorf("--meta-ttl=%s: use a duration such as 5s, or inf", f.metaTTL))
	}
	return max(d, time.Nanosecond), nil
}

func (f *mountFlags) fsOptions() (o fs.Options, err error) {
	o = fs.Options{EagerSkip: f.eagerSkip, UID: f.uid, GID: f.gid, Stall: f.stall, ReadOnly: f.readOnly, NoExec: f.noExec, Passthrough: f.passthrough == "auto", Close: fs.Level(f.close), Fsync: fs.Level(f.fsync)}
	if o.MetaTTL, err = f.ttl(); err != nil {
		return o, err
	}
	if o.FileMode, err = octal("file-mode", f.fileMode); err != nil {
		return o, err
	}
	o.DirMode, err = octal("dir-mode", f.dirMode)
	return o, err
}

func (f *mountFlags) remoteOptions(p place, log *slog.Logger) remote.Options {
	return remote.Options{Endpoint: f.endpoint, Region: f.region, Bucket: p.bucket,
		Concurrency: f.concurrency + 8, UploadLimit: int64(f.uploadLimit), TrafficLimit: int64(f.traffic), RequesterPays: f.payer, Log: log, UserAgent: "ossmount/" + version()}
}

func (f *mountFlags) queueOptions(p place, log *slog.Logger) writeback.Options {
	delay := f.delay
	if delay == 0 {
		delay = -1
	}
	host, _ := os.Hostname()
	rules, _ := headers.Parse(f.headers) // checked
	return writeback.Options{Headers: rules.For, Eager: f.eager == "on", KeepBoth: f.conflict == "keep-both", KeepACL: f.keepACL, Host: host, Alone: f.metaTTL == "inf",
		Prefix: p.prefix, Delay: delay, PartSize: int64(f.partSize), Threshold: int64(f.threshold),
		Concurrency: f.concurrency, Doubt: f.doubt, MaxDirtyAge: f.maxDirtyAge, HandleGrace: f.grace, RoomWait: f.roomWait,
		Log: log}
}

// cacheOptions fills in what depends on the disk.
func (f *mountFlags) cacheOptions(id cache.Identity, total int64) cache.Options {
	o := cache.Options{Identity: id, Size: int64(f.cacheSize), MinFree: int64(f.cacheMinFree)}
	if o.Size == 0 {
		o.Size = total / 5 * 4
	}
	if o.MinFree == 0 {
		o.MinFree = max(total/20, min(64<<20, total/4))
		if total > 10<<30 {
			o.MinFree = max(o.MinFree, 1<<30)
		}
	}
	return o
}
