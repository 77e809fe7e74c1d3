package remote

import (
	"context"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/ossmount/ossmount/internal/object"
)

// kinds sorts the error codes of OSS. A code that is not here is sorted by
// its status, see kindOf.
var kinds = map[string]object.Kind{
	// The request was fine, or was damaged on its way.
	"InternalError": object.Again, "ServiceUnavailable": object.Again, "RequestTimeout": object.Again,
	"InvalidDigest": object.Again, "FilePartInterity": object.Again, "FilePartIntegrity": object.Again,
	"FilePartStale": object.Again, "BadRequest": object.Again, "IncompleteBody": object.Again,
	"InvalidCrc64": object.Again,

	// Nothing will succeed before somebody mends something.
	"InvalidAccessKeyId": object.Wait, "SignatureDoesNotMatch": object.Wait,
	"InvalidSecurityToken": object.Wait, "SecurityTokenExpired": object.Wait,
	"AccessKeyIdAndSecurityTokenNotMatch": object.Wait, "SecurityTokenNotSupported": object.Wait,
	"RequestTimeTooSkewed": object.Wait, "RequestExpired": object.Wait, "AccessKeyDisabled": object.Wait, "InactiveAccessKey": object.Wait,
	"UserDisable": object.Wait, "InDebt": object.Wait, "InDebtOverdue": object.Wait,
	"AbnormalBucketOwnerStatus": object.Wait, "BucketDisable": object.Wait,
	"NoSuchBucket": object.Wait, "InvalidBucketName": object.Wait, "BucketNotBelongTo": object.Wait,
	"SecondLevelDomainForbidden": object.Wait, "PermanentRedirect": object.Wait,
	"TemporaryRedirect": object.Wait, "AuthorizationHeaderMalformed": object.Wait,

	// The upload is not what we think.
	"NoSuchUpload": object.Restart, "InvalidPart": object.Restart, "InvalidPartOrder": object.Restart,
	"PartNotSequential": object.Restart, "FilePartNotExist": object.Restart,

	// This object, as it is, never.
	"InvalidObjectName": object.Parked, "KeyTooLong": object.Parked, "EntityTooLarge": object.Parked,
	"EntityTooSmall": object.Parked, "InvalidArgument": object.Parked, "MalformedXML": object.Parked,
	"InvalidEncryptionAlgorithmError": object.Parked, "InvalidObjectState": object.Parked,
	"ObjectArchived": object.Parked, "RestoreAlreadyInProgress": object.Parked,
	"ArchiveRestoreNotFinished": object.Parked, "FileImmutable": object.Parked,
	"MissingContentLength": object.Parked, "MethodNotAllowed": object.Parked, "NotImplemented": object.Parked,
	"OperationNotSupported": object.Parked, "InvalidTargetType": object.Parked, "InvalidTag": object.Parked,
	"MetadataTooLarge": object.Parked, "InvalidMetadata": object.Parked, "ObjectNotAppendable": object.Parked,

	"NoSuchKey": object.Absent, "NoSuchVersion": object.Absent, "SymlinkTargetNotExist": object.Absent,

	"FileAlreadyExists": object.Conflict, "ObjectAlreadyExists": object.Conflict,
	"PreconditionFailed": object.Conflict, "PositionNotEqualToLength": object.Conflict,
	"NotModified": object.Conflict, "InvalidRange": object.Conflict, // not the size that we think

	"AccessDenied": object.Denied,
}

// refusal is the text of an answer that was an error. It holds what OSS says
// in words and never the rest of its XML: that of a bad signature quotes the
// signature and what was signed.
type refusal struct {
	XMLName   xml.Name `xml:"Error"`
	Code      string   `xml:"Code"`
	Message   string   `xml:"Message"`
	RequestID string   `xml:"RequestId"`
	Endpoint  string   `xml:"Endpoint"`
	EC        string   `xml:"EC"`
	status    int
}

func (r *refusal) Error() string {
	s := r.Message
	if s == "" {
		s = strings.TrimSpace(fmt.Sprintf("status %d %s", r.status, http.StatusText(r.status)))
	}
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "..."
	}
	s = strings.Join(strings.Fields(s), " ")
	if r.Endpoint != "" {
		s += " (endpoint " + r.Endpoint + ")"
	}
	if r.RequestID != "" {
		s += " (request " + r.RequestID + ")"
	}
	return s
}

// failure is the error of a request that was not a success. err is what the
// SDK said; of an answer we trust only what tripper saw.
func failure(ctx context.Context, r call, x *exchange, whole bool, bodyErr, err error) error {
	e := &object.Error{Op: r.op, Key: r.key, Status: x.status}
	var noKey *credentialsError
	switch {
	case errors.As(err, &noKey):
		e.Kind, e.Fate, e.Code, e.Err = object.Wait, object.NotSent, codeNoKey, noKey
	case x.status >= 300:
		ref, mine := readRefusal(x)
		e.Code, e.Err = ref.Code, ref
		e.Kind = kindOf(r.op, x.status, ref, mine)
		e.Fate = fateOf(x.status, ref.Code, mine, whole)
		e.Throttled = mine && (isThrottle(ref.Code) || x.status == http.StatusTooManyRequests)
		e.Remedy = remedyOf(r.op, e.Kind, ref)
	case x.status != 0: // a success that is none
		e.Kind, e.Err = object.Again, cause(err)
		if !whole {
			e.Fate = object.NotSent
		}
	default:
		e.Kind, e.Err = object.Again, cause(err)
		if bodyErr != nil {
			e.Err = fmt.Errorf("read what is to be sent: %w", bodyErr)
		} else if ctx.Err() != nil && !errors.Is(e.Err, ctx.Err()) {
			e.Err = fmt.Errorf("%w: %w", ctx.Err(), e.Err)
		}
		// Without a connection nothing left. Of a body that broke off OSS
		// stores nothing, and after seal no more of it can follow.
		if !x.reached.Load() || !whole {
			e.Fate = object.NotSent
		}
	}
	return e
}

