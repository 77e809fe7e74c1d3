package ossemu

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault is one way in which the server misbehaves: which requests (a matcher),
// what happens to them (do) and where on their way (at).
//
//	connect ─► before ─► signature ─► body ─► work ─► after ─► answer
//
// The zero value of a field of the matcher matches every request. The matcher
// is asked when a request comes to the place; what cannot happen to it there (a
// wrong CRC in an answer that has none) is no match and is not counted.
//
//	op, bucket, key  regular expressions (RE2) of the whole name: op=UploadPart|PutObject, key=logs/.*
//	part             3, 2-5 or 7-
//	skip, count      not the first skip matches; no more than count times
//	probability      of those, each with this chance (0 to 1), drawn from seed
//	above            of those, only what exceeds so many per second (a token bucket of one second)
//
// What happens, where (the first place is the default), and what it leaves:
//
//	do       at                           its fields             stored afterwards
//	delay    before, body, after          for (none: until the   as without the fault; before and body: nothing if
//	                                      fault is removed)      the client does not wait
//	error    before, after                code, status, message  before: nothing; after: all
//	reset    before, body, after, answer  bytes                  before, body: nothing; after, answer: all
//	close    before, body, after, answer  bytes                  as reset; the end is a FIN and not a RST
//	late     body                         for (as delay)         nothing when the connection is cut, after the whole
//	                                                             body has come; all when the time is over
//	slow     answer, body                 rate                   as without the fault
//	corrupt  answer                       what, bytes            as without the fault: crc, etag and body (one bit)
//	                                                             are wrong, length is short with a matching header
//	forget   before, after                                       the upload of the request is aborted
//	change   before, after                object, content        the object (of the request, or named) has new bytes,
//	                                                             ETag and Last-Modified
//	remove   before, after                object                 the object is deleted
//	clock    before                       by                     what a clock that is wrong by so much leaves: for
//	                                                             up to 15 minutes another Last-Modified, else nothing
//
// Throttling is error with above; a permission that was taken away, or
// credentials that have expired, are error with a code. code alone suffices for
// the errors of OSS that are known (faultcode.go); others need a status. A
// reset after is the lost answer; a close of an answer truncates it. bytes says
// after how many bytes of the body, or of the answer, it happens: by default
// half of them.
type Fault struct {
	Do string `json:"do"`
	At string `json:"at,omitempty"`

	Op          string  `json:"op,omitempty"`
	Bucket      string  `json:"bucket,omitempty"`
	Key         string  `json:"key,omitempty"`
	Part        string  `json:"part,omitempty"`
	Skip        int64   `json:"skip,omitempty"`
	Count       int64   `json:"count,omitempty"`
	Probability float64 `json:"probability,omitempty"`
	Seed        uint64  `json:"seed,omitempty"` // 0: one is drawn; the server says which
	Above       float64 `json:"above,omitempty"`

	For     Duration `json:"for,omitempty"`
	By      Duration `json:"by,omitempty"`
	Bytes   *int64   `json:"bytes,omitempty"`
	Rate    int64    `json:"rate,omitempty"` // bytes per second
	Status  int      `json:"status,omitempty"`
	Code    string   `json:"code,omitempty"`
	Message string   `json:"message,omitempty"`
	What    string   `json:"what,omitempty"` // crc, etag, body or length
	Object  string   `json:"object,omitempty"`
	Content string   `json:"content,omitempty"`
}

// Duration is a time.Duration that JSON and flags write as 250ms or 1m30s.
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// The places on the way of a request.
const (
	placeBefore = "before"
	placeBody   = "body"
	placeAfter  = "after"
	placeAnswer = "answer"
)

// action is one row of the table above.
type action struct {
	places []string
	fields []string
	needs  string // a field that must be given
}

var actions = map[string]action{
	"delay":   {[]string{placeBefore, placeBody, placeAfter}, []string{"for", "bytes"}, ""},
	"error":   {[]string{placeBefore, placeAfter}, []string{"status", "code", "message"}, ""},
	"reset":   {[]string{placeBefore, placeBody, placeAfter, placeAnswer}, []string{"bytes"}, ""},
	"close":   {[]string{placeBefore, placeBody, placeAfter, placeAnswer}, []string{"bytes"}, ""},
	"late":    {[]string{placeBody}, []string{"for"}, ""},
	"slow":    {[]string{placeAnswer, placeBody}, []string{"rate"}, "rate"},
	"corrupt": {[]string{placeAnswer}, []string{"what", "bytes"}, "what"},
	"forget":  {[]string{placeBefore, placeAfter}, nil, ""},
	"change":  {[]string{placeBefore, placeAfter}, []string{"object", "content"}, ""},
	"remove":  {[]string{placeBefore, placeAfter}, []string{"object"}, ""},
	"clock":   {[]string{placeBefore}, []string{"by"}, "by"},
}

// FaultKinds is what can be asked for: what happens and where, what can be
// corrupted, and to which operations.
type FaultKinds struct {
	Do         map[string][]string `json:"do"` // the places, the default first
	What       []string            `json:"what"`
	Operations []string            `json:"operations"`
}

