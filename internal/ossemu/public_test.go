package ossemu

import (
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// request makes a request that is not signed.
func (r *rig) request(method, resource string, body io.Reader) *http.Request {
	r.t.Helper()
	q, err := http.NewRequest(method, r.web.URL+resource, body)
	if err != nil {
		r.t.Fatal(err)
	}
	return q
}

// signed makes a request signed with V1; the resource holds signed parameters only.
func (r *rig) signed(method, resource string, body io.Reader) *http.Request {
	return r.signedWith(method, resource, "", body)
}

// signedWith is signed with parameters that V1 does not sign.
func (r *rig) signedWith(method, resource, unsigned string, body io.Reader) *http.Request {
	r.t.Helper()
	q := r.request(method, resource, body)
	if unsigned != "" && q.URL.RawQuery != "" {
		unsigned = "&" + unsigned
	}
	q.URL.RawQuery += unsigned
	date := time.Now().UTC().Format(http.TimeFormat)
	q.Header.Set("Date", date)
	q.Header.Set("Authorization", "OSS "+testKey+":"+signV1(testSecret, method+"\n\n\n"+date+"\n"+resource))
	return q
}

// wantAnswer sends q and checks status and error code of the answer.
func wantAnswer(t *testing.T, q *http.Request, status int, code string) {
	t.Helper()
	a, err := http.DefaultTransport.RoundTrip(q)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	if q.Method == http.MethodHead {
		body, _ = base64.StdEncoding.DecodeString(a.Header.Get("x-oss-err"))
	}
	if a.StatusCode != status || code != "" && !strings.Contains(string(body), "<Code>"+code+"</Code>") {
		t.Errorf("%s %s: %d %s, want %d %s", q.Method, q.URL, a.StatusCode, body, status, code)
	}
}

// head is HeadObject with the SDK.
func (r *rig) head(key string) http.Header {
	r.t.Helper()
	h, err := r.bucket(oss.AuthV4).GetObjectDetailedMeta(key)
	if err != nil {
		r.t.Fatalf("head %q: %v", key, err)
	}
	return h
}

func TestWhatAnybodyMayDoIsWhatTheACLSays(t *testing.T) {
	r := newRig(t)
	b := r.bucket(oss.AuthV4)
	r.put("plain", []byte("x"))
	r.put("open", []byte("x"), oss.ObjectACL(oss.ACLPublicRead))
	r.put("shut", []byte("x"), oss.ObjectACL(oss.ACLPrivate))
	const denied = "AccessDenied"
	at := "/" + testBucket + "/"
	cases := []struct {
		acl                    oss.ACLType
		plain, open, shut, put int
		list, acls, missing    int
	}{
		{oss.ACLPrivate, 403, 200, 403, 403, 403, 403, 403},
		{oss.ACLPublicRead, 200, 200, 403, 403, 200, 403, 404},
		{oss.ACLPublicReadWrite, 200, 200, 403, 200, 200, 403, 404},
	}
	for _, c := range cases {
		if err := r.client(oss.AuthV4).SetBucketACL(testBucket, c.acl); err != nil {
			t.Fatal(err)
		}
		for _, one := range []struct {
			method, resource string
			status           int
		}{
			{"GET", at + "plain", c.plain}, {"HEAD", at + "plain", c.plain}, {"GET", at + "open", c.open},
			{"GET", at + "shut", c.shut}, {"PUT", at + "new", c.put}, {"GET", at, c.list}, {"GET", at + "?list-type=2", c.list},
			{"GET", at + "plain?acl", c.acls}, {"GET", at + "?acl", c.acls}, {"DELETE", at, 403}, {"GET", "/", 403}, {"GET", at + "missing", c.missing},
		} {
			code := ""
			switch one.status {
			case 403:
				code = denied
			case 404:
				code = "NoSuchKey"
			}
			wantAnswer(t, r.request(one.method, one.resource, nil), one.status, code)
		}
	}
	wantAnswer(t, r.request("GET", at+"open?response-content-type=a/b", nil), 400, "InvalidRequest")
	wantAnswer(t, r.request("GET", "/missing-bucket/k", nil), 404, "NoSuchBucket")
	// What may be read through a link, or copied, is what may be read.
	if err := b.PutSymlink("link", "shut"); err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, r.request("GET", at+"link", nil), 403, denied)
	q := r.request("PUT", at+"stolen", nil)
	q.Header.Set("x-oss-copy-source", at+"shut")
	wantAnswer(t, q, 403, denied)
}

