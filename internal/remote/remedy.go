package remote

import "github.com/ossmount/ossmount/internal/object"

// remedies say what mends an error that pauses all work. That of a key which OSS
// refuses is with the key (keyring.go).
var remedies = map[string]string{
	"SignatureDoesNotMatch":        "check the secret of the access key, and --region",
	"SecurityTokenNotSupported":    "use a permanent access key for this bucket, and mount again",
	"RequestTimeTooSkewed":         "set the clock of this machine right",
	"RequestExpired":               "set the clock of this machine right",
	"UserDisable":                  "have the account enabled again: it is overdue, or was disabled",
	"InDebt":                       "pay what the account owes",
	"InDebtOverdue":                "pay what the account owes",
	"AbnormalBucketOwnerStatus":    "have the account of the bucket's owner enabled again",
	"BucketDisable":                "have the bucket enabled again",
	"NoSuchBucket":                 "make the bucket again, or mount the right one",
	"InvalidBucketName":            "mount the right bucket",
	"BucketNotBelongTo":            "use a key of the bucket's owner, and mount again",
	"SecondLevelDomainForbidden":   "use the endpoint of the bucket's region, by its name, and mount again",
	"PermanentRedirect":            "mount again with the endpoint of the bucket's region",
	"TemporaryRedirect":            "mount again with the endpoint of the bucket's region",
	"AuthorizationHeaderMalformed": "check --region, and mount again",
}

// actions are the permissions of a policy that an operation needs.
var actions = map[string]string{
	opHead: "oss:GetObject", opGet: "oss:GetObject", opSymlink: "oss:GetObject",
	opPut: "oss:PutObject", opInitiate: "oss:PutObject", opPart: "oss:PutObject", opComplete: "oss:PutObject",
	opCopy: "oss:PutObject, and oss:GetObject of its source", opPartCopy: "oss:PutObject, and oss:GetObject of its source",
	opDelete: "oss:DeleteObject", opDeleteMany: "oss:DeleteObject",
	opList: "oss:ListObjects", opParts: "oss:ListParts", opUploads: "oss:ListMultipartUploads", opAbort: "oss:AbortMultipartUpload",
	opTags: "oss:GetObjectTagging", opACL: "oss:GetObjectAcl", opBucket: "oss:GetBucketInfo",
}

// remedyOf says what mends the error that OSS answered op with, or nothing.
func remedyOf(op string, kind object.Kind, ref *refusal) string {
	switch {
	case kind == object.Denied && actions[op] != "":
		return "a policy must allow " + actions[op]
	case kind != object.Wait:
		return ""
	case remedies[ref.Code] != "":
		return remedies[ref.Code]
	case ref.Endpoint != "":
		return "mount again with --endpoint=https://" + ref.Endpoint
	}
	return "check --endpoint, --region and the credentials, and mount again"
}

// join has b follow a, if there is any of it.
func join(a, b string) string {
	if b == "" {
		return a
	}
	return a + ": " + b
}
