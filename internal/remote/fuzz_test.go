package remote

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ossmount/ossmount/internal/object"
)

// FuzzListing reads answers about lists: of objects, parts, uploads and tags. What is
// taken is what the callers rely on.
func FuzzListing(f *testing.F) {
	f.Add([]byte(`<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>a%20b</NextContinuationToken>` +
		`<Contents><Key>a%2Fb+c</Key><ETag>"E"</ETag><Size>5</Size><LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>` +
		`<CommonPrefixes><Prefix>d%2F</Prefix></CommonPrefixes></ListBucketResult>`))
	f.Add([]byte(`<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>%zz</Key><Size>-1</Size></Contents></ListBucketResult>`))
	f.Add([]byte(`<ListPartsResult><Part><PartNumber>1</PartNumber><Size>5</Size><ETag>"E"</ETag><HashCrc64ecma>18446744073709551615</HashCrc64ecma></Part></ListPartsResult>`))
	f.Add([]byte(`<ListPartsResult><Part><PartNumber>-1</PartNumber><Size>-5</Size></Part></ListPartsResult>`))
	f.Add([]byte(`<ListMultipartUploadsResult><EncodingType>url</EncodingType><Upload><Key>k</Key><UploadId>u</UploadId><Initiated>2024-01-01T00:00:00.000Z</Initiated></Upload></ListMultipartUploadsResult>`))
	f.Add([]byte("<Error><Code>NoSuchKey</Code><Message>&#x1; \x01 \xff</Message></Error>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var list listResult
		if decodeXML(data, &list) == nil {
			page, err := list.page()
			for _, e := range page.Entries {
				if err == nil && (e.Size < 0 || e.Key == "") {
					t.Errorf("%+v is taken for an object", e)
				}
			}
		}
		var parts partsResult
		if decodeXML(data, &parts) == nil {
			all, err := parts.parts()
			for _, p := range all {
				if err == nil && (p.Number < 1 || p.Size < 0) {
					t.Errorf("%+v is taken for a part", p)
				}
			}
		}
		var open uploadsResult
		if decodeXML(data, &open) == nil {
			u := unescaper{on: open.EncodingType == "url"}
			for _, p := range open.Upload {
				_, _ = u.text(p.Key), parseTime(p.Initiated)
			}
		}
	})
}

// FuzzRefusal reads what comes in the place of an answer. Whatever it is, it is no
// success, and only what OSS itself has said makes a row park or an object absent.
func FuzzRefusal(f *testing.F) {
	f.Add(404, []byte("<Error><Code>NoSuchKey</Code><Message>m</Message></Error>"), "", "id")
	f.Add(403, []byte("<html>a proxy</html>"), base64.StdEncoding.EncodeToString([]byte("<Error><Code>AccessDenied</Code></Error>")), "")
	f.Add(404, []byte{}, "", "")
	f.Add(200, []byte("<Error><Code>InternalError</Code></Error>"), "%%%", "id")
	f.Fuzz(func(t *testing.T, status int, body []byte, header, id string) {
		h := http.Header{}
		h.Set("X-Oss-Err", header)
		h.Set("X-Oss-Request-Id", id)
		x := &exchange{status: status, header: h, failed: body}
		ref, mine := readRefusal(x)
		kind := kindOf(opHead, status, ref, mine)
		fate := fateOf(status, ref.Code, mine, true)
		if !mine && (kind != object.Again || fate != object.Unknown) {
			t.Errorf("%d %q of somebody between us and OSS is %v, %v", status, body, kind, fate)
		}
		_ = ref.Error()
	})
}

// FuzzHeaders reads the headers of an object, and writes what was read.
func FuzzHeaders(f *testing.F) {
	f.Add("X-Oss-Meta-Mode: 33188\nETag: \"E\"\nX-Oss-Hash-Crc64ecma: 5\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\nContent-Type: text/plain")
	f.Add("X-Oss-Meta-: empty name\nX-Oss-Meta-A: \x7f\nX-Oss-Storage-Class: Archive\nX-Oss-Restore: ongoing-request=\"false\", expiry-date=\"x\"")
	f.Fuzz(func(t *testing.T, text string) {
		h := http.Header{}
		for line := range strings.Lines(text) {
			if name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok {
				h.Add(name, strings.TrimSpace(value))
			}
		}
		info := infoOf("key", 5, &answer{header: h, asked: time.Unix(1, 0)})
		_ = info.Restoring()
		_, _ = info.Restored()
		_ = info.Archived()
		_ = object.ReadAttr(info.Meta, object.Attr{})
		for name := range info.Meta {
			if name != strings.ToLower(name) {
				t.Errorf("user metadata %q is not in lower case", name)
			}
		}
		_ = putHeaders("key", object.PutOptions{Meta: info.Meta, Headers: info.Headers})
	})
}

// FuzzKeyInXML writes any key into a request and reads it back.
func FuzzKeyInXML(f *testing.F) {
	for _, key := range []string{"a/b", "<&>\"'", "\x01\x1f\x7f", "ümläut\n\t\r", "\xff", "\x00", "]]>"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		var b bytes.Buffer
		b.WriteString("<Delete><Key>")
		if !escapeXML(&b, key) {
			return // it is deleted by a request of its own
		}
		b.WriteString("</Key></Delete>")
		var out struct{ Key string }
		if err := decodeXML(b.Bytes(), &out); err != nil {
			t.Fatalf("%q is written as %q: %v", key, b.String(), err)
		}
		want := strings.Map(func(r rune) rune {
			if r < 0x20 && r != '\t' && r != '\n' && r != '\r' {
				return '\uFFFD' // which answers have, too
			}
			return r
		}, key)
		if out.Key != want {
			t.Errorf("%q comes back as %q", key, out.Key)
		}
	})
}
