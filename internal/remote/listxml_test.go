package remote

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"github.com/ossmount/ossmount/internal/object"
)

// agree fails if the page is taken and means something else to encoding/xml.
func agree(t *testing.T, page []byte) (taken bool) {
	t.Helper()
	var ours, theirs listResult
	if !ours.read(string(page)) {
		if !reflect.DeepEqual(ours, listResult{}) {
			t.Errorf("%q is not taken, but for %+v", page, ours)
		}
		return false
	}
	if err := xml.Unmarshal(page, &theirs); err != nil {
		t.Errorf("%q is taken, but %v", page, err)
	} else if !reflect.DeepEqual(ours, theirs) {
		t.Errorf("%q is\n%+v, to encoding/xml\n%+v", page, ours, theirs)
	}
	if !bytes.Equal(sanitize(page), page) {
		t.Errorf("%q is taken, but not clean", page)
	}
	return true
}

// What our server writes is read without encoding/xml.
func TestPagesOfTheServerAreNotOdd(t *testing.T) {
	withOSS(t, func(t *testing.T, c *Client) {
		ctx := t.Context()
		for _, key := range oddKeys {
			mustPut(t, c, "odd/"+key, []byte(key))
		}
		for _, class := range []string{"IA", "Archive"} {
			if _, err := c.Put(ctx, "classes/"+class, strings.NewReader("x"), 1, object.PutOptions{Headers: object.Headers{object.HeaderClass: class}}); err != nil {
				t.Fatal(err)
			}
		}
		request(t, c, call{op: "RestoreObject", method: http.MethodPost, key: "classes/Archive", query: map[string]any{"restore": nil}, accept: http.StatusAccepted})
		putLink(t, c, "link", "odd/plain.txt")
		for _, p := range []struct {
			name  string
			query map[string]any
			has   string
		}{
			{"all keys", nil, "&#34;</ETag>"},
			{"an empty listing", map[string]any{"prefix": "nobody"}, "<KeyCount>0<"},
			{"directories", map[string]any{"delimiter": "/"}, "<CommonPrefixes>"},
			{"a page that is not the last", map[string]any{"max-keys": "3"}, "<NextContinuationToken>"},
			{"what comes after a key", map[string]any{"start-after": "d&<\"'>"}, "<StartAfter>"},
			{"keys and their owners", map[string]any{"fetch-owner": "true"}, "<DisplayName>"},
			{"classes, and what is restored", map[string]any{"prefix": "classes/"}, "<RestoreInfo>"},
			{"a link", map[string]any{"prefix": "link"}, "Symlink"},
			{"keys that are not escaped", map[string]any{"prefix": "odd/quote", "encoding-type": nil}, "&lt;&amp;&gt;"},
		} {
			query := map[string]any{"list-type": "2", "encoding-type": "url"}
			maps.Copy(query, p.query)
			a, err := c.stream(ctx, call{op: opList, method: http.MethodGet, ofBucket: true, query: query})
			if err != nil {
				t.Fatal(p.name, err)
			}
			page, err := io.ReadAll(a.body)
			a.body.Close()
			if err != nil || !bytes.Contains(page, []byte(p.has)) {
				t.Errorf("%s: the page has no %s: %v\n%s", p.name, p.has, err, page)
			}
			if !agree(t, page) {
				t.Errorf("%s: this is odd\n%s", p.name, page)
			}
		}
	})
}

