package ossemu

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// moved is a directory of small objects that is renamed again and again, each
// time to a name that was never used: from which a reader can tell that an
// object was there all the time while it looked.
type moved struct {
	*testing.T
	b    *oss.Bucket
	at   []atomic.Int64 // in which directory each object surely is
	done chan struct{}
}

func (m *moved) key(dir int64, i int) string { return fmt.Sprintf("%03d/%04d", dir, i) }
func (m *moved) body(i int) []byte           { return pattern(i, 100+i*13%3000) }

// TestNothingIsMissedWhileADirectoryIsRenamed does to small objects what a mount
// does when it renames a directory: copies of all, then deletes of the sources.
// Their packs are emptied all the while. Nobody who looks meanwhile may miss an
// object that has been copied and whose new name nobody has deleted.
func TestNothingIsMissedWhileADirectoryIsRenamed(t *testing.T) {
	const objects, renames, workers = 300, 6, 4
	r := newRig(t)
	r.s.store.packs.repackAt = 1 << 40 // not before all is in place
	m := &moved{T: t, b: r.bucket(oss.AuthV4), at: make([]atomic.Int64, objects), done: make(chan struct{})}
	for i := range objects {
		r.put(m.key(0, i), m.body(i))
		if i%5 == 0 { // each pack holds something that is soon dead
			r.put(fmt.Sprint("churn", i%3), pattern(i, packBody))
		}
	}
	first := r.places(m.key(0, 0))
	r.s.store.packs.repackAt = 256 << 10
	var lookers sync.WaitGroup
	for _, look := range []func(*oss.Bucket) error{m.heads, m.gets, m.lists, m.folds, m.churn} {
		lookers.Go(func() {
			b := r.bucket(oss.AuthV4)
			for {
				select {
				case <-m.done:
					return
				default:
				}
				if err := look(b); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for dir := range int64(renames) {
		var copiers sync.WaitGroup
		for worker := range workers {
			copiers.Go(func() { m.rename(dir, worker, workers) })
		}
		copiers.Wait()
	}
	close(m.done)
	lookers.Wait()
	if slices.Equal(first, r.places(m.key(renames, 0))) {
		t.Error("the packs were not emptied")
	}
	for _, reopened := range []bool{false, true} {
		if err := m.lists(r.bucket(oss.AuthV4)); err != nil {
			t.Errorf("at the end: %v, reopened: %v", err, reopened)
		}
		for i := range objects {
			if got := r.get(m.key(renames, i)); !bytes.Equal(got, m.body(i)) {
				t.Errorf("object %d differs, reopened: %v", i, reopened)
			}
		}
		r.die()
		r.open(testOptions())
	}
}

// places is where the bytes of an object are.
func (r *rig) places(key string) (places []segment) {
	r.t.Helper()
	r.s.store.view(func() error {
		o, err := r.s.store.objectLocked(testBucket, key)
		if err != nil {
			r.t.Fatal(err)
		}
		places = o.segments
		return nil
	})
	return places
}

// rename moves every n-th object from dir to the next one.
func (m *moved) rename(dir int64, from, n int) {
	var sources []string
	remove := func() {
		if _, err := m.b.DeleteObjects(sources, oss.DeleteObjectsQuiet(true)); err != nil {
			m.Error(err)
		}
		sources = sources[:0]
	}
	for i := from; i < len(m.at); i += n {
		if _, err := m.b.CopyObject(m.key(dir, i), m.key(dir+1, i)); err != nil {
			m.Errorf("copy %s: %v", m.key(dir, i), err)
		}
		m.at[i].Store(dir + 1)
		if sources = append(sources, m.key(dir, i)); len(sources) == 20 {
			remove()
		}
	}
	if len(sources) > 0 {
		remove()
	}
}

// stayed reports whether object i was in dir all the time: it was before the
// look, and nobody has begun to delete it there since.
func (m *moved) stayed(i int, dir int64) bool { return m.at[i].Load() == dir }

func (m *moved) heads(b *oss.Bucket) error {
	for i := range m.at {
		dir := m.at[i].Load()
		if _, err := b.GetObjectDetailedMeta(m.key(dir, i)); err != nil && m.stayed(i, dir) {
			return fmt.Errorf("head %s: %w", m.key(dir, i), err)
		}
	}
	return nil
}

func (m *moved) gets(b *oss.Bucket) error {
	for i := range m.at {
		dir := m.at[i].Load()
		body, err := b.GetObject(m.key(dir, i))
		if err != nil {
			if m.stayed(i, dir) {
				return fmt.Errorf("get %s: %w", m.key(dir, i), err)
			}
			continue
		}
		got, err := io.ReadAll(body)
		body.Close()
		if err != nil || !bytes.Equal(got, m.body(i)) {
			return fmt.Errorf("%s has other bytes, or %v", m.key(dir, i), err)
		}
	}
	return nil
}

// lists reads all names of the bucket, page by page.
func (m *moved) lists(b *oss.Bucket) error {
	return m.missing(func(there map[string]bool) error { return m.pages(b, there) })
}

// folds reads the names of one directory after the other, as they are listed.
func (m *moved) folds(b *oss.Bucket) error {
	return m.missing(func(there map[string]bool) error {
		dirs, err := b.ListObjectsV2(oss.Delimiter("/"))
		if err != nil {
			return err
		}
		for _, dir := range dirs.CommonPrefixes {
			if err := m.pages(b, there, oss.Prefix(dir), oss.Delimiter("/")); err != nil {
				return err
			}
		}
		return nil
	})
}

func (m *moved) pages(b *oss.Bucket, there map[string]bool, options ...oss.Option) error {
	token := ""
	for {
		page, err := b.ListObjectsV2(append(options, oss.MaxKeys(37), oss.ContinuationToken(token))...)
		if err != nil {
			return err
		}
		for _, o := range page.Objects {
			there[o.Key] = true
		}
		if token = page.NextContinuationToken; !page.IsTruncated {
			return nil
		}
	}
}

// missing looks for what was there before and after list.
func (m *moved) missing(list func(there map[string]bool) error) error {
	before, there := make([]int64, len(m.at)), map[string]bool{}
	for i := range m.at {
		before[i] = m.at[i].Load()
	}
	if err := list(there); err != nil {
		return err
	}
	for i, dir := range before {
		if key := m.key(dir, i); !there[key] && m.stayed(i, dir) {
			return fmt.Errorf("%s was not listed", key)
		}
	}
	return nil
}

// churn makes packs that are mostly dead.
func (m *moved) churn(b *oss.Bucket) error {
	for i := range 20 {
		if err := b.PutObject(fmt.Sprint("churn", i%3), bytes.NewReader(pattern(i, packBody))); err != nil {
			return err
		}
	}
	return nil
}
