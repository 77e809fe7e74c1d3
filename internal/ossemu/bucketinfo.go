package ossemu

import (
	"cmp"
	"encoding/xml"
)

type listBucketsResult struct {
	XMLName     xml.Name       `xml:"ListAllMyBucketsResult"`
	Prefix      string         `xml:"Prefix,omitempty"`
	Marker      string         `xml:"Marker,omitempty"`
	MaxKeys     int            `xml:"MaxKeys,omitempty"`
	IsTruncated bool           `xml:"IsTruncated,omitempty"`
	NextMarker  string         `xml:"NextMarker,omitempty"`
	Owner       owner          `xml:"Owner"`
	Buckets     []listedBucket `xml:"Buckets>Bucket"`
}

type listedBucket struct {
	CreationDate     string
	ExtranetEndpoint string
	IntranetEndpoint string
	Location         string
	Name             string
	Region           string
	StorageClass     string
}

type bucketInfoResult struct {
	XMLName xml.Name `xml:"BucketInfo"`
	Bucket  struct {
		AccessMonitor          string
		CreationDate           string
		ExtranetEndpoint       string
		IntranetEndpoint       string
		Location               string
		StorageClass           string
		DataRedundancyType     string
		TransferAcceleration   string
		CrossRegionReplication string
		Name                   string
		Owner                  owner
		Grant                  string `xml:"AccessControlList>Grant"`
		SSEAlgorithm           string `xml:"ServerSideEncryptionRule>SSEAlgorithm"`
	}
}

type aclResult struct {
	XMLName xml.Name `xml:"AccessControlPolicy"`
	Owner   owner
	Grant   string `xml:"AccessControlList>Grant"`
}

type bucketStat struct {
	XMLName              xml.Name `xml:"BucketStat"`
	Storage              int64
	ObjectCount          int64
	MultipartUploadCount int64
	LiveChannelCount     int64
	LastModifiedTime     int64
	StandardStorage      int64
	StandardObjectCount  int64
	MultipartPartCount   int64
}

// info is what PutBucket set of the bucket.
func (c *call) info() (info bucketInfo, err error) {
	err = c.s.store.view(func() error {
		b, err := c.s.store.bucketLocked(c.bucket)
		if err == nil {
			info = b.bucketInfo
		}
		return err
	})
	return info, err
}

func (c *call) getBucketInfo() (*answer, error) {
	info, err := c.info()
	if err != nil {
		return nil, err
	}
	var r bucketInfoResult
	r.Bucket.AccessMonitor, r.Bucket.TransferAcceleration, r.Bucket.CrossRegionReplication = "Disabled", "Disabled", "Disabled"
	r.Bucket.CreationDate = xmlSeconds(info.created)
	r.Bucket.ExtranetEndpoint, r.Bucket.IntranetEndpoint = c.r.Host, c.r.Host
	r.Bucket.Location, r.Bucket.StorageClass, r.Bucket.DataRedundancyType = c.location(), info.class, cmp.Or(info.copies, redundancyLRS)
	r.Bucket.Name, r.Bucket.Owner, r.Bucket.Grant, r.Bucket.SSEAlgorithm = info.name, *theOwner, info.acl, "None"
	return &answer{status: 200, xml: r}, nil
}

func (c *call) getBucketLocation() (*answer, error) {
	if _, err := c.info(); err != nil {
		return nil, err
	}
	return &answer{status: 200, xml: struct {
		XMLName xml.Name `xml:"LocationConstraint"`
		Value   string   `xml:",chardata"`
	}{Value: c.location()}}, nil
}

func (c *call) getBucketACL() (*answer, error) {
	info, err := c.info()
	if err != nil {
		return nil, err
	}
	return &answer{status: 200, xml: aclResult{Owner: *theOwner, Grant: info.acl}}, nil
}

func (c *call) getBucketStat() (*answer, error) {
	var r bucketStat
	err := c.s.store.view(func() error {
		b, err := c.s.store.bucketLocked(c.bucket)
		if err != nil {
			return err
		}
		r = bucketStat{
			Storage: b.bytes, ObjectCount: int64(b.objects.size), MultipartUploadCount: int64(b.uploads.size),
			LastModifiedTime: c.now(), StandardStorage: b.bytes, StandardObjectCount: int64(b.objects.size),
			MultipartPartCount: int64(b.parts),
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &answer{status: 200, xml: r}, nil
}

// getBucketVersioning says that versioning was never set; there is none.
func (c *call) getBucketVersioning() (*answer, error) {
	if _, err := c.info(); err != nil {
		return nil, err
	}
	return &answer{status: 200, xml: struct {
		XMLName xml.Name `xml:"VersioningConfiguration"`
	}{}}, nil
}

// listLiveChannels says that there are none; the SDK's tests ask before they
// delete a bucket.
func (c *call) listLiveChannels() (*answer, error) {
	if _, err := c.info(); err != nil {
		return nil, err
	}
	return &answer{status: 200, xml: struct {
		XMLName     xml.Name `xml:"ListLiveChannelResult"`
		Prefix      string
		Marker      string
		MaxKeys     int
		IsTruncated bool
		NextMarker  string
	}{MaxKeys: 100}}, nil
}
