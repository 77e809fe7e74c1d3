package ossemu

import (
	"encoding/xml"
	"maps"
	"slices"
)

func (c *call) listParts() (*answer, error) {
	limit, err := c.limit("max-parts", maxNames)
	if err != nil {
		return nil, err
	}
	marker := int64(0)
	if v := c.query.get("part-number-marker"); v != "" {
		var ok bool
		if marker, ok = digits(v); !ok {
			return nil, invalidArgument("part-number-marker", v, "The part number marker must be an integer.")
		}
	}
	encode, encoding := c.encoding()
	id := c.uploadID()
	r := listPartsResult{
		EncodingType: encoding, Bucket: c.bucket, Key: encode(c.key), UploadId: id.id,
		PartNumberMarker: int(marker), NextPartNumberMarker: int(marker), MaxParts: limit,
	}
	err = c.s.store.view(func() error {
		u, err := c.s.store.uploadLocked(c.bucket, id)
		if err != nil {
			return err
		}
		r.StorageClass = u.class
		for _, number := range slices.Sorted(maps.Keys(u.parts)) {
			if int64(number) <= marker {
				continue
			}
			if len(r.Parts) == limit {
				r.IsTruncated = true
				break
			}
			r.Parts = append(r.Parts, u.parts[number].listed())
			r.NextPartNumberMarker = number
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &answer{status: 200, xml: r}, nil
}

type listUploadsResult struct {
	XMLName            xml.Name       `xml:"ListMultipartUploadsResult"`
	EncodingType       string         `xml:"EncodingType,omitempty"`
	Bucket             string         `xml:"Bucket"`
	KeyMarker          string         `xml:"KeyMarker"`
	UploadIdMarker     string         `xml:"UploadIdMarker"`
	NextKeyMarker      string         `xml:"NextKeyMarker"`
	NextUploadIdMarker string         `xml:"NextUploadIdMarker"`
	Delimiter          string         `xml:"Delimiter"`
	Prefix             string         `xml:"Prefix"`
	MaxUploads         int            `xml:"MaxUploads"`
	IsTruncated        bool           `xml:"IsTruncated"`
	Uploads            []listedUpload `xml:"Upload"`
	CommonPrefixes     []commonPrefix `xml:"CommonPrefixes"`
}

type listedUpload struct {
	Key          string
	UploadId     string
	StorageClass string
	Initiated    string
}

func (c *call) listUploads() (*answer, error) {
	l, err := c.readListing("max-uploads", maxNames, "key-marker")
	if err != nil {
		return nil, err
	}
	// Without a key marker the upload ID marker does not count.
	idMarker := ""
	if l.marker != "" {
		idMarker = c.query.get("upload-id-marker")
	}
	var p page[*upload]
	err = c.s.store.view(func() error {
		b, err := c.s.store.bucketLocked(c.bucket)
		if err != nil {
			return err
		}
		if from, ok := uploadStart(l, idMarker); ok {
			p = scan(b.uploads, b.uploads.seek(from), func(k uploadKey) string { return k.key },
				func(s string) uploadKey { return uploadKey{key: s} }, l.prefix, l.delimiter, l.limit)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	encode, encoding := c.encoding()
	r := listUploadsResult{
		EncodingType: encoding, Bucket: c.bucket, KeyMarker: encode(l.marker), UploadIdMarker: c.query.get("upload-id-marker"),
		Delimiter: encode(l.delimiter), Prefix: encode(l.prefix), MaxUploads: l.limit, IsTruncated: p.truncated,
	}
	for _, u := range p.values {
		r.Uploads = append(r.Uploads, listedUpload{encode(u.key), u.id, u.class, xmlSeconds(u.started)})
	}
	for _, name := range p.prefixes {
		r.CommonPrefixes = append(r.CommonPrefixes, commonPrefix{encode(name)})
	}
	if p.truncated {
		r.NextKeyMarker = encode(p.last)
		if n := len(p.values); n > 0 && p.values[n-1].key == p.last {
			r.NextUploadIdMarker = p.values[n-1].id
		}
	}
	return &answer{status: 200, xml: r}, nil
}

// uploadStart is the first upload that may be on the page. With both markers
// the other uploads of the marker's key follow too.
func uploadStart(l listing, idMarker string) (uploadKey, bool) {
	if idMarker != "" && l.marker >= l.prefix {
		return uploadKey{l.marker, idMarker + "\x00"}, true
	}
	from, ok := startAfter(l.marker, l.prefix, l.delimiter)
	return uploadKey{key: from}, ok
}
