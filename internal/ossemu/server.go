package ossemu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Options say how a server behaves. The zero value refuses every request,
// because it knows no access key.
type Options struct {
	// Keys are the access key IDs it believes and their secrets. Empty: every
	// signed request is refused with InvalidAccessKeyId.
	Keys map[string]string
	// Tokens are temporary keys that are believed until they expire, from the
	// beginning; the admin address adds others.
	Tokens []Token
	// Domains are the names below which a bucket is the first label of the
	// host (bucket.oss.test). On them path style is refused, as OSS refuses it;
	// on any other host path style is all there is.
	Domains []string
	// CNames are hosts that stand for one bucket each: host to bucket.
	CNames map[string]string
	// RestoreTime is how long it takes to restore an archived object; default
	// one minute, as for class Archive. The colder classes of OSS take hours.
	RestoreTime time.Duration
	// Region is the region that V4 signatures must name; empty accepts any.
	Region string
	// Shape is how slow it pretends to be; the zero value is as fast as it can.
	Shape Shape
	// Faults are in force from the beginning.
	Faults []Fault
	// Sync flushes bodies and log to the disk before a change is acknowledged,
	// so that it survives a power cut. Without it a change survives the end of
	// the process only, which is what most tests need, and is much faster.
	Sync bool
	// Log gets what an operator would want to know tomorrow; default none.
	Log *slog.Logger
	// Now is the clock for signatures and Last-Modified; default time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.RestoreTime == 0 {
		o.RestoreTime = time.Minute
	}
	o.Keys, o.CNames = maps.Clone(o.Keys), maps.Clone(o.CNames)
	o.Domains = slices.Clone(o.Domains)
	for i, name := range o.Domains {
		o.Domains[i] = strings.ToLower(name)
	}
	return o
}

// Server is an OSS server on one directory.
type Server struct {
	o       Options
	store   *store
	tally   *tally
	shape   shape
	faults  faultSet
	tokens  tokenSet
	running running
	closing chan struct{} // closed by Close: nobody waits any more
	closed  atomic.Bool
}

// Open takes dir, makes it if it is missing, and loads what is in it. A
// directory that another server holds is refused.
func Open(ctx context.Context, dir string, o Options) (*Server, error) {
	o = o.withDefaults()
	if !o.Shape.valid() {
		return nil, errors.New("open OSS directory: a bandwidth or latency is negative")
	}
	st, err := openStore(ctx, dir, o.Sync, o.Log)
	if err != nil {
		return nil, fmt.Errorf("open OSS directory: %w", err)
	}
	s := &Server{o: o, store: st, tally: newTally(), closing: make(chan struct{})}
	for _, t := range o.Tokens {
		s.tokens.add(t)
	}
	s.shape.change(func(v *Shape) { *v = o.Shape })
	for _, f := range o.Faults {
		if _, err := s.AddFault(f); err != nil {
			st.close()
			return nil, fmt.Errorf("open OSS directory: %w", err)
		}
	}
	return s, nil
}

// Close flushes the log and gives the directory back. Shut the http.Server
// down first: a request that waits for its client, for shaping or because of a
// fault fails and changes nothing; Close returns when all have ended.
func (s *Server) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	close(s.closing)
	s.running.end()
	return s.store.close()
}

// CreateBucket makes a private bucket; nil if it is there already.
func (s *Server) CreateBucket(name string) error {
	if !validBucket(name) {
		return fmt.Errorf("create bucket %q: the name must be 3 to 63 of a-z, 0-9 and -, not - at either end", name)
	}
	if s.hasBucket(name) {
		return nil
	}
	err := s.store.change(func() (record, error) {
		return record{kind: recBucket, info: bucketInfo{
			name: name, created: s.o.Now().Unix(), class: classStandard, acl: aclPrivate,
		}}, nil
	})
	if err != nil {
		return fmt.Errorf("create bucket %q: %w", name, err)
	}
	return nil
}

func (s *Server) hasBucket(name string) bool {
	return s.store.view(func() error { _, err := s.store.bucketLocked(name); return err }) == nil
}

// ServeHTTP answers one request of the OSS API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.serve(w, r)
}
