package remote

import (
	"context"
	"net/http"
	"net/url"
	"strings"
)

// Tags is GetObjectTagging, as x-oss-tagging takes them (a=b&c=d, escaped);
// empty: there are none.
func (c *Client) Tags(ctx context.Context, key string) (string, error) {
	r := call{op: opTags, method: http.MethodGet, key: key, query: map[string]any{"tagging": nil}}
	var out struct {
		XMLName struct{}                      `xml:"Tagging"`
		Tags    []struct{ Key, Value string } `xml:"TagSet>Tag"`
	}
	if _, err := c.doXML(ctx, r, &out); err != nil {
		return "", err
	}
	var all []string
	for _, t := range out.Tags {
		all = append(all, url.QueryEscape(t.Key)+"="+url.QueryEscape(t.Value))
	}
	return strings.Join(all, "&"), nil
}

// ACL is GetObjectACL, as x-oss-object-acl takes it; empty: that of the bucket.
func (c *Client) ACL(ctx context.Context, key string) (string, error) {
	r := call{op: opACL, method: http.MethodGet, key: key, query: map[string]any{"acl": nil}}
	var out struct {
		XMLName struct{} `xml:"AccessControlPolicy"`
		Grant   string   `xml:"AccessControlList>Grant"`
	}
	if _, err := c.doXML(ctx, r, &out); err != nil {
		return "", err
	}
	if out.Grant == "default" {
		return "", nil
	}
	return out.Grant, nil
}
