package ossemu

// level says what a request is about.
type level int

const (
	onService level = iota
	onBucket
	onObject
)

// operation is one operation of the API and how a request for it is known: by
// level and method, the parameters that must be there (values do not matter)
// and a header that must be there.
type operation struct {
	name   string
	level  level
	method string
	params []string
	header string
	run    func(*call) (*answer, error)
}

// operations are tried in order, so the more special come first. It is filled
// in init because the operations look at it through call.
var operations []operation

func init() {
	operations = []operation{
		{"", onService, "", unsupported, "", (*call).notImplemented},
		{"ListBuckets", onService, "GET", nil, "", (*call).listBuckets},

		{"GetBucketInfo", onBucket, "GET", []string{"bucketInfo"}, "", (*call).getBucketInfo},
		{"GetBucketLocation", onBucket, "GET", []string{"location"}, "", (*call).getBucketLocation},
		{"GetBucketAcl", onBucket, "GET", []string{"acl"}, "", (*call).getBucketACL},
		{"GetBucketStat", onBucket, "GET", []string{"stat"}, "", (*call).getBucketStat},
		{"GetBucketVersioning", onBucket, "GET", []string{"versioning"}, "", (*call).getBucketVersioning},
		{"ListLiveChannel", onBucket, "GET", []string{"live"}, "", (*call).listLiveChannels},
		{"ListMultipartUploads", onBucket, "GET", []string{"uploads"}, "", (*call).listUploads},
		{"ListObjectVersions", onBucket, "GET", []string{"versions"}, "", (*call).listVersions},
		{"DeleteMultipleObjects", onBucket, "POST", []string{"delete"}, "", (*call).deleteObjects},
		{"PutBucketAcl", onBucket, "PUT", []string{"acl"}, "", (*call).putBucketACL},
		{"", onBucket, "", unsupported, "", (*call).notImplemented},
		{"ListObjectsV2", onBucket, "GET", []string{"list-type"}, "", (*call).listObjectsV2},
		{"ListObjects", onBucket, "GET", nil, "", (*call).listObjects},
		{"PutBucket", onBucket, "PUT", nil, "", (*call).putBucket},
		{"DeleteBucket", onBucket, "DELETE", nil, "", (*call).deleteBucket},

		{"UploadPartCopy", onObject, "PUT", []string{"partNumber", "uploadId"}, "x-oss-copy-source", (*call).uploadPartCopy},
		{"UploadPart", onObject, "PUT", []string{"partNumber", "uploadId"}, "", (*call).uploadPart},
		{"ListParts", onObject, "GET", []string{"uploadId"}, "", (*call).listParts},
		{"InitiateMultipartUpload", onObject, "POST", []string{"uploads"}, "", (*call).initiate},
		{"CompleteMultipartUpload", onObject, "POST", []string{"uploadId"}, "", (*call).complete},
		{"AbortMultipartUpload", onObject, "DELETE", []string{"uploadId"}, "", (*call).abort},
		{"GetObjectACL", onObject, "GET", []string{"acl"}, "", (*call).getObjectACL},
		{"PutObjectACL", onObject, "PUT", []string{"acl"}, "", (*call).putObjectACL},
		{"GetObjectTagging", onObject, "GET", []string{"tagging"}, "", (*call).getTagging},
		{"PutObjectTagging", onObject, "PUT", []string{"tagging"}, "", (*call).putTagging},
		{"DeleteObjectTagging", onObject, "DELETE", []string{"tagging"}, "", (*call).deleteTagging},
		{"AppendObject", onObject, "POST", []string{"append"}, "", (*call).appendObject},
		{"PutSymlink", onObject, "PUT", []string{"symlink"}, "", (*call).putSymlink},
		{"GetSymlink", onObject, "GET", []string{"symlink"}, "", (*call).getSymlink},
		{"RestoreObject", onObject, "POST", []string{"restore"}, "", (*call).restoreObject},
		{"GetObjectMeta", onObject, "HEAD", []string{"objectMeta"}, "", (*call).getObjectMeta},
		{"GetObjectMeta", onObject, "GET", []string{"objectMeta"}, "", (*call).getObjectMeta},
		{"", onObject, "", unsupported, "", (*call).notImplemented},
		{"HeadObject", onObject, "HEAD", nil, "", (*call).headObject},
		{"GetObject", onObject, "GET", nil, "", (*call).getObject},
		{"CopyObject", onObject, "PUT", nil, "x-oss-copy-source", (*call).copyObject},
		{"PutObject", onObject, "PUT", nil, "", (*call).putObject},
		{"DeleteObject", onObject, "DELETE", nil, "", (*call).deleteObject},
	}
}

// unsupported are parameters that make another operation of a request, one
// that is not here; without them it would be taken for PutObject or a listing.
var unsupported = []string{
	"append", "symlink", "restore", "x-oss-process", "x-oss-async-process", "img",
	"cors", "logging", "website", "referer", "lifecycle", "tagging", "replication", "replicationProgress",
	"replicationLocation", "cname", "qos", "qosInfo", "policy", "encryption", "requestPayment", "inventory",
	"worm", "wormId", "wormExtend", "transferAcceleration", "metaQuery", "resourceGroup", "rtc", "asyncFetch",
	"accessMonitor", "style", "live", "vod", "status", "comp", "udf", "versioning", "stat", "bucketInfo",
	"regions", "regionList", "cloudboxes", "accessmonitor",
}

var unknownOperation = operation{name: "Unknown", run: func(c *call) (*answer, error) {
	return nil, refuse(405, "MethodNotAllowed", "The specified method is not allowed against this resource.", "", pair{"Method", c.r.Method})
}}

func findOperation(c *call) *operation {
	at := onService
	switch {
	case c.key != "":
		at = onObject
	case c.bucket != "":
		at = onBucket
	}
	for i := range operations {
		if op := &operations[i]; op.level == at && op.matches(c) {
			if op.name == "" {
				return &operation{name: "NotImplemented", run: op.run}
			}
			return op
		}
	}
	return &unknownOperation
}

func (op *operation) matches(c *call) bool {
	if op.name == "" {
		for _, name := range op.params {
			if c.query.has(name) {
				return true
			}
		}
		return false
	}
	if op.method != c.r.Method || op.header != "" && c.r.Header.Get(op.header) == "" {
		return false
	}
	for _, name := range op.params {
		if !c.query.has(name) {
			return false
		}
	}
	return true
}

func (c *call) notImplemented() (*answer, error) {
	for _, name := range unsupported {
		if c.query.has(name) {
			return nil, notImplemented(name)
		}
	}
	return nil, notImplemented("")
}
