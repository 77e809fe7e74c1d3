package ossemu

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// files is how many segment files there are.
func (r *rig) files() int {
	files, _ := filepath.Glob(filepath.Join(r.dir, "data", "*", "*"))
	return len(files)
}

func TestSmallBodiesShareAFileThatGoesWithTheLast(t *testing.T) {
	r := newRig(t)
	sizes := []int{1, 5, 4 << 10, packBody - 1, packBody}
	for i := range 50 {
		r.put(fmt.Sprint("k", i), pattern(i, sizes[i%len(sizes)]))
	}
	if n := r.files(); n > 3 {
		t.Errorf("%d files", n)
	}
	r.put("large", pattern(7, packBody+1))
	for i := range 50 {
		key, want := fmt.Sprint("k", i), pattern(i, sizes[i%len(sizes)])
		if got := r.get(key); !bytes.Equal(got, want) {
			t.Errorf("%s differs", key)
		}
		if len(want) > 5 {
			if got := r.get(key, oss.Range(2, 4)); !bytes.Equal(got, want[2:5]) {
				t.Errorf("three bytes of %s are %q", key, got)
			}
		}
	}
	for i := range 50 {
		if err := r.bucket(oss.AuthV4).DeleteObject(fmt.Sprint("k", i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.files(); n != 1 {
		t.Errorf("%d files are left for one large object", n)
	}
	r.put("again", []byte("again")) // the pack that was being filled is gone
	if got := r.get("again"); string(got) != "again" {
		t.Errorf("again is %q", got)
	}
}

// What was written before a crash and has no record is not visible, and is not
// written over: the file may still be that of others.
func TestASmallBodyWithoutARecordIsNothing(t *testing.T) {
	for _, neighbour := range []bool{false, true} {
		r := newRig(t)
		if neighbour {
			r.put("k", []byte("kept"))
		}
		if _, err := r.s.store.pack([]byte("lost")); err != nil {
			t.Fatal(err)
		}
		r.die()
		r.open(testOptions())
		if n := r.files(); n != 0 && !neighbour || n != 1 && neighbour {
			t.Errorf("%d files, a neighbour: %v", n, neighbour)
		}
		before, _ := filepath.Glob(filepath.Join(r.dir, "data", "*", "*"))
		var old []byte
		if neighbour {
			old, _ = os.ReadFile(before[0])
		}
		r.put("new", []byte("new"))
		if neighbour {
			if now, _ := os.ReadFile(before[0]); !bytes.Equal(now, old) {
				t.Errorf("the old pack was %q and is %q", old, now)
			}
			if got := r.get("k"); string(got) != "kept" {
				t.Errorf("k is %q", got)
			}
		}
		if got := r.get("new"); string(got) != "new" {
			t.Errorf("new is %q", got)
		}
	}
}

func TestARefusedSmallBodyLeavesNothing(t *testing.T) {
	r := newRig(t)
	r.put("k", []byte("old"))
	b := r.bucket(oss.AuthV4)
	for range 3 {
		wantCode(t, b.PutObject("k", strings.NewReader("new"), oss.ForbidOverWrite(true)), 409, "FileAlreadyExists")
		wantCode(t, b.PutObject("k", strings.NewReader("new"), oss.ContentMD5(md5Of([]byte("other")))), 400, "InvalidDigest")
	}
	if got := r.get("k"); string(got) != "old" {
		t.Errorf("k is %q", got)
	}
	if r.s.store.packs.live != 3 { // check, at the end, compares that with the log
		t.Errorf("%d bytes are held", r.s.store.packs.live)
	}
}

// TestPacksThatAreMostlyDeadAreEmptied overwrites and deletes until there is
// much more dead than alive, with everything that can name a range of a pack.
func TestPacksThatAreMostlyDeadAreEmptied(t *testing.T) {
	r := newRig(t)
	b := r.bucket(oss.AuthV4)
	r.s.store.packs.repackAt = 1 << 40 // not before all is in place
	dead := func(n int) {
		t.Helper()
		for i := range n {
			r.put(fmt.Sprint("churn", i%3), pattern(i, packBody))
		}
	}
	want := map[string][]byte{}
	put := func(key string, body []byte, options ...oss.Option) {
		t.Helper()
		r.put(key, body, options...)
		want[key] = body
	}
	put("plain", pattern(1, 3000), oss.Meta("a", "b"), oss.ContentType("text/x"))
	dead(20)
	if _, err := b.CopyObject("plain", "copy"); err != nil {
		t.Fatal(err)
	}
	want["copy"] = want["plain"]
	dead(20)
	if _, err := b.AppendObject("log", bytes.NewReader(pattern(2, 100)), 0); err != nil {
		t.Fatal(err)
	}
	dead(20)
	if _, err := b.AppendObject("log", bytes.NewReader(pattern(3, packBody+9)), 100); err != nil {
		t.Fatal(err)
	}
	if _, err := b.AppendObject("log", bytes.NewReader(pattern(4, 50)), 100+packBody+9); err != nil {
		t.Fatal(err)
	}
	want["log"] = append(append(pattern(2, 100), pattern(3, packBody+9)...), pattern(4, 50)...)
	dead(20)
	up, err := b.InitiateMultipartUpload("m")
	if err != nil {
		t.Fatal(err)
	}
	one, err := b.UploadPart(up, bytes.NewReader(pattern(5, minPart)), minPart, 1)
	if err != nil {
		t.Fatal(err)
	}
	two, err := b.UploadPart(up, strings.NewReader("end"), 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	copied, err := b.InitiateMultipartUpload("n")
	if err != nil {
		t.Fatal(err)
	}
	ranged, err := b.UploadPartCopy(copied, testBucket, "plain", 10, 20, 1)
	if err != nil {
		t.Fatal(err)
	}
	dead(20)
	st := r.s.store
	var body *segmentReader // a reader that has it open meanwhile
	st.view(func() error {
		o, err := st.objectLocked(testBucket, "plain")
		if err != nil {
			t.Fatal(err)
		}
		body = st.openLocked(o.segments)
		return nil
	})
	before := r.s.store.packs.size
	r.s.store.packs.repackAt = 0
	put("last", []byte("last"))
	files := r.files()
	if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, want["plain"]) {
		t.Errorf("%v, or the bytes of a reader differ", err)
	}
	body.Close()
	if now := r.files(); now != files-1 {
		t.Errorf("%d files, and %d when the reader is done", files, now)
	}
	if now := r.s.store.packs.size; now > before/4 {
		t.Errorf("%d bytes in packs, before %d", now, before)
	}
	for _, reopened := range []bool{false, true} {
		for key, body := range want {
			if got := r.get(key); !bytes.Equal(got, body) {
				t.Errorf("%s differs, reopened: %v", key, reopened)
			}
		}
		if h, err := b.GetObjectDetailedMeta("plain"); err != nil || h.Get("X-Oss-Meta-A") != "b" || h.Get("Content-Type") != "text/x" ||
			h.Get("ETag") != `"`+etagOf(want["plain"])+`"` {
			t.Error(h, err)
		}
		r.check()
		r.die()
		r.open(testOptions())
		b = r.bucket(oss.AuthV4)
	}
	if _, err := b.CompleteMultipartUpload(up, []oss.UploadPart{one, two}); err != nil {
		t.Fatal(err)
	}
	if got := r.get("m"); !bytes.Equal(got, append(pattern(5, minPart), "end"...)) {
		t.Error("the parts differ")
	}
	if _, err := b.CompleteMultipartUpload(copied, []oss.UploadPart{ranged}); err != nil {
		t.Fatal(err)
	}
	if got := r.get("n"); !bytes.Equal(got, want["plain"][10:30]) {
		t.Error("the part that was copied differs")
	}
}

// With Sync nothing may depend on bytes that are only in memory, and packs are
// never flushed: what is in them already stays where it is.
func TestPacksStayWhereTheyAreWithSync(t *testing.T) {
	r := newRig(t)
	r.s.store.packs.repackAt = 1 << 40
	r.put("k", []byte("kept"))
	for i := range 20 {
		r.put("churn", pattern(i, packBody))
	}
	at := r.places("k")
	r.die()
	o := testOptions()
	o.Sync = true
	r.open(o)
	r.s.store.packs.repackAt = 0
	r.put("other", []byte("other"))
	if now := r.places("k"); !slices.Equal(now, at) {
		t.Errorf("k was at %v and is at %v", at, now)
	}
}

// A pack that cannot be read stays, with all that names it; it does not fail
// the change that found it.
func TestAPackThatCannotBeReadStays(t *testing.T) {
	r := newRig(t)
	r.s.store.packs.repackAt = 1 << 40
	r.put("k", []byte("kept"))
	for i := range 20 {
		r.put("churn", pattern(i, packBody))
	}
	path := r.s.store.segmentPath(packBase)
	if err := os.Rename(path, path+"x"); err != nil {
		t.Fatal(err)
	}
	r.s.store.packs.repackAt = 0
	r.put("other", []byte("other"))
	if r.s.store.packs.retryAt == 0 {
		t.Error("it will be tried again with every change")
	}
	if err := os.Rename(path+"x", path); err != nil {
		t.Fatal(err)
	}
	if got := r.get("k"); string(got) != "kept" {
		t.Errorf("k is %q", got)
	}
	r.s.store.packs.retryAt = 0
	r.put("other", []byte("another"))
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("it was not emptied", err)
	}
	if got := r.get("k"); string(got) != "kept" {
		t.Errorf("k is %q after it was moved", got)
	}
}

// A reader keeps packs that no object names; they cannot be emptied, and are not
// looked for with every change.
func TestPacksThatAReaderHoldsAreNotTriedAgainAtOnce(t *testing.T) {
	r := newRig(t)
	st := r.s.store
	r.put("k", []byte("read"))
	var body *segmentReader
	st.view(func() error {
		o, _ := st.objectLocked(testBucket, "k")
		body = st.openLocked(o.segments)
		return nil
	})
	for i := range 20 {
		r.put("churn", pattern(i, packBody))
	}
	if err := r.bucket(oss.AuthV4).DeleteObject("k"); err != nil {
		t.Fatal(err)
	}
	st.packs.repackAt = 0
	r.put("other", []byte("other")) // what lives is moved
	if st.packs.retryAt != 0 {
		t.Error("something was moved, and it will not be tried again")
	}
	r.put("other", []byte("other")) // nothing but what is held is left
	if st.packs.retryAt == 0 {
		t.Error("it will be tried again with every change")
	}
	if got, err := io.ReadAll(body); err != nil || string(got) != "read" {
		t.Errorf("%q %v", got, err)
	}
	body.Close()
}