// Kinds lists all that a Fault can be about.
func Kinds() FaultKinds {
	k := FaultKinds{Do: map[string][]string{}, What: corruptions, Operations: operationNames()}
	for do, a := range actions {
		k.Do[do] = a.places
	}
	return k
}

var corruptions = []string{"crc", "etag", "body", "length"}

// given names the fields of the action that f has.
func (f *Fault) given() []string {
	var names []string
	for _, v := range []struct {
		name string
		set  bool
	}{
		{"for", f.For != 0}, {"by", f.By != 0}, {"bytes", f.Bytes != nil}, {"rate", f.Rate != 0},
		{"status", f.Status != 0}, {"code", f.Code != ""}, {"message", f.Message != ""}, {"what", f.What != ""},
		{"object", f.Object != ""}, {"content", f.Content != ""},
	} {
		if v.set {
			names = append(names, v.name)
		}
	}
	return names
}

// check completes f, or says what is wrong with it and what would be right.
func (f *Fault) check() error {
	a, ok := actions[f.Do]
	if !ok {
		return fmt.Errorf("do=%q is no fault: it is one of %s", f.Do, strings.Join(slices.Sorted(maps.Keys(actions)), ", "))
	}
	if f.At == "" {
		f.At = a.places[0]
	}
	if !slices.Contains(a.places, f.At) {
		return fmt.Errorf("%s does not happen at=%q: give at=%s", f.Do, f.At, strings.Join(a.places, " or at="))
	}
	given := f.given()
	for _, name := range given {
		if !slices.Contains(a.fields, name) {
			return fmt.Errorf("%s has no use for %s: it takes %s", f.Do, name, orNothing(a.fields))
		}
	}
	if a.needs != "" && !slices.Contains(given, a.needs) {
		return fmt.Errorf("%s needs %s=VALUE", f.Do, a.needs)
	}
	switch {
	case f.Bytes != nil && (f.At == placeBefore || f.At == placeAfter):
		return fmt.Errorf("bytes has no meaning at=%s: give at=body or at=answer", f.At)
	case f.Bytes != nil && *f.Bytes < 0, f.For < 0, f.Rate < 0, f.Skip < 0, f.Count < 0, f.Above < 0:
		return fmt.Errorf("bytes, for, rate, skip, count and above cannot be negative")
	case f.Probability < 0 || f.Probability > 1:
		return fmt.Errorf("probability=%v is not between 0 and 1", f.Probability)
	case f.Seed != 0 && f.Probability == 0:
		return fmt.Errorf("seed is for probability: give that too")
	case f.What != "" && !slices.Contains(corruptions, f.What):
		return fmt.Errorf("what=%q cannot be corrupted: it is one of %s", f.What, strings.Join(corruptions, ", "))
	case f.What == "crc" || f.What == "etag":
		if f.Bytes != nil {
			return fmt.Errorf("bytes has no meaning for what=%s: it is for what=body and what=length", f.What)
		}
	}
	if f.Do == "error" {
		return f.checkError()
	}
	return nil
}

func orNothing(fields []string) string {
	if len(fields) == 0 {
		return "nothing but the matcher and at"
	}
	return strings.Join(fields, ", ")
}

// matcher is the compiled form of the fields that choose requests.
type matcher struct {
	op, bucket, key *regexp.Regexp // nil: all
	first, last     int            // parts; first 0: all
}

func (f *Fault) matcher() (m matcher, err error) {
	for _, p := range []struct {
		name, text string
		to         **regexp.Regexp
	}{{"op", f.Op, &m.op}, {"bucket", f.Bucket, &m.bucket}, {"key", f.Key, &m.key}} {
		if p.text == "" {
			continue
		}
		if _, err = regexp.Compile(p.text); err != nil {
			return m, fmt.Errorf("%s=%s is no regular expression of RE2: %w", p.name, p.text, err)
		}
		*p.to = regexp.MustCompile(`\A(?s:` + p.text + `)\z`)
	}
	if names := operationNames(); m.op != nil && !slices.ContainsFunc(names, m.op.MatchString) {
		return m, fmt.Errorf("op=%s matches no operation: they are %s", f.Op, strings.Join(names, ", "))
	}
	if f.Part == "" {
		return m, nil
	}
	from, to, span := strings.Cut(f.Part, "-")
	m.first, err = strconv.Atoi(from)
	m.last = m.first
	if span && err == nil {
		if m.last = maxParts; to != "" {
			m.last, err = strconv.Atoi(to)
		}
	}
	if err != nil || m.first < 1 || m.last < m.first {
		return m, fmt.Errorf("part=%s is neither a part number nor a range of them: write 3, 2-5 or 7-", f.Part)
	}
	return m, nil
}

// operationNames lists the operations that a request can be.
func operationNames() []string {
	names := []string{unknownOperation.name, "NotImplemented"}
	for _, op := range operations {
		if op.name != "" {
			names = append(names, op.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (m *matcher) matches(c *call) bool {
	return (m.op == nil || m.op.MatchString(c.op.name)) &&
		(m.bucket == nil || m.bucket.MatchString(c.bucket)) &&
		(m.key == nil || m.key.MatchString(c.key)) &&
		(m.first == 0 || c.part() >= m.first && c.part() <= m.last)
}
