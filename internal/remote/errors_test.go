package remote

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ossmount/ossmount/internal/object"
)

const requestID = "6556E3AED11E553933CCDEDF"

// asOSS answers as OSS does: with a request ID, and for HEAD with the XML in
// a header.
func asOSS(status int, code, more string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		text := ""
		if code != "" {
			text = fmt.Sprintf("<?xml version=\"1.0\"?>\n<Error><Code>%s</Code><Message>says OSS</Message>%s</Error>", code, more)
		}
		w.Header().Set("X-Oss-Request-Id", requestID)
		if r.Method == http.MethodHead && text != "" {
			w.Header().Set("X-Oss-Err", base64.StdEncoding.EncodeToString([]byte(text)))
		}
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			io.WriteString(w, text)
		}
	}
}

func plain(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			io.WriteString(w, text)
		}
	}
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

var ops = map[string]func(t *testing.T, c *Client) error{
	opHead: func(t *testing.T, c *Client) error { _, err := c.Head(t.Context(), "k"); return err },
	opGet: func(t *testing.T, c *Client) error {
		_, err := c.Get(t.Context(), object.Ref{Key: "k", ETag: "E", Size: 9}, 1, 2)
		return err
	},
	opPut: func(t *testing.T, c *Client) error {
		_, err := c.Put(t.Context(), "k", strings.NewReader("abc"), 3, object.PutOptions{})
		return err
	},
	opCopy: func(t *testing.T, c *Client) error {
		_, err := c.Copy(t.Context(), object.Ref{Key: "s", ETag: "E"}, "k", object.PutOptions{})
		return err
	},
	opDelete:     func(t *testing.T, c *Client) error { return c.Delete(t.Context(), "k") },
	opDeleteMany: func(t *testing.T, c *Client) error { _, err := c.DeleteMany(t.Context(), []string{"k"}); return err },
	opList:       func(t *testing.T, c *Client) error { _, err := c.List(t.Context(), object.ListQuery{}); return err },
	opInitiate: func(t *testing.T, c *Client) error {
		_, err := c.Initiate(t.Context(), "k", object.PutOptions{})
		return err
	},
	opPart: func(t *testing.T, c *Client) error {
		_, err := c.UploadPart(t.Context(), "k", "U", 1, strings.NewReader("abc"), 3)
		return err
	},
	opPartCopy: func(t *testing.T, c *Client) error {
		_, err := c.UploadPartCopy(t.Context(), "k", "U", 1, object.Ref{Key: "s", ETag: "E", Size: 9}, 0, 9)
		return err
	},
	opComplete: func(t *testing.T, c *Client) error {
		_, err := c.Complete(t.Context(), "k", "U", []object.Part{{Number: 1, ETag: "E"}}, object.PutOptions{})
		return err
	},
	opAbort:   func(t *testing.T, c *Client) error { return c.Abort(t.Context(), "k", "U") },
	opParts:   func(t *testing.T, c *Client) error { _, err := c.Parts(t.Context(), "k", "U"); return err },
	opUploads: func(t *testing.T, c *Client) error { _, err := c.Uploads(t.Context(), "k"); return err },
}

