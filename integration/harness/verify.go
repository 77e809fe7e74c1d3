package harness

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// Client is a client of the server's bucket that owes nothing to the product;
// its requests are signed by V4.
func (s *Server) Client() (*oss.Bucket, error) {
	c, err := oss.New(s.URL, KeyID, Secret, oss.AuthVersion(oss.AuthV4), oss.Region(Region), oss.ForcePathStyle(true))
	if err != nil {
		return nil, err
	}
	return c.Bucket(Bucket)
}

// Keys lists the bucket beneath prefix.
func (s *Server) Keys(prefix string) ([]string, error) {
	b, err := s.Client()
	if err != nil {
		return nil, err
	}
	var keys []string
	token := ""
	for {
		opts := []oss.Option{oss.Prefix(prefix), oss.MaxKeys(1000)}
		if token != "" {
			opts = append(opts, oss.ContinuationToken(token))
		}
		page, err := b.ListObjectsV2(opts...)
		if err != nil {
			return nil, err
		}
		for _, o := range page.Objects {
			keys = append(keys, o.Key)
		}
		if !page.IsTruncated {
			return keys, nil
		}
		token = page.NextContinuationToken
	}
}

// ObjectSum downloads an object and returns its SHA-256 and size.
func (s *Server) ObjectSum(key string) (sum string, size int64, err error) {
	b, err := s.Client()
	if err != nil {
		return "", 0, err
	}
	body, err := b.GetObject(key)
	if err != nil {
		return "", 0, err
	}
	defer body.Close()
	counted := &counter{r: body}
	sum, err = Sum(counted)
	return sum, counted.n, err
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// Verified is what Verify has compared.
type Verified struct {
	Objects int
	Bytes   int64
}

// Verify downloads every object beneath prefix and compares it with the source
// tree: each file, directory and symlink has its object, and no other is
// there. It returns all differences as one error.
func (s *Server) Verify(prefix, source string) (v Verified, err error) {
	tree, err := Snapshot(source)
	if err != nil {
		return v, err
	}
	keys, err := s.Keys(prefix)
	if err != nil {
		return v, err
	}
	var wrong []error
	for _, key := range keys {
		name := strings.TrimSuffix(strings.TrimPrefix(key, prefix), "/")
		if name == "" {
			continue // the directory of the mount itself
		}
		e, ok := tree[name]
		if !ok || e.Mode.IsDir() != strings.HasSuffix(key, "/") {
			wrong = append(wrong, fmt.Errorf("object %q has no source", key))
			continue
		}
		delete(tree, name)
		sum, size, err := s.ObjectSum(key)
		switch {
		case err != nil:
			err = fmt.Errorf("object %q: %w", key, err)
		case sum != wantSum(e):
			err = fmt.Errorf("object %q: %d bytes %.12s, its source has %d bytes %.12s", key, size, sum, e.Size, wantSum(e))
		}
		wrong = append(wrong, err)
		v.Objects++
		v.Bytes += size
	}
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		wrong = append(wrong, fmt.Errorf("%q has no object", name))
	}
	return v, errors.Join(wrong...)
}

func wantSum(e Entry) string {
	switch {
	case e.Mode&fs.ModeSymlink != 0:
		sum, _ := Sum(strings.NewReader(e.Target))
		return sum
	case e.Mode.IsDir():
		sum, _ := Sum(strings.NewReader(""))
		return sum
	}
	return e.Sum
}
