package integration

import (
	"os"
	"strings"
	"testing"

	"github.com/ossmount/ossmount/integration/harness"
)

// refused is a command that must fail with one clear line.
type refused struct {
	name string
	args []string
	env  []string
	code int
	says []string // all of these are in the line
}

func TestRefusalsAreOneClearLine(t *testing.T) {
	t.Parallel()
	e := setup(t)
	for _, d := range []string{"empty", "used", "busy"} {
		e.ok(os.Mkdir(e.path(d), 0o755))
	}
	e.write(e.path("file"), "")
	e.mountSource("oss://"+harness.Bucket, "used", "used-cache", e.usual()...).umount(0)
	e.mountSource("oss://"+harness.Bucket, "busy", "busy-cache", e.usual()...)

	const bucket = "oss://" + harness.Bucket
	endpoint, empty := "--endpoint="+e.server.URL, e.path("empty")
	v4, debug := "--region="+harness.Region, "--log-level=error"
	mount := func(source, point, cache string, more ...string) []string {
		return append([]string{"mount", source, point, "--cache-dir=" + e.path(cache), endpoint, v4, debug}, more...)
	}
	id, secret := "OSS_ACCESS_KEY_ID="+harness.KeyID, "OSS_ACCESS_KEY_SECRET="+harness.Secret
	none := []string{"OSS_ACCESS_KEY_ID=", "OSS_ACCESS_KEY_SECRET=", "OSS_ENDPOINT=", "OSS_REGION=", "OSS_SESSION_TOKEN=", "ALIBABA_CLOUD_ECS_METADATA_DISABLED=true"}
	for _, r := range []refused{
		{"used cache directory, another bucket", mount("oss://another", empty, "used-cache"), nil, 1, []string{"cache"}},
		{"used cache directory, another prefix", mount(bucket+"/prefix", empty, "used-cache"), nil, 1, []string{"cache"}},
		{"used cache directory, another endpoint", append(mount(bucket, empty, "used-cache"), "--endpoint=http://127.0.0.1:1"), nil, 1, []string{"cache"}},
		{"cache directory in use", mount(bucket, empty, "busy-cache"), nil, 1, []string{"--cache-dir"}},
		{"mount point does not exist", mount(bucket, e.path("nowhere"), "c1"), nil, 1, []string{"nowhere", "does not exist"}},
		{"mount point is a file", mount(bucket, e.path("file"), "c1"), nil, 1, []string{"not a directory"}},
		{"mount point is mounted", mount(bucket, e.path("busy"), "c1"), nil, 1, []string{"mounted already"}},
		{"cache directory inside the mount point", mount(bucket, empty, "empty/cache"), nil, 1, []string{"inside"}},
		{"wrong secret", mount(bucket, empty, "c2"), append(none, id, "OSS_ACCESS_KEY_SECRET=wrong-"+harness.Secret+"-wrong"), 1, []string{"SignatureDoesNotMatch"}},
		{"wrong key", mount(bucket, empty, "c2"), append(none, "OSS_ACCESS_KEY_ID=nobody", secret), 1, []string{"InvalidAccessKeyId"}},
		{"no credentials", mount(bucket, empty, "c2"), none, 2, []string{"OSS_ACCESS_KEY_ID"}},
		{"no such source of credentials", mount(bucket, empty, "c2", "--credentials=vault"), nil, 2, []string{"--credentials=vault", "file:PATH"}},
		{"no credentials file", mount(bucket, empty, "c2", "--credentials=file:"+e.path("no-key")), nil, 2, []string{"no-key", "make it"}},
		{"missing bucket", mount("oss://no-such-bucket", empty, "c2"), nil, 1, []string{"no-such-bucket"}},
		{"OSS away, never mounted", append(mount(bucket, empty, "c2"), "--endpoint=http://127.0.0.1:1"), nil, 1, []string{"127.0.0.1:1"}},
		{"unknown flag", mount(bucket, empty, "c2", "--frobnicate"), nil, 2, []string{"--frobnicate"}},
		{"unknown command", []string{"frobnicate"}, nil, 2, []string{"frobnicate"}},
		{"no arguments", []string{"mount"}, nil, 2, []string{"usage"}},
		{"not a source", mount("s3://bucket", empty, "c2"), nil, 2, []string{"oss://"}},
		{"bad bucket name", mount("oss://A_B", empty, "c2"), nil, 2, []string{"A_B"}},
		{"bad endpoint", append(mount(bucket, empty, "c2"), "--endpoint=ftp://x"), nil, 2, []string{"endpoint"}},
		{"no endpoint", append(mount(bucket, empty, "c2"), "--endpoint="), nil, 2, []string{"endpoint"}},
		{"bad size", mount(bucket, empty, "c2", "--part-size=big"), nil, 2, []string{"part-size"}},
		{"part size too small", mount(bucket, empty, "c2", "--part-size=1K"), nil, 2, []string{"part-size"}},
		{"bad duration", mount(bucket, empty, "c2", "--write-back-delay=soon"), nil, 2, []string{"write-back-delay"}},
		{"bad log level", append(mount(bucket, empty, "c2"), "--log-level=loud"), nil, 2, []string{"log-level"}},
		{"umount of what is no mount", []string{"umount", empty}, nil, 1, []string{"not a mount"}},
		{"umount of nothing", []string{"umount", e.path("nowhere")}, nil, 1, []string{"nowhere"}},
		{"wait for what is no mount", []string{"wait", empty}, nil, 1, []string{"not on a mount"}},
		{"status of what is no mount", []string{"status", empty}, nil, 1, []string{"not on a mount"}},
		{"status of what is no cache directory", []string{"status", "--cache-dir=" + empty}, nil, 1, []string{"cache"}},
		{"drain of what is no cache directory", []string{"drain", "--cache-dir=" + empty}, nil, 1, []string{"cache"}},
		{"server without data", []string{"server"}, nil, 2, []string{"--data"}},
		{"server on a bad address", []string{"server", "--data=" + e.path("d"), "--listen=nowhere:nothing", "--access-key-id=a", "--access-key-secret=b"}, nil, 1, []string{"nowhere"}},
	} {
		t.Run(r.name, func(t *testing.T) {
			env := r.env
			if env == nil {
				env = harness.Credentials()
			}
			res, err := harness.Run(e.soon(), env, binary, r.args...)
			if err != nil {
				t.Fatal(err)
			}
			line := strings.TrimSuffix(res.Err, "\n")
			if res.Code != r.code || res.Out != "" || line == "" || strings.Contains(line, "\n") || !strings.HasPrefix(line, "ossmount: ") {
				t.Errorf("want exit %d and one line, got %v", r.code, res)
			}
			for _, s := range append(r.says, "") {
				if !strings.Contains(line, s) {
					t.Errorf("it does not say %q: %s", s, line)
				}
			}
			if r.name != "bad log level" && r.args[0] == "mount" && len(r.args) > 1 {
				loud := append(append([]string(nil), r.args...), "--log-level=debug")
				res, err = harness.Run(e.soon(), env, binary, loud...)
				if err != nil {
					t.Fatal(err)
				}
			}
			if out := res.Out + res.Err; strings.Contains(out, harness.Secret) || strings.Contains(out, "goroutine ") || strings.Contains(out, "panic") {
				t.Errorf("with --log-level=debug: %s", out)
			}
			t.Log(line)
		})
	}
	for _, d := range []string{"c1", "c2", "empty/cache"} {
		if list, err := os.ReadDir(e.path(d)); err == nil && len(list) > 0 {
			t.Logf("a refused mount leaves %d names in its new cache directory %s", len(list), d)
		}
	}
	// And after all these the directories are good for what they were.
	e.mountSource(bucket, "empty", "used-cache", e.usual()...)
	e.write(e.path("empty/f"), "x")
}

