package integration

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossmount/ossmount/integration/harness"
)

// notUsed are the operations of the server that a mount has no use for, or that
// other tests are about.
var notUsed = map[string]string{
	"Unknown": "no operation", "NotImplemented": "no operation",
	"ListBuckets": "a mount knows its bucket", "PutBucket": "a mount makes no bucket", "DeleteBucket": "nor deletes one",
	"GetBucketLocation": "the endpoint is given", "GetBucketAcl": "not looked at", "PutBucketAcl": "not changed",
	"GetBucketStat": "not looked at", "GetBucketVersioning": "GetBucketInfo tells", "ListLiveChannel": "no files",
	"ListObjectVersions": "old versions are not shown", "ListObjects": "ListObjectsV2 is used",
	"PutObjectACL": "sent with the object", "PutObjectTagging": "sent with the object", "DeleteObjectTagging": "sent with the object",
	"AppendObject": "objects are replaced as a whole", "PutSymlink": "symlinks are objects", "RestoreObject": "left to the user",
	"GetObjectMeta": "HeadObject tells more",
	"GetBucketInfo": "at the mount only, which goes on without an answer (TestBucketThatCannotBeAskedAbout)",
}

// passing is a fault that hits the first requests of each operation.
type passing struct {
	spec string // without op and count
	// weak: somebody else writes, or seems to: our bytes may stand beside theirs.
	weak bool
	only string // the operations that it is for; empty: all
	why  string // why not for all
}

// passingFaults makes faults of all kinds that the server has.
func passingFaults(k harness.FaultKinds) (list []passing) {
	fields := map[string]string{"delay": ",for=300ms", "late": ",for=300ms", "error": ",code=InternalError", "slow": ",rate=300000", "clock": ",by=20m"}
	for _, do := range slices.Sorted(maps.Keys(k.Do)) {
		for _, at := range k.Do[do] {
			p := passing{spec: do + ",at=" + at + fields[do], weak: do == "change" || do == "remove"}
			if do != "corrupt" {
				list = append(list, p)
				continue
			}
			for _, what := range k.What {
				p := passing{spec: p.spec + ",what=" + what, weak: what == "etag"}
				if what == "body" {
					p.only, p.why = "GetObject", "a bit of an XML answer is covered by no checksum of OSS"
				}
				list = append(list, p)
			}
		}
	}
	return list
}

// Every fault of the server hits the first requests of every operation that a mount
// uses, at once. Then everything arrives, byte for byte, and nothing is left over.
// The kinds of faults and the operations are those that the server names; an
// operation that is new there, or in the client, fails this test until it is used
// here or excluded by name.
func TestEveryFaultOfEveryOperationPasses(t *testing.T) {
	t.Parallel()
	e := setup(t)
	kinds, err := e.server.FaultKinds()
	e.ok(err)
	used := map[string]bool{}
	for _, op := range kinds.Operations {
		if notUsed[op] == "" {
			used[op] = true
		}
	}
	source, err := os.ReadFile("../internal/remote/call.go")
	e.ok(err)
	for _, m := range regexp.MustCompile(`\top\w+\s*= "(\w+)"`).FindAllSubmatch(source, -1) {
		if op := string(m[1]); !used[op] && op != "GetBucketInfo" {
			t.Errorf("the client uses %s, which no fault is tried on", op)
		}
	}
	for _, p := range passingFaults(kinds) {
		t.Run(p.spec, func(t *testing.T) {
			t.Parallel()
			w := newWorkload(t)
			if strings.HasPrefix(p.spec, "late,") {
				w.doubt = "3s" // on a busy machine what lands late lands later
			}
			w.suffer(p, slices.Sorted(maps.Keys(used)))
		})
	}
}

// workload is something of everything, small enough to be repeated for each fault.
type workload struct {
	*env
	m     *mount
	want  map[string][]byte // nil: gone
	doubt string
}

const (
	wlPart = 128 << 10
	wlBig  = 3*wlPart + 1000
)

func newWorkload(t *testing.T) *workload {
	e := setup(t)
	w := &workload{env: e, want: map[string][]byte{}, doubt: "500ms"}
	tags := oss.Tagging{Tags: []oss.Tag{{Key: "team", Value: "blue"}}}
	for i := range 4 {
		w.object(fmt.Sprintf("theirs/small%d", i), 5000)
		w.object(fmt.Sprintf("theirs/big%d", i), wlBig)
		w.object(fmt.Sprintf("theirs/gone%d", i), 10)
		e.ok(e.bucket().PutObjectTagging(fmt.Sprintf("theirs/small%d", i), tags))
	}
	e.ok(e.bucket().PutSymlink("theirs/link", "small3"))
	return w
}

