package ossemu

import (
	"strconv"
	"sync"
	"time"
)

// ringSize is how many requests the log of requests holds.
const ringSize = 10000

// tally counts requests and remembers the last of them.
type tally struct {
	mu   sync.Mutex // owns all below
	ops  map[string]*opCount
	ring []*entry // the last ringSize requests; next is the oldest
	next int
	seq  int64 // of the last request
	bell bell  // rung for each request
}

// opCount is what one operation did.
type opCount struct {
	Requests int64            `json:"requests"`
	BytesIn  int64            `json:"bytes_in"`
	BytesOut int64            `json:"bytes_out"`
	Status   map[string]int64 `json:"status"`
}

// counts is the answer to GET /counts.
type counts struct {
	Ops      map[string]opCount `json:"ops"`
	Requests int64              `json:"requests"`
	BytesIn  int64              `json:"bytes_in"`
	BytesOut int64              `json:"bytes_out"`
}

// requestInfo is one line of GET /log.
type requestInfo struct {
	Seq        int64     `json:"seq"`  // counts the requests since the server was started
	Time       time.Time `json:"time"` // when the request began
	ID         string    `json:"request_id"`
	Op         string    `json:"op"`
	Bucket     string    `json:"bucket,omitempty"`
	Key        string    `json:"key,omitempty"`
	Part       int       `json:"part,omitempty"`
	UploadID   string    `json:"upload_id,omitempty"`
	Access     string    `json:"access_key_id,omitempty"` // that it says it was signed with
	BytesIn    int64     `json:"bytes_in"`
	BytesOut   int64     `json:"bytes_out"`
	Status     int       `json:"status"` // 0: no answer was sent
	Code       string    `json:"code,omitempty"`
	DurationMS float64   `json:"duration_ms"`

	Faults []firedFault `json:"faults,omitempty"` // in the order in which they fired
	Work   int          `json:"work,omitempty"`   // where no answer was sent: the status of what was done
}

// entry is a request that is being answered.
type entry struct {
	t     *tally
	start time.Time
	op    *opCount
	info  requestInfo // owned by t.mu
}

func newTally() *tally { return &tally{ops: map[string]*opCount{}} }

// begin records a request whose answer is about to be sent.
func (t *tally) begin(c *call, status int) *entry {
	e := &entry{t: t, start: c.start, info: requestInfo{
		Time: c.start, ID: c.id, Op: c.op.name, Bucket: c.bucket, Key: c.key, Part: c.part(),
		UploadID: c.query.get("uploadId"), Access: c.access, BytesIn: c.body.in, Status: status, Code: c.code, Faults: c.fired,
		DurationMS: milliseconds(time.Since(c.start)),
	}}
	if status == 0 {
		e.info.Work = c.work
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seq++
	e.info.Seq = t.seq
	t.bell.ring()
	if e.op = t.ops[c.op.name]; e.op == nil {
		e.op = &opCount{Status: map[string]int64{}}
		t.ops[c.op.name] = e.op
	}
	e.op.Requests++
	e.op.BytesIn += c.body.in
	e.op.Status[strconv.Itoa(status)]++
	if len(t.ring) < ringSize {
		t.ring = append(t.ring, e)
	} else {
		t.ring[t.next] = e
		t.next = (t.next + 1) % ringSize
	}
	return e
}

// out counts n bytes of the answer.
func (e *entry) out(n int) {
	e.t.mu.Lock()
	defer e.t.mu.Unlock()
	e.op.BytesOut += int64(n)
	e.info.BytesOut += int64(n)
}

func (e *entry) end() {
	e.t.mu.Lock()
	defer e.t.mu.Unlock()
	e.info.DurationMS = milliseconds(time.Since(e.start))
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (t *tally) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ops, t.ring, t.next = map[string]*opCount{}, nil, 0
}

func (t *tally) counts() counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := counts{Ops: map[string]opCount{}}
	for name, op := range t.ops {
		status := make(map[string]int64, len(op.Status))
		for code, n := range op.Status {
			status[code] = n
		}
		sum.Ops[name] = opCount{op.Requests, op.BytesIn, op.BytesOut, status}
		sum.Requests += op.Requests
		sum.BytesIn += op.BytesIn
		sum.BytesOut += op.BytesOut
	}
	return sum
}

// requests gives all remembered requests, oldest first.
func (t *tally) requests() []requestInfo {
	list, _ := t.since(0, ringSize)
	return list
}

// since gives the remembered requests behind number after, oldest first, but no
// more than limit of them, and a channel that is closed by the next one.
func (t *tally) since(after int64, limit int) ([]requestInfo, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := []requestInfo{}
	for i := range t.ring {
		if e := t.ring[(t.next+i)%len(t.ring)]; e.info.Seq > after && len(list) < limit {
			list = append(list, e.info)
		}
	}
	return list, t.bell.wait()
}
