package integration

import (
	"io"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossmount/ossmount/integration/harness"
)

// What others do to the bucket, with the SDK.

func (e *env) bucket() *oss.Bucket {
	e.Helper()
	b, err := e.server.Client()
	e.ok(err)
	return b
}

func (e *env) put(key string, body io.Reader, opts ...oss.Option) {
	e.Helper()
	e.ok(e.bucket().PutObject(key, body, opts...))
}

func (e *env) abort(u harness.Upload) error {
	return e.bucket().AbortMultipartUpload(oss.InitiateMultipartUploadResult{Bucket: u.Bucket, Key: u.Key, UploadID: u.UploadID})
}