func TestAnswersAreSorted(t *testing.T) {
	for _, tc := range []struct {
		op     string
		answer http.HandlerFunc
		kind   object.Kind
		fate   object.Fate
	}{
		{opPut, asOSS(500, "InternalError", ""), object.Again, object.Unknown},
		{opPut, asOSS(502, "", ""), object.Again, object.Unknown},
		{opComplete, asOSS(504, "GatewayTimeout", ""), object.Again, object.Unknown},
		{opPut, asOSS(503, "ServiceUnavailable", ""), object.Again, object.Unknown},
		{opPut, asOSS(503, "TotalQpsLimitExceeded", ""), object.Again, object.Answered},
		{opComplete, asOSS(503, "UploadTrafficRateLimitExceeded", ""), object.Again, object.Answered},
		{opPut, asOSS(429, "TooManyRequests", ""), object.Again, object.Answered},
		{opPut, asOSS(501, "NotImplemented", ""), object.Parked, object.Answered},
		{opPut, plain(502, "<html>bad gateway</html>"), object.Again, object.Unknown},
		{opPut, plain(503, ""), object.Again, object.Unknown},
		{opPut, plain(403, "<html>forbidden by proxy</html>"), object.Again, object.Unknown},
		{opDelete, plain(404, "404 page not found\n"), object.Again, object.Unknown},
		{opDelete, plain(200, "<html>log in first</html>"), object.Again, object.Unknown},
		{opPut, plain(200, "<html>log in first</html>"), object.Again, object.Unknown},
		{opPut, plain(302, ""), object.Again, object.Unknown},
		{opPut, asOSS(307, "", ""), object.Wait, object.Answered},
		{opPut, asOSS(301, "PermanentRedirect", ""), object.Wait, object.Answered},
		{opPut, asOSS(400, "RequestTimeout", ""), object.Again, object.Answered},
		{opPart, asOSS(400, "InvalidDigest", ""), object.Again, object.Answered},
		{opPut, asOSS(403, "InvalidAccessKeyId", ""), object.Wait, object.Answered},
		{opPut, asOSS(403, "SignatureDoesNotMatch", ""), object.Wait, object.Answered},
		{opPut, asOSS(403, "InvalidSecurityToken", ""), object.Wait, object.Answered},
		{opPut, asOSS(403, "SecurityTokenExpired", ""), object.Wait, object.Answered},
		{opPut, asOSS(403, "RequestTimeTooSkewed", ""), object.Wait, object.Answered},
		{opPut, asOSS(403, "UserDisable", ""), object.Wait, object.Answered},
		{opPut, asOSS(403, "InDebt", ""), object.Wait, object.Answered},
		{opPut, asOSS(404, "NoSuchBucket", ""), object.Wait, object.Answered},
		{opGet, asOSS(404, "NoSuchBucket", ""), object.Wait, object.Answered},
		{opHead, asOSS(404, "NoSuchBucket", ""), object.Wait, object.Answered},
		{opPut, asOSS(401, "", ""), object.Wait, object.Answered},
		{opPut, asOSS(400, "InvalidArgument", "<EC>0002-00000226</EC>"), object.Wait, object.Answered},
		{opPut, asOSS(403, "AccessDenied", "<Endpoint>oss-cn-beijing.aliyuncs.com</Endpoint>"), object.Wait, object.Answered},
		{opPut, asOSS(403, "AccessDenied", ""), object.Denied, object.Answered},
		{opHead, asOSS(403, "AccessDenied", ""), object.Denied, object.Answered},
		{opPart, asOSS(404, "NoSuchUpload", ""), object.Restart, object.Answered},
		{opComplete, asOSS(400, "InvalidPart", ""), object.Restart, object.Answered},
		{opComplete, asOSS(400, "InvalidPartOrder", ""), object.Restart, object.Answered},
		{opPart, asOSS(400, "PartNotSequential", ""), object.Restart, object.Answered},
		{opComplete, asOSS(400, "EntityTooSmall", ""), object.Parked, object.Answered},
		{opPut, asOSS(400, "InvalidObjectName", ""), object.Parked, object.Answered},
		{opPut, asOSS(400, "InvalidArgument", ""), object.Parked, object.Answered},
		{opPut, asOSS(409, "FileImmutable", ""), object.Parked, object.Answered},
		{opGet, asOSS(403, "InvalidObjectState", ""), object.Parked, object.Answered},
		{opPut, asOSS(418, "NeverHeardOf", ""), object.Parked, object.Answered},
		{opPut, asOSS(599, "NeverHeardOf", ""), object.Again, object.Unknown},
		{opPut, asOSS(409, "FileAlreadyExists", ""), object.Conflict, object.Answered},
		{opCopy, asOSS(412, "PreconditionFailed", ""), object.Conflict, object.Answered},
		{opCopy, asOSS(304, "", ""), object.Conflict, object.Answered},
		{opGet, asOSS(304, "", ""), object.Conflict, object.Answered},
		{opHead, asOSS(412, "", ""), object.Conflict, object.Answered},
		{opGet, asOSS(416, "InvalidRange", ""), object.Conflict, object.Answered},
		{opGet, asOSS(404, "NoSuchKey", ""), object.Absent, object.Answered},
		{opGet, asOSS(404, "NoSuchKey", "<Key>control\x01&#x02;</Key>"), object.Absent, object.Answered},
		{opHead, asOSS(404, "NoSuchKey", ""), object.Absent, object.Answered},
		{opHead, asOSS(404, "", ""), object.Absent, object.Answered},
		{opHead, plain(404, ""), object.Again, object.Unknown},
		{opGet, plain(404, "404 page not found"), object.Again, object.Unknown},
		{opGet, asOSS(404, "", ""), object.Again, object.Answered}, // its code was lost on the way
		// Begun with 200, failed afterwards.
		{opCopy, asOSS(200, "InternalError", ""), object.Again, object.Unknown},
		{opComplete, asOSS(200, "InvalidPart", ""), object.Restart, object.Answered},
		{opComplete, plain(200, "<CompleteMultipartUploadResult><ETag>cut"), object.Again, object.Unknown},
		{opComplete, plain(200, "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"), object.Again, object.Unknown},
		{opInitiate, plain(200, "<InitiateMultipartUploadResult></InitiateMultipartUploadResult>"), object.Again, object.Unknown},
		{opList, plain(200, "<html></html>"), object.Again, object.Unknown},
		{opHead, plain(200, ""), object.Again, object.Unknown},
	} {
		w := httptest.NewRecorder()
		tc.answer(w, httptest.NewRequest("GET", "/", nil))
		t.Run(fmt.Sprint(tc.op, " ", w.Code, " ", w.Body.String()), func(t *testing.T) {
			err := ops[tc.op](t, open(t, serve(t, tc.answer), nil))
			wantKind(t, err, tc.kind)
			if f := object.FateOf(err); f != tc.fate {
				t.Errorf("fate %d, want %d: %v", f, tc.fate, err)
			}
		})
	}
}

