package remote

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/ossmount/ossmount/internal/object"
)

// Symlink is GetSymlink: the version, metadata and target (Info.Link) of an
// OSS symlink, whose size is 0. Of a key that is none it is an error of kind
// Parked.
func (c *Client) Symlink(ctx context.Context, key string) (object.Info, error) {
	r := call{op: opSymlink, method: http.MethodGet, key: key, query: map[string]any{"symlink": nil}}
	a, err := c.do(ctx, r)
	if err != nil {
		return object.Info{}, err
	}
	link, err := url.QueryUnescape(a.header.Get("X-Oss-Symlink-Target"))
	if err != nil || link == "" || etagOf(a.header) == "" {
		return object.Info{}, broken(r.op, key, a.status, errors.New("no target or no ETag in the answer"))
	}
	info := infoOf(key, 0, a)
	info.Link, info.Type = link, object.TypeSymlink
	delete(info.Headers, "Content-Type") // of an answer without a body
	return info, nil
}

// ofLink is Symlink of a key that has just been seen to be one: if it is none
// any more, that is worth another try.
func (c *Client) ofLink(ctx context.Context, key string) (object.Info, error) {
	info, err := c.Symlink(ctx, key)
	var e *object.Error
	if errors.As(err, &e) && e.Code == "NotSymlink" {
		e.Kind = object.Again
	}
	return info, err
}

// isLink reports an answer to HEAD that was about the target of a symlink:
// it is there, or it is not, or it is a symlink itself.
func isLink(a *answer, err error) bool {
	var e *object.Error
	if errors.As(err, &e) {
		return e.Code == "SymlinkTargetNotExist" || e.Code == "InvalidTargetType"
	}
	return err == nil && a.header.Get("X-Oss-Object-Type") == object.TypeSymlink
}
