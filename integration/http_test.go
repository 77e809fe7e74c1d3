package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ossmount/ossmount/integration/harness"
)

// pageOf is where a mount serves with --http, and its token.
type pageOf struct{ Address, Token string }

func (m *mount) page() (p pageOf) {
	m.e.Helper()
	var s struct{ HTTP pageOf }
	m.e.ok(json.Unmarshal([]byte(m.e.command(0, "status", "--json", m.Point).Out), &s))
	if s.HTTP.Address == "" || s.HTTP.Token == "" {
		m.e.Fatalf("status tells no address and token: %+v", s)
	}
	return s.HTTP
}

func (p pageOf) url(path string) string { return "http://" + p.Address + path }

// ask sends a request, with a token if there is one.
func (e *env) ask(method, url, token, body string) (code int, text string) {
	e.Helper()
	req, err := http.NewRequestWithContext(e.soon(), method, url, strings.NewReader(body))
	e.ok(err)
	if token != "" {
		req.Header.Set("X-Ossmount-Token", token)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	e.ok(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	e.ok(err)
	return resp.StatusCode, string(b)
}

// metric reads one value.
func (e *env) metric(p pageOf, series string) float64 {
	e.Helper()
	code, text := e.ask("GET", p.url("/metrics"), "", "")
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(text)
	if code != 200 || m == nil {
		e.Fatalf("metrics: %d, no %s in\n%s", code, series, strings.Join(regexp.MustCompile(`(?m)^ossmount.*$`).FindAllString(text, -1), "\n"))
	}
	v, err := strconv.ParseFloat(m[1], 64)
	e.ok(err)
	return v
}

func TestWhatIsServedOverHTTP(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.put("there", strings.NewReader(strings.Repeat("what OSS has ", 10_000)))
	m := e.mount("cache", "--http=0", "--part-size=1MiB", "--multipart-threshold=2MiB")
	p := m.page()
	st, err := os.Stat(filepath.Join(m.Cache, "http-token"))
	e.ok(err)
	if st.Mode().Perm() != 0o600 {
		t.Errorf("the token's file is %v", st.Mode())
	}

	e.reads(m.in("there"), strings.Repeat("what OSS has ", 10_000))
	e.write(m.in("small"), "text")
	e.write(m.in("big"), strings.Repeat("0123456789abcdef", 4<<20/16))
	unix.Getxattr(m.in("small"), "user.missing", make([]byte, 8))
	m.wait(m.Point)
	code, text := e.ask("GET", p.url("/status"), "", "")
	var s harness.Status
	e.ok(json.Unmarshal([]byte(text), &s))
	if code != 200 || s.Mountpoint != m.Point || strings.Contains(text, p.Token) {
		t.Errorf("/status: %d %s", code, text)
	}
	for series, want := range map[string]float64{
		"ossmount_ready":                  1,
		"ossmount_pending_changes":        0,
		"ossmount_uploaded_objects_total": 2,
		"ossmount_uploaded_parts_total":   4,
		"ossmount_uploaded_bytes_total":   4<<20 + 4,
		"ossmount_oss_reachable":          1,
		"ossmount_downloaded_bytes_total": 130_000,
		`ossmount_oss_requests_total{operation="PutObject",result="success"}`:  1,
		`ossmount_oss_requests_total{operation="UploadPart",result="success"}`: 4,
		`ossmount_requests_in_flight`:                                          0,
	} {
		if got := e.metric(p, series); got != want {
			t.Errorf("%s is %v, want %v", series, got, want)
		}
	}
	for _, series := range []string{`ossmount_fuse_request_seconds_count{operation="Create"}`, `ossmount_fuse_errors_total{errno="ENODATA",operation="GetXAttr"}`, "ossmount_journal_commit_seconds_count"} {
		if e.metric(p, series) < 1 {
			t.Errorf("%s is 0", series)
		}
	}

	for name, c := range map[string]struct {
		method, path, token, body string
		code                      int
		says                      string
	}{
		"retry without a token":         {"POST", "/recover", "", `{"do":"retry","path":"x"}`, 401, "token"},
		"retry with a wrong one":        {"POST", "/recover", "wrong", `{"do":"retry","path":"x"}`, 401, "token"},
		"retry of what is on OSS":       {"POST", "/recover", p.Token, `{"do":"retry","path":"small"}`, 500, "it is on OSS"},
		"a look at local paths":         {"POST", "/recover", p.Token, `{"do":"look","path":"small"}`, 500, "cannot be done over HTTP"},
		"waking what waits for a time":  {"POST", "/recover", p.Token, `{"do":"wake"}`, 200, m.Point},
		"an end of the mount over HTTP": {"POST", "/umount", p.Token, `{}`, 404, ""},
		"the stacks over HTTP":          {"POST", "/goroutines", p.Token, `{}`, 404, ""},
		"the page":                      {"GET", "/", "", "", 200, "<!doctype html>"},
		"a list that there is not":      {"GET", "/changes?list=all", "", "", 500, "use carried or stuck"},
	} {
		if code, text := e.ask(c.method, p.url(c.path), c.token, c.body); code != c.code || !strings.Contains(text, c.says) {
			t.Errorf("%s: %d %.200s, want %d %q", name, code, text, c.code, c.says)
		}
	}
	m.umount(0)
	if _, err := os.Stat(filepath.Join(m.Cache, "http-token")); err == nil {
		t.Error("the token is left in the cache directory")
	}
	if strings.Contains(m.P.Err.String()+m.P.Out.String(), p.Token) {
		t.Error("the token is in the output of the daemon")
	}
}

// Whoever restarts what is not healthy must not end a daemon that keeps bytes for an
// OSS that is away.
func TestHealthIsThatOfTheMountAndTheCacheDisk(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--http=0", "--drain=1h", "--doubt=1s")
	p := m.page()
	answers := func(path string, want int) {
		t.Helper()
		if code, text := e.ask("GET", p.url(path), "", ""); code != want {
			t.Errorf("%s: %d %s, want %d", path, code, text, want)
		}
	}
	answers("/healthz", 200)
	answers("/readyz", 200)
	e.ok(e.server.Kill())
	e.write(m.in("f"), "text")
	e.poll("OSS is known to be away", patience, func() bool { return e.metric(p, "ossmount_oss_reachable") == 0 })
	answers("/healthz", 200)
	answers("/readyz", 200)

	health := filepath.Join(m.Cache, "health")
	e.ok(os.Remove(health))
	e.ok(os.Mkdir(health, 0o700)) // what is written there is lost
	e.poll("the cache disk fails", patience, func() bool {
		code, text := e.ask("GET", p.url("/healthz"), "", "")
		return code == 503 && strings.Contains(text, "the cache disk fails")
	})
	e.ok(os.Remove(health))
	e.poll("it works again", patience, func() bool { code, _ := e.ask("GET", p.url("/healthz"), "", ""); return code == 200 })

	e.ok(syscall.Kill(m.P.PID(), syscall.SIGTERM)) // it drains: OSS is away
	e.poll("it is not ready any more", patience, func() bool { code, _ := e.ask("GET", p.url("/readyz"), "", ""); return code == 503 })
	answers("/healthz", 200)
	if e.metric(p, "ossmount_ready") != 0 {
		t.Error("ossmount_ready is 1 at the end")
	}
	e.ok(e.server.Start(e.soon()))
	if code, err := m.P.Wait(patience); err != nil || code != 0 {
		t.Errorf("the daemon ended with %d %v", code, err)
	}
	if _, err := os.Stat(health); err == nil {
		t.Error("the file of the look is left")
	}
}

// Where programs meet something else in its place, the mount does not serve.
func TestHealthOfAMountThatIsCovered(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--http=0")
	p := m.page()
	e.sh(`mount -t tmpfs tmpfs "$1"`, m.Point)
	covered := true
	uncover := func() {
		if covered {
			e.sh(`umount "$1"`, m.Point)
			covered = false
		}
	}
	defer uncover()
	e.poll("the mount does not serve", patience, func() bool {
		code, text := e.ask("GET", p.url("/healthz"), "", "")
		return code == 503 && strings.Contains(text, "the mount does not serve")
	})
	uncover()
	e.poll("it serves again", patience, func() bool { code, _ := e.ask("GET", p.url("/healthz"), "", ""); return code == 200 })
}

// A list of thousands is read in pages, with what each change waits for.
func TestChangesAreListedInPages(t *testing.T) {
	t.Parallel()
	e := setup(t)
	_, err := e.server.Fault("error,code=InvalidArgument,status=400,op=PutObject,key=no")
	e.ok(err)
	m := e.mount("cache", "--http=0")
	p := m.page()
	e.write(m.in("no"), "parked")
	e.poll("it is parked", patience, func() bool { return m.status().Queue.Parked == 1 })
	e.ok(e.server.Kill()) // nothing more is carried
	var want []string
	for i := range 250 {
		name := fmt.Sprintf("d%d/File %03d", i%2, i)
		e.ok(os.MkdirAll(filepath.Dir(m.in(name)), 0o755))
		e.write(m.in(name), "text")
		want = append(want, name)
	}
	slices.Sort(want)
	type changes struct {
		Rows []struct{ Path, State, Kind, Reason, Remedy string }
		Next string
	}
	list := func(query string) (names []string, pages int) {
		t.Helper()
		for after := ""; ; {
			var c changes
			_, text := e.ask("GET", p.url("/changes?max=60&"+query+"&after="+strings.ReplaceAll(after, " ", "%20")), "", "")
			e.ok(json.Unmarshal([]byte(text), &c))
			for _, r := range c.Rows {
				if !strings.HasSuffix(r.Path, "/") {
					names = append(names, r.Path)
				}
				if query == "list=stuck" && (r.State != "parked" || !strings.Contains(r.Reason, "InvalidArgument") || r.Remedy == "") {
					t.Errorf("%+v", r)
				}
			}
			if pages++; c.Next == "" || pages > 100 {
				return names, pages
			}
			after = c.Next
		}
	}
	if got, n := list("list=carried"); !slices.Equal(got, want) || n != 5 {
		t.Errorf("%d names on %d pages: %q", len(got), n, got)
	}
	if got, _ := list("contains=FILE%2010"); len(got) != 10 || got[0] != "d0/File 100" {
		t.Errorf("those with a name in it: %q", got)
	}
	if got, _ := list("list=stuck"); len(got) != 1 || got[0] != "no" {
		t.Errorf("those that are stuck: %q", got)
	}
	m.umount(3, "--drain=0s")
	e.ok(e.server.Start(e.soon()))
}

// ls -l asks for the ACL and the label of each name, unless the first says that the file
// system has none.
func TestListingAsksOnceForWhatNoFileHas(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--http=0")
	p := m.page()
	e.forest(m.in("tree"), 1, 100)
	dir := m.in("tree/dir000")
	for _, name := range []string{"system.posix_acl_access", "security.selinux", "trusted.x", "security.capability"} {
		want := unix.ENOTSUP
		if name == "security.capability" { // the kernel takes no other answer for "it has none"
			want = unix.ENODATA
		}
		if _, err := unix.Getxattr(dir+"/file0000", name, make([]byte, 100)); err != want {
			t.Errorf("getxattr of %s: %v, want %v", name, err, want)
		}
	}
	const asked = `ossmount_fuse_request_seconds_count{operation="GetXAttr"}`
	before := e.metric(p, asked)
	if out := e.sh(`ls -l "$1"`, dir); strings.Count(out, "\n") != 101 {
		t.Errorf("ls -l lists %s", out)
	}
	if n := e.metric(p, asked) - before; n > 4 {
		t.Errorf("ls -l of 100 files asked for %v attributes", n)
	}
	m.umount(0)
}

// When our own uploads were modified is seen in a listing, and noted for many of them at
// once.
func TestUploadsAreDatedTogether(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--http=0")
	p := m.page()
	e.forest(m.in("tree"), 1, 1000)
	m.wait(m.Point)
	const commits = "ossmount_journal_commit_seconds_count"
	before := e.metric(p, commits)
	if out := e.sh(`ls -l "$1"`, m.in("tree/dir000")); strings.Count(out, "\n") != 1001 {
		t.Errorf("ls -l lists %s", out)
	}
	if n := e.metric(p, commits) - before; n < 1 || n > 60 {
		t.Errorf("%v commits for ls -l of 1,000 new objects", n)
	}
	m.umount(0)
}
