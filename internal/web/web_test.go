package web

import (
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func TestGuard(t *testing.T) {
	const token = "0123456789abcdef"
	h := (&Guard{Token: token, Host: "mount.example", Open: []string{"/metrics"}}).Before(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "told") }))
	for name, c := range map[string]struct {
		method, url string
		header      map[string]string
		code        int
	}{
		"a reader by the number":                 {"GET", "http://127.0.0.1:9100/status", nil, 200},
		"a reader by the other kind of number":   {"GET", "http://[::1]:9100/status", nil, 200},
		"a reader by localhost":                  {"GET", "http://localhost:9100/status", nil, 200},
		"a reader by the name of the flag":       {"GET", "http://Mount.Example:9100/status", nil, 200},
		"a reader by a name that leads here":     {"GET", "http://evil.example:9100/status", nil, 421},
		"a name that begins as ours":             {"GET", "http://localhost.evil.example/status", nil, 421},
		"Prometheus by whatever name":            {"GET", "http://ossmount.svc:9100/metrics", nil, 200},
		"a writer with the token":                {"POST", "http://127.0.0.1:9100/recover", map[string]string{TokenHeader: token}, 200},
		"a writer without":                       {"POST", "http://127.0.0.1:9100/recover", nil, 401},
		"a writer with a wrong one":              {"POST", "http://127.0.0.1:9100/recover", map[string]string{TokenHeader: token[1:] + "0"}, 401},
		"a writer with a part of it":             {"POST", "http://127.0.0.1:9100/recover", map[string]string{TokenHeader: token[:4]}, 401},
		"a token in the query":                   {"POST", "http://127.0.0.1:9100/recover?token=" + token, nil, 401},
		"the page of another site":               {"POST", "http://127.0.0.1:9100/recover", map[string]string{TokenHeader: token, "Origin": "http://evil.example"}, 403},
		"the same, as newer browsers say it":     {"POST", "http://127.0.0.1:9100/recover", map[string]string{TokenHeader: token, "Sec-Fetch-Site": "cross-site"}, 403},
		"our own page":                           {"POST", "http://127.0.0.1:9100/recover", map[string]string{TokenHeader: token, "Origin": "http://127.0.0.1:9100", "Sec-Fetch-Site": "same-origin"}, 200},
		"a writer by a name that leads here":     {"POST", "http://evil.example:9100/recover", map[string]string{TokenHeader: token}, 421},
		"an open path is open to readers only":   {"POST", "http://ossmount.svc:9100/metrics", nil, 401},
		"a method that nobody asks for":          {"DELETE", "http://127.0.0.1:9100/status", nil, 401},
		"a page of another site that only reads": {"GET", "http://127.0.0.1:9100/status", map[string]string{"Origin": "http://evil.example"}, 200},
	} {
		r := httptest.NewRequest(c.method, c.url, nil)
		for k, v := range c.header {
			r.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.code {
			t.Errorf("%s: %d %s, want %d", name, w.Code, strings.TrimSpace(w.Body.String()), c.code)
		}
		if strings.Contains(w.Body.String(), token) || w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: the answer tells too much: %v %s", name, w.Header(), w.Body)
		}
	}
}

// Where no token was drawn, an empty one opens nothing.
func TestNoTokenIsNoEmptyToken(t *testing.T) {
	h := (&Guard{}).Before(http.NotFoundHandler())
	r := httptest.NewRequest("POST", "http://127.0.0.1/recover", nil)
	r.Header.Set(TokenHeader, "")
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != 401 {
		t.Errorf("%d", w.Code)
	}
}

func TestPageAndItsFiles(t *testing.T) {
	for path, kind := range map[string]string{"/": "text/html", "/page/page.js": "javascript", "/page/page.css": "text/css"} {
		w := httptest.NewRecorder()
		Page().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != 200 || !strings.Contains(w.Header().Get("Content-Type"), kind) || w.Header().Get("Content-Security-Policy") != policy {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
	}
	w := httptest.NewRecorder()
	if Page().ServeHTTP(w, httptest.NewRequest("GET", "/other", nil)); w.Code != 404 {
		t.Errorf("/other: %d", w.Code)
	}
}

// What the policy would refuse in a browser is not in the page.
func TestPageHasNothingInlineAndNothingFromElsewhere(t *testing.T) {
	for pattern, why := range map[string]string{
		`<script[^>]*>[^<]`:                  "a script in the page",
		`<style`:                             "a style in the page",
		` style=`:                            "a style of an element",
		` on[a-z]+=`:                         "a handler in an attribute",
		`innerHTML|outerHTML|document.write`: "text that becomes markup",
		`(https?:)?//[a-z]+[.:]`:             "an address",
	} {
		re := regexp.MustCompile(pattern)
		err := fs.WalkDir(files, "page", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := files.ReadFile(path)
			text := strings.ReplaceAll(string(b), "http://www.w3.org/2000/svg", "") // a name, never asked for
			if m := re.FindString(text); m != "" {
				t.Errorf("%s: %s: %q", path, why, m)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
