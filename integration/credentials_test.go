package integration

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ossmount/ossmount/integration/harness"
	"github.com/ossmount/ossmount/integration/harness/keys"
)

// keyEnv has this program be a credentials process: it prints what it gets from there.
const keyEnv = "OSSMOUNT_TEST_KEY"

func keyMain(url string) {
	resp, err := http.Get(url)
	if err == nil {
		defer resp.Body.Close()
		_, err = io.Copy(os.Stdout, resp.Body)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const (
	theRole     = "acs:ram::1234567890123456:role/mounts"
	theProvider = "acs:ram::1234567890123456:oidc-provider/ack-rrsa"
)

// cloud is a test with the services that give out keys, which its OSS server believes
// until they expire. All is slow enough to be renewed in the middle of an upload.
type cloud struct {
	*env
	*keys.Service
	url  string
	vars []string // of the environment of a daemon: nothing but where the services are
}

const (
	cloudFile = 24 << 20
	cloudPart = 256 << 10
)

func newCloud(t *testing.T, life time.Duration) *cloud {
	t.Helper()
	c := &cloud{env: setup(t, "--bandwidth=1500000")}
	c.Service = &keys.Service{Life: life, Users: map[string]string{"user": harness.Secret}, Role: theRole, Provider: theProvider,
		Bearer: "bearer-that-nobody-may-print", Instance: "instance-role",
		Issue: func(k keys.Key) error { return c.server.Believe(k.ID, k.Secret, k.Token, k.Expires) }}
	h := httptest.NewServer(c.Service)
	t.Cleanup(h.Close)
	c.url = h.URL
	c.vars = []string{"OSS_ENDPOINT=", "OSS_REGION=", "ALIBABA_CLOUD_ECS_METADATA_SERVICE_ENDPOINT=" + h.URL, "ALIBABA_CLOUD_STS_ENDPOINT=" + h.URL}
	for _, name := range []string{"OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN", "ALIBABA_CLOUD_ACCESS_KEY_ID",
		"ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_OIDC_TOKEN_FILE", "ALIBABA_CLOUD_ECS_METADATA", "ALIBABA_CLOUD_ECS_METADATA_DISABLED"} {
		c.vars = append(c.vars, name+"=")
	}
	return c
}

// key is a new key, as if a person had got it.
func (c *cloud) key(life time.Duration) keys.Key {
	c.Helper()
	k := keys.Key{ID: fmt.Sprintf("STS.%d", time.Now().UnixNano()), Secret: "secret-of-a-person", Token: fmt.Sprintf("token-%d", time.Now().UnixNano())}
	c.until(k, time.Now().Add(life))
	return k
}

// until has the OSS server believe k until then.
func (c *cloud) until(k keys.Key, end time.Time) {
	c.Helper()
	c.ok(c.server.Believe(k.ID, k.Secret, k.Token, end))
}

// given is the environment with a key of OSS.
func (c *cloud) given(k keys.Key) []string {
	return append(c.vars[:len(c.vars):len(c.vars)], "OSS_ACCESS_KEY_ID="+k.ID, "OSS_ACCESS_KEY_SECRET="+k.Secret, "OSS_SESSION_TOKEN="+k.Token)
}

// mountWith mounts with an environment of its own, and begins to send a big file.
func (c *cloud) mountWith(vars []string, flags ...string) *mount {
	c.Helper()
	m := &mount{e: c.env, Mount: &harness.Mount{Bin: binary, Source: "oss://" + harness.Bucket, Point: c.path("mnt"), Cache: c.path("cache"), Env: vars,
		Flags: append(c.usual(), append([]string{"--part-size=256KiB", "--multipart-threshold=1MiB", "--upload-concurrency=4", "--stall=5s"}, flags...)...)}}
	c.ok(os.MkdirAll(m.Point, 0o755))
	m.start()
	return m
}

func (c *cloud) begin(m *mount) {
	c.Helper()
	c.ok(harness.WriteFile(m.in(bigKey), 1, cloudFile))
	c.poll("the first parts are on OSS", patience, func() bool { return len(c.signers()) > 0 })
}

// signers are the keys that parts were signed with that OSS has taken.
func (c *cloud) signers() map[string]int {
	c.Helper()
	log, err := c.server.Log()
	c.ok(err)
	by := map[string]int{}
	for _, r := range log {
		if r.Op == "UploadPart" && r.Status == 200 {
			by[r.Access]++
		}
	}
	return by
}

// arrives lets the upload go on as fast as it can, and demands that it was one, signed
// with so many keys at least, that nothing much was sent twice, and that no secret was
// printed.
func (c *cloud) arrives(m *mount, leastKeys int) {
	c.Helper()
	c.ok(c.server.Bandwidth(0))
	m.wait(m.in(bigKey))
	by := c.signers()
	ops := c.counts().Ops
	c.Logf("parts by key: %v; UploadPart: %v; keys given out: %d", by, ops["UploadPart"].Status, len(c.Issued()))
	if len(by) < leastKeys {
		c.Errorf("the parts were signed with %d keys, want at least %d", len(by), leastKeys)
	}
	if n := ops["InitiateMultipartUpload"].Status["200"]; n != 1 {
		c.Errorf("%d uploads were begun, want one", n)
	}
	if sent, most := ops["UploadPart"].BytesIn, int64(cloudFile+32*cloudPart); sent > most {
		c.Errorf("%d bytes were sent, at most %d are allowed", sent, most)
	}
	source := c.path("src")
	c.ok(os.MkdirAll(source, 0o755))
	c.ok(harness.WriteFile(source+"/"+bigKey, 1, cloudFile))
	c.verify("", source)
	m.umount(0)
	out := m.P.Err.String()
	for _, k := range c.Issued() {
		if strings.Contains(out, k.Secret) || strings.Contains(out, k.Token) {
			c.Errorf("a secret of %s is in the output of the daemon", k.ID)
		}
	}
	if strings.Contains(out, c.Bearer) {
		c.Error("the OIDC token is in the output of the daemon")
	}
}

// Each source that gives out keys which expire: the mount begins with one, and the
// upload of one file goes on through several.
func TestKeysAreRenewedInTheMiddleOfAnUpload(t *testing.T) {
	for _, name := range []string{"ecs", "ecs:instance-role", "oidc", "auto", "process", "assume-role"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, 4*time.Second)
			flag, vars := name, c.vars
			token := c.path("token")
			c.ok(os.WriteFile(token, []byte(c.Bearer), 0o600))
			pod := append(c.vars, "ALIBABA_CLOUD_ROLE_ARN="+theRole, "ALIBABA_CLOUD_OIDC_PROVIDER_ARN="+theProvider, "ALIBABA_CLOUD_OIDC_TOKEN_FILE="+token)
			switch name {
			case "oidc", "auto": // as in a pod of ACK
				vars = pod
			case "process":
				self, err := os.Executable()
				c.ok(err)
				flag = fmt.Sprintf("process:%s=%s/key exec '%s'", keyEnv, c.url, self)
			case "assume-role":
				flag = "assume-role:" + theRole + ",from=env"
				vars = c.given(keys.Key{ID: "user", Secret: harness.Secret})
			}
			m := c.mountWith(vars, "--credentials="+flag)
			c.begin(m)
			before := len(c.signers())
			c.poll("keys were renewed twice while parts were sent", patience, func() bool { return len(c.signers()) >= before+2 })
			if s := m.status().Queue; s.Pending == 0 {
				t.Fatal("the upload was over before the keys were renewed")
			}
			c.arrives(m, 3)
			if out := m.P.Err.String(); strings.Contains(out, "uploads pause") {
				t.Errorf("uploads paused, though each key had a successor in time:\n%s", lastWords(out))
			}
			// Another command gets its key in the same way.
			r, err := m.Run(c.soon(), "uploads", "list", "oss://"+harness.Bucket, "--endpoint="+c.server.URL, "--region="+harness.Region, "--credentials="+flag)
			if err != nil || r.Code != 0 {
				t.Errorf("uploads list: %v %v", err, r)
			}
		})
	}
}