// pages are such as OSS writes.
var pages = map[string]string{
	"a few objects": string(pageOf(3)),
	"in one line, of a name space": `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<ListBucketResult xmlns="http://doc.oss-cn-hangzhou.aliyuncs.com">` +
		`<Name>bkt</Name><Prefix/><StartAfter></StartAfter><MaxKeys>100</MaxKeys><Delimiter/><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>` +
		`<Contents><Key>fun%2Fa%20b%2B.avi</Key><LastModified>2012-02-24T08:43:07.000Z</LastModified><ETag>"5B3C1A2E053D763E1B002CC607C5A0FE"</ETag>` +
		`<Type>Normal</Type><Size>344606</Size><StorageClass>Standard</StorageClass></Contents><KeyCount>1</KeyCount></ListBucketResult>`,
	"references": `<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>C&apos;&#x3c;&#62;--</NextContinuationToken>` +
		`<Contents><Key>a&amp;b&lt;c&gt;</Key><ETag>&quot;5B3C-3&quot;</ETag><Size>5</Size></Contents></ListBucketResult>`,
	"owners, and what is restored": `<ListBucketResult><Contents><Key>a</Key><Size>1</Size><StorageClass>Archive</StorageClass>` +
		`<RestoreInfo>ongoing-request="false", expiry-date="Sat, 05 Nov 2022 07:38:08 GMT"</RestoreInfo>` +
		"\n<Owner>\n<ID>1250</ID>\n<DisplayName>1250</DisplayName>\n</Owner>\n</Contents>" +
		`<Contents><Key>b</Key><RestoreInfo/><Owner><ID/><DisplayName/></Owner></Contents></ListBucketResult>`,
	"what nobody knows yet": `<ListBucketResult><New><Newer>a<Newest>b</Newest></Newer><Newer/></New><Key>no object's</Key>` +
		`<Contents><Key>a</Key><Contents><Key>b</Key></Contents><TransitionTime>2024-04-08T08:12:20.000Z</TransitionTime></Contents>` +
		`<CommonPrefixes><Owner/><Prefix>d%2F</Prefix></CommonPrefixes></ListBucketResult>`,
	"directories": `<ListBucketResult><Delimiter>%2F</Delimiter><CommonPrefixes><Prefix>fun%2F</Prefix></CommonPrefixes>` +
		`<CommonPrefixes><Prefix>music%2F</Prefix></CommonPrefixes><CommonPrefixes/></ListBucketResult>`,
	"how keys are escaped, behind them": `<ListBucketResult><Contents><Key>a%2Bb</Key></Contents><EncodingType>url</EncodingType></ListBucketResult>`,
	"nothing":                           `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult/>` + "\n",
}

func TestPagesAsOSSWritesThemAreNotOdd(t *testing.T) {
	for name, page := range pages {
		if !agree(t, []byte(page)) {
			t.Errorf("%s: this is odd\n%s", name, page)
		}
	}
}

// oddities are parts of a page that encoding/xml has to judge.
var oddities = map[string]string{
	"a comment":                    `<!-- <Key>b</Key> -->`,
	"a section of text":            `<Prefix><![CDATA[a]]></Prefix>`,
	"an instruction":               `<?go on?>`,
	"a directive":                  `<!DOCTYPE a>`,
	"an attribute":                 `<Prefix a="b">c</Prefix>`,
	"a name space":                 `<x:Contents></x:Contents>`,
	"a blank in a tag":             `<Prefix >c</Prefix>`,
	"a blank in a tag at the end":  `<Prefix>c</Prefix >`,
	"a name with a digit":          `<V2>c</V2>`,
	"no name":                      `<></>`,
	"an end without a beginning":   `</Prefix>`,
	"an element that does not end": `<Prefix>`,
	"an end of another":            `<Prefix></Key>`,
	"text between elements":        `a`,
	"text behind elements":         `<Owner><ID>a</ID>b</Owner>`,
	"elements in a value":          `<EncodingType>u<a>r</a>l</EncodingType>`,
	"elements too deep":            `<a><a><a><a><a>b</a></a></a></a></a>`,
	"a value that comes twice":     `<EncodingType>url</EncodingType><EncodingType>none</EncodingType>`,
	"a line of another system":     "<Prefix>a\r\nb</Prefix>",
	"a control character":          "<Prefix>a\x01</Prefix>",
	"a control character, named":   `<Prefix>a&#x01;</Prefix>`,
	"a letter beyond ASCII":        `<EncodingType>ü</EncodingType>`,
	"a letter beyond ASCII, named": `<EncodingType>&#252;</EncodingType>`,
	"bytes that are no letter":     "<Prefix>\xff</Prefix>",
	"a reference to nothing":       `<Prefix>&nbsp;</Prefix>`,
	"a reference without an end":   `<Prefix>&amp</Prefix>`,
	"a reference in capitals":      `<Prefix>&#X41;</Prefix>`,
	"a reference of no digits":     `<Prefix>&#;</Prefix>`,
	"an end of a section of text":  `<Prefix>]]></Prefix>`,
	"a truth with a blank":         `<IsTruncated> true</IsTruncated>`,
	"neither true nor false":       `<IsTruncated>perhaps</IsTruncated>`,
	"a size with a blank":          `<Contents><Size>5 </Size></Contents>`,
	"a size that is no number":     `<Contents><Size>5k</Size></Contents>`,
	"a size beyond all sizes":      `<Contents><Size>99999999999999999999</Size></Contents>`,
}

