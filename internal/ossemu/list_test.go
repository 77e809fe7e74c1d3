package ossemu

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// model lists keys in the plainest way: it folds all keys, then cuts.
func model(keys []string, l listing) (names []string) {
	var last string
	for _, key := range keys {
		if !strings.HasPrefix(key, l.prefix) {
			continue
		}
		name, folded := key, false
		if l.delimiter != "" {
			if i := strings.Index(key[len(l.prefix):], l.delimiter); i >= 0 {
				name, folded = key[:len(l.prefix)+i+len(l.delimiter)], true
			}
		}
		if folded && name == l.marker || key <= l.marker || folded && name == last {
			continue
		}
		names, last = append(names, name), name
	}
	return names
}

func randomKeys(rng *rand.Rand, n int) []string {
	set := map[string]bool{}
	for range n {
		var b strings.Builder
		for range 1 + rng.IntN(6) {
			b.WriteString([]string{"a", "b", "/", "/", "é", "\xf4\x8f\xbf\xbf", " ", "+", "%", "\x01"}[rng.IntN(10)])
		}
		if checkKey(b.String()) == nil {
			set[b.String()] = true
		}
	}
	var keys []string
	for k := range set {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func TestListingAgreesWithTheModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		keys := randomKeys(rng, 1+rng.IntN(60))
		x := newIndex[string, string](strings.Compare)
		for _, i := range rng.Perm(len(keys)) {
			x.put(keys[i], keys[i])
		}
		for range 20 {
			l := listing{
				prefix:    []string{"", "", "a", "a/", "é", "b/a"}[rng.IntN(6)],
				delimiter: []string{"", "/", "/", "a", "//"}[rng.IntN(5)],
				limit:     1 + rng.IntN(5),
			}
			if rng.IntN(3) == 0 && len(keys) > 0 {
				l.marker = keys[rng.IntN(len(keys))]
			}
			want := model(keys, l)
			if got := allPages(t, x, l); !slices.Equal(got, want) {
				t.Fatalf("%+v of %q:\n got %q\nwant %q", l, keys, got, want)
			}
		}
	}
}

// allPages walks the pages as a client does, with the last name as marker.
func allPages(t *testing.T, x *index[string, string], l listing) (names []string) {
	same := func(s string) string { return s }
	for {
		from, ok := startAfter(l.marker, l.prefix, l.delimiter)
		if !ok {
			return names
		}
		p := scan(x, x.seek(from), same, same, l.prefix, l.delimiter, l.limit)
		page := append(slices.Clone(p.values), p.prefixes...)
		slices.Sort(page)
		if len(page) > l.limit || p.truncated && (len(page) != l.limit || p.last != page[len(page)-1]) {
			t.Fatalf("page %q of %+v, truncated %v, last %q", page, l, p.truncated, p.last)
		}
		names = append(names, page...)
		if !p.truncated {
			return names
		}
		l.marker = p.last
	}
}

func TestBothListingsOverHTTP(t *testing.T) {
	r := newRig(t)
	b := r.bucket(oss.AuthV4)
	keys := randomKeys(rand.New(rand.NewPCG(3, 4)), 80)
	for _, key := range keys {
		r.put(key, []byte(key))
	}
	for _, l := range []listing{{}, {delimiter: "/"}, {prefix: "a", delimiter: "/"}, {prefix: "é"}, {delimiter: "/", marker: "b"}} {
		want := model(keys, l)
		for limit := 1; limit < 8; limit += 3 {
			if got := walkV1(t, b, l, limit); !slices.Equal(got, want) {
				t.Errorf("V1 %+v by %d:\n got %q\nwant %q", l, limit, got, want)
			}
			if got := walkV2(t, b, l, limit); !slices.Equal(got, want) {
				t.Errorf("V2 %+v by %d:\n got %q\nwant %q", l, limit, got, want)
			}
		}
	}
	page, err := b.ListObjectsV2(oss.FetchOwner(true), oss.MaxKeys(1))
	if err != nil || page.Objects[0].Owner.ID == "" || page.Objects[0].ETag != `"`+etagOf([]byte(keys[0]))+`"` {
		t.Error(page, err)
	}
	_, err = b.ListObjectsV2(oss.ContinuationToken("nonsense"))
	wantCode(t, err, 400, "InvalidArgument")
}

