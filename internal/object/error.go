package object

import (
	"errors"
	"fmt"
)

// Kind says what a caller can do about a failure of OSS. It is decided once,
// in internal/remote.
type Kind int

const (
	Again    Kind = iota + 1 // network, timeouts, 5xx, throttling: try again later
	Wait                     // credentials, clock, account, no such bucket: pause until mended
	Restart                  // the upload or its parts are not what we think: look, then begin anew
	Parked                   // can never succeed as it is: keep it, show it
	Absent                   // an explicit 404 of the object
	Conflict                 // a condition was not met: 304, 409, 412
	Denied                   // this operation on this key is forbidden (AccessDenied)
)

func (k Kind) String() string {
	switch k {
	case Again:
		return "again"
	case Wait:
		return "wait"
	case Restart:
		return "restart"
	case Parked:
		return "parked"
	case Absent:
		return "absent"
	case Conflict:
		return "conflict"
	case Denied:
		return "denied"
	}
	return "unknown"
}

// Fate says what is known about the effect of a request that failed.
type Fate int

const (
	// Unknown: it may have been carried out, or may still be. The zero value,
	// so that forgetting to set it errs on the safe side.
	Unknown Fate = iota
	// NotSent: it never reached OSS whole (a dial error, or its body was
	// broken off), so it has no effect now or later.
	NotSent
	// Answered: OSS answered it; the answer is the error.
	Answered
)

// Error is a failed request.
type Error struct {
	Op     string // OSS operation: PutObject, UploadPart, ...
	Key    string
	Kind   Kind
	Fate   Fate
	Status int    // HTTP status, 0 without an answer
	Code   string // OSS error code, may be empty
	Err    error  // the cause; its text carries no secret

	Throttled bool   // OSS asks for fewer requests
	Remedy    string // what mends it, if that is known
}

// ErrIntegrity is in the error of a request whose bytes are not those that were
// meant.
var ErrIntegrity = errors.New("the checksums differ")

func (e *Error) Error() string {
	s := e.Op
	if e.Key != "" {
		s += " " + fmt.Sprintf("%q", e.Key)
	}
	if e.Code != "" {
		s += ": " + e.Code
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Remedy != "" {
		s += ": " + e.Remedy
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of err, or Again if it is not an *Error: what we do
// not understand is tried again and never dropped.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Again
}

// FateOf returns the fate of the request that failed with err, or Unknown if
// err is not an *Error.
func FateOf(err error) Fate {
	var e *Error
	if errors.As(err, &e) {
		return e.Fate
	}
	return Unknown
}

// IsAbsent reports that OSS said that the object does not exist.
func IsAbsent(err error) bool { return err != nil && KindOf(err) == Absent }
