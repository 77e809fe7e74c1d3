package cache

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ossmount/ossmount/internal/object"
)

// FuzzWitness reads what may stand in the attribute of a content: only what this
// program has written about that very content is taken.
func FuzzWitness(f *testing.F) {
	for _, w := range []Witness{
		{Format: 1, Number: 5, Key: "k", Seq: 3, State: StateClosed}, {Format: 1, Number: 6, State: StateOpen},
		{Format: 1, Number: 5, Beside: true}, {Format: 2, Number: 5}, {Format: 1, Number: 5, Base: object.Ref{Key: "k", ETag: "E"}, State: StateClean},
	} {
		b, err := json.Marshal(w)
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
	})
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