func walkV1(t *testing.T, b *oss.Bucket, l listing, limit int) (names []string) {
	t.Helper()
	for {
		page, err := b.ListObjects(oss.Prefix(l.prefix), oss.Delimiter(l.delimiter), oss.Marker(l.marker), oss.MaxKeys(limit))
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, sorted(page.Objects, page.CommonPrefixes)...)
		if !page.IsTruncated {
			return names
		}
		l.marker = page.NextMarker
	}
}

func walkV2(t *testing.T, b *oss.Bucket, l listing, limit int) (names []string) {
	t.Helper()
	token := ""
	for {
		page, err := b.ListObjectsV2(oss.Prefix(l.prefix), oss.Delimiter(l.delimiter), oss.StartAfter(l.marker), oss.MaxKeys(limit), oss.ContinuationToken(token))
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, sorted(page.Objects, page.CommonPrefixes)...)
		if !page.IsTruncated {
			return names
		}
		token = page.NextContinuationToken
	}
}

func sorted(objects []oss.ObjectProperties, prefixes []string) []string {
	names := slices.Clone(prefixes)
	for _, o := range objects {
		names = append(names, o.Key)
	}
	slices.Sort(names)
	return names
}

func TestListMultipartUploadsPages(t *testing.T) {
	r := newRig(t)
	b := r.bucket(oss.AuthV4)
	want := map[string]bool{}
	for i := range 12 {
		up, err := b.InitiateMultipartUpload(fmt.Sprintf("d%d/k+%d", i%2, i%4))
		if err != nil {
			t.Fatal(err)
		}
		want[up.Key+" "+up.UploadID] = true
	}
	for limit := 1; limit <= 12; limit++ {
		got, key, id := map[string]bool{}, "", ""
		for {
			page, err := b.ListMultipartUploads(oss.MaxUploads(limit), oss.KeyMarker(key), oss.UploadIDMarker(id))
			if err != nil {
				t.Fatal(err)
			}
			for _, u := range page.Uploads {
				got[u.Key+" "+u.UploadID] = true
			}
			if !page.IsTruncated {
				break
			}
			key, id = page.NextKeyMarker, page.NextUploadIDMarker
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("by %d: %v, want %v", limit, got, want)
		}
	}
	page, err := b.ListMultipartUploads(oss.Delimiter("/"))
	if err != nil || len(page.CommonPrefixes) != 2 || len(page.Uploads) != 0 {
		t.Error(page, err)
	}
	page, err = b.ListMultipartUploads(oss.KeyMarker("d0/k+2"))
	if err != nil || len(page.Uploads) != 6 {
		t.Error(page, err)
	}
}

func TestIndexAgreesWithASortedMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	x, want := newIndex[string, int](strings.Compare), map[string]int{}
	for i := range 20000 {
		key := fmt.Sprint(rng.IntN(2000))
		if rng.IntN(3) == 0 {
			_, a := x.remove(key)
			_, b := want[key]
			delete(want, key)
			if a != b {
				t.Fatal("remove differs")
			}
			continue
		}
		x.put(key, i)
		want[key] = i
	}
	last := ""
	for n := x.first(); n != nil; n = n.following() {
		if n.key <= last || want[n.key] != n.value {
			t.Fatalf("%q after %q", n.key, last)
		}
		last = n.key
		delete(want, n.key)
	}
	if len(want) != 0 {
		t.Errorf("%d keys are missing", len(want))
	}
}

func FuzzFold(f *testing.F) {
	f.Add("a/b\x00a/c\x00b", "a", "/", "a/")
	f.Fuzz(func(t *testing.T, joined, prefix, delimiter, marker string) {
		keys := strings.Split(joined, "\x00")
		slices.Sort(keys)
		keys = slices.Compact(keys)
		if keys[0] == "" {
			keys = keys[1:]
		}
		x := newIndex[string, string](strings.Compare)
		for _, k := range keys {
			x.put(k, k)
		}
		l := listing{prefix: prefix, delimiter: delimiter, marker: marker, limit: 2}
		if got, want := allPages(t, x, l), model(keys, l); !slices.Equal(got, want) {
			t.Errorf("%+v of %q:\n got %q\nwant %q", l, keys, got, want)
		}
	})
}

