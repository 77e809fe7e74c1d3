package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ossmount/ossmount/internal/ossemu"
)

func serverCommand() *cobra.Command {
	var listen, data, admin, id, secret, logLevel, faultFile string
	var buckets, domains, faults []string
	var shape ossemu.Shape
	c := &cobra.Command{
		Use:   "server --data=DIR",
		Short: "Run the built-in OSS server",
		Long: `Run an OSS server for development and tests. It checks signatures as OSS does,
keeps its objects in DIR, and loses nothing that it acknowledged when it is
killed. It prints "serving URL" on stdout when it serves.

It can be slow (--shape) and can be made to fail in every way that a network and
a cloud do (--fault); docs/server.md says how.

EXAMPLES
  ossmount server --listen=127.0.0.1:9000 --data=./oss-data --create-bucket=test
  ossmount server --data=./oss-data --fault=reset,at=after,op=CompleteMultipartUpload,count=1
  ossmount server --data=./oss-data --fault=error,code=TotalQpsLimitExceeded,above=50`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			f := mountFlags{logLevel: logLevel}
			log, err := f.logger()
			if err != nil {
				return err
			}
			if data == "" {
				return exit(exitUsage, errors.New("--data is missing: name the directory for the objects"))
			}
			if id == "" || secret == "" {
				return exit(exitUsage, errors.New("no credentials: give --access-key-id and --access-key-secret, or set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET"))
			}
			asked, err := readFaults(faults, faultFile)
			if err != nil {
				return exit(exitUsage, err)
			}
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			s, err := ossemu.Open(ctx, data, ossemu.Options{Keys: map[string]string{id: secret}, Domains: domains, Shape: shape, Faults: asked, Log: log})
			if err != nil {
				return err
			}
			defer s.Close()
			for _, b := range buckets {
				if err := s.CreateBucket(b); err != nil {
					return fmt.Errorf("create bucket %s: %w", b, err)
				}
			}
			return serveAll(ctx, c, s, listen, admin)
		},
	}
	fl := c.Flags()
	fl.StringVar(&listen, "listen", "127.0.0.1:9000", "address of the OSS API; port 0 draws one")
	fl.StringVar(&data, "data", "", "directory for the objects")
	fl.StringVar(&admin, "admin", "", "address of counts, request log, faults and shape, as JSON (default: none)")
	fl.StringVar(&id, "access-key-id", os.Getenv("OSS_ACCESS_KEY_ID"), "access key that is believed (OSS_ACCESS_KEY_ID)")
	fl.StringVar(&secret, "access-key-secret", os.Getenv("OSS_ACCESS_KEY_SECRET"), "its secret; prefer OSS_ACCESS_KEY_SECRET, which others cannot see")
	fl.Lookup("access-key-secret").DefValue = "" // never print a secret
	fl.Lookup("access-key-id").DefValue = ""
	fl.StringArrayVar(&buckets, "create-bucket", nil, "make this bucket if it is not there (repeatable)")
	fl.StringArrayVar(&domains, "domain", nil, "host name below which a bucket is the first label, as in bucket.oss.test (repeatable)")
	fl.DurationVar((*time.Duration)(&shape.Latency), "latency", 0, "added to each answer")
	fl.Var((*bytesValue)(&shape.Bandwidth), "bandwidth", "bytes per second, in both directions together (0: no limit)")
	fl.Var(&shapeValue{shape: &shape}, "shape", "limits by direction and connection: NAME=VALUE,...; NAME is "+strings.Join(shapeNames, ", "))
	fl.StringArrayVar(&faults, "fault", nil, "a fault: WHAT,FIELD=VALUE,... (repeatable; docs/server.md)")
	fl.StringVar(&faultFile, "faults", "", "file of faults, one on each line")
	fl.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	return c
}

// readFaults reads the faults of the flags and those of the file.
func readFaults(specs []string, file string) (list []ossemu.Fault, err error) {
	for _, spec := range specs {
		f, err := ossemu.ParseFault(spec)
		if err != nil {
			return nil, fmt.Errorf("--fault: %w", err)
		}
		list = append(list, f)
	}
	if file == "" {
		return list, nil
	}
	r, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("--faults: %w", err)
	}
	defer r.Close()
	more, err := ossemu.ParseFaults(r)
	if err != nil {
		return nil, fmt.Errorf("--faults=%s: %w", file, err)
	}
	return append(list, more...), nil
}

// shapeValue is the flag --shape.
type shapeValue struct {
	shape *ossemu.Shape
	given string
}

var shapeNames = []string{"in", "out", "connection", "connection_in", "connection_out", "latency_in", "connect"}

func (v *shapeValue) String() string { return v.given }
func (v *shapeValue) Type() string   { return "limits" }
func (v *shapeValue) Set(text string) error {
	v.given = text
	sizes := map[string]*int64{"in": &v.shape.In, "out": &v.shape.Out, "connection": &v.shape.Connection,
		"connection_in": &v.shape.ConnectionIn, "connection_out": &v.shape.ConnectionOut}
	times := map[string]*ossemu.Duration{"latency_in": &v.shape.LatencyIn, "connect": &v.shape.Connect}
	for item := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(item, "=")
		switch {
		case sizes[name] != nil:
			n, err := parseBytes(value)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			*sizes[name] = n
		case times[name] != nil:
			d, err := time.ParseDuration(value)
			if err != nil || d < 0 {
				return fmt.Errorf("%s: %q is not a duration such as 20ms", name, value)
			}
			*times[name] = ossemu.Duration(d)
		default:
			return fmt.Errorf("%q is not one of %s", name, strings.Join(shapeNames, ", "))
		}
	}
	return nil
}

func serveAll(ctx context.Context, c *cobra.Command, s *ossemu.Server, listen, admin string) error {
	api, err := serveOn(listen, s)
	if err != nil {
		return err
	}
	defer api.Close()
	fmt.Fprintf(c.OutOrStdout(), "serving http://%s\n", api.Addr)
	if admin != "" {
		a, err := serveOn(admin, s.Admin())
		if err != nil {
			return err
		}
		defer a.Close()
		fmt.Fprintf(c.OutOrStdout(), "admin http://%s\n", a.Addr)
	}
	<-ctx.Done()
	s.ClearFaults() // what they hold goes on
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := api.Shutdown(grace); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil // who is not ready by now is cut off: that is what was asked for
}

// serveOn serves h on addr; the server's Addr is where it really listens.
func serveOn(addr string, h http.Handler) (*http.Server, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	srv := &http.Server{Addr: l.Addr().String(), Handler: h, ReadHeaderTimeout: 30 * time.Second}
	if s, ok := h.(*ossemu.Server); ok {
		l = s.Listener(l)
	}
	go srv.Serve(l)
	return srv, nil
}
