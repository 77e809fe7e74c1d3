package remote

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossmount/ossmount/internal/crc64"
	"github.com/ossmount/ossmount/internal/object"
)

func TestOpenChecksItsOptions(t *testing.T) {
	good := Options{Endpoint: "https://oss-cn-hangzhou.aliyuncs.com", Bucket: "bkt", Credentials: fixed{"a", "b", ""}}
	if _, err := Open(good); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		set  func(*Options)
		text string
	}{
		"no scheme":       {func(o *Options) { o.Endpoint = "oss-cn-hangzhou.aliyuncs.com" }, "https://HOST"},
		"host and port":   {func(o *Options) { o.Endpoint = "127.0.0.1:9000" }, "https://HOST"},
		"other scheme":    {func(o *Options) { o.Endpoint = "ftp://h" }, "https://HOST"},
		"empty":           {func(o *Options) { o.Endpoint = "" }, "https://HOST"},
		"path":            {func(o *Options) { o.Endpoint = "https://h/bkt" }, "nothing may follow"},
		"password":        {func(o *Options) { o.Endpoint = "https://u:" + testSecret + "@h" }, "no user"},
		"bad password":    {func(o *Options) { o.Endpoint = "u:" + testSecret + "@h" }, "https://HOST"},
		"bucket in front": {func(o *Options) { o.Endpoint = "https://bkt.oss-cn-hangzhou.aliyuncs.com" }, "leave the name"},
		"bucket name":     {func(o *Options) { o.Bucket = "No_Bucket" }, "a-z"},
		"no credentials":  {func(o *Options) { o.Credentials = nil }, "credentials"},
	} {
		o := good
		tc.set(&o)
		_, err := Open(o)
		if err == nil || !strings.Contains(err.Error(), tc.text) || strings.Contains(err.Error(), testSecret) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A key that is printed by mistake, in whatever way, shows no secret.
func TestKeyIsPrintedWithoutItsSecrets(t *testing.T) {
	k := Key{ID: "id", Secret: testSecret, Token: testToken}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, v := range []any{k, &k, []Key{k}, struct{ K Key }{k}} {
			if text := fmt.Sprintf(format, v); strings.Contains(text, testSecret) || strings.Contains(text, testToken) {
				t.Errorf("%s of %T: %s", format, v, text)
			}
		}
	}
}

func TestAddressing(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1": true, "::1": true, "localhost": true, "oss": true, "x.localhost": true,
		"oss-cn-hangzhou.aliyuncs.com": false,
	} {
		if pathStyle(host) != want {
			t.Error(host)
		}
	}
}

// The SDK has its own way to the same sum.
func TestCombineLikeTheSDK(t *testing.T) {
	for _, n := range []int64{1, 12345, 100 << 10, 5<<30 - 1, 48 << 40} {
		if got, want := crc64.Combine(123, 456, n), oss.CRC64Combine(123, 456, uint64(n)); got != want {
			t.Errorf("%d bytes: %d, the SDK says %d", n, got, want)
		}
	}
}

// Answers that would make a careless client ask for ever.
func TestMoreAnnouncedButNoProgress(t *testing.T) {
	xml := func(s string) string {
		return serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(s)) }))
	}
	c := open(t, xml("<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"), nil)
	_, err := c.List(t.Context(), object.ListQuery{})
	wantKind(t, err, object.Again)
	c = open(t, xml("<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>"), nil)
	_, err = c.List(t.Context(), object.ListQuery{Token: "t"})
	wantKind(t, err, object.Again)
	c = open(t, xml("<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>5</NextPartNumberMarker></ListPartsResult>"), nil)
	_, err = c.Parts(t.Context(), "k", "U")
	wantKind(t, err, object.Again)
	c = open(t, xml("<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>U</NextUploadIdMarker></ListMultipartUploadsResult>"), nil)
	_, err = c.Uploads(t.Context(), "k")
	wantKind(t, err, object.Again)
}

func TestPartWithoutChecksum(t *testing.T) {
	c := open(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(`<ListPartsResult><Part><PartNumber>1</PartNumber><ETag>"A"</ETag><Size>5</Size></Part>` +
			`<Part><PartNumber>2</PartNumber><ETag>"B"</ETag><Size>6</Size><HashCrc64ecma>18446744073709551615</HashCrc64ecma></Part></ListPartsResult>`))
	})), nil)
	got, err := c.Parts(t.Context(), "k", "U")
	want := []object.Part{{Number: 1, Size: 5, ETag: "A"}, {Number: 2, Size: 6, ETag: "B", CRC64: 1<<64 - 1, HasCRC: true}}
	if err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Fatal(got, err)
	}
}