func FuzzDeleteXML(f *testing.F) {
	f.Add([]byte("<Delete><Quiet>true</Quiet><Object><Key>a&#x01;&amp;</Key></Object></Delete>"))
	f.Fuzz(func(t *testing.T, body []byte) {
		first, err := readDelete(body)
		if err != nil {
			return
		}
		// The keys, written out in the plainest form, are the same keys.
		var b strings.Builder
		for _, key := range first.keys {
			b.WriteString("<Object><Key>")
			for _, r := range strings.ToValidUTF8(key, "?") {
				fmt.Fprintf(&b, "&#%d;", r)
			}
			b.WriteString("</Key></Object>")
		}
		second, err := readDelete([]byte("<Delete>" + b.String() + "</Delete>"))
		if err != nil || len(first.keys) != len(second.keys) {
			t.Fatalf("%q %v: %q, and then %q", body, err, first.keys, second.keys)
		}
		for i, key := range first.keys {
			if second.keys[i] != strings.ToValidUTF8(key, "?") {
				t.Errorf("%q, and then %q", key, second.keys[i])
			}
		}
	})
}

func TestDeleteXML(t *testing.T) {
	cases := map[string]struct {
		body string
		keys []string
		fail bool
	}{
		"plain":         {"<?xml version=\"1.0\"?>\n<Delete>\n <Quiet>false</Quiet>\n <Object>\n <Key>a</Key></Object><Object><Key> b </Key><VersionId>null</VersionId></Object><Object><Key>c</Key><VersionId>x</VersionId></Object></Delete>\n", []string{"a", " b "}, false},
		"references":    {"<Delete><Object><Key>&#x01;&#31;&#xD;&lt;&amp;&quot;&#233;</Key></Object></Delete>", []string{"\x01\x1f\r<&\"é"}, false},
		"CDATA":         {"<Delete><!-- <x> --><Object><Key>a<![CDATA[<&b]]></Key></Object></Delete>", []string{"a<&b"}, false},
		"namespace":     {`<Delete xmlns="http://x"><Object><Key>a</Key></Object></Delete>`, []string{"a"}, false},
		"cut off":       {"<Delete><Object><Key>a</Key></Object>", nil, true},
		"crossed":       {"<Delete><Object><Key>a</Object></Key></Delete>", nil, true},
		"other root":    {"<Remove><Object><Key>a</Key></Object></Remove>", nil, true},
		"no key":        {"<Delete><Object></Object></Delete>", nil, true},
		"bad reference": {"<Delete><Object><Key>&#xD800;</Key></Object></Delete>", nil, true},
		"empty":         {"", nil, true},
	}
	for name, c := range cases {
		got, err := readDelete([]byte(c.body))
		if (err != nil) != c.fail || err == nil && !slices.Equal(got.keys, c.keys) {
			t.Errorf("%s: %q %v", name, got.keys, err)
		}
	}
}

func TestDeleteMultipleLimits(t *testing.T) {
	r := newRig(t)
	b := r.bucket(oss.AuthV4)
	_, err := b.DeleteObjects(make([]string, 0))
	if err == nil {
		t.Error("no key at all was accepted")
	}
	keys := make([]string, 1001)
	for i := range keys {
		keys[i] = fmt.Sprint("k", i)
	}
	_, err = b.DeleteObjects(keys)
	wantCode(t, err, 400, "MalformedXML")
	r.put("k1", bytes.Repeat([]byte("x"), 10))
	if quiet, err := b.DeleteObjects(keys[:1000], oss.DeleteObjectsQuiet(true)); err != nil || len(quiet.DeletedObjects) != 0 {
		t.Error(quiet, err)
	}
	if ok, _ := b.IsObjectExist("k1"); ok {
		t.Error("k1 is still there")
	}
}