// What is in the environment cannot be renewed: the uploads pause with one line that
// says what to do, and go on when OSS takes the key again.
func TestKeyOfTheEnvironmentExpires(t *testing.T) {
	t.Parallel()
	c := newCloud(t, time.Hour)
	k := c.key(time.Hour)
	m := c.mountWith(c.given(k)) // --credentials=auto
	c.begin(m)
	c.until(k, time.Now().Add(-time.Second))
	c.pauses(m, "SecurityTokenExpired", "OSS_SESSION_TOKEN")
	c.until(k, time.Now().Add(time.Hour))
	c.arrives(m, 1)
	c.pausedOnce(m)
}

// pauses waits until all is paused because of what says.
func (c *cloud) pauses(m *mount, says ...string) {
	c.Helper()
	away := ""
	c.poll("the uploads pause", patience, func() bool {
		away = m.status().Queue.Away
		for _, s := range says {
			if !strings.Contains(away, s) {
				return false
			}
		}
		return true
	})
	c.Logf("paused: %s", away)
}

func (c *cloud) pausedOnce(m *mount) {
	c.Helper()
	out := m.P.Err.String()
	if n := strings.Count(out, "uploads pause"); n != 1 {
		c.Errorf("that uploads pause was said %d times, want once:\n%s", n, lastWords(out))
	}
}