func (w *workload) object(key string, n int) {
	w.want[key] = bytesOf(key, n)
	w.put(key, bytes.NewReader(w.want[key]))
}

func bytesOf(seed string, n int) []byte {
	return bytes.Repeat([]byte(seed+" "), n/len(seed)+1)[:n]
}

func (w *workload) mount() {
	w.m = w.env.mount("cache", "--write-back-delay=50ms", "--doubt="+w.doubt, "--part-size=131072", "--multipart-threshold=262144",
		"--eager=off", "--keep-acl", "--stall=20s", "--meta-ttl=1s", "--handle-grace=1s")
}

// write writes a file through the mount.
func (w *workload) write(name string, n int) {
	w.want[name] = bytesOf("our "+name, n)
	var err error
	if !w.tries(20*time.Second, func() bool { // EIO where OSS has not told yet what there is
		err = os.WriteFile(w.m.in(name), w.want[name], 0o644)
		return errname(err) != "EIO"
	}) || err != nil {
		w.Fatal(err)
	}
}

// suffer does the work with the fault in force, and looks what came of it.
func (w *workload) suffer(p passing, ops []string) {
	applies := func(op string) bool { return p.only == "" || p.only == op }
	w.mount()
	w.ok(os.MkdirAll(w.m.in("ours"), 0o755))
	// A daemon dies while OSS is asked for an upload; and an upload is not wanted
	// any more while a part of it is under way.
	hold, err := w.server.Fault("delay,at=after,op=InitiateMultipartUpload,key=ours/unnamed")
	w.ok(err)
	w.write("ours/unnamed", wlBig)
	w.ok(second(w.server.WaitHeld(w.soon(), hold.ID)))
	w.m.kill9()
	w.ok(second(w.server.RemoveFault(hold.ID)))
	stop, err := w.server.Fault("delay,op=UploadPart,key=ours/unwanted")
	w.ok(err)
	faults := map[string]int{}
	arm := func(which func(op string) bool) {
		for _, op := range ops {
			if which(op) && applies(op) {
				f, err := w.server.Fault(p.spec + ",count=2,op=" + op)
				w.ok(err)
				faults[op] = f.ID
			}
		}
	}
	w.ok(w.server.Reset())
	ofMount := func(op string) bool { return op == "ListObjectsV2" } // which refuses a mount
	arm(func(op string) bool { return !ofMount(op) })
	w.m.start()
	arm(ofMount)
	w.write("ours/unwanted", wlBig)
	w.ok(second(w.server.WaitHeld(w.soon(), stop.ID)))
	w.ok(os.Remove(w.m.in("ours/unwanted")))
	delete(w.want, "ours/unwanted")
	w.ok(second(w.server.RemoveFault(stop.ID)))
	w.work()
	if !p.weak {
		w.m.wait(w.m.Point)
	} else {
		ok := w.tries(30*time.Second, func() bool { return w.m.status().Queue.Pending == 0 })
		if !ok {
			w.Errorf("not drained: %+v", w.m.status().Queue)
		}
	}
	w.tries(20*time.Second, func() bool { return w.counts().Ops["AbortMultipartUpload"].Requests > 0 }) // debts are paid a moment later
	w.usedAll(p, ops, faults)
	w.ok(w.server.ClearFaults())
	w.ok(second(w.m.Run(w.soon(), "retry", "--all", "--mountpoint="+w.m.Point)))
	s := w.m.status().Queue
	if s.Parked > 0 && !p.weak {
		w.Errorf("parked: %+v", s.Kept)
	}
	w.compare(p)
	if s.Parked == 0 { // who is parked keeps its upload
		w.ok(w.noUploads(30 * time.Second))
	}
	if !p.weak {
		w.m.umount(0)
	}
}

// tries polls for a while.
func (e *env) tries(within time.Duration, yes func() bool) bool {
	end := time.Now().Add(within)
	for time.Now().Before(end) {
		if yes() {
			return true
		}
		<-time.After(50 * time.Millisecond)
	}
	return yes()
}

