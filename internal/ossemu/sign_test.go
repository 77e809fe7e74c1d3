package ossemu

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// vector is a request whose signature is known from elsewhere.
type vector struct {
	name, path, query string
	header            map[string]string
	auth              string
	at                time.Time
}

var vectors = []vector{
	{
		name: "V1 of the Go SDK", path: "/examplebucket/dir%2Fa%20b.txt",
		header: map[string]string{"Content-Type": "text/plain", "Date": "Wed, 28 Dec 2022 10:27:41 GMT", "x-oss-meta-author": "alice"},
		auth:   "OSS ak:IkIqBg6rnJ8qwybrQNnVG7EwIbk=",
	},
	{
		name: "V1 with x-oss-date", path: "/examplebucket/nelson",
		header: map[string]string{
			"Content-MD5": "eB5eJF1ptWaXm4bijSPyxw==", "Content-Type": "text/html", "Date": "Wed, 28 Dec 2022 10:27:41 GMT",
			"x-oss-date": "Wed, 28 Dec 2022 10:27:41 GMT", "x-oss-meta-author": "alice", "x-oss-meta-magic": "abracadabra",
		},
		auth: "OSS ak:kSHKmLxlyEAKtZPkJhG9bZb5k7M=",
	},
	{
		name: "V1 with a sub-resource", path: "/examplebucket/nelson", query: "acl",
		header: map[string]string{
			"Content-MD5": "eB5eJF1ptWaXm4bijSPyxw==", "Content-Type": "text/html", "Date": "Wed, 28 Dec 2022 10:27:41 GMT",
			"x-oss-date": "Wed, 28 Dec 2022 10:27:41 GMT", "x-oss-meta-author": "alice", "x-oss-meta-magic": "abracadabra",
		},
		auth: "OSS ak:/afkugFbmWDQ967j1vr6zygBLQk=",
	},
	{
		name: "V4 of the Go SDK, dated by Date", path: "/examplebucket/dir%2Fa%20b.txt",
		header: map[string]string{
			"Content-Type": "text/plain", "Date": "Wed, 28 Dec 2022 10:27:41 GMT", "x-oss-content-sha256": "UNSIGNED-PAYLOAD", "x-oss-meta-author": "alice",
		},
		auth: "OSS4-HMAC-SHA256 Credential=ak/20221228/cn-hangzhou/oss/aliyun_v4_request,Signature=71cd79b5631dba2a7a20c61cf6bdaadecc4d5096010cd2725821280a0a0b19bb",
	},
	{
		name: "V4 of SDK V2, dated by x-oss-date", path: "/bucket/1234%2B-/123/1.txt",
		query: "param1=value1&%2Bparam1=value3&%7Cparam1=value4&%2Bparam2&%7Cparam2&param2",
		header: map[string]string{
			"Content-Type": "text/plain", "x-oss-content-sha256": "UNSIGNED-PAYLOAD", "x-oss-head1": "value", "x-oss-date": "20231216T162057Z",
		},
		auth: "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request,Signature=e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe",
		at:   time.Unix(1702743657, 0),
	},
}

// request builds the vector's request with the given authorization.
func (v vector) request(auth string) *http.Request {
	r := httptest.NewRequest("PUT", v.path, strings.NewReader("x"))
	r.URL.RawQuery = v.query
	for name, value := range v.header {
		r.Header.Set(name, value)
	}
	r.Header.Set("Authorization", auth)
	return r
}

func (v vector) time() time.Time {
	if v.at.IsZero() {
		return time.Date(2022, 12, 28, 10, 27, 41, 0, time.UTC)
	}
	return v.at
}