func TestSecurityTokens(t *testing.T) {
	o := testOptions()
	o.Tokens = []Token{
		{AccessKeyID: "STS.1", AccessKeySecret: "s1", SecurityToken: "t1", Expires: time.Now().Add(time.Hour)},
		{AccessKeyID: "STS.2", AccessKeySecret: "s2", SecurityToken: "t2", Expires: time.Now().Add(-time.Second)},
	}
	r := newRigWith(t, o)
	allVersions(t, func(t *testing.T, v oss.AuthVersionType) {
		for name, c := range map[string]struct{ id, secret, token, code string }{
			"right":               {"STS.1", "s1", "t1", ""},
			"without its token":   {"STS.1", "s1", "", "InvalidAccessKeyId"},
			"a token of another":  {"STS.1", "s1", "t2", "AccessKeyIdAndSecurityTokenNotMatch"},
			"a token of nobody":   {"STS.1", "s1", "t3", "InvalidSecurityToken"},
			"expired":             {"STS.2", "s2", "t2", "SecurityTokenExpired"},
			"another secret":      {"STS.1", "s2", "t1", "SignatureDoesNotMatch"},
			"a key that has none": {testKey, testSecret, "t3", "InvalidSecurityToken"},
		} {
			client, err := oss.New(r.web.URL, c.id, c.secret, oss.AuthVersion(v), oss.Region(testRegion), oss.SecurityToken(c.token))
			if err != nil {
				t.Fatal(err)
			}
			b, _ := client.Bucket(testBucket)
			err = b.PutObject("k", strings.NewReader("x"))
			url, signErr := b.SignURL("k", oss.HTTPGet, 60)
			if signErr != nil {
				t.Fatal(signErr)
			}
			if v == oss.AuthV2 {
				url = "" // the SDK signs such a URL with the key of its configuration
			}
			if c.code == "" {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if _, err := b.GetObjectWithURL(url); url != "" && err != nil {
					t.Errorf("%s, URL: %v", name, err)
				}
				continue
			}
			wantCode(t, err, 403, c.code)
			if url != "" {
				_, err = b.GetObjectWithURL(url)
				wantCode(t, err, 403, c.code)
			}
		}
	})
}

func TestHostNamesStandForBuckets(t *testing.T) {
	o := testOptions()
	o.Domains = []string{"OSS.test"}
	o.CNames = map[string]string{"files.example.org": testBucket}
	r := newRigWith(t, o)
	r.put("a/b", []byte("bytes"))
	at := strings.TrimPrefix(r.web.URL, "http://")
	// A proxy is what makes names lead here without a name service.
	for name, c := range map[string]struct {
		endpoint string
		options  []oss.ClientOption
		code     string
	}{
		"virtual hosted":        {"http://oss.test", nil, ""},
		"with a port":           {"http://oss.test:81", nil, ""},
		"a host of its own":     {"http://files.example.org", []oss.ClientOption{oss.UseCname(true)}, ""},
		"path style at a name":  {"http://oss.test", []oss.ClientOption{oss.ForcePathStyle(true)}, "SecondLevelDomainForbidden"},
		"path style elsewhere":  {"http://other.test", []oss.ClientOption{oss.ForcePathStyle(true)}, ""},
		"path style at the IP":  {"http://" + at, nil, ""},
		"a bucket of no domain": {"http://other.test", nil, "NoSuchBucket"},
	} {
		allVersions(t, func(t *testing.T, v oss.AuthVersionType) {
			options := append([]oss.ClientOption{oss.AuthVersion(v), oss.Region(testRegion), oss.Proxy(r.web.URL)}, c.options...)
			client, err := oss.New(c.endpoint, testKey, testSecret, options...)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := client.Bucket(testBucket)
			body, err := b.GetObject("a/b")
			switch {
			case c.code == "NoSuchBucket": // it is read as path style, so the signature is for another resource
				if err == nil {
					t.Errorf("%s: the bucket of an unknown host was found", name)
				}
			case c.code != "":
				wantCode(t, err, 403, c.code)
			case err != nil:
				t.Errorf("%s: %v", name, err)
			default:
				got, _ := io.ReadAll(body)
				if string(got) != "bytes" {
					t.Errorf("%s: %q", name, got)
				}
			}
			if c.code == "" && !strings.Contains(name, "own") {
				if list, err := client.ListBuckets(); err != nil || len(list.Buckets) != 1 {
					t.Errorf("%s: %v %v", name, list, err)
				}
			}
		})
	}
}
