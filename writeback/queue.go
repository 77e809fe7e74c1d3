package writeback

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/ossmount/ossmount/cache"
	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// Remote is what the queue needs of OSS. Errors are *object.Error or those of
// the context.
type Remote interface {
	Head(ctx context.Context, key string) (object.Info, error)
	Get(ctx context.Context, ref object.Ref, off, n int64) (io.ReadCloser, error)
	Put(ctx context.Context, key string, body io.Reader, size int64, o object.PutOptions) (object.Ref, error)
	Copy(ctx context.Context, src object.Ref, key string, o object.PutOptions) (object.Ref, error)
	Delete(ctx context.Context, key string) error
	DeleteMany(ctx context.Context, keys []string) (deleted []string, err error)
	List(ctx context.Context, q object.ListQuery) (object.Page, error)
	Initiate(ctx context.Context, key string, o object.PutOptions) (uploadID string, err error)
	UploadPart(ctx context.Context, key, uploadID string, number int, body io.Reader, size int64) (object.Part, error)
	UploadPartCopy(ctx context.Context, key, uploadID string, number int, src object.Ref, off, n int64) (object.Part, error)
	Complete(ctx context.Context, key, uploadID string, parts []object.Part, o object.PutOptions) (object.Ref, error)
	Abort(ctx context.Context, key, uploadID string) error
	Parts(ctx context.Context, key, uploadID string) ([]object.Part, error)
	Uploads(ctx context.Context, key string) ([]object.Upload, error)
	Tags(ctx context.Context, key string) (string, error)
	ACL(ctx context.Context, key string) (string, error)
}

// Options for Open.
type Options struct {
	Remote  Remote
	Journal *journal.Journal
	Cache   *cache.Cache
	// Prefix of the mount, where hidden temporary objects live (R5).
	Prefix string
	// Delay from the first unpublished close to the upload. Default 1 s;
	// negative: none.
	Delay time.Duration
	// PartSize of multipart uploads in bytes. Default 0: 8 MiB, growing.
	PartSize int64
	// Threshold in bytes from which an upload is multipart. Default 10 MiB.
	Threshold int64
	// Concurrency is how many requests are under way at once. Default 32.
	Concurrency int
	// InFlight is how many bytes of part bodies are under way at once.
	// Default 128 MiB.
	InFlight int64
	// Doubt is how long a request without an answer may still land (R8).
	// Default 60 s.
	Doubt time.Duration
	// MaxDirtyAge from which on an open for writing clones instead of
	// stopping a transfer. Default 60 s.
	MaxDirtyAge time.Duration
	// HandleGrace is how long a change waits for readers of the version that
	// it replaces. Default 30 s.
	HandleGrace time.Duration
	// RoomWait is how long writers wait for room on the disk while the engine
	// makes no progress. Default 1 min.
	RoomWait time.Duration
	// KeepBoth: where somebody else has changed an object that a row is about
	// to replace, ours gets another name. Otherwise only if theirs is newer.
	KeepBoth bool
	// KeepACL: an object that is rewritten keeps its ACL, at one request more.
	KeepACL bool
	// Headers says what headers and metadata an object gets that the mount makes, by
	// its path beneath the root of the mount, and its mode, of which only the type is
	// sure. Default: none. What an object of somebody else has is kept instead.
	Headers func(path string, mode uint32) (object.Headers, object.Meta)
	// Eager: files that grow are sent while they are still open.
	Eager bool
	// Host stands in such a name. Default: "here".
	Host string
	// Alone: nobody else writes to the bucket; OSS is not asked before an
	// object is replaced or deleted.
	Alone bool
	// Versioned: the bucket keeps old versions, and OSS ignores
	// forbid-overwrite there: a new name is looked at by HEAD.
	Versioned bool
	// AtRest takes the journal up and commits changes as ever, but carries
	// nothing: for those who act on a cache directory that is not mounted. Remote
	// is asked by PublishFound only.
	AtRest bool
	Log    *slog.Logger

	rules  rules  // tests only
	limits limits // smaller ones in tests
}

