package ossemu

import "encoding/xml"

// tagging is both the body of PutObjectTagging and the answer to
// GetObjectTagging.
type tagging struct {
	XMLName xml.Name `xml:"Tagging"`
	Tags    []tag    `xml:"TagSet>Tag"`
}

type tag struct {
	Key   string
	Value string
}

// alter puts a changed copy of the object in its place; bytes and
// Last-Modified stay.
func (c *call) alter(change func(*object)) error {
	return c.alterIf(func(o *object) error { change(o); return nil })
}

// alterIf is alter with a change that may refuse.
func (c *call) alterIf(change func(*object) error) error {
	return c.s.store.change(func() (record, error) {
		old, err := c.s.store.objectLocked(c.bucket, c.key)
		if err != nil {
			return record{}, err
		}
		o := *old
		if err := change(&o); err != nil {
			return record{}, err
		}
		return record{kind: recPut, bucket: c.bucket, object: &o}, nil
	})
}

func (c *call) getObjectACL() (*answer, error) {
	o, err := c.object()
	if err != nil {
		return nil, err
	}
	grant := o.acl
	if grant == "" {
		grant = aclDefault
	}
	return &answer{status: 200, xml: aclResult{Owner: *theOwner, Grant: grant}}, nil
}

func (c *call) putObjectACL() (*answer, error) {
	if c.r.Header.Get("x-oss-object-acl") == "" {
		return nil, invalidArgument("x-oss-object-acl", "", "The object ACL is missing.")
	}
	acl, err := objectACL(c.r.Header)
	if err != nil {
		return nil, err
	}
	if err := c.alter(func(o *object) { o.acl = acl }); err != nil {
		return nil, err
	}
	return &answer{status: 200}, nil
}

func (c *call) getTagging() (*answer, error) {
	o, err := c.object()
	if err != nil {
		return nil, err
	}
	var r tagging
	for _, t := range o.tags {
		r.Tags = append(r.Tags, tag{t.name, t.value})
	}
	return &answer{status: 200, xml: r}, nil
}

func (c *call) putTagging() (*answer, error) {
	body, err := c.readSmall(64<<10, malformedXML(""))
	if err != nil {
		return nil, err
	}
	var request tagging
	if xml.Unmarshal(body, &request) != nil {
		return nil, malformedXML("")
	}
	var tags []pair
	for _, t := range request.Tags {
		tags = append(tags, pair{t.Key, t.Value})
	}
	if err := checkTags(tags); err != nil {
		return nil, err
	}
	if err := c.alter(func(o *object) { o.tags = tags }); err != nil {
		return nil, err
	}
	return &answer{status: 200}, nil
}

func (c *call) deleteTagging() (*answer, error) {
	if err := c.alter(func(o *object) { o.tags = nil }); err != nil {
		return nil, err
	}
	return &answer{status: 204}, nil
}
