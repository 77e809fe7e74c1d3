package ossemu

import (
	"encoding/base64"
	"encoding/xml"
	"strconv"
)

type listResult struct {
	XMLName               xml.Name       `xml:"ListBucketResult"`
	Name                  string         `xml:"Name"`
	Prefix                string         `xml:"Prefix"`
	Marker                *string        `xml:"Marker"`
	StartAfter            string         `xml:"StartAfter,omitempty"`
	ContinuationToken     string         `xml:"ContinuationToken,omitempty"`
	MaxKeys               int            `xml:"MaxKeys"`
	Delimiter             string         `xml:"Delimiter"`
	EncodingType          string         `xml:"EncodingType,omitempty"`
	IsTruncated           bool           `xml:"IsTruncated"`
	NextMarker            string         `xml:"NextMarker,omitempty"`
	NextContinuationToken string         `xml:"NextContinuationToken,omitempty"`
	Contents              []listed       `xml:"Contents"`
	CommonPrefixes        []commonPrefix `xml:"CommonPrefixes"`
	KeyCount              *int           `xml:"KeyCount"`
}

type listed struct {
	Key          string
	LastModified string
	ETag         string
	Type         string
	Size         int64
	StorageClass string
	RestoreInfo  string `xml:"RestoreInfo,omitempty"`
	Owner        *owner `xml:"Owner"`
}

type commonPrefix struct {
	Prefix string
}

type owner struct {
	ID          string
	DisplayName string
}

// theOwner owns all buckets.
var theOwner = &owner{ID: "1000000000000000", DisplayName: "1000000000000000"}

// listing is what a request for a list of names asks.
type listing struct {
	prefix, delimiter, marker string
	limit                     int
}

const maxNames = 1000

func (c *call) readListing(limitName string, limit int, markerName string) (listing, error) {
	l := listing{prefix: c.query.get("prefix"), delimiter: c.query.get("delimiter"), marker: c.query.get(markerName), limit: limit}
	for _, name := range []string{"prefix", "delimiter", markerName} {
		if v := c.query.get(name); len(v) > maxKey {
			return l, invalidArgument(name, v, "The length of the argument must be less than 1024.")
		}
	}
	if v := c.query.get("encoding-type"); v != "" && v != "url" {
		return l, invalidArgument("encoding-type", v, "Invalid Encoding Method specified in Request.")
	}
	var err error
	l.limit, err = c.limit(limitName, limit)
	return l, err
}

// limit reads a parameter of 1 to 1000.
func (c *call) limit(name string, normal int) (int, error) {
	v := c.query.get(name)
	if v == "" {
		return normal, nil
	}
	n, ok := digits(v)
	if !ok || n < 1 || n > maxNames {
		return 0, invalidArgument(name, v, "The argument must be an integer between 1 and 1000.")
	}
	return int(n), nil
}

// page reads one page of the bucket's objects.
func (c *call) page(l listing) (p page[*object], err error) {
	err = c.s.store.view(func() error {
		b, err := c.s.store.bucketLocked(c.bucket)
		if err != nil {
			return err
		}
		if from, ok := startAfter(l.marker, l.prefix, l.delimiter); ok {
			same := func(s string) string { return s }
			p = scan(b.objects, b.objects.seek(from), same, same, l.prefix, l.delimiter, l.limit)
		}
		return nil
	})
	return p, err
}

// result is what both forms of the listing have in common.
func (c *call) result(l listing, p page[*object], withOwner bool) listResult {
	encode, encoding := c.encoding()
	r := listResult{
		Name: c.bucket, Prefix: encode(l.prefix), MaxKeys: l.limit, Delimiter: encode(l.delimiter),
		EncodingType: encoding, IsTruncated: p.truncated,
	}
	for _, o := range p.values {
		entry := listed{
			Key: encode(o.key), LastModified: xmlSeconds(o.modified), ETag: quote(o.etag),
			Type: o.kind, Size: o.size, StorageClass: o.class, RestoreInfo: o.restoreInfo(c.now()),
		}
		if withOwner {
			entry.Owner = theOwner
		}
		r.Contents = append(r.Contents, entry)
	}
	for _, name := range p.prefixes {
		r.CommonPrefixes = append(r.CommonPrefixes, commonPrefix{encode(name)})
	}
	return r
}

func (c *call) listObjects() (*answer, error) {
	l, err := c.readListing("max-keys", 100, "marker")
	if err != nil {
		return nil, err
	}
	p, err := c.page(l)
	if err != nil {
		return nil, err
	}
	r := c.result(l, p, true)
	encode, _ := c.encoding()
	marker := encode(l.marker)
	r.Marker = &marker
	if p.truncated {
		r.NextMarker = encode(p.last)
	}
	return &answer{status: 200, xml: r}, nil
}

func (c *call) listObjectsV2() (*answer, error) {
	if v := c.query.get("list-type"); v != "2" {
		return nil, invalidArgument("list-type", v, "The list-type must be 2.")
	}
	l, err := c.readListing("max-keys", 100, "start-after")
	if err != nil {
		return nil, err
	}
	token := c.query.get("continuation-token")
	if token != "" {
		if l.marker, err = readToken(token); err != nil {
			return nil, err
		}
	}
	p, err := c.page(l)
	if err != nil {
		return nil, err
	}
	r := c.result(l, p, c.query.get("fetch-owner") == "true")
	encode, _ := c.encoding()
	r.StartAfter, r.ContinuationToken = encode(c.query.get("start-after")), token
	if p.truncated {
		r.NextContinuationToken = makeToken(p.last)
	}
	count := len(p.values) + len(p.prefixes)
	r.KeyCount = &count
	return &answer{status: 200, xml: r}, nil
}

// A continuation token is the last thing of the page in base64 with an
// alphabet that survives query un-escaping, which the SDK applies to it, and
// a mark so that it is never empty and not taken for a key.
func makeToken(last string) string { return "C" + base64.RawURLEncoding.EncodeToString([]byte(last)) }

func readToken(token string) (string, error) {
	if token[0] == 'C' {
		if b, err := base64.RawURLEncoding.DecodeString(token[1:]); err == nil {
			return string(b), nil
		}
	}
	return "", invalidArgument("continuation-token", token, "The continuation token provided is incorrect.")
}

type listPartsResult struct {
	XMLName              xml.Name     `xml:"ListPartsResult"`
	EncodingType         string       `xml:"EncodingType,omitempty"`
	Bucket               string       `xml:"Bucket"`
	Key                  string       `xml:"Key"`
	UploadId             string       `xml:"UploadId"`
	StorageClass         string       `xml:"StorageClass"`
	PartNumberMarker     int          `xml:"PartNumberMarker"`
	NextPartNumberMarker int          `xml:"NextPartNumberMarker"`
	MaxParts             int          `xml:"MaxParts"`
	IsTruncated          bool         `xml:"IsTruncated"`
	Parts                []listedPart `xml:"Part"`
}

type listedPart struct {
	PartNumber    int
	LastModified  string
	ETag          string
	HashCrc64ecma string
	Size          int64
}

func (p *part) listed() listedPart {
	return listedPart{p.number, xmlSeconds(p.modified), quote(p.etag), strconv.FormatUint(p.crc, 10), p.size}
}