// signer gives a server for checking signatures, at a fixed time.
func signer(t *testing.T, now time.Time, change func(*Options)) *Server {
	o := testOptions()
	o.Now = func() time.Time { return now }
	if change != nil {
		change(&o)
	}
	s, err := Open(context.Background(), t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// verdict is the code of the refusal, or "" when the signature is right.
func verdict(t *testing.T, s *Server, r *http.Request) string {
	t.Helper()
	err := s.newCall(r).authorise()
	if err == nil {
		return ""
	}
	var e *apiError
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	return e.code
}

func TestKnownSignaturesAreAccepted(t *testing.T) {
	for _, v := range vectors {
		s := signer(t, v.time(), nil)
		if got := verdict(t, s, v.request(v.auth)); got != "" {
			t.Errorf("%s: %s", v.name, got)
		}
	}
}

func TestAChangedRequestIsRefused(t *testing.T) {
	for _, v := range vectors {
		s := signer(t, v.time(), nil)
		changes := map[string]func(r *http.Request){
			"method": func(r *http.Request) { r.Method = "GET" },
			"key":    func(r *http.Request) { r.URL.Path += "x" },
			"type":   func(r *http.Request) { r.Header.Set("Content-Type", "text/other") },
			"md5":    func(r *http.Request) { r.Header.Set("Content-MD5", "other") },
			"added":  func(r *http.Request) { r.Header.Set("x-oss-added", "v") },
			"query":  func(r *http.Request) { r.URL.RawQuery += "&uploads" },
		}
		for name := range v.header {
			if name != "Date" && name != "x-oss-date" && name != "x-oss-content-sha256" {
				changes["header "+name] = func(r *http.Request) { r.Header.Set(name, r.Header.Get(name)+"x") }
			}
		}
		for name, change := range changes {
			r := v.request(v.auth)
			change(r)
			if got := verdict(t, s, r); got != "SignatureDoesNotMatch" {
				t.Errorf("%s, changed %s: %q", v.name, name, got)
			}
		}
		for i := len(v.auth) - 20; i < len(v.auth); i++ {
			flipped := []byte(v.auth)
			flipped[i] ^= 1
			if got := verdict(t, s, v.request(string(flipped))); got != "SignatureDoesNotMatch" {
				t.Errorf("%s, flipped byte %d: %q", v.name, i, got)
			}
		}
	}
}

func TestRefusalsBeforeTheSignature(t *testing.T) {
	for _, v := range vectors {
		at := v.time()
		cases := map[string]struct {
			now    time.Time
			change func(*Options)
			auth   string
			code   string
		}{
			"late by 15 minutes":           {at.Add(15 * time.Minute), nil, v.auth, ""},
			"late by more":                 {at.Add(15*time.Minute + time.Second), nil, v.auth, "RequestTimeTooSkewed"},
			"early by more":                {at.Add(-15*time.Minute - time.Second), nil, v.auth, "RequestTimeTooSkewed"},
			"no keys":                      {at, func(o *Options) { o.Keys = nil }, v.auth, "InvalidAccessKeyId"},
			"another key":                  {at, func(o *Options) { o.Keys = map[string]string{"other": "sk"} }, v.auth, "InvalidAccessKeyId"},
			"an empty key":                 {at, func(o *Options) { o.Keys = map[string]string{"": ""} }, strings.Replace(v.auth, "ak", "", 1), ""},
			"another secret":               {at, func(o *Options) { o.Keys = map[string]string{"ak": "other"} }, v.auth, "SignatureDoesNotMatch"},
			"unsigned":                     {at, nil, "", "AccessDenied"},
			"a scheme that does not exist": {at, nil, "Basic xyz", "InvalidArgument"},
		}
		if strings.HasPrefix(v.auth, schemeV4) {
			c := cases["no keys"]
			c.change, c.code = func(o *Options) { o.Region = "cn-other" }, "InvalidArgument"
			cases["another region"] = c
		}
		for name, c := range cases {
			s := signer(t, c.now, c.change)
			for _, bucket := range []string{"examplebucket", "bucket"} {
				if err := s.CreateBucket(bucket); err != nil {
					t.Fatal(err)
				}
			}
			got := verdict(t, s, v.request(c.auth))
			if name == "an empty key" {
				if got == "" {
					t.Errorf("%s: an empty access key was believed", v.name)
				}
				continue
			}
			if got != c.code {
				t.Errorf("%s, %s: %q, want %q", v.name, name, got, c.code)
			}
		}
	}
}

// withToken believes the test key with a security token too.
func withToken() Options {
	o := testOptions()
	o.Tokens = []Token{{AccessKeyID: testKey, AccessKeySecret: testSecret, SecurityToken: "token"}}
	return o
}

func TestV4AdditionalHeadersAndSTS(t *testing.T) {
	allVersions(t, func(t *testing.T, v oss.AuthVersionType) {
		r := newRigWith(t, withToken())
		b := r.bucket(v, oss.AdditionalHeaders([]string{"date", "host", "content-length", "cache-control"}), oss.SecurityToken("token"))
		if err := b.PutObject("k", strings.NewReader("x"), oss.CacheControl("no-cache")); err != nil {
			t.Fatal(err)
		}
		if _, err := b.ListObjectsV2(oss.Prefix("a b+c&é"), oss.StartAfter("x y")); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAURLLivesForOneSecondToSevenDays(t *testing.T) {
	r := newRig(t)
	r.put("k", []byte("body"))
	b := r.bucket(oss.AuthV4)
	now := time.Now()
	r.s.o.Now = func() time.Time { return now } // none expires in the course of the test
	for _, c := range []struct {
		seconds int64
		code    string // empty: believed
	}{
		{0, "InvalidArgument"},
		{1, ""},
		{7 * 24 * 3600, ""},
		{7*24*3600 + 1, "InvalidArgument"},
		{1<<34 + 1266874890, "InvalidArgument"}, // in nanoseconds it is little more than 2^64
	} {
		get, err := b.SignURL("k", oss.HTTPGet, c.seconds)
		if err != nil {
			t.Fatal(err)
		}
		body, err := b.GetObjectWithURL(get)
		if c.code != "" {
			wantCode(t, err, 400, c.code)
		} else if err != nil {
			t.Errorf("%d seconds: %v", c.seconds, err)
		}
		if err == nil {
			body.Close()
		}
	}
}

func TestPresignedURLs(t *testing.T) {
	allVersions(t, func(t *testing.T, v oss.AuthVersionType) {
		r := newRigWith(t, withToken())
		b := r.bucket(v, oss.SecurityToken("token"))
		key := "a/b c+d~é/../x//y.txt"
		put, err := b.SignURL(key, oss.HTTPPut, 60, oss.ContentType("text/x"))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.PutObjectWithURL(put, strings.NewReader("body"), oss.ContentType("text/x")); err != nil {
			t.Fatal(err)
		}
		wantCode(t, b.PutObjectWithURL(put, strings.NewReader("body"), oss.ContentType("text/y")), 403, "SignatureDoesNotMatch")
		get, err := b.SignURL(key, oss.HTTPGet, 60, oss.ResponseContentType("a/b"))
		if err != nil {
			t.Fatal(err)
		}
		body, err := b.GetObjectWithURL(get)
		if err != nil {
			t.Fatal(err)
		}
		body.Close()
		_, err = b.GetObjectWithURL(strings.Replace(get, "a%2Fb", "a%2Fc", 2))
		if err == nil {
			t.Error("a changed URL was believed")
		}
		r.s.o.Now = func() time.Time { return time.Now().Add(61 * time.Second) }
		_, err = b.GetObjectWithURL(get)
		wantCode(t, err, 403, "AccessDenied")
		r.s.o.Now = time.Now
	})
}