func (o *Options) fill() {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&o.Delay, time.Second)
	o.Delay = max(o.Delay, 0)
	set(&o.Doubt, time.Minute)
	set(&o.MaxDirtyAge, time.Minute)
	set(&o.HandleGrace, 30*time.Second)
	set(&o.RoomWait, time.Minute)
	if o.Threshold == 0 {
		o.Threshold = 10 << 20
	}
	if o.Concurrency == 0 {
		o.Concurrency = 32
	}
	if o.InFlight == 0 {
		o.InFlight = 128 << 20
	}
	if o.Host == "" {
		o.Host = "here"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.limits.fill()
}

// Row is the journal's row; fs reads and writes rows through the queue.
type Row = journal.Row

// Queue is the write-behind engine of one mount.
type Queue struct {
	o      Options
	j      *journal.Journal
	c      *cache.Cache
	remote Remote
	log    *slog.Logger
	memos  *memos

	pace   *pace               // Options.Concurrency requests, or fewer
	bodies *semaphore.Weighted // Options.InFlight

	work   context.Context // ends at Close: nothing new is begun
	send   context.Context // ends a while later: requests are given up
	stop   context.CancelFunc
	giveUp context.CancelFunc
	group  *errgroup.Group
	wake   chan struct{} // to the scheduler
	jobs   chan func()   // to goroutines that have carried a row and wait for another
	pay    chan struct{} // to the payer of debts
	tidy   chan struct{} // to the janitor

	blind sync.Once // says that conflicts cannot be seen

	mu          sync.Mutex // the innermost lock: no call of another room under it
	started     time.Time
	running     map[string]*transfer // by key (R1)
	carriers    int                  // goroutines that carry them
	deletes     map[string]struct{}  // keys of Deletes that wait for their batch
	gathering   time.Time            // since when the first of them does
	window      []string             // keys that were due at the last look, not yet considered
	blocked     map[string]blockade  // due rows that must wait for something
	timed       map[string]time.Time // of these: those that wait for a time
	soonest     time.Time            // no wait of timed ends before; zero: there is none
	again       map[string]struct{}  // rows to consider once more
	looked      place                // up to here the due rows were considered
	retries     map[string]*retry
	health      health
	denials     denials
	debtsDenied map[string]*deniedDebts // by directory
	sought      sync.Map                // IDs of debts that were looked for before their Until
	draining    bool
	pauses      map[string]time.Time // since when, by key; "": of all (pause.go)
	awaited     int                  // how many wait for rows to be carried
	yield       yield
	lookups     atomic.Int64                             // names that programs have looked up
	open        map[uint64]int                           // contents open for writing
	readers     map[uint64]map[*transfer]struct{}        // transfers that read a content
	holds       map[string]map[*Hold]struct{}            // open handles that read a version through holes
	follows     map[uint64]map[*Follow]struct{}          // those who have a content open
	urgent      map[uint64]int                           // how many wait for a content to be published
	eagers      map[uint64]*eager                        // contents that are being sent while they grow
	eagerAfter  time.Time                                // none begins before
	ahead       map[uint64]string                        // under which key an open content has an upload
	lend        func(object.Ref) (*cache.Content, error) // Lend
	successors  map[object.Ref]object.Ref                // versions that we replaced by one with the same bytes
	confirmed   map[string]object.Ref                    // versions that a copy of ours has just found in place
	reconciled  map[string]bool                          // uploads whose parts are known for sure
	unneeded    map[uint64]uint64                        // contents that have been given up, and in which state last (janitor.go)
	short       shortage                                 // of room on the disk (room.go)
	changed     chan struct{}                            // closed and replaced when a row has gone or come to rest
	damaged     error                                    // a content could not be made durable (H11)
	rebuilt     *Rebuilt                                 // set by Open
	stats       Stats
	failures    map[string]int64 // retries by what the failure was

	quiet   map[uint64]struct{} // contents that nobody can write (unseen.go)
	orphans []uint64            // contents found at the start that the kernel had served; of awaitOrphans
}