func TestSecretIsInNoOutput(t *testing.T) {
	t.Parallel()
	for _, region := range []string{"", harness.Region} {
		e := setup(t)
		m := e.mountSource("oss://"+harness.Bucket, "mnt", "cache", "--endpoint="+e.server.URL, "--region="+region, "--log-level=debug", "--write-back-delay=0s", "--stall=2s")
		e.ok(harness.WriteFile(m.in("f"), 1, 20<<20))
		e.write(m.in("g"), "x")
		m.wait(m.Point)
		e.ok(e.server.Kill())
		e.write(m.in("h"), "x")
		e.poll("OSS is away", patience, func() bool { return m.status().Queue.Away != "" })
		e.ok(e.server.Start(e.soon()))
		m.wait(m.Point)
		for _, args := range [][]string{{"status", m.Point}, {"status", "--json", m.Point}, {"status", "--json", "--cache-dir=" + m.Cache}, {"mount", "--help"}, {"server", "--help"}} {
			r, err := m.Run(e.soon(), args...)
			e.ok(err)
			if strings.Contains(r.Out+r.Err, harness.Secret) {
				t.Errorf("%q prints the secret", args)
			}
		}
		m.umount(0) // the cleanup looks through all that the daemon said
		out := e.sh(`grep -rlaF -- "$1" "$2" || true`, harness.Secret, m.Cache)
		if out != "" {
			t.Errorf("the secret is in the cache directory: %s", out)
		}
	}
}
