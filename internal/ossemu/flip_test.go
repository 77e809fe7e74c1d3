package ossemu

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"slices"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// captured is what the SDK would send, taken from it before it leaves.
type captured struct{ raw []byte }

func (c *captured) RoundTrip(r *http.Request) (*http.Response, error) {
	raw, err := httputil.DumpRequestOut(r, true)
	if err == nil {
		c.raw, err = raw, errors.New("captured")
	}
	return nil, err
}

// spot is one byte of the head of a request, and what it is part of.
type spot struct {
	at     int
	region string
}

// spots names every byte of the head: "method", "path", "query", "protocol",
// "line end", or a header.
func spots(raw []byte) []spot {
	var all []spot
	at := 0
	add := func(text, region string) {
		for range len(text) {
			all = append(all, spot{at, region})
			at++
		}
	}
	head, _, _ := strings.Cut(string(raw), "\r\n\r\n")
	for i, line := range strings.Split(head, "\r\n") {
		if i == 0 {
			method, rest, _ := strings.Cut(line, " ")
			target, protocol, _ := strings.Cut(rest, " ")
			path, query, found := strings.Cut(target, "?")
			add(method+" ", "method")
			add(path, "path")
			if found {
				add("?"+query, "query")
			}
			add(" "+protocol, "protocol")
		} else {
			name, _, _ := strings.Cut(line, ":")
			add(line, "header "+http.CanonicalHeaderKey(name))
		}
		add("\r\n", "line end")
	}
	return all
}

// unsigned is what no scheme covers, and why that does no harm here.
var unsigned = map[string]string{
	"protocol":               "HTTP/1.1 or 1.0: OSS signs what is asked, not how it is carried",
	"header Host":            "the bucket is in the path; where it is in the name it is signed as the resource",
	"header User-Agent":      "says nothing about the request",
	"header Accept-Encoding": "says nothing about the request",
	"header Content-Length":  "not signed unless the client names it (V4); a body of another length breaks off",
}

// fingerprint is all of a request but what is unsigned. Names of headers and
// hexadecimal digits are the same in upper and lower case.
func fingerprint(r *http.Request) string {
	h := maps.Clone(r.Header)
	maps.DeleteFunc(h, func(name string, _ []string) bool { return unsigned["header "+name] != "" })
	return fmt.Sprintf("%s %q %q %q", r.Method, r.URL.Path, parseQuery(r.URL.RawQuery), h)
}

// TestAFlippedByteIsRefused flips each byte of signed requests, in more than
// one way, sends them over TCP, and sees that none that says something else is
// believed. A flip that changes nothing of what the request says (a letter of
// a header's name in the other case) is the same request.
func TestAFlippedByteIsRefused(t *testing.T) {
	s := newRigWith(t, withToken()).s
	judge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if code := verdict(t, s, r); code != "" {
			http.Error(w, code, http.StatusForbidden)
			return
		}
		io.WriteString(w, fingerprint(r))
	}))
	defer judge.Close()
	requests := map[string][]byte{}
	allVersions(t, func(t *testing.T, v oss.AuthVersionType) {
		for name, raw := range signedRequests(t, judge.URL, v) {
			requests[fmt.Sprintf("%s, %s", v, name)] = raw
		}
	})
	for name, raw := range requests {
		t.Run(name, func(t *testing.T) {
			status, same := ask(t, judge.Listener.Addr(), raw)
			if status != 200 {
				t.Fatalf("as it is: %d %s\n%s", status, same, raw)
			}
			believed := map[string]int{}
			for i, p := range spots(raw) {
				for _, mask := range []byte{1, 1 << (1 + i%4), 0x20, 0x80} {
					flipped := bytes.Clone(raw)
					flipped[p.at] ^= mask
					status, got := ask(t, judge.Listener.Addr(), flipped)
					if status != 200 {
						continue
					}
					if mask != 0x20 { // the other case of a letter may be the same name
						believed[p.region]++
					}
					// Where a line ends wrongly, what follows belongs to the line
					// before or is lost: that is seen in the fingerprint.
					if unsigned[p.region] == "" && got != same {
						t.Errorf("byte %d (%s), %q instead of %q, is believed:\n%s", p.at, p.region, flipped[p.at], raw[p.at], flipped)
					}
				}
			}
			for region := range unsigned {
				there := slices.ContainsFunc(spots(raw), func(p spot) bool { return p.region == region })
				if there && believed[region] == 0 {
					t.Errorf("%s is said to be unsigned, and no change of it is believed", region)
				}
			}
		})
	}
}

// signedRequests gives requests of the SDK, signed in the header and in the URL.
func signedRequests(t *testing.T, url string, v oss.AuthVersionType) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	c := &captured{}
	client, err := oss.New(url, testKey, testSecret, oss.AuthVersion(v), oss.Region(testRegion), oss.SecurityToken("token"), oss.HTTPClient(&http.Client{Transport: c}))
	if err != nil {
		t.Fatal(err)
	}
	b, err := client.Bucket(testBucket)
	if err != nil {
		t.Fatal(err)
	}
	key := "a/b c+d~é%/x.txt"
	b.PutObject(key, strings.NewReader("body"), oss.ContentType("text/x"), oss.Meta("who", "alice"), oss.ContentMD5(md5Of([]byte("body"))))
	out["put in the header"] = c.raw
	up := oss.InitiateMultipartUploadResult{Bucket: testBucket, Key: key, UploadID: "0123456789ABCDEF"}
	b.UploadPart(up, strings.NewReader("part"), 4, 7)
	out["part in the header"] = c.raw
	for name, options := range map[string][]oss.Option{
		"get in the URL": {oss.ResponseContentType("a/b")},
		"put in the URL": {oss.ContentType("text/x"), oss.Meta("who", "alice")},
	} {
		method := oss.HTTPGet
		if strings.HasPrefix(name, "put") {
			method = oss.HTTPPut
		}
		signed, err := b.SignURL(key, method, 600, options...)
		if err != nil {
			t.Fatal(err)
		}
		if method == oss.HTTPGet {
			b.GetObjectWithURL(signed)
		} else {
			b.PutObjectWithURL(signed, strings.NewReader("body"), options...)
		}
		out[name] = c.raw
	}
	return out
}

// ask sends raw on a connection of its own and ends it, so that nobody waits
// for more of a body.
func ask(t *testing.T, to net.Addr, raw []byte) (status int, body string) {
	t.Helper()
	conn, err := net.Dial(to.Network(), to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The server may refuse, and reset the connection, before all is sent.
	conn.Write(raw)
	conn.(*net.TCPConn).CloseWrite()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}
