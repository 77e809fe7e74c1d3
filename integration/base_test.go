package integration

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

// Somebody else replaces or removes the object that a pending change was made
// from: nothing is mixed, theirs stays, and what was changed here is kept and can
// be taken out.
func TestBaseThatIsGone(t *testing.T) {
	for _, s := range []struct {
		name string
		do   func(e *env)
		want string // what OSS holds then; "" nothing
	}{
		{"replaced", func(e *env) {
			e.ok(second(e.server.Fault("clock,by=-10s,op=PutObject,key=f,count=1"))) // what is written anew is later, whenever a second begins
			e.put("f", strings.NewReader("theirs"))
		}, "theirs"},
		{"removed", func(e *env) { e.ok(e.bucket().DeleteObject("f")) }, ""},
	} {
		for _, size := range []int{1 << 20, 24 << 20} {
			t.Run(fmt.Sprint(s.name, " of ", size>>20, " MiB"), func(t *testing.T) {
				t.Parallel()
				e := setup(t)
				old := strings.Repeat("0123456789abcdef", size/16)
				e.put("f", strings.NewReader(old))
				m := e.mount("cache", "--write-back-delay=1h", "--meta-ttl=1h")
				e.ok(patched(strings.Repeat("CHANGED ", 1250), 100, int64(size)/2)(m.in("f")))
				s.do(e)
				m.umount(4, "--drain=20s")
				m.start()
				if st := m.status().Queue; st.Parked != 1 {
					t.Fatalf("status: %+v", st)
				}
				if v := m.state("f"); !strings.HasPrefix(v, "parked: ") || !strings.Contains(v, "is gone") {
					t.Errorf("state: %q", v)
				}
				r := e.ossmount("recover", "list", m.Point)
				if r.Code != 0 || !strings.Contains(r.Out, "parked") || !strings.Contains(r.Out, "f") {
					t.Errorf("recover list: %v", r)
				}
				out := e.path("exported")
				r = e.ossmount("recover", "export", m.in("f"), out)
				if r.Code != 0 || !strings.Contains(r.Out, "bytes 100 to 10099") {
					t.Errorf("recover export: %v", r)
				}
				b, err := os.ReadFile(out)
				e.ok(err)
				if len(b) != size || string(b[100:107]) != "CHANGED" || string(b[size/2:size/2+7]) != "CHANGED" || b[0] != 0 {
					t.Errorf("exported are %d bytes, %q", len(b), b[96:112])
				}
				// Whoever reads where nothing is left is told, and gets no mixture; the
				// kernel reads whole pages.
				f := e.open(m.in("f"), os.O_RDONLY)
				p := make([]byte, 7)
				if _, err := f.ReadAt(p, 4100); err != nil || string(p) != "CHANGED" {
					t.Errorf("what was changed reads as %q, %v", p, err)
				}
				if _, err := f.ReadAt(p, 50_000); !errors.Is(err, syscall.ESTALE) {
					t.Errorf("what is gone reads as %q, %v", p, err)
				}
				e.ok(f.Close())
				if s.want != "" {
					e.object("f", s.want)
				}
				// Written anew it goes on.
				e.write(m.in("f"), "anew")
				m.umount(0, "--drain=20s")
				e.object("f", "anew")
			})
		}
	}
}

// Where all bytes are here, a base that is gone costs only that all are sent.
func TestBaseThatIsGoneAndCached(t *testing.T) {
	t.Parallel()
	e := setup(t)
	const size = 24 << 20
	old := strings.Repeat("0123456789abcdef", size/16)
	e.put("f", strings.NewReader(old))
	m := e.mount("cache", "--write-back-delay=1h", "--meta-ttl=1h", "--drain=30s")
	e.sh(`cat "$1" > /dev/null`, m.in("f"))
	e.ok(patched("CHANGED", 100)(m.in("f")))
	e.ok(e.bucket().DeleteObject("f"))
	m.umount(0)
	e.object("f", old[:100]+"CHANGED"+old[107:])
}

