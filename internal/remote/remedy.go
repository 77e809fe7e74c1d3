package remote

import "github.com/ossmount/ossmount/internal/object"

// remedies say what mends an error that pauses all work.
var remedies = map[string]string{
	"InvalidAccessKeyId":                  "set " + envID + " and " + envSecret + " to a key that is valid, and mount again",
	"AccessKeyDisabled":                   "enable the access key, or set " + envID + " and " + envSecret + " to another one and mount again",
	"InactiveAccessKey":                   "enable the access key, or set " + envID + " and " + envSecret + " to another one and mount again",
	"SignatureDoesNotMatch":               "check " + envSecret + " and --region, and mount again",
	"InvalidSecurityToken":                "get new temporary credentials (" + envToken + "), and mount again",
	"SecurityTokenExpired":                "get new temporary credentials (" + envToken + "), and mount again",
	"SecurityTokenNotSupported":           "use a permanent access key for this bucket, and mount again",
	"AccessKeyIdAndSecurityTokenNotMatch": "set " + envID + " and " + envToken + " to those of one set of credentials, and mount again",
	"RequestTimeTooSkewed":                "set the clock of this machine right",
	"RequestExpired":                      "set the clock of this machine right",
	"UserDisable":                         "have the account enabled again: it is overdue, or was disabled",
	"InDebt":                              "pay what the account owes",
	"InDebtOverdue":                       "pay what the account owes",
	"AbnormalBucketOwnerStatus":           "have the account of the bucket's owner enabled again",
	"BucketDisable":                       "have the bucket enabled again",
	"NoSuchBucket":                        "make the bucket again, or mount the right one",
	"InvalidBucketName":                   "mount the right bucket",
	"BucketNotBelongTo":                   "use a key of the bucket's owner, and mount again",
	"SecondLevelDomainForbidden":          "use the endpoint of the bucket's region, by its name, and mount again",
	"PermanentRedirect":                   "mount again with the endpoint of the bucket's region",
	"TemporaryRedirect":                   "mount again with the endpoint of the bucket's region",
	"AuthorizationHeaderMalformed":        "check --region, and mount again",
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
