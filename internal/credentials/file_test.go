package credentials

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func hasProxy(c *http.Client) bool { return c.Transport.(*http.Transport).Proxy != nil }

func TestFormsOfAFile(t *testing.T) {
	for name, text := range map[string]string{
		"lines":           "# a comment\n\nOSS_ACCESS_KEY_ID=id\nexport OSS_ACCESS_KEY_SECRET='se=cret'\nOSS_SESSION_TOKEN = \"tok\"\n",
		"names of cloud":  "ALIBABA_CLOUD_ACCESS_KEY_ID=id\r\nALIBABA_CLOUD_ACCESS_KEY_SECRET=se=cret\r\nALIBABA_CLOUD_SECURITY_TOKEN=tok\r\n",
		"JSON":            `{"AccessKeyId": "id", "AccessKeySecret": "se=cret", "SecurityToken": "tok", "Expiration": "2100-01-02T15:04:05Z"}`,
		"JSON of the CLI": `{"mode": "StsToken", "access_key_id": "id", "access_key_secret": "se=cret", "sts_token": "tok", "n": 1}`,
	} {
		k, err := get(t, "file:"+write(t, "key", text))
		if err != nil || k.ID != "id" || k.Secret != "se=cret" || k.Token != "tok" || !k.Expires.IsZero() || !strings.Contains(k.Remedy, "read again") {
			t.Errorf("%s: %v, %q, %v", name, k, k.Remedy, err)
		}
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	good := "OSS_ACCESS_KEY_ID=id\nOSS_ACCESS_KEY_SECRET=" + testSecret + "\n"
	at := func(name string, mode os.FileMode, text string) string {
		path := write(t, name, text)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	mode := func(m os.FileMode) string { return at("key", m, good) }
	others := mode(0o600)
	root := os.Geteuid() == 0
	if root { // nobody else can give something away
		if err := os.Chown(others, 12345, -1); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, says string }{
		{mode(0o644), "chmod 600"},
		{mode(0o640), "chmod 600"},
		{mode(0o620), "chmod 600"},
		{mode(0o601), "chmod 600"},
		{others, "belongs to user 12345"},
		{dir, "not a regular file"},
		{fifo, "not a regular file"},
		{filepath.Join(dir, "none"), "make it"},
		{at("key", 0o600, ""), "no access key ID"},
		{at("key", 0o600, "OSS_ACCESS_KEY_ID=id\n"), "no access key secret"},
		{at("key", 0o600, testSecret), "NAME=VALUE"},
		{at("key", 0o600, `{"AccessKeySecret": "`+testSecret), "JSON"},
		{at("key", 0o600, `{"AccessKeyId":"i","AccessKeySecret":"`+testSecret+`","Expiration":"soon"}`), "Expiration"},
		{at("key", 0o600, `{"AccessKeyId":"i","AccessKeySecret":"`+testSecret+`","Expiration":"2001-01-02T15:04:05Z"}`), "write a new one"},
	} {
		if strings.Contains(c.says, "12345") && !root {
			continue
		}
		_, err := get(t, "file:"+c.path)
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.path) || strings.Contains(err.Error(), testSecret) {
			t.Errorf("it does not say %q: %v", c.says, err)
		}
	}
	for _, m := range []os.FileMode{0o600, 0o400, 0o700} {
		if k, err := get(t, "file:"+mode(m)); err != nil || k.ID != "id" {
			t.Errorf("mode %04o: %v", m, err)
		}
	}
}

// Every way in which a file is changed is noticed at the next request.
func TestFileIsReadAgainWhenItChanges(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	text := func(id string) []byte { return []byte("OSS_ACCESS_KEY_ID=" + id + "\nOSS_ACCESS_KEY_SECRET=s\n") }
	in := func(path, id string) {
		t.Helper()
		if err := os.WriteFile(path, text(id), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in(path, "a")
	f, err := newFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := func(id string) {
		t.Helper()
		if k, err := f.Get(t.Context()); err != nil || k.ID != id {
			t.Fatalf("want %s: %v %v", id, k, err)
		}
	}
	want("a")
	for i := range 100 { // of the same length, and soon one after another
		id := string(rune('a' + i%20))
		in(path, id)
		want(id)
	}
	in(path+".new", "renamed")
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	want("renamed")
	// As Kubernetes changes a Secret: a link leads elsewhere.
	in(filepath.Join(dir, "first"), "first")
	in(filepath.Join(dir, "second"), "second")
	link := func(to string) {
		t.Helper()
		if err := os.Symlink(to, path+".link"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".link", path); err != nil {
			t.Fatal(err)
		}
	}
	link("first")
	want("first")
	link("second")
	want("second")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get(t.Context()); err == nil {
		t.Error("a file that is opened to others while it is used is not refused")
	}
}

// A file that has been as it is for a while is not read at each request.
func TestFileAtRestIsOnlyLookedAt(t *testing.T) {
	path := write(t, "key", "OSS_ACCESS_KEY_ID=id\nOSS_ACCESS_KEY_SECRET=s\n")
	f := &file{path: path}
	get := func() {
		t.Helper()
		if k, err := f.Get(t.Context()); err != nil || k.ID != "id" {
			t.Fatal(k, err)
		}
	}
	get()
	if f.seen != (stamp{}) {
		t.Error("a file that was changed this moment is believed to be as it is")
	}
	if err := waitUntil(t, func() bool { get(); return f.seen != (stamp{}) }); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get(t.Context()); err == nil {
		t.Error("the file is gone")
	}
}

func waitUntil(t *testing.T, yes func() bool) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !yes() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
