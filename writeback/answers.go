package writeback

import (
	"context"
	"io"
	"time"

	"github.com/ossmount/ossmount/internal/object"
)

// answers is OSS with the queue listening: what becomes of each request tells
// whether OSS can be used (health.go), and how much it can take (pace.go).
type answers struct {
	Remote
	q *Queue
}

// The operations by the names that errors have.
const (
	opHead       = "HeadObject"
	opGet        = "GetObject"
	opPut        = "PutObject"
	opCopy       = "CopyObject"
	opDelete     = "DeleteObject"
	opDeleteMany = "DeleteMultipleObjects"
	opList       = "ListObjectsV2"
	opInitiate   = "InitiateMultipartUpload"
	opPart       = "UploadPart"
	opPartCopy   = "UploadPartCopy"
	opComplete   = "CompleteMultipartUpload"
	opAbort      = "AbortMultipartUpload"
	opParts      = "ListParts"
	opUploads    = "ListMultipartUploads"
	opTags       = "GetObjectTagging"
	opACL        = "GetObjectACL"
)

func listen[T any](q *Queue, op string, f func() (T, error)) (T, error) {
	asked := time.Now()
	v, err := f()
	q.hear(op, asked, err)
	return v, err
}

// hear takes what became of a request that was begun at asked.
func (q *Queue) hear(op string, asked time.Time, err error) {
	now := time.Now()
	switch {
	case isThrottled(err):
		if q.pace.throttled(asked, now) {
			q.log.Info("OSS asks for fewer requests at once", "err", err)
		}
	case err == nil || statusOf(err) != 0 && statusOf(err) < 500:
		if q.pace.answered() {
			q.log.Info("OSS takes as many requests at once as before", "requests", q.o.Concurrency)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	was := q.health.away != nil
	q.health.hears(op, asked, err, now, q.log)
	if was && q.health.away == nil {
		q.poke()
	}
}

func (a answers) Head(ctx context.Context, key string) (object.Info, error) {
	return listen(a.q, opHead, func() (object.Info, error) { return a.Remote.Head(ctx, key) })
}

func (a answers) Get(ctx context.Context, ref object.Ref, off, n int64) (io.ReadCloser, error) {
	return listen(a.q, opGet, func() (io.ReadCloser, error) { return a.Remote.Get(ctx, ref, off, n) })
}

func (a answers) Put(ctx context.Context, key string, body io.Reader, size int64, o object.PutOptions) (object.Ref, error) {
	return listen(a.q, opPut, func() (object.Ref, error) { return a.Remote.Put(ctx, key, body, size, o) })
}

func (a answers) Copy(ctx context.Context, src object.Ref, key string, o object.PutOptions) (object.Ref, error) {
	return listen(a.q, opCopy, func() (object.Ref, error) { return a.Remote.Copy(ctx, src, key, o) })
}

func (a answers) Delete(ctx context.Context, key string) error {
	_, err := listen(a.q, opDelete, func() (struct{}, error) { return struct{}{}, a.Remote.Delete(ctx, key) })
	return err
}

func (a answers) DeleteMany(ctx context.Context, keys []string) ([]string, error) {
	return listen(a.q, opDeleteMany, func() ([]string, error) { return a.Remote.DeleteMany(ctx, keys) })
}

func (a answers) List(ctx context.Context, q object.ListQuery) (object.Page, error) {
	return listen(a.q, opList, func() (object.Page, error) { return a.Remote.List(ctx, q) })
}

func (a answers) Initiate(ctx context.Context, key string, o object.PutOptions) (string, error) {
	return listen(a.q, opInitiate, func() (string, error) { return a.Remote.Initiate(ctx, key, o) })
}

func (a answers) UploadPart(ctx context.Context, key, uploadID string, number int, body io.Reader, size int64) (object.Part, error) {
	return listen(a.q, opPart, func() (object.Part, error) { return a.Remote.UploadPart(ctx, key, uploadID, number, body, size) })
}

func (a answers) UploadPartCopy(ctx context.Context, key, uploadID string, number int, src object.Ref, off, n int64) (object.Part, error) {
	return listen(a.q, opPartCopy, func() (object.Part, error) {
		return a.Remote.UploadPartCopy(ctx, key, uploadID, number, src, off, n)
	})
}

func (a answers) Complete(ctx context.Context, key, uploadID string, parts []object.Part, o object.PutOptions) (object.Ref, error) {
	return listen(a.q, opComplete, func() (object.Ref, error) { return a.Remote.Complete(ctx, key, uploadID, parts, o) })
}

func (a answers) Abort(ctx context.Context, key, uploadID string) error {
	_, err := listen(a.q, opAbort, func() (struct{}, error) { return struct{}{}, a.Remote.Abort(ctx, key, uploadID) })
	return err
}

func (a answers) Parts(ctx context.Context, key, uploadID string) ([]object.Part, error) {
	return listen(a.q, opParts, func() ([]object.Part, error) { return a.Remote.Parts(ctx, key, uploadID) })
}

func (a answers) Uploads(ctx context.Context, key string) ([]object.Upload, error) {
	return listen(a.q, opUploads, func() ([]object.Upload, error) { return a.Remote.Uploads(ctx, key) })
}

func (a answers) Tags(ctx context.Context, key string) (string, error) {
	return listen(a.q, opTags, func() (string, error) { return a.Remote.Tags(ctx, key) })
}

func (a answers) ACL(ctx context.Context, key string) (string, error) {
	return listen(a.q, opACL, func() (string, error) { return a.Remote.ACL(ctx, key) })
}
