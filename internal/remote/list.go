package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ossmount/ossmount/internal/object"
)

func unquote(etag string) string { return strings.Trim(strings.TrimSpace(etag), `"`) }

// List is ListObjectsV2: one page. A page that says that more follows but
// gives no new token is an error of kind Again, never an endless loop.
func (c *Client) List(ctx context.Context, q object.ListQuery) (object.Page, error) {
	max := q.Max
	if max <= 0 || max > 1000 {
		max = 1000
	}
	r := call{op: opList, method: http.MethodGet, ofBucket: true, query: map[string]any{
		"list-type": "2", "encoding-type": "url", "max-keys": strconv.Itoa(max),
	}}
	for name, value := range map[string]string{
		"prefix": q.Prefix, "delimiter": q.Delimiter, "start-after": q.After, "continuation-token": q.Token,
	} {
		if value != "" {
			r.query[name] = value
		}
	}
	if q.Token != "" {
		delete(r.query, "start-after")
	}
	var out listResult
	a, err := c.doXML(ctx, r, &out)
	if err != nil {
		return object.Page{}, withPrefix(err, q.Prefix)
	}
	page, err := out.page()
	if err != nil {
		return object.Page{}, broken(r.op, q.Prefix, a.status, err)
	}
	if out.IsTruncated && (page.Next == "" || page.Next == q.Token) {
		return object.Page{}, broken(r.op, q.Prefix, a.status, errors.New("more is announced, but no new token given"))
	}
	page.Asked = a.asked
	return page, nil
}

// withPrefix shows the prefix where the error of an object shows its key.
func withPrefix(err error, prefix string) error {
	var e *object.Error
	if errors.As(err, &e) {
		e.Key = prefix
	}
	return err
}

type listResult struct {
	XMLName               struct{} `xml:"ListBucketResult"`
	EncodingType          string
	IsTruncated           bool
	NextContinuationToken string
	Contents              []struct {
		Key, ETag, Type, StorageClass string
		Size                          int64
		LastModified                  string
	}
	CommonPrefixes []struct{ Prefix string }
}

func (l *listResult) page() (object.Page, error) {
	u := unescaper{on: l.EncodingType == "url"}
	var p object.Page
	if n := len(l.Contents); n > 0 {
		p.Entries = make([]object.Entry, 0, n)
	}
	for _, e := range l.Contents {
		if e.Key == "" || e.Size < 0 {
			return p, fmt.Errorf("an object %q of %d bytes", e.Key, e.Size)
		}
		p.Entries = append(p.Entries, object.Entry{
			Key: u.text(e.Key), ETag: unquote(e.ETag), Size: e.Size,
			LastModified: parseTime(e.LastModified), Type: e.Type, Class: e.StorageClass,
		})
	}
	for _, f := range l.CommonPrefixes {
		p.Prefixes = append(p.Prefixes, u.text(f.Prefix))
	}
	if l.IsTruncated {
		p.Next = u.text(l.NextContinuationToken)
	}
	return p, u.err
}

// parseTime reads a time of an XML answer; the zero time if there is none,
// since no answer is worth failing for that.
func parseTime(s string) time.Time {
	t, _ := time.Parse(time.RFC3339, strings.TrimSpace(s))
	return t
}
