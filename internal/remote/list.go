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
	Contents              []listed
	CommonPrefixes        []folded
}

type listed struct {
	Key, ETag, Type, StorageClass string
	Size                          int64
	LastModified                  string
}

type folded struct{ Prefix string }

// page is what l says, in strings of its own: who keeps a listing keeps some
// names of a page, perhaps one, and those of l are pieces of the whole answer
// (listxml.go). The two of an entry are one, since they are kept together.
func (l *listResult) page() (object.Page, error) {
	u := unescaper{on: l.EncodingType == "url"}
	var p object.Page
	if n := len(l.Contents); n > 0 {
		p.Entries = make([]object.Entry, 0, n)
	}
	var buf []byte
	var kind, class string
	for _, e := range l.Contents {
		if e.Key == "" || e.Size < 0 {
			return p, fmt.Errorf("an object %q of %d bytes", e.Key, e.Size)
		}
		kind, class = again(kind, e.Type), again(class, e.StorageClass)
		key := u.text(e.Key)
		buf = append(append(buf[:0], key...), unquote(e.ETag)...)
		both := string(buf)
		p.Entries = append(p.Entries, object.Entry{
			Key: both[:len(key)], ETag: both[len(key):], Size: e.Size,
			LastModified: parseTime(e.LastModified), Type: kind, Class: class,
		})
	}
	for _, f := range l.CommonPrefixes {
		p.Prefixes = append(p.Prefixes, strings.Clone(u.text(f.Prefix)))
	}
	if l.IsTruncated {
		p.Next = strings.Clone(u.text(l.NextContinuationToken))
	}
	return p, u.err
}

// again is a copy of s: the one before, if that is the same.
func again(before, s string) string {
	if s == before {
		return before
	}
	return strings.Clone(s)
}

// parseTime reads a time of an XML answer; the zero time if there is none,
// since no answer is worth failing for that.
func parseTime(s string) time.Time {
	t, _ := time.Parse(time.RFC3339, strings.TrimSpace(s))
	return t
}