// Stats counts since Open.
type Stats struct {
	BytesSent    int64 // of bodies that OSS acknowledged
	BytesKept    int64 // of parts that a resumed upload did not send again
	Objects      int64 // settled rows
	Parts        int64 // that OSS acknowledged
	Retries      int64
	Conflicts    int64
	DebtsPaid    int64
	PartsResumed int64
	// InternalErrors were caught: each is a mistake of this program.
	InternalErrors int64
	WithoutCRC     int64 // objects of which OSS told no CRC64: size and ETag had to do
}

// Open takes the journal up where it was left and starts the engine.
func Open(ctx context.Context, o Options) (*Queue, error) {
	o.fill()
	q := &Queue{
		o: o, j: o.Journal, c: o.Cache, log: o.Log,
		memos:       newMemos(),
		pace:        newPace(o.Concurrency),
		bodies:      semaphore.NewWeighted(o.InFlight),
		wake:        make(chan struct{}, 1),
		jobs:        make(chan func()),
		pay:         make(chan struct{}, 1),
		tidy:        make(chan struct{}, 1),
		short:       shortage{waiting: map[*waiter]struct{}{}},
		started:     time.Now(),
		running:     map[string]*transfer{},
		deletes:     map[string]struct{}{},
		blocked:     map[string]blockade{},
		timed:       map[string]time.Time{},
		again:       map[string]struct{}{},
		retries:     map[string]*retry{},
		failures:    map[string]int64{},
		denials:     newDenials(),
		pauses:      map[string]time.Time{},
		yield:       newYield(o.Delay),
		debtsDenied: map[string]*deniedDebts{},
		open:        map[uint64]int{},
		quiet:       map[uint64]struct{}{},
		readers:     map[uint64]map[*transfer]struct{}{},
		holds:       map[string]map[*Hold]struct{}{},
		follows:     map[uint64]map[*Follow]struct{}{},
		urgent:      map[uint64]int{},
		unneeded:    map[uint64]uint64{},
		eagers:      map[uint64]*eager{},
		ahead:       map[uint64]string{},
		successors:  map[object.Ref]object.Ref{},
		confirmed:   map[string]object.Ref{},
		reconciled:  map[string]bool{},
		changed:     make(chan struct{}),
	}
	q.remote = answers{o.Remote, q}
	if err := q.takeUp(ctx); err != nil {
		return nil, fmt.Errorf("writeback: take up the journal: %w", err)
	}
	base := context.WithoutCancel(ctx)
	q.send, q.giveUp = context.WithCancel(base)
	q.work, q.stop = context.WithCancel(q.send)
	q.group = &errgroup.Group{}
	if o.AtRest {
		return q, nil
	}
	q.group.Go(func() error { return q.guarded(q.awaitOrphans) })
	q.group.Go(func() error { return q.keepUp(q.schedule) })
	q.group.Go(func() error { return q.keepUp(q.payDebts) })
	q.group.Go(func() error { return q.keepUp(q.janitor) })
	return q, nil
}

// Close begins nothing new, breaks bodies off, waits up to grace for the
// answers to what was sent whole (R8), and gives the rest up. The journal
// stays open; what is pending stays in it.
func (q *Queue) Close(grace time.Duration) {
	q.stop()
	q.stopBodies()
	t := time.AfterFunc(grace, q.giveUp)
	defer t.Stop()
	_ = q.group.Wait()
	q.giveUp()
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if q.j.WaitHorizon(ctx, q.j.Last()) == nil {
		q.sweep() // so that nothing unneeded waits for the next start
	}
}

func (q *Queue) stopBodies() {
	q.mu.Lock()
	var all []*transfer
	for _, t := range q.running {
		all = append(all, t)
	}
	q.mu.Unlock()
	for _, t := range all {
		t.stopReading()
	}
}

// poke wakes the scheduler.
func (q *Queue) poke() { nudge(q.wake) }

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// announceLocked tells those who wait for rows to go.
func (q *Queue) announceLocked() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// tag is the mark of what we publish for a row (R7).
func (q *Queue) tag(seq uint64) string { return fmt.Sprintf("%s.%d", q.j.CacheID(), seq) }

// Made reports that an object with the metadata m was made by us.
func (q *Queue) Made(m object.Meta) bool {
	return strings.HasPrefix(m[object.TagMeta], q.j.CacheID()+".")
}
