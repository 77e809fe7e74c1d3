package remote

import (
	"context"
	"errors"
	"fmt"

	"github.com/ossmount/ossmount/internal/object"
)

// Check makes one ListObjectsV2 of at most one key below prefix. If it fails,
// the error is an *object.Error whose text names the remedy in one line; its
// kind tells a refusal (Wait, Denied, Parked: mend it) from an endpoint that
// gives no answer (Again).
func (c *Client) Check(ctx context.Context, prefix string) error {
	_, err := c.List(ctx, object.ListQuery{Prefix: prefix, Max: 1})
	var e *object.Error
	if errors.As(err, &e) {
		e.Key = "" // the remedy names the prefix where it matters
		if text := c.remedy(e, prefix); e.Err != nil && text != "" {
			e.Err = &remedyError{text: text, cause: e.Err}
		}
	}
	return err
}

// remedyError says what to do; the cause stays in the chain and in the text.
type remedyError struct {
	text  string
	cause error
}

func (e *remedyError) Error() string { return e.text + " [" + e.cause.Error() + "]" }
func (e *remedyError) Unwrap() error { return e.cause }

func (c *Client) remedy(e *object.Error, prefix string) string {
	at := fmt.Sprintf("bucket %q at %s", c.opts.Bucket, c.opts.Endpoint)
	var r *refusal
	errors.As(e.Err, &r)
	switch e.Code {
	case "NoSuchBucket":
		return fmt.Sprintf("bucket %q does not exist at %s: create it or correct the name", c.opts.Bucket, c.opts.Endpoint)
	case "InvalidAccessKeyId":
		return fmt.Sprintf("the access key is unknown at %s", c.opts.Endpoint)
	case "SignatureDoesNotMatch":
		return "the secret does not belong to the access key, or the region is wrong"
	case "InvalidSecurityToken", "SecurityTokenExpired", "AccessKeyIdAndSecurityTokenNotMatch":
		return "the security token is not valid (any more), or not that of the access key"
	case "RequestTimeTooSkewed":
		return "the clock of this host differs from that of OSS by more than 15 minutes: set it (NTP)"
	case "AccessDenied":
		if r != nil && r.Endpoint != "" {
			return fmt.Sprintf("bucket %q is not at %s: use the endpoint %s", c.opts.Bucket, c.opts.Endpoint, r.Endpoint)
		}
		return fmt.Sprintf("the access key may not list %q in %s: grant it oss:ListObjects there", prefix, at)
	case "UserDisable", "InDebt", "InDebtOverdue", "AbnormalBucketOwnerStatus", "BucketDisable":
		return fmt.Sprintf("the account of %s is suspended: pay what is due, or ask the support of Alibaba Cloud", at)
	case "SecondLevelDomainForbidden", "BucketNotBelongTo", "PermanentRedirect", "TemporaryRedirect", "InvalidBucketName":
		return fmt.Sprintf("%s is not addressed as OSS wants it: correct the endpoint", at)
	}
	var noKey *credentialsError
	switch {
	case errors.As(e.Err, &noKey):
		return "" // its text is the remedy
	case r != nil && badSignature(r):
		return "OSS does not accept the signature: correct the region and the access key"
	case e.Status == 0:
		return fmt.Sprintf("%s gives no answer: check the endpoint and the network", c.opts.Endpoint)
	case e.Status >= 300 && e.Status < 400:
		return fmt.Sprintf("%s redirects elsewhere: correct the endpoint", c.opts.Endpoint)
	case r == nil || (r.RequestID == "" && e.Code == ""):
		return fmt.Sprintf("%s does not answer as OSS does: check the endpoint and the proxy", c.opts.Endpoint)
	}
	return ""
}