// work uses every operation. A call may fail only where somebody else has been
// there meanwhile.
func (w *workload) work() {
	may := func(err error) {
		if err != nil && !os.IsNotExist(err) && !slices.Contains([]string{"ESTALE", "EIO", "EINVAL"}, errname(err)) {
			w.Errorf("%v", err)
		}
	}
	// The bytes of others, read as a whole, and in pieces.
	for i := range 4 {
		for _, name := range []string{"small", "big"} {
			name := fmt.Sprintf("theirs/%s%d", name, i)
			b, err := os.ReadFile(w.m.in(name))
			if err == nil && !bytes.Equal(b, w.want[name]) && !w.isTheirs(b) {
				w.Errorf("read %s: %d bytes %.40q, which are not its own", name, len(b), b)
			}
			may(err)
		}
	}
	may(second(os.Readlink(w.m.in("theirs/link"))))
	for i := range 3 {
		w.write(fmt.Sprintf("ours/small%d", i), 3000)
		w.write(fmt.Sprintf("ours/big%d", i), wlBig)
	}
	// Replaced, changed in place, appended to, with new attributes, renamed, removed.
	may(w.rewrite("theirs/small0"))
	may(w.patch("theirs/small1", 100))
	may(w.patch("theirs/big0", 10))
	may(w.patch("theirs/big1", wlBig))
	may(os.Chmod(w.m.in("theirs/small2"), 0o600))
	if err := os.Rename(w.m.in("theirs/big2"), w.m.in("ours/moved")); err == nil {
		w.want["ours/moved"], w.want["theirs/big2"] = w.want["theirs/big2"], nil
	} else {
		may(err)
	}
	for i := range 3 {
		w.remove(fmt.Sprintf("theirs/gone%d", i), may)
	}
	w.m.wait2(30 * time.Second)
	w.remove("theirs/gone3", may) // alone
	may(second(os.ReadDir(w.m.in("theirs"))))
}

// wait2 waits without insisting.
func (m *mount) wait2(within time.Duration) { _, _ = m.Wait(m.Point, within) }

func (w *workload) remove(name string, may func(error)) {
	err := os.Remove(w.m.in(name))
	may(err)
	if err == nil {
		w.want[name] = nil
	}
}

func (w *workload) rewrite(name string) error {
	text := bytesOf("anew "+name, 4000)
	err := os.WriteFile(w.m.in(name), text, 0o644)
	if err == nil {
		w.want[name] = text
	}
	return err
}

func (w *workload) patch(name string, off int64) error {
	f, err := os.OpenFile(w.m.in(name), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	text := []byte("changed here")
	_, err = f.WriteAt(text, off)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		b := bytes.Clone(w.want[name])
		b = append(b, make([]byte, max(0, int(off)+len(text)-len(b)))...)
		copy(b[off:], text)
		w.want[name] = b
	}
	return err
}

func (w *workload) isTheirs(b []byte) bool {
	return strings.HasPrefix(string(b), "changed behind the back")
}

// usedAll fails unless each operation was used, and met its fault if that can
// happen to it.
func (w *workload) usedAll(p passing, ops []string, faults map[string]int) {
	counts := w.counts()
	list, err := w.server.Faults()
	w.ok(err)
	byID := map[int]harness.Fault{}
	for _, f := range list {
		byID[f.ID] = f
	}
	met, cannot := 0, []string{}
	for _, op := range ops {
		f := byID[faults[op]]
		switch {
		case counts.Ops[op].Requests == 0:
			w.Errorf("%s was not used", op)
		case faults[op] == 0:
		case f.Fired > 0:
			met++
		case f.Matched == 0:
			cannot = append(cannot, op)
		}
	}
	w.Logf("%d of %d operations met the fault; it cannot happen to %v", met, len(ops), cannot)
	if met == 0 {
		w.Errorf("the fault has happened to nothing")
	}
}

// compare looks at the bucket.
func (w *workload) compare(p passing) {
	keys, err := w.server.Keys("")
	w.ok(err)
	held := map[string][]byte{}
	for _, k := range keys {
		if strings.HasSuffix(k, "/") || k == "theirs/link" {
			continue
		}
		r, err := w.bucket().GetObject(k)
		w.ok(err)
		held[k], err = io.ReadAll(r)
		r.Close()
		w.ok(err)
	}
	for name, want := range w.want {
		got, there := held[name]
		delete(held, name)
		switch {
		case there == (want != nil) && bytes.Equal(got, want):
		case !p.weak:
			w.Errorf("%s: %d bytes %.40q (there: %t), want %d bytes %.40q", name, len(got), got, there, len(want), want)
		case there && !w.isTheirs(got) && !strings.Contains(name, "theirs/"):
			w.Errorf("%s: %d bytes %.40q are neither ours nor theirs", name, len(got), got)
		}
	}
	for name, got := range held {
		switch before, _, is := strings.Cut(name, ".conflict-"); {
		case !p.weak:
			w.Errorf("%s is left: %d bytes %.40q", name, len(got), got)
		case is && !bytes.Equal(got, w.want[before]) && !w.isTheirs(got):
			w.Errorf("%s: %d bytes %.40q are not ours", name, len(got), got)
		}
	}
}
