package remote

import (
	"context"
	"net/http"
	"strings"
)

// Bucket is what decides how a bucket can be used.
type Bucket struct {
	// Versioned: deletes and overwrites keep the old versions, and
	// x-oss-forbid-overwrite has no effect.
	Versioned bool
	// Hierarchical: keys are paths of real directories.
	Hierarchical bool
}

// BucketInfo is GetBucketInfo.
func (c *Client) BucketInfo(ctx context.Context) (Bucket, error) {
	r := call{op: opBucket, method: http.MethodGet, ofBucket: true, query: map[string]any{"bucketInfo": nil}}
	var out struct {
		XMLName    struct{} `xml:"BucketInfo"`
		Versioning string   `xml:"Bucket>Versioning"`
		// By the name that the Java SDK reads in a list of buckets; that
		// GetBucketInfo has it, too, is not confirmed.
		Hierarchical string `xml:"Bucket>HierarchicalNamespace"`
	}
	if _, err := c.doXML(ctx, r, &out); err != nil {
		return Bucket{}, err
	}
	return Bucket{
		Versioned:    strings.TrimSpace(out.Versioning) == "Enabled",
		Hierarchical: strings.EqualFold(strings.TrimSpace(out.Hierarchical), "Enabled"),
	}, nil
}