// A key in a file is replaced while parts are sent, then revoked, then replaced.
func TestKeyInAFileIsReplaced(t *testing.T) {
	t.Parallel()
	c := newCloud(t, time.Hour)
	path := c.path("key")
	in := func(k keys.Key) {
		c.ok(os.WriteFile(path+".new", fmt.Appendf(nil, "OSS_ACCESS_KEY_ID=%s\nOSS_ACCESS_KEY_SECRET=%s\nOSS_SESSION_TOKEN=%s\n", k.ID, k.Secret, k.Token), 0o600))
		c.ok(os.Rename(path+".new", path))
	}
	first, second, third := c.key(time.Hour), c.key(time.Hour), c.key(time.Hour)
	in(first)
	m := c.mountWith(c.vars, "--credentials=file:"+path)
	c.begin(m)
	in(second)
	c.poll("parts are signed with the second key", patience, func() bool { return c.signers()[second.ID] > 0 })
	c.ok(c.server.Disbelieve(first.ID))
	c.ok(c.server.Disbelieve(second.ID))
	c.pauses(m, "InvalidSecurityToken", path)
	in(third)
	c.arrives(m, 3)
	c.pausedOnce(m)
	// A file that is open to others is refused, in one line.
	c.ok(os.Chmod(path, 0o640))
	r, err := m.Run(c.soon(), "mount", m.Source, m.Point, "--cache-dir="+m.Cache, "--endpoint="+c.server.URL, "--credentials=file:"+path)
	if err != nil || r.Code != 2 || strings.Count(r.Err, "\n") != 1 || !strings.Contains(r.Err, "chmod 600") {
		t.Errorf("%v %v", err, r)
	}
}

// STS is away when a key must be renewed: the old one goes on to its end, then all
// pauses, and goes on by itself. A mount that begins meanwhile serves what is here.
func TestSTSIsAwayWhenAKeyExpires(t *testing.T) {
	t.Parallel()
	c := newCloud(t, 4*time.Second)
	vars := c.given(keys.Key{ID: "user", Secret: harness.Secret})
	flag := "--credentials=assume-role:" + theRole
	m := c.mountWith(vars, flag)
	c.begin(m)
	c.Refuse(503, "ServiceUnavailable", "")
	c.pauses(m, "NoCredentials", "STS", "ALIBABA_CLOUD_STS_ENDPOINT")
	c.pausedOnce(m)
	m.umount(3, "--drain=0s")
	m.start() // STS is still away
	if st, err := os.Stat(m.in(bigKey)); err != nil || st.Size() != cloudFile {
		t.Errorf("the file that waits is not there: %v", err)
	}
	c.Refuse(0, "", "")
	c.arrives(m, 2)
	// A directory that was never mounted tells it.
	c.Refuse(503, "ServiceUnavailable", "")
	r, err := m.Run(c.soon(), "mount", m.Source, m.Point, "--cache-dir="+c.path("another"), "--endpoint="+c.server.URL, flag, "--log-level=error")
	if err != nil || r.Code != 1 || strings.Count(r.Err, "\n") != 1 || !strings.Contains(r.Err, "STS") {
		t.Errorf("%v %v", err, r)
	}
}
