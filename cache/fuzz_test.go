package cache

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ossmount/ossmount/internal/codec"
	"github.com/ossmount/ossmount/internal/codec/alike"
	"github.com/ossmount/ossmount/internal/extent"
	"github.com/ossmount/ossmount/internal/object"
)

// FuzzWitness reads what may stand in the attribute of a content: only what this
// program has written about that very content is taken.
func FuzzWitness(f *testing.F) {
	for _, w := range witnesses() {
		b, err := json.Marshal(&w)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"v":2,"n":"five"}`))
	f.Add([]byte(`{"v":1,"n":5,"w":"////"}`))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		w, ok, err := parseWitness(b, 5)
		if err != nil && !strings.Contains(err.Error(), ErrNewer.Error()) {
			t.Errorf("%q: %v", b, err)
		}
		if ok && (err != nil || w.Format != witnessFormat || w.Number != 5) {
			t.Errorf("%q is taken for a witness of content 5: %+v %v", b, w, err)
		}
		alike.Read(t, b, kind)
		w = Witness{}
		if json.Unmarshal(b, &w) != nil {
			return
		}
		if b := alike.Written(t, &w); b != nil && !alike.Read(t, b, kind) {
			t.Errorf("%s is written and not read", b)
		}
	})
}

func witnesses() []Witness {
	ref := object.Ref{Key: "dir/文.txt", ETag: "5B3C1A2E053D763E1B002CC607C5A0FE", Size: 344606, CRC64: 1<<64 - 1, HasCRC: true}
	return []Witness{
		{Format: 1, Number: 5, Key: "k", Seq: 3, State: StateClosed}, {Format: 1, Number: 6, State: StateOpen},
		{Format: 1, Number: 5, Beside: true}, {Format: 2, Number: 5}, {Format: 1, Number: 5, Base: object.Ref{Key: "k", ETag: "E"}, State: StateClean},
		{Format: 1, CacheID: "7b0764317451782c", Number: 5, Key: "a\"b\\c<d>&e\u2028f\x00g", Seq: 1 << 60, Size: 7, Boot: "a3e7fdd3-a230-4ddf-86e2-8854f8dd7433",
			Attr: object.Attr{Mode: object.TypeFile | 0o644, UID: 1000, GID: 1000, Mtime: 1795239208667093293, Ctime: 5}, CRC64: 1<<64 - 1, HasCRC: true,
			Headers: object.Headers{"Content-Type": "text/plain"}, Meta: object.Meta{"b": "1", "a": "2"}, Expected: ref, Known: true, Base: ref,
			Dirty: extent.Set{{Off: 5, End: 9}, {Off: 1 << 40, End: 1 << 41}}, State: StateClosed, Needed: true},
		{Format: 1, Number: 5, Ref: ref, Base: ref, Whole: true, State: StateClean},
	}
}

func kind() codec.Record { return &Witness{} }

// A witness is written and read as encoding/json does it; whoever gives it another field
// names that in Fields, too.
func TestWitnessIsCodedAsByEncodingJSON(t *testing.T) {
	alike.Fields(t, kind)
	for _, w := range witnesses() {
		if b := alike.Written(t, &w); b == nil || !alike.Read(t, b, kind) {
			t.Errorf("%+v is odd", w)
		}
		alike.Halves(t, &w)
	}
}

// FuzzIdentity reads identity.json: a directory whose bucket is not known is never
// taken for one.
func FuzzIdentity(f *testing.F) {
	f.Add([]byte(`{"format":1,"endpoint":"http://x","bucket":"b","prefix":"p/"}`))
	f.Add([]byte(`{"format":2,"bucket":{"name":"b"}}`))
	f.Add([]byte(`{"bucket":"b"}`))
	f.Add([]byte(`null`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := parseIdentity(b, "dir")
		if err == nil && (id.Format < 1 || id.Format > identityFormat || id.Bucket == "") {
			t.Errorf("%q is taken for %+v", b, id)
		}
	})
}