func TestOddPagesAreLeftToEncodingXML(t *testing.T) {
	odd := map[string]string{
		"empty":                    ``,
		"no page":                  `<Error><Code>InternalError</Code></Error>`,
		"something before it":      `a<ListBucketResult></ListBucketResult>`,
		"something behind it":      `<ListBucketResult></ListBucketResult>a`,
		"a page behind it":         `<ListBucketResult></ListBucketResult><ListBucketResult></ListBucketResult>`,
		"another encoding":         `<?xml version="1.0" encoding="GBK"?><ListBucketResult></ListBucketResult>`,
		"a mark of the byte order": "\uFEFF<ListBucketResult></ListBucketResult>",
		"two attributes":           `<ListBucketResult xmlns="a" b="c"></ListBucketResult>`,
		"an attribute of no value": `<ListBucketResult xmlns="></ListBucketResult>`,
		"a tag in an attribute":    `<ListBucketResult xmlns="<a>"></ListBucketResult>`,
		"an attribute of another":  `<ListBucketResult a="b"></ListBucketResult>`,
	}
	for name, part := range oddities {
		odd[name] = "<ListBucketResult>" + part + "</ListBucketResult>"
	}
	for name, page := range odd {
		if agree(t, []byte(page)) {
			t.Errorf("%s: this is not odd\n%s", name, page)
		}
		var got, want listResult
		gotErr, wantErr := decodeXML([]byte(page), &got), xml.Unmarshal(sanitize([]byte(page)), &want)
		if (gotErr == nil) != (wantErr == nil) || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v, %v", name, got, gotErr, want, wantErr)
		}
	}
}

// An answer that was cut short is none, wherever the cut is.
func TestHalfAPageIsOdd(t *testing.T) {
	for name, page := range pages {
		page = strings.TrimRight(page, "\n")
		for n := range len(page) {
			if agree(t, []byte(page[:n])) {
				t.Errorf("%s: the first %d bytes are not odd", name, n)
			}
		}
	}
}

// Who keeps one name of a page does not keep the page.
func TestEntriesAreNoPiecesOfTheirPage(t *testing.T) {
	for name, page := range pages {
		within := func(s string) bool {
			at, from := uintptr(unsafe.Pointer(unsafe.StringData(s))), uintptr(unsafe.Pointer(unsafe.StringData(page)))
			return s != "" && at >= from && at < from+uintptr(len(page))
		}
		var l listResult
		if !l.read(page) {
			t.Fatal(name)
		}
		p, _ := l.page()
		kept := append(p.Prefixes, p.Next)
		for _, e := range p.Entries {
			kept = append(kept, e.Key, e.ETag, e.Type, e.Class)
		}
		for _, s := range kept {
			if within(s) {
				t.Errorf("%s: %q is a piece of the page", name, s)
			}
		}
	}
}

