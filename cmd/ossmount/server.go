package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ossmount/ossmount/internal/ossemu"
)

func serverCommand() *cobra.Command {
	var listen, data, admin, id, secret, logLevel string
	var buckets, domains []string
	var latency time.Duration
	var bandwidth bytesValue
	c := &cobra.Command{
		Use:   "server --data=DIR",
		Short: "Run the built-in OSS server",
		Long: `Run an OSS server for development and tests. It checks signatures as OSS does,
keeps its objects in DIR, and loses nothing that it acknowledged when it is
killed. It prints "serving URL" on stdout when it serves.

EXAMPLE
  ossmount server --listen=127.0.0.1:9000 --data=./oss-data --create-bucket=test`,
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
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			s, err := ossemu.Open(ctx, data, ossemu.Options{Keys: map[string]string{id: secret}, Domains: domains, Latency: latency, Bandwidth: int64(bandwidth), Log: log})
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
	fl.StringVar(&admin, "admin", "", "address of the counts and the request log, as JSON (default: none)")
	fl.StringVar(&id, "access-key-id", os.Getenv("OSS_ACCESS_KEY_ID"), "access key that is believed (OSS_ACCESS_KEY_ID)")
	fl.StringVar(&secret, "access-key-secret", os.Getenv("OSS_ACCESS_KEY_SECRET"), "its secret; prefer OSS_ACCESS_KEY_SECRET, which others cannot see")
	fl.Lookup("access-key-secret").DefValue = "" // never print a secret
	fl.Lookup("access-key-id").DefValue = ""
	fl.StringArrayVar(&buckets, "create-bucket", nil, "make this bucket if it is not there (repeatable)")
	fl.StringArrayVar(&domains, "domain", nil, "host name below which a bucket is the first label, as in bucket.oss.test (repeatable)")
	fl.DurationVar(&latency, "latency", 0, "added to each answer")
	fl.Var(&bandwidth, "bandwidth", "bytes per second, in both directions together (0: no limit)")
	fl.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	return c
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
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return api.Shutdown(grace)
}

// serveOn serves h on addr; the server's Addr is where it really listens.
func serveOn(addr string, h http.Handler) (*http.Server, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	srv := &http.Server{Addr: l.Addr().String(), Handler: h, ReadHeaderTimeout: 30 * time.Second}
	go srv.Serve(l)
	return srv, nil
}
