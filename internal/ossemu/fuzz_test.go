package ossemu

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// fuzzServer has one bucket with one object, "k".
func fuzzServer(f *testing.F) *Server {
	f.Helper()
	s, err := Open(context.Background(), f.TempDir(), testOptions())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	if err := s.CreateBucket(testBucket); err != nil {
		f.Fatal(err)
	}
	err = s.store.change(func() (record, error) {
		return record{kind: recPut, bucket: testBucket, object: &object{key: "k", kind: kindNormal}}, nil
	})
	if err != nil {
		f.Fatal(err)
	}
	return s
}

// refusedByOSS says that err is an answer that blames the client, which is all
// that bytes from outside may lead to.
func refusedByOSS(t *testing.T, err error) {
	t.Helper()
	var e *apiError
	if !errors.As(err, &e) || e.status < 400 || e.status >= 500 || e.code == "" {
		t.Errorf("%v is no refusal", err)
	}
}

func FuzzCompleteXML(f *testing.F) {
	f.Add([]byte("<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"A\"</ETag></Part></CompleteMultipartUpload>"), "")
	f.Add([]byte{}, "yes")
	s := fuzzServer(f)
	f.Fuzz(func(t *testing.T, body []byte, all string) {
		r := httptest.NewRequest("POST", "/"+testBucket+"/k?uploadId=U", bytes.NewReader(body))
		r.Header.Set("x-oss-complete-all", all)
		request, takeAll, err := s.newCall(r).readComplete()
		switch {
		case err != nil:
			refusedByOSS(t, err)
		case takeAll && len(request.Parts) > 0, !takeAll && (len(request.Parts) == 0 || len(request.Parts) > maxParts):
			t.Errorf("%d parts are accepted, all %v", len(request.Parts), takeAll)
		default:
			// Whatever is listed: what was not uploaded does not become an object.
			u := &upload{parts: map[int]*part{}}
			if _, err := chooseParts(u, request, takeAll); err == nil {
				t.Error("an upload without parts is complete")
			} else {
				refusedByOSS(t, err)
			}
		}
	})
}

func FuzzTaggingXML(f *testing.F) {
	f.Add([]byte("<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>"))
	f.Add([]byte("<Tagging><TagSet/></Tagging>"))
	s := fuzzServer(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		ask := func(method string, body []byte) (*answer, error) {
			c := s.newCall(httptest.NewRequest(method, "/"+testBucket+"/k?tagging", bytes.NewReader(body)))
			return c.op.run(c)
		}
		if _, err := ask("PUT", body); err != nil {
			refusedByOSS(t, err)
			return
		}
		first, err := ask("GET", nil)
		if err != nil {
			t.Fatal(err)
		}
		// What was taken is given out in a form that is taken again, and means
		// the same.
		printed := marshal(first.xml)
		if _, err := ask("PUT", printed); err != nil {
			t.Fatalf("%s is not taken back: %v", printed, err)
		}
		second, err := ask("GET", nil)
		if err != nil || !bytes.Equal(marshal(second.xml), printed) {
			t.Errorf("%v: %s, and then %s", err, printed, marshal(second.xml))
		}
		if n := len(first.xml.(tagging).Tags); n > 10 {
			t.Errorf("%d tags", n)
		}
	})
}

// FuzzSignature reads signatures of headers and URLs. None is right: nobody
// guesses an HMAC.
func FuzzSignature(f *testing.F) {
	now := time.Date(2022, 12, 28, 10, 27, 41, 0, time.UTC)
	for _, v := range vectors {
		at := v.time().Format(http.TimeFormat)
		f.Add(strings.Replace(v.auth, "ak", testKey, 1)+"x", v.query, at, v.header["x-oss-date"])
	}
	f.Add("", "x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-credential=ak/20221228/cn-hangzhou/oss/aliyun_v4_request&x-oss-date=20221228T102741Z&x-oss-expires=60&x-oss-signature=00&x-oss-additional-headers=host", "", "")
	f.Add("", "OSSAccessKeyId=ak&Expires=1672223321&Signature=AAAA", "", "")
	s := fuzzServer(f)
	s.o.Now = func() time.Time { return now }
	f.Fuzz(func(t *testing.T, authorization, query, date, stamp string) {
		r := httptest.NewRequest("GET", "/"+testBucket+"/k", nil)
		r.URL.RawQuery = query
		for name, value := range map[string]string{"Authorization": authorization, "Date": date, "X-Oss-Date": stamp} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		err := s.newCall(r).authorise()
		if err == nil {
			t.Fatal("believed")
		}
		refusedByOSS(t, err)
	})
}

func FuzzQuery(f *testing.F) {
	f.Add("a=b&c=%2F+d&e")
	f.Add("a;b=%zz&=&&x==")
	f.Fuzz(func(t *testing.T, raw string) {
		q := parseQuery(raw)
		var again []string
		for _, p := range q {
			again = append(again, url.QueryEscape(p.name)+"="+escape(p.value))
		}
		if got := parseQuery(strings.Join(again, "&")); !slices.Equal(got, q) {
			t.Errorf("%q is %q, and then %q", raw, q, got)
		}
	})
}