// A rewrite keeps what an object carries beside its bytes. covers H22
func TestRewritesKeepTagsAndACL(t *testing.T) {
	t.Parallel()
	e := setup(t)
	b := e.bucket()
	text := map[string]string{"small": "a few bytes", "big": strings.Repeat("0123456789abcdef", 1<<20)}
	tags := oss.Tagging{Tags: []oss.Tag{{Key: "team", Value: "a b+c"}, {Key: "class", Value: "1"}}}
	for key, v := range text {
		e.put(key, strings.NewReader(v), oss.Meta("color", "blue"), oss.CacheControl("max-age=60"), oss.ContentType("text/x-own"), oss.ObjectStorageClass(oss.StorageIA))
		e.ok(b.PutObjectTagging(key, tags))
		e.ok(b.SetObjectACL(key, oss.ACLPublicRead))
	}
	m := e.mount("cache", "--keep-acl", "--multipart-threshold=1MiB")
	same := func(what, key string) {
		t.Helper()
		m.wait(m.Point)
		got, err := b.GetObjectTagging(key)
		e.ok(err)
		held := map[string]string{}
		for _, tag := range got.Tags {
			held[tag.Key] = tag.Value
		}
		if len(held) != 2 || held["team"] != "a b+c" || held["class"] != "1" {
			t.Errorf("%s: %s has the tags %v", what, key, held)
		}
		acl, err := b.GetObjectACL(key)
		e.ok(err)
		if acl.ACL != string(oss.ACLPublicRead) {
			t.Errorf("%s: %s has the ACL %s", what, key, acl.ACL)
		}
		h, err := b.GetObjectDetailedMeta(key)
		e.ok(err)
		for name, want := range map[string]string{"X-Oss-Meta-Color": "blue", "Cache-Control": "max-age=60", "Content-Type": "text/x-own", "X-Oss-Storage-Class": "IA"} {
			if h.Get(name) != want {
				t.Errorf("%s: %s has %s: %q", what, key, name, h.Get(name))
			}
		}
	}
	for key := range text {
		e.ok(patched("XX", 3)(m.in(key)))
		same("changed", key)
		e.ok(os.Chmod(m.in(key), 0o600))
		same("given another mode", key)
		e.write(m.in(key), "written anew "+strings.Repeat("x", len(text[key])))
		same("written anew", key)
		e.ok(os.Rename(m.in(key), m.in(key+"2")))
		same("renamed", key+"2")
	}
	m.umount(0)
}

// OSS copies no appendable object: what was changed of one is sent with all the
// rest. covers H28
func TestChangesOfAppendableObjects(t *testing.T) {
	t.Parallel()
	e := setup(t)
	old := strings.Repeat("0123456789abcdef", 1<<20)
	_, err := e.bucket().AppendObject("f", strings.NewReader(old), 0)
	e.ok(err)
	m := e.mount("cache")
	e.ok(patched("CHANGED", 100)(m.in("f")))
	m.wait(m.in("f"))
	e.object("f", old[:100]+"CHANGED"+old[107:])
	m.umount(0)
}

// Readers on another machine see the old version or the new one, and nothing in
// between.
func TestOthersSeeOldOrNew(t *testing.T) {
	t.Parallel()
	e := setup(t, "--bandwidth=40000000")
	const size = 24 << 20
	old := strings.Repeat("a", size)
	e.put("f", strings.NewReader(old))
	m := e.mount("cache", "--part-size=1MiB")
	fresh := strings.Repeat("b", size)
	before, _ := harness.Sum(strings.NewReader(old))
	after, _ := harness.Sum(strings.NewReader(fresh))
	e.write(m.in("f"), fresh)
	e.poll("the new version", time.Minute, func() bool {
		sum, n, err := e.server.ObjectSum("f")
		e.ok(err)
		if sum != before && sum != after {
			t.Fatalf("OSS shows %d bytes that are neither version", n)
		}
		return sum == after
	})
	m.umount(0)
}

// ossmount runs the command.
func (e *env) ossmount(args ...string) harness.Result {
	e.Helper()
	r, err := harness.Run(e.soon(), nil, binary, args...)
	e.ok(err)
	return r
}

// state is what the mount says of a file.
func (m *mount) state(name string) string {
	m.e.Helper()
	v := make([]byte, 1024)
	n, err := unix.Lgetxattr(m.in(name), "user.ossmount.state", v)
	m.e.ok(err)
	return string(v[:n])
}
