package ossemu

import "encoding/xml"

// There is no versioning: GetBucketVersioning says that it was never set, and
// every object has the one version "null", as in such a bucket of OSS.
const nullVersion = "null"

// checkVersion refuses every version but the one there is.
func checkVersion(id, key string) error {
	if id == nullVersion {
		return nil
	}
	return refuse(404, "NoSuchVersion", "The specified version does not exist.", "", pair{"Key", key}, pair{"VersionId", id})
}

type listVersionsResult struct {
	XMLName             xml.Name       `xml:"ListVersionsResult"`
	Name                string         `xml:"Name"`
	Prefix              string         `xml:"Prefix"`
	KeyMarker           string         `xml:"KeyMarker"`
	VersionIDMarker     string         `xml:"VersionIdMarker"`
	MaxKeys             int            `xml:"MaxKeys"`
	Delimiter           string         `xml:"Delimiter"`
	EncodingType        string         `xml:"EncodingType,omitempty"`
	IsTruncated         bool           `xml:"IsTruncated"`
	NextKeyMarker       string         `xml:"NextKeyMarker,omitempty"`
	NextVersionIDMarker string         `xml:"NextVersionIdMarker,omitempty"`
	Versions            []version      `xml:"Version"`
	CommonPrefixes      []commonPrefix `xml:"CommonPrefixes"`
}

type version struct {
	listed
	VersionID string `xml:"VersionId"`
	IsLatest  bool
}

// listVersions is listObjects with the form of ListObjectVersions.
func (c *call) listVersions() (*answer, error) {
	l, err := c.readListing("max-keys", 100, "key-marker")
	if err != nil {
		return nil, err
	}
	p, err := c.page(l)
	if err != nil {
		return nil, err
	}
	plain := c.result(l, p, true)
	encode, _ := c.encoding()
	r := listVersionsResult{
		Name: plain.Name, Prefix: plain.Prefix, KeyMarker: encode(l.marker), VersionIDMarker: c.query.get("version-id-marker"),
		MaxKeys: plain.MaxKeys, Delimiter: plain.Delimiter, EncodingType: plain.EncodingType,
		IsTruncated: plain.IsTruncated, CommonPrefixes: plain.CommonPrefixes,
	}
	for _, o := range plain.Contents {
		r.Versions = append(r.Versions, version{o, nullVersion, true})
	}
	if p.truncated {
		r.NextKeyMarker = encode(p.last)
		if n := len(p.values); n > 0 && p.values[n-1].key == p.last {
			r.NextVersionIDMarker = nullVersion
		}
	}
	return &answer{status: 200, xml: r}, nil
}