// readRefusal decodes an error answer: from its body, or for HEAD from the
// header x-oss-err. mine says that OSS itself gave it, not a proxy or a
// gateway before it.
func readRefusal(x *exchange) (ref *refusal, mine bool) {
	ref = &refusal{}
	data := x.failed
	if len(data) == 0 {
		if b, err := base64.StdEncoding.DecodeString(x.header.Get("X-Oss-Err")); err == nil {
			data = b
		}
	}
	if len(data) == 0 || decodeXML(data, ref) != nil {
		ref = &refusal{}
	}
	ref.status = x.status
	if id := x.header.Get("X-Oss-Request-Id"); id != "" {
		ref.RequestID = id
	}
	if ref.EC == "" {
		ref.EC = x.header.Get("X-Oss-Ec")
	}
	return ref, ref.Code != "" || x.header.Get("X-Oss-Request-Id") != ""
}

// kindOf sorts an answer of status 300 and above, or an error in the body of
// a 200.
func kindOf(op string, status int, ref *refusal, mine bool) object.Kind {
	if !mine {
		return object.Again // something between us and OSS
	}
	if ref.Code == "AccessDenied" && ref.Endpoint != "" {
		return object.Wait // the bucket lives in another region
	}
	if badSignature(ref) && status < 500 {
		return object.Wait
	}
	if k, ok := kinds[ref.Code]; ok {
		return k
	}
	if isThrottle(ref.Code) {
		return object.Again
	}
	switch status {
	case http.StatusUnauthorized:
		return object.Wait
	case http.StatusNotModified, http.StatusPreconditionFailed:
		return object.Conflict
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return object.Again
	}
	switch {
	case status >= 500 || status < 300:
		return object.Again
	case status < 400:
		return object.Wait // a redirect: the endpoint is wrong
	case ref.Code != "":
		return object.Parked
	}
	// An answer of OSS without a code. HEAD has no body to put one in; in
	// all others it was lost on its way.
	if op != opHead {
		return object.Again
	}
	switch status {
	case http.StatusNotFound:
		return object.Absent
	case http.StatusForbidden:
		return object.Denied
	}
	return object.Parked
}

// badSignature reports what OSS files under authentication. An
// InvalidArgument among it is a wrong region in the signature, and must not
// park every object there is.
func badSignature(ref *refusal) bool {
	return strings.HasPrefix(ref.EC, "0002-") ||
		(ref.Code == "InvalidArgument" && strings.Contains(ref.Message, "Authorization header"))
}

// fateOf says whether an error answer proves that nothing was done.
func fateOf(status int, code string, mine, whole bool) object.Fate {
	switch {
	case !whole:
		return object.NotSent
	case !mine:
		return object.Unknown // a gateway knows nothing of what OSS did
	case status < 300:
		// A 200 with an error inside: OSS had begun.
		if k, ok := kinds[code]; ok && k != object.Again {
			return object.Answered
		}
		return object.Unknown
	case status < 500:
		return object.Answered
	case status == http.StatusServiceUnavailable && isThrottle(code):
		return object.Answered
	case status == http.StatusNotImplemented:
		return object.Answered
	}
	return object.Unknown
}

// isThrottle reports the codes by which OSS turns a request away at the door.
func isThrottle(code string) bool {
	return strings.HasSuffix(code, "LimitExceeded") || code == "SlowDown" || code == "TooManyRequests"
}

// badXML is the error of a 2xx whose body is not the answer it should be: an
// error that OSS met after it had begun to answer, or a body cut short.
func badXML(r call, a *answer, data []byte, err error) error {
	ref := &refusal{status: a.status}
	if decodeXML(data, ref) == nil && ref.Code != "" {
		e := &object.Error{Op: r.op, Key: r.key, Status: a.status, Code: ref.Code, Err: ref,
			Kind: kindOf(r.op, a.status, ref, true), Fate: fateOf(a.status, ref.Code, true, true), Throttled: isThrottle(ref.Code)}
		e.Remedy = remedyOf(r.op, e.Kind, ref)
		return e
	}
	return broken(r.op, r.key, a.status, fmt.Errorf("the answer cannot be read: %w", err))
}

// broken is the error of an answer of success that does not hold what it
// must. What was asked for may have been done.
func broken(op, key string, status int, err error) error {
	return &object.Error{Op: op, Key: key, Kind: object.Again, Fate: object.Unknown, Status: status, Err: err}
}

// refuse is the error of a request that is not made, since it can only fail.
func refuse(op, key, why string) error {
	return &object.Error{Op: op, Key: key, Kind: object.Parked, Fate: object.NotSent, Err: errors.New(why)}
}

// cause takes the URL off an error of net/http: its query is of no use to a
// reader, and nobody must rely on what it may hold.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