// soup makes a page of what pages are made of, a piece for each byte. All its
// elements end.
func soup(recipe []byte) []byte {
	names := []string{"Contents", "Key", "ETag", "Type", "Size", "StorageClass", "LastModified",
		"CommonPrefixes", "Prefix", "EncodingType", "IsTruncated", "NextContinuationToken", "Owner", "ListBucketResult"}
	texts := []string{"a", "5", "-1", "url", "true", "0", "%2F", " ", "\n", `"`, "&quot;", "&amp;", "&#34;", "&#x41;", "&#9;", "&#1;",
		"&lt", "]]", ">", "\r", "\t", "é", "\xff", "\x7f", "<!---->", "<![CDATA[a]]>", "<a b='c'/>", "<b:a/>", "<?a?>"}
	var b bytes.Buffer
	open := []string{"ListBucketResult"}
	b.WriteString("<ListBucketResult>")
	for _, c := range recipe {
		n := int(c)
		switch {
		case n < 4*len(names):
			name := names[n%len(names)]
			open = append(open, name)
			b.WriteString("<" + name + ">")
		case n < 5*len(names):
			b.WriteString("<" + names[n%len(names)] + "/>")
		case n < 5*len(names)+len(texts):
			b.WriteString(texts[n-5*len(names)])
		case n < 150:
			b.WriteString(texts[n%8])
		case len(open) > 1:
			b.WriteString("</" + open[len(open)-1] + ">")
			open = open[:len(open)-1]
		}
	}
	for len(open) > 0 {
		b.WriteString("</" + open[len(open)-1] + ">")
		open = open[:len(open)-1]
	}
	return b.Bytes()
}

// Pages put together by chance mean the same to ours and to encoding/xml.
func TestSoupIsReadAlike(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	taken := 0
	for range 20000 {
		recipe := make([]byte, r.IntN(20))
		for i := range recipe {
			recipe[i] = byte(r.Uint32())
		}
		if agree(t, soup(recipe)) {
			taken++
		}
	}
	if taken < 1000 {
		t.Errorf("only %d were taken", taken)
	}
}

// FuzzListXML reads pages of listings, as they are and as recipes of soup. What is
// taken means the same to encoding/xml.
func FuzzListXML(f *testing.F) {
	for _, page := range pages {
		f.Add([]byte(page))
	}
	for _, part := range oddities {
		f.Add([]byte("<ListBucketResult><Contents>" + part + "<Key>k</Key></Contents>" + part + "</ListBucketResult>"))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		agree(t, data)
		agree(t, soup(data))
	})
}

// pageOf is a page of n objects as OSS writes it.
func pageOf(n int) []byte {
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult>
  <Name>bkt</Name>
  <Prefix>some%2Fdirectory%2F</Prefix>
  <MaxKeys>1000</MaxKeys>
  <Delimiter>%2F</Delimiter>
  <EncodingType>url</EncodingType>
  <IsTruncated>true</IsTruncated>
  <NextContinuationToken>CgJiYw--</NextContinuationToken>
`)
	for i := range n {
		fmt.Fprintf(&b, `  <Contents>
    <Key>some%%2Fdirectory%%2Fname%%20of%%20file%05d.txt</Key>
    <LastModified>2024-05-06T07:08:%02d.000Z</LastModified>
    <ETag>"%032X"</ETag>
    <Type>Normal</Type>
    <Size>%d</Size>
    <StorageClass>Standard</StorageClass>
  </Contents>
`, i, i%60, i*7919, i*4096)
	}
	fmt.Fprintf(&b, "  <KeyCount>%d</KeyCount>\n</ListBucketResult>\n", n)
	return b.Bytes()
}

// BenchmarkListPage reads a page of 1,000 objects, by ours and by encoding/xml.
func BenchmarkListPage(b *testing.B) {
	data := pageOf(1000)
	for _, by := range []struct {
		name string
		read func(*listResult) error
	}{
		{"ours", func(l *listResult) error { return decodeXML(data, l) }},
		{"encoding-xml", func(l *listResult) error { return xml.Unmarshal(sanitize(data), l) }},
	} {
		b.Run(by.name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				var l listResult
				if err := by.read(&l); err != nil {
					b.Fatal(err)
				}
				if p, err := l.page(); err != nil || len(p.Entries) != 1000 {
					b.Fatal(len(p.Entries), err)
				}
			}
		})
	}
}

// BenchmarkList asks a server that always gives the same page.
func BenchmarkList(b *testing.B) {
	data := pageOf(1000)
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data)
	}))
	defer h.Close()
	c := open(b, h.URL, nil)
	b.ReportAllocs()
	for b.Loop() {
		if p, err := c.List(b.Context(), object.ListQuery{}); err != nil || len(p.Entries) != 1000 {
			b.Fatal(len(p.Entries), err)
		}
	}
}
