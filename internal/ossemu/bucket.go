package ossemu

import (
	"encoding/xml"
	"maps"
	"slices"
	"strings"
)

func (st *store) bucketNamesLocked() []string { return slices.Sorted(maps.Keys(st.buckets)) }

func (c *call) region() string {
	if c.s.o.Region != "" {
		return c.s.o.Region
	}
	return "cn-hangzhou"
}

// location is the region as OSS names it in answers.
func (c *call) location() string { return "oss-" + c.region() }

const (
	maxBuckets    = 100
	redundancyLRS = "LRS" // the bucket's data is in one zone; ZRS: in several
)

type createBucket struct {
	StorageClass       string
	DataRedundancyType string
}

// wholeBucket refuses a parameter without a value, which makes another operation
// of a request: one of those that came to OSS later must not make or remove a
// bucket.
func (c *call) wholeBucket() error {
	for _, p := range c.query {
		if p.value == "" {
			return notImplemented(p.name)
		}
	}
	return nil
}

func (c *call) putBucket() (*answer, error) {
	if err := c.wholeBucket(); err != nil {
		return nil, err
	}
	info := bucketInfo{name: c.bucket, created: c.now(), class: classStandard, acl: aclPrivate}
	if v := c.r.Header.Get("x-oss-acl"); v != "" {
		info.acl = v
	}
	if !slices.Contains(bucketACLs, info.acl) {
		return nil, invalidArgument("x-oss-acl", info.acl, "no such bucket access control exists")
	}
	if c.r.ContentLength != 0 {
		body, err := c.readSmall(64<<10, malformedXML(""))
		if err != nil {
			return nil, err
		}
		var v createBucket
		if len(body) > 0 && xml.Unmarshal(body, &v) != nil {
			return nil, malformedXML("")
		}
		if v.StorageClass != "" {
			info.class = v.StorageClass
		}
		if info.copies = v.DataRedundancyType; info.copies == redundancyLRS {
			info.copies = ""
		}
		if info.copies != "" && info.copies != "ZRS" {
			return nil, invalidArgument("DataRedundancyType", info.copies, "The data redundancy type you specified is invalid.")
		}
		if !slices.Contains(storageClasses, info.class) {
			return nil, invalidArgument("StorageClass", info.class, "The storage class you specified is invalid.")
		}
	}
	err := c.s.store.change(func() (record, error) {
		if b := c.s.store.buckets[c.bucket]; b != nil {
			if b.class != info.class || b.copies != info.copies {
				return record{}, refuse(409, "BucketAlreadyExists", "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again.", "0015-00000104", pair{"BucketName", c.bucket})
			}
			info.created = b.created
			if c.r.Header.Get("x-oss-acl") == "" {
				info.acl = b.acl
			}
		} else if len(c.s.store.buckets) >= maxBuckets {
			return record{}, refuse(400, "TooManyBuckets", "You have attempted to create more buckets than allowed.", "")
		}
		return record{kind: recBucket, info: info}, nil
	})
	if err != nil {
		return nil, err
	}
	out := &answer{status: 200}
	out.set("Location", "/"+c.bucket)
	return out, nil
}

func (c *call) deleteBucket() (*answer, error) {
	if err := c.wholeBucket(); err != nil {
		return nil, err
	}
	err := c.s.store.change(func() (record, error) {
		b, err := c.s.store.bucketLocked(c.bucket)
		if err != nil {
			return record{}, err
		}
		if b.objects.size+b.uploads.size > 0 {
			return record{}, refuse(409, "BucketNotEmpty", "The bucket has objects. Please delete them first.", "0015-00000301", pair{"BucketName", c.bucket})
		}
		return record{kind: recNoBucket, bucket: c.bucket}, nil
	})
	if err != nil {
		return nil, err
	}
	return &answer{status: 204}, nil
}

func (c *call) putBucketACL() (*answer, error) {
	acl := c.r.Header.Get("x-oss-acl")
	if !slices.Contains(bucketACLs, acl) {
		return nil, invalidArgument("x-oss-acl", acl, "no such bucket access control exists")
	}
	err := c.s.store.change(func() (record, error) {
		b, err := c.s.store.bucketLocked(c.bucket)
		if err != nil {
			return record{}, err
		}
		info := b.bucketInfo
		info.acl = acl
		return record{kind: recBucket, info: info}, nil
	})
	if err != nil {
		return nil, err
	}
	return &answer{status: 200}, nil
}

// listBuckets pages over the buckets; what is only said of a further page is
// absent when there is none.
func (c *call) listBuckets() (*answer, error) {
	limit, err := c.limit("max-keys", 100)
	if err != nil {
		return nil, err
	}
	prefix, marker := c.query.get("prefix"), c.query.get("marker")
	if strings.ContainsFunc(prefix, notLowerName) {
		return nil, invalidArgument("prefix", prefix, "The prefix is not that of a bucket name.")
	}
	r := listBucketsResult{Owner: *theOwner}
	c.s.store.view(func() error {
		for _, name := range c.s.store.bucketNamesLocked() {
			if name <= marker || !strings.HasPrefix(name, prefix) {
				continue
			}
			if len(r.Buckets) == limit {
				r.Prefix, r.Marker, r.MaxKeys, r.IsTruncated = prefix, marker, limit, true
				r.NextMarker = r.Buckets[limit-1].Name
				break
			}
			b := c.s.store.buckets[name]
			r.Buckets = append(r.Buckets, listedBucket{
				CreationDate: xmlSeconds(b.created), ExtranetEndpoint: c.r.Host, IntranetEndpoint: c.r.Host,
				Location: c.location(), Name: name, Region: c.region(), StorageClass: b.class,
			})
		}
		return nil
	})
	return &answer{status: 200, xml: r}, nil
}