func TestAbortOfAnUnknownUploadIsDone(t *testing.T) {
	if err := ops[opAbort](t, open(t, serve(t, asOSS(404, "NoSuchUpload", "")), nil)); err != nil {
		t.Fatal(err)
	}
	// A 404 of anything else is not.
	wantKind(t, ops[opAbort](t, open(t, serve(t, asOSS(404, "NoSuchBucket", "")), nil)), object.Wait)
	wantKind(t, ops[opAbort](t, open(t, serve(t, plain(404, "")), nil)), object.Again)
}

// Every call against every way to fail: nothing that is secret shows.
func TestNothingSecretIsShown(t *testing.T) {
	seen := &logBuffer{} // what the server got: the signatures
	quoting := func(status int, code string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			auth := r.Header.Get("Authorization")
			fmt.Fprintln(seen, auth)
			asOSS(status, code, "<SignatureProvided>"+auth+"</SignatureProvided><StringToSign>PUT secretly</StringToSign>")(w, r)
		}
	}
	for name, h := range map[string]http.Handler{
		"signature": quoting(403, "SignatureDoesNotMatch"),
		"argument":  quoting(400, "InvalidArgument"),
		"inside":    quoting(200, "InternalError"),
		"gateway": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(seen, r.Header.Get("Authorization"))
			plain(502, "you sent "+r.Header.Get("Authorization"))(w, r)
		}),
		"cut": http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(seen, r.Header.Get("Authorization"))
			panic(http.ErrAbortHandler)
		}),
	} {
		for _, region := range []string{"", "cn-hangzhou"} {
			t.Run(name+region, func(t *testing.T) {
				log := &logBuffer{}
				url := serve(t, h)
				c := open(t, url, func(o *Options) {
					o.Region, o.Log, o.Credentials = region, log.logger(), fixed{testID, testSecret, testToken}
				})
				var texts strings.Builder
				for op, f := range ops {
					err := f(t, c)
					fmt.Fprintf(&texts, "%v\n%+v\n", err, err)
					if err == nil && op != opDelete {
						t.Errorf("%s: no error", op)
					}
				}
				fmt.Fprintln(&texts, c.Check(t.Context(), "p"), log.String())
				if n := strings.Count(log.String(), "\n"); n != len(ops)+1 {
					t.Errorf("%d lines for %d requests", n, len(ops)+1)
				}
				all := texts.String()
				for _, word := range []string{testSecret, testToken, "Signature=", "Credential=", "secretly", "OSS " + testID, "OSS4"} {
					if strings.Contains(all, word) {
						t.Errorf("%q shows", word)
					}
				}
				for line := range strings.Lines(seen.String()) {
					sig := strings.TrimSpace(line[strings.LastIndexAny(line, ":=,")+1:])
					if strings.HasSuffix(strings.TrimSpace(line), "=") { // base64 ends in =
						sig = strings.TrimSpace(line[strings.LastIndex(line, ":")+1:])
					}
					if len(sig) < 20 || strings.Contains(all, sig) {
						t.Errorf("signature %q shows", sig)
					}
				}
			})
		}
	}
}
