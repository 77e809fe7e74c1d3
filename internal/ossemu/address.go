package ossemu

import (
	"net"
	"strings"
)

// address finds bucket and key of the request.
//
//	host                path     bucket  key
//	127.0.0.1:9000      /b/k/l   b       k/l    any host that is not configured: path style
//	b.oss.test:9000     /k/l     b       k/l    below one of Options.Domains
//	files.example.org   /k/l     b       k/l    one of Options.CNames
//	oss.test            /b/k                    refused, as OSS refuses it
//
// The path is taken as it came, decoded once: "//" and ".." belong to the key.
func (c *call) address() {
	path := strings.TrimPrefix(c.r.URL.Path, "/")
	host := strings.ToLower(c.r.Host)
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if bucket, ok := c.s.o.CNames[host]; ok {
		c.bucket, c.key = bucket, path
		return
	}
	for _, domain := range c.s.o.Domains {
		if bucket, ok := strings.CutSuffix(host, "."+domain); ok {
			c.bucket, c.key = bucket, path
			return
		}
		c.secondLevel = c.secondLevel || host == domain && path != ""
	}
	c.bucket, c.key, _ = strings.Cut(path, "/")
}

// checkAddress refuses what the address alone forbids.
func (c *call) checkAddress() error {
	if c.secondLevel {
		return refuse(403, "SecondLevelDomainForbidden", "The bucket you are attempting to access must be addressed using OSS third level domain.", "")
	}
	if c.bucket != "" && !validBucket(c.bucket) {
		return invalidBucketName(c.bucket)
	}
	if c.key != "" {
		return checkKey(c.key)
	}
	return nil
}
