package ossemu

import "strings"

// secretOf finds the secret of the key that signed, and checks the security
// token. A temporary key without its token is to OSS a key that does not exist.
func (c *call) secretOf(sig signature) (string, error) {
	token := sig.token
	if !sig.parameter {
		token = c.r.Header.Get("x-oss-security-token")
	}
	unknown := refuse(403, "InvalidAccessKeyId", "The OSS Access Key Id you provided does not exist in our records.", "0002-00000902",
		pair{"OSSAccessKeyId", sig.access})
	secret, known := c.s.o.Keys[sig.access]
	switch {
	case sig.access == "":
		return "", unknown
	case token != "":
		return c.temporary(sig.access, token)
	case !known:
		return "", unknown
	}
	return secret, nil
}

// temporary finds the secret that goes with a security token.
func (c *call) temporary(access, token string) (string, error) {
	t, known := c.s.tokens.find(token)
	switch {
	case !known:
		return "", refuse(403, "InvalidSecurityToken", "The security token you provided is invalid.", "")
	case t.AccessKeyID != access:
		return "", refuse(403, "AccessKeyIdAndSecurityTokenNotMatch", "The access key ID does not match the security token.", "")
	case !t.Expires.IsZero() && c.clock().After(t.Expires):
		return "", refuse(403, "SecurityTokenExpired", "The security token you provided has expired.", "")
	}
	return t.AccessKeySecret, nil
}

// What anybody may do to a bucket or an object that is public, by the ACL that
// it takes. What is not here is the owner's.
var (
	publicReads  = nameSet("GetObject HeadObject GetObjectMeta GetSymlink ListObjects ListObjectsV2")
	publicWrites = nameSet(`PutObject AppendObject CopyObject DeleteObject DeleteMultipleObjects PutSymlink
		InitiateMultipartUpload UploadPart UploadPartCopy CompleteMultipartUpload AbortMultipartUpload
		ListParts ListMultipartUploads`)
)

// anonymous says whether a request that is not signed may be made.
func (c *call) anonymous() error {
	denied := refuse(403, "AccessDenied", "Anonymous user has no right to access this "+c.noun()+".", "0003-00000001")
	writes := publicWrites[c.op.name]
	if !writes && !publicReads[c.op.name] {
		return denied
	}
	c.unsigned = true
	err := c.s.store.view(func() error {
		b, err := c.s.store.bucketLocked(c.bucket)
		if err != nil {
			return err
		}
		acl := b.acl
		if o, ok := b.objects.get(c.key); ok && o.acl != "" {
			acl = o.acl
		}
		if !grants(acl, writes) {
			return denied
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, p := range c.query {
		if strings.HasPrefix(p.name, "response-") {
			return refuse(400, "InvalidRequest", "Specific response headers cannot be used for anonymous GET requests.", "", pair{"ArgumentName", p.name})
		}
	}
	return nil
}

// grants reports whether acl lets anybody read, or write.
func grants(acl string, write bool) bool {
	return acl == "public-read-write" || acl == "public-read" && !write
}

// mayReadLocked says whether this request may read o, the source of a copy.
func (c *call) mayReadLocked(b *bucket, o *object) error {
	acl := b.acl
	if o.acl != "" {
		acl = o.acl
	}
	if c.unsigned && !grants(acl, false) {
		return refuse(403, "AccessDenied", "Anonymous user has no right to access this object.", "0003-00000001")
	}
	return nil
}

func (c *call) noun() string {
	if c.key != "" {
		return "object"
	}
	return "bucket"
}
